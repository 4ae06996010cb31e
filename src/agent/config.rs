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
mod file;
mod storage;

pub use cassandra::{Cassandra, CqlTls, Naming, Password, Snapshots};
pub use storage::{Azure, Credentials, Google, Place, Retention, S3, Storage};

use file::{File, boolean};

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
    #[error(
        "storage_provider {provider:?} is not supported: use local, s3, s3_compatible, s3_rgw, ibm_storage, azure_blobs or google_storage"
    )]
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
    /// The key file of an Azure account.
    #[error("the key file {} is not JSON with storage_account and key", path.display())]
    AzureKeyFile {
        /// Which file.
        path: PathBuf,
    },
    /// Azure without an account.
    #[error("no storage account: set key_file in [storage], or AZURE_STORAGE_ACCOUNT for the machine's own identity")]
    Account,
    /// An account whose name is none.
    #[error("{account:?} cannot be the name of a storage account: it is made of letters and digits")]
    AccountName {
        /// As written.
        account: String,
    },
    /// A key that no request can carry.
    #[error("`{key}` of profile [{profile}] in {} has a space, a line break or a sign that no key has", path.display())]
    KeyText {
        /// Which file.
        path: PathBuf,
        /// api_profile, or `default`.
        profile: String,
        /// Which of its keys.
        key: &'static str,
    },
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
    /// The pod in which we run, where we were told.
    pub pod: Option<String>,
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
            pod: env("POD_NAME"),
            storage: storage::storage(&file, &env)?,
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

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
