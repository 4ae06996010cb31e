//! [cassandra] and [kubernetes] of medusa.ini: how CQL is spoken and snapshots are taken.

use std::path::{Path, PathBuf};

use super::{Error, File, read};
use crate::yaml::CassandraYaml;

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
    /// JMX over HTTP: Jolokia's agent in Cassandra's process.
    Jolokia {
        /// Its address.
        url: String,
    },
    /// nodetool, which speaks JMX.
    Nodetool {
        /// Program.
        program: String,
        /// What comes before the sub-command.
        arguments: Vec<String>,
    },
}

pub(super) fn login(
    file: &File<'_>,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(String, Password)>, Error> {
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

pub(super) fn cql_tls(file: &File<'_>) -> Option<CqlTls> {
    let pem = |key| file.get("cassandra", key).map(PathBuf::from);
    Some(CqlTls { authority: pem("certfile")?, identity: pem("usercert").zip(pem("userkey")) })
}

pub(super) fn snapshots(
    file: &File<'_>,
    env: &impl Fn(&str) -> Option<String>,
    kubernetes: bool,
) -> Result<Snapshots, Error> {
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
    // As Medusa: in Kubernetes without the management API the address is Jolokia's.
    if kubernetes && let Some(url) = file.get("kubernetes", "cassandra_url").filter(|url| *url != "None") {
        return Ok(Snapshots::Jolokia { url: url.to_owned() });
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
