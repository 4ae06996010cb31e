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

mod cassandra;
mod storage;

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
            storage: storage::storage(&file)?,
            cassandra: Cassandra {
                login: cassandra::login(&file, &env)?,
                tls: cassandra::cql_tls(&file),
                naming,
                yaml,
            },
            snapshots: cassandra::snapshots(&file, &env, kubernetes)?,
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
        let size = self.parsed(section, key, storage::bytes, "a size such as 50MB, or a number of bytes")?;
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

/// Python's spelling of truth.
fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
