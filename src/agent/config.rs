//! What the sidecar is told: medusa.ini, cassandra.yaml and Medusa's environment, read once at start.
//!
//! Keys and defaults are Medusa's; precedence is defaults, file, environment. Keys for other programs (ssh, sstableloader,
//! monitoring, start and stop commands) are accepted and not looked at.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ini::{self, Ini};
use crate::layout::{self, NodeName};
use crate::yaml::{self, CassandraYaml};

/// Medusa's gRPC port.
const GRPC_PORT: u16 = 50051;

/// Why the sidecar cannot start with what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not an ini file.
    #[error("{} is malformed", path.display())]
    Ini {
        /// Which file.
        path: PathBuf,
        /// Where.
        #[source]
        source: ini::Error,
    },
    /// A key without which nothing works.
    #[error("`{key}` is missing in [{section}] of {}", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Section.
        section: &'static str,
        /// Key.
        key: &'static str,
    },
    /// A value that cannot be what the key means.
    #[error("`{key} = {value}` in [{section}] is wrong: {expected}")]
    Value {
        /// Section.
        section: &'static str,
        /// Key.
        key: &'static str,
        /// As written; never a secret.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A storage provider that this version cannot write to.
    #[error("storage_provider {provider:?} is not supported: use local, s3_compatible or s3")]
    Provider {
        /// As written.
        provider: String,
    },
    /// The node has no usable name.
    #[error(transparent)]
    Node(#[from] layout::Error),
    /// Cassandra's own configuration.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// The key file of the bucket.
    #[error("the key file {} has no aws_access_key_id and aws_secret_access_key in profile [{profile}]", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// api_profile, or `default`.
        profile: String,
    },
}

/// Everything the sidecar is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name in keys.
    pub node: NodeName,
    /// Where backups go.
    pub storage: Storage,
    /// How Cassandra is reached.
    pub cassandra: Cassandra,
    /// How snapshots are taken.
    pub snapshots: Snapshots,
    /// How we are reached.
    pub grpc: Grpc,
    /// Our durable state: on the data volume, outside Cassandra's directories.
    pub state_dir: PathBuf,
}

/// The bucket and how to write to it.
#[derive(Debug, Clone)]
pub struct Storage {
    /// As written, for Capabilities.
    pub provider: String,
    /// Which kind of store.
    pub place: Place,
    /// Bucket's name.
    pub bucket: String,
    /// One key segment before everything, if any.
    pub prefix: Option<String>,
    /// Files in flight at once (Medusa's concurrent_transfers).
    pub transfers: usize,
    /// Parts of one file in flight at once.
    pub part_transfers: usize,
    /// From this size on a file goes up in parts, in bytes.
    pub multipart_threshold: u64,
    /// Size of a part in bytes.
    pub part_size: u64,
    /// Bytes per second for the whole node; S3 only.
    pub bandwidth: Option<u64>,
}

/// A kind of store.
#[derive(Debug, Clone)]
pub enum Place {
    /// A directory: `base_path/bucket_name`.
    Local {
        /// base_path.
        base: PathBuf,
    },
    /// Anything that speaks S3.
    S3(S3),
}

/// S3's own settings.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http(s)://host[:port]`; `None` for AWS.
    pub endpoint: Option<String>,
    /// Host without scheme, for Capabilities.
    pub host: String,
    /// Region.
    pub region: String,
    /// From key_file; without it the machine's own identity is used (IRSA, IMDS, environment).
    pub credentials: Option<Credentials>,
    /// Whether a certificate must be valid.
    pub verify_tls: bool,
    /// Bucket in the host name instead of the path.
    pub virtual_host: bool,
    /// Storage class for everything written.
    pub storage_class: Option<String>,
    /// Key of SSE-KMS.
    pub kms_id: Option<String>,
    /// Base64 key of SSE-C.
    pub sse_c_key: Option<String>,
}

/// Keys of a bucket. Never printed.
#[derive(Clone)]
pub struct Credentials {
    /// aws_access_key_id.
    pub id: String,
    /// aws_secret_access_key.
    pub secret: String,
    /// aws_session_token.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// How Cassandra is reached.
#[derive(Debug, Clone)]
pub struct Cassandra {
    /// cassandra.yaml: directories, addresses, ports.
    pub yaml: CassandraYaml,
    /// User and password of CQL.
    pub login: Option<(String, Password)>,
    /// TLS of CQL, when certfile is set.
    pub tls: Option<CqlTls>,
    /// How addresses of the ring become names of nodes.
    pub naming: Naming,
}

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// PEM files of CQL's TLS.
#[derive(Debug, Clone)]
pub struct CqlTls {
    /// The authority that signed Cassandra's certificate.
    pub authority: PathBuf,
    /// Our certificate and key, when Cassandra asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How an address of the ring becomes the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The address itself (resolve_ip_addresses = False).
    Address,
    /// The name that DNS or the hosts file gives it.
    Host,
    /// The pod's name: the first label of such a name (kubernetes.enabled).
    Pod,
}

/// How snapshots are taken.
#[derive(Debug, Clone)]
pub enum Snapshots {
    /// The management API beside Cassandra.
    Management {
        /// Address of its snapshots resource.
        url: String,
        /// Certificate and key, when it wants them.
        identity: Option<(PathBuf, PathBuf)>,
    },
    /// nodetool.
    Nodetool {
        /// Program.
        program: String,
        /// What comes before the sub-command.
        arguments: Vec<String>,
    },
}

/// How we are reached.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// Port on all addresses.
    pub port: u16,
    /// mTLS: certificate, key, and the authority of our clients.
    pub tls: Option<GrpcTls>,
    /// Largest answer in bytes.
    pub max_send: usize,
    /// Largest request in bytes.
    pub max_receive: usize,
}

/// PEM files of our own mTLS.
#[derive(Debug, Clone)]
pub struct GrpcTls {
    /// Ours.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who must have signed our clients' certificates.
    pub clients: PathBuf,
}

impl Config {
    /// Reads medusa.ini at `path`, the files it names, and the environment through `env`.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let env = |key: &str| env(key).filter(|value| !value.is_empty());
        let text = read(path)?;
        let ini = Ini::parse(&text).map_err(|source| Error::Ini { path: path.to_owned(), source })?;
        let file = File { ini: &ini, path };

        let yaml_path = file.get("cassandra", "config_file").unwrap_or("/etc/cassandra/cassandra.yaml");
        let yaml = CassandraYaml::load(Path::new(yaml_path))?;
        let kubernetes = file.flag("kubernetes", "enabled", false)?;
        let resolve = match env("MEDUSA_RESOLVE_IP_ADDRESSES") {
            Some(value) => boolean(&value).ok_or(Error::Value {
                section: "cassandra",
                key: "resolve_ip_addresses",
                value,
                expected: "True or False",
            })?,
            None => file.flag("cassandra", "resolve_ip_addresses", true)?,
        };
        let naming = match (resolve, kubernetes) {
            (false, _) => Naming::Address,
            (true, true) => Naming::Pod,
            (true, false) => Naming::Host,
        };
        let node = match (file.get("storage", "fqdn"), env("POD_NAME")) {
            (Some(name), _) => NodeName::parse(name)?,
            (None, Some(name)) => NodeName::parse(&name)?,
            (None, None) => NodeName::parse(&hostname())?,
        };
        let state_dir = match env("MEDUSA_TMP_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => yaml.data.parent().unwrap_or(&yaml.data).to_owned(),
        };
        Ok(Self {
            node,
            storage: storage(&file)?,
            cassandra: Cassandra { login: login(&file, &env)?, tls: cql_tls(&file), naming, yaml },
            snapshots: snapshots(&file, &env, kubernetes)?,
            grpc: grpc(&file)?,
            state_dir: state_dir.join(".stheno"),
        })
    }

    /// Addresses that mean this node in the ring.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let yaml = &self.cassandra.yaml;
        [&yaml.listen, &yaml.rpc].into_iter().flatten().filter_map(|text| text.parse().ok()).collect()
    }
}

/// How long the management API may take for a snapshot: it flushes every table first.
pub const SNAPSHOT_LIMIT: Duration = Duration::from_secs(600);

/// An ini file with the sentence for what it lacks.
struct File<'a> {
    ini: &'a Ini,
    path: &'a Path,
}

impl<'a> File<'a> {
    fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        self.ini.get(section, key)
    }

    fn need(&self, section: &'static str, key: &'static str) -> Result<&'a str, Error> {
        self.get(section, key).ok_or_else(|| Error::Missing { path: self.path.to_owned(), section, key })
    }

    fn flag(&self, section: &'static str, key: &'static str, default: bool) -> Result<bool, Error> {
        self.parsed(section, key, boolean, "True or False").map(|value| value.unwrap_or(default))
    }

    fn parsed<T>(
        &self,
        section: &'static str,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        match self.get(section, key) {
            None => Ok(None),
            Some(value) => match parse(value) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(Error::Value { section, key, value: value.to_owned(), expected }),
            },
        }
    }

    fn size(&self, section: &'static str, key: &'static str, default: u64) -> Result<u64, Error> {
        let size = self.parsed(section, key, bytes, "a size such as 50MB, or a number of bytes")?;
        Ok(size.filter(|size| *size > 0).unwrap_or(default))
    }

    fn count(&self, section: &'static str, key: &'static str, default: usize) -> Result<usize, Error> {
        let count = self.parsed(section, key, |value| value.parse::<usize>().ok(), "a whole number")?;
        Ok(count.unwrap_or(default).max(1))
    }

    fn segment(&self, key: &'static str, value: &'a str) -> Result<String, Error> {
        let fits = !value.contains(['/', '\\', '#', '?', '%', '*']) && !matches!(value, "." | "..");
        let wrong = || Error::Value {
            section: "storage",
            key,
            value: value.to_owned(),
            expected: "a name without slashes or wildcards",
        };
        fits.then(|| value.to_owned()).ok_or_else(wrong)
    }
}

fn storage(file: &File<'_>) -> Result<Storage, Error> {
    const MIB: u64 = 1 << 20;
    let provider = file.need("storage", "storage_provider")?;
    let bucket = file.segment("bucket_name", file.need("storage", "bucket_name")?)?;
    let prefix = match file.get("storage", "prefix") {
        Some(prefix) => Some(file.segment("prefix", prefix)?),
        None => None,
    };
    let kind = provider.to_lowercase();
    let place = match kind.as_str() {
        "local" => Place::Local { base: file.need("storage", "base_path")?.into() },
        other if other.starts_with("s3") => Place::S3(s3(file, other)?),
        _ => {
            return Err(Error::Provider { provider: provider.to_owned() });
        }
    };
    let bandwidth = file.size("storage", "transfer_max_bandwidth", 50 * MIB)?;
    Ok(Storage {
        provider: provider.to_owned(),
        bandwidth: matches!(place, Place::S3(_)).then_some(bandwidth),
        place,
        bucket,
        prefix,
        transfers: file.count("storage", "concurrent_transfers", 1)?,
        part_transfers: file.count("storage", "multipart_max_concurrency", 4)?,
        multipart_threshold: file.size("storage", "multi_part_upload_threshold", 20 * MIB)?,
        part_size: file.size("storage", "multipart_chunksize", 50 * MIB)?,
    })
}

fn s3(file: &File<'_>, kind: &str) -> Result<S3, Error> {
    let compatible = kind == "s3_compatible";
    let region = match file.get("storage", "region") {
        Some(region) if region != "default" => region.to_owned(),
        Some(_) | None => match kind.strip_prefix("s3_").filter(|_| !compatible) {
            Some(name) => named_region(name).ok_or(Error::Provider { provider: kind.to_owned() })?.to_owned(),
            None => "us-east-1".to_owned(),
        },
    };
    let (endpoint, host) = if compatible {
        let host = file.need("storage", "host")?;
        let scheme = if file.flag("storage", "secure", true)? { "https" } else { "http" };
        let port = file.parsed("storage", "port", |value| value.parse::<u16>().ok(), "a port number")?;
        let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        (Some(format!("{scheme}://{authority}")), authority)
    } else {
        (None, format!("s3.{region}.amazonaws.com"))
    };
    let style = file.get("storage", "s3_addressing_style").unwrap_or("auto");
    let virtual_host = match style {
        "auto" => !compatible,
        "virtual" => true,
        "path" => false,
        other => {
            return Err(Error::Value {
                section: "storage",
                key: "s3_addressing_style",
                value: other.to_owned(),
                expected: "auto, path or virtual",
            });
        }
    };
    Ok(S3 {
        endpoint,
        host,
        region,
        credentials: credentials(file)?,
        verify_tls: !compatible || file.flag("storage", "ssl_verify", false)?,
        virtual_host,
        storage_class: file.get("storage", "storage_class").map(str::to_uppercase),
        kms_id: file.get("storage", "kms_id").map(str::to_owned),
        sse_c_key: file.get("storage", "sse_c_key").map(str::to_owned),
    })
}

fn credentials(file: &File<'_>) -> Result<Option<Credentials>, Error> {
    let Some(path) = file.get("storage", "key_file").map(Path::new) else {
        return Ok(None);
    };
    let text = read(path)?;
    let keys = Ini::parse(&text).map_err(|source| Error::Ini { path: path.to_owned(), source })?;
    let profile = file.get("storage", "api_profile").unwrap_or("default");
    match (keys.get(profile, "aws_access_key_id"), keys.get(profile, "aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: keys.get(profile, "aws_session_token").map(str::to_owned),
        })),
        (Some(_) | None, _) => Err(Error::KeyFile { path: path.to_owned(), profile: profile.to_owned() }),
    }
}

fn login(file: &File<'_>, env: &impl Fn(&str) -> Option<String>) -> Result<Option<(String, Password)>, Error> {
    let secrets =
        env("MEDUSA_CQL_K8S_SECRETS_PATH").or_else(|| file.get("cassandra", "cql_k8s_secrets_path").map(str::to_owned));
    if let Some(dir) = secrets {
        return secret_pair(Path::new(&dir)).map(Some);
    }
    let value = |new: &str, old: &str, key: &str| {
        env(new).or_else(|| env(old)).or_else(|| file.get("cassandra", key).map(str::to_owned))
    };
    let user = value("MEDUSA_CQL_USERNAME", "CQL_USERNAME", "cql_username");
    let password = value("MEDUSA_CQL_PASSWORD", "CQL_PASSWORD", "cql_password");
    Ok(user.zip(password).map(|(user, password)| (user, Password(password))))
}

fn secret_pair(dir: &Path) -> Result<(String, Password), Error> {
    let user = read(&dir.join("username"))?;
    let password = read(&dir.join("password"))?;
    Ok((user.trim().to_owned(), Password(password.trim().to_owned())))
}

fn cql_tls(file: &File<'_>) -> Option<CqlTls> {
    let pem = |key| file.get("cassandra", key).map(PathBuf::from);
    Some(CqlTls { authority: pem("certfile")?, identity: pem("usercert").zip(pem("userkey")) })
}

fn snapshots(file: &File<'_>, env: &impl Fn(&str) -> Option<String>, kubernetes: bool) -> Result<Snapshots, Error> {
    if kubernetes && file.flag("kubernetes", "use_mgmt_api", false)? {
        let url = file.need("kubernetes", "cassandra_url")?;
        let pem = |key| file.get("kubernetes", key).map(PathBuf::from);
        let identity = pem("tls_cert").zip(pem("tls_key"));
        // Medusa's rule: a certificate means TLS, whatever the URL says.
        let url = match (&identity, url.strip_prefix("http://")) {
            (Some(_), Some(rest)) => format!("https://{rest}"),
            (Some(_) | None, _) => url.to_owned(),
        };
        return Ok(Snapshots::Management { url, identity });
    }
    let text = |key: &str| file.get("cassandra", key).map(str::to_owned);
    let flags = text("nodetool_flags").unwrap_or_else(|| "-Dcom.sun.jndi.rmiURLParsing=legacy".to_owned());
    let mut arguments: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let secrets = env("MEDUSA_NODETOOL_K8S_SECRETS_PATH").or_else(|| text("nodetool_k8s_secrets_path"));
    let (user, password) = match secrets {
        Some(dir) => secret_pair(Path::new(&dir)).map(|(user, Password(password))| (Some(user), Some(password)))?,
        None => (
            env("MEDUSA_NODETOOL_USERNAME").or_else(|| text("nodetool_username")),
            env("MEDUSA_NODETOOL_PASSWORD").or_else(|| text("nodetool_password")),
        ),
    };
    if file.flag("cassandra", "nodetool_ssl", false)? {
        arguments.push("--ssl".to_owned());
    }
    let options = [
        ("-u", user),
        ("-pw", password),
        ("-pwf", text("nodetool_password_file_path")),
        ("-h", text("nodetool_host")),
        ("-p", text("nodetool_port")),
    ];
    for (option, value) in options {
        arguments.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
    }
    Ok(Snapshots::Nodetool { program: text("nodetool_executable").unwrap_or_else(|| "nodetool".to_owned()), arguments })
}

fn grpc(file: &File<'_>) -> Result<Grpc, Error> {
    let port = file.parsed("grpc", "port", |value| value.parse::<u16>().ok(), "a port number")?;
    let tls = match file.get("grpc", "tls_cert") {
        None => None,
        // As Medusa: a certificate means that clients must show theirs.
        Some(certificate) => Some(GrpcTls {
            certificate: certificate.into(),
            key: file.need("grpc", "tls_key")?.into(),
            clients: file.need("grpc", "ca_cert")?.into(),
        }),
    };
    Ok(Grpc {
        port: port.unwrap_or(GRPC_PORT),
        tls,
        max_send: file.count("grpc", "max_send_message_length", 512 << 20)?,
        max_receive: file.count("grpc", "max_receive_message_length", 128 << 20)?,
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Regions that libcloud's provider names stand for: `s3_us_west_oregon` and the like, without `s3_`.
fn named_region(name: &str) -> Option<&'static str> {
    Some(match name {
        "us_east" | "us_east1" => "us-east-1",
        "us_east2" => "us-east-2",
        "us_west" => "us-west-1",
        "us_west2" | "us_west_oregon" => "us-west-2",
        "us_gov_east" => "us-gov-east-1",
        "us_gov_west" => "us-gov-west-1",
        "eu_west" => "eu-west-1",
        "eu_west2" => "eu-west-2",
        "eu_central" => "eu-central-1",
        "eu_north1" => "eu-north-1",
        "ap_south" => "ap-south-1",
        "ap_southeast" => "ap-southeast-1",
        "ap_southeast2" => "ap-southeast-2",
        "ap_northeast" | "ap_northeast1" => "ap-northeast-1",
        "ap_northeast2" => "ap-northeast-2",
        "sa_east" => "sa-east-1",
        "sa_east2" => "sa-east-2",
        "ca_central" => "ca-central-1",
        "cn_north" => "cn-north-1",
        "cn_northwest" => "cn-northwest-1",
        "af_south" => "af-south-1",
        "me_south" => "me-south-1",
        _ => return None,
    })
}

/// Python's spelling of truth.
fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Medusa's sizes: `50MB/s`, `1.5 GB`, `104857600`; a kilobyte is 1024 bytes.
fn bytes(value: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] =
        [("PB", 1 << 50), ("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];
    let text = value.replace(' ', "").replace("/s", "");
    let unit = UNITS.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = unit.unwrap_or((text.as_str(), 1));
    let number: f64 = number.parse().ok()?;
    let whole = unit.is_some() || number.fract() == 0.0;
    let product = number * factor as f64;
    // Above 2^63 a float is no count of bytes any more.
    (whole && product.is_finite() && (0.0..9.2e18).contains(&product)).then_some(product as u64)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
