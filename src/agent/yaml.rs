//! The slice of cassandra.yaml that a backup needs: where the data lies and where CQL answers.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml_ng::Value;

/// Why cassandra.yaml cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there or not readable.
    #[error("cannot read {}: is config_file in [cassandra] right?", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("{} is not valid YAML", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// No data directory, or one within another.
    #[error(
        "{} must name at least one data directory in data_file_directories, and none of them and of \
         local_system_data_file_directory may lie within another",
        path.display()
    )]
    DataDirectories {
        /// Which file.
        path: PathBuf,
    },
    /// A port that is no port.
    #[error("{} has a native transport port that is not a port number", path.display())]
    Port {
        /// Which file.
        path: PathBuf,
    },
}

/// What a backup needs of cassandra.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CassandraYaml {
    /// The data directory, the first of them.
    pub data: PathBuf,
    /// More data directories.
    pub more: Vec<PathBuf>,
    /// Where Cassandra keeps the tables that only this node knows of, if it has a directory of its own for them.
    pub system: Option<PathBuf>,
    /// listen_address, if given.
    pub listen: Option<String>,
    /// rpc_address, if given and not a wildcard.
    pub rpc: Option<String>,
    /// Whether CQL listens on every address.
    pub wildcard: bool,
    /// Port of CQL; with client encryption the encrypted one.
    pub port: u16,
    /// The file itself.
    pub path: PathBuf,
    /// What holds writes, hints and caches of the data that lies beside it: worthless beside other data.
    pub beside: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
struct Raw {
    data_file_directories: Option<Vec<PathBuf>>,
    local_system_data_file_directory: Option<PathBuf>,
    commitlog_directory: Option<PathBuf>,
    hints_directory: Option<PathBuf>,
    saved_caches_directory: Option<PathBuf>,
    listen_address: Option<String>,
    rpc_address: Option<String>,
    native_transport_port: Option<Value>,
    native_transport_port_ssl: Option<Value>,
    client_encryption_options: Option<Encryption>,
}

#[derive(Deserialize, Default)]
struct Encryption {
    enabled: Option<Value>,
}

impl CassandraYaml {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let raw: Option<Raw> =
            serde_yaml_ng::from_str(text).map_err(|source| Error::Yaml { path: path.to_owned(), source })?;
        let raw = raw.unwrap_or_default();
        let dirs = raw.data_file_directories.unwrap_or_else(|| vec!["/var/lib/cassandra/data".into()]);
        let system = raw.local_system_data_file_directory.filter(|dir| !dir.as_os_str().is_empty());
        let all: Vec<&PathBuf> = dirs.iter().chain(&system).collect();
        let within =
            |at: usize, dir: &PathBuf| all.iter().enumerate().any(|(n, other)| n != at && dir.starts_with(other));
        let (Some((data, more)), false) = (dirs.split_first(), all.iter().enumerate().any(|(at, dir)| within(at, dir)))
        else {
            return Err(Error::DataDirectories { path: path.to_owned() });
        };
        let port = |value: &Value| scalar(value).and_then(|text| text.parse::<u16>().ok());
        let port = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => port(&value).map(Some).ok_or_else(|| Error::Port { path: path.to_owned() }),
        };
        let encrypted = raw.client_encryption_options.and_then(|options| options.enabled);
        let encrypted = encrypted.as_ref().and_then(scalar).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let plain = port(raw.native_transport_port)?;
        let port = match (encrypted, port(raw.native_transport_port_ssl)?) {
            (true, Some(secure)) => secure,
            (true, None) => plain.unwrap_or(9142),
            (false, _) => plain.unwrap_or(9042),
        };
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        let rpc = text(raw.rpc_address);
        let wildcard = rpc.as_deref().is_some_and(|address| matches!(address, "0.0.0.0" | "::"));
        // Cassandra's own places, when it is not told others.
        let home = data.parent().unwrap_or(data);
        let beside = [
            (raw.commitlog_directory, "commitlog"),
            (raw.hints_directory, "hints"),
            (raw.saved_caches_directory, "saved_caches"),
        ];
        Ok(Self {
            path: path.to_owned(),
            beside: beside.into_iter().map(|(dir, usual)| dir.unwrap_or_else(|| home.join(usual))).collect(),
            data: data.clone(),
            more: more.to_vec(),
            system,
            listen: text(raw.listen_address),
            rpc: rpc.filter(|_| !wildcard),
            wildcard,
            port,
        })
    }

    /// All data directories, in Cassandra's order; then the one of the system's own tables, if there is one.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.data).chain(&self.more).chain(&self.system).map(PathBuf::as_path)
    }

    /// Where CQL answers on this node.
    pub fn contact(&self) -> String {
        let host = match (&self.rpc, self.wildcard, &self.listen) {
            (Some(rpc), _, _) => rpc.as_str(),
            (None, true, _) => "127.0.0.1",
            (None, false, Some(listen)) => listen.as_str(),
            (None, false, None) => "localhost",
        };
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CassandraYaml, Error> {
        CassandraYaml::parse(text, Path::new("cassandra.yaml"))
    }

    #[test]
    fn defaults_are_cassandras() {
        let yaml = parse("").unwrap();
        assert_eq!(yaml.data, Path::new("/var/lib/cassandra/data"));
        assert_eq!(yaml.contact(), "localhost:9042");
    }

    #[test]
    fn json_is_yaml_too() {
        let yaml = parse(
            r#"{"data_file_directories": ["/d"], "listen_address": "10.0.0.1", "rpc_address": "0.0.0.0",
            "client_encryption_options": {"enabled": true}, "native_transport_port": 9999}"#,
        )
        .unwrap();
        assert_eq!((yaml.data.as_path(), yaml.contact().as_str()), (Path::new("/d"), "127.0.0.1:9999"));
    }

    #[test]
    fn encryption_moves_the_port() {
        assert_eq!(parse("client_encryption_options: {enabled: true}").unwrap().port, 9142);
        let both =
            "native_transport_port: 1\nnative_transport_port_ssl: 2\nclient_encryption_options: {enabled: 'true'}";
        assert_eq!(parse(both).unwrap().port, 2);
    }

    #[test]
    fn the_systems_own_directory_comes_last() {
        let dirs = |text: &str| parse(text).unwrap().dirs().map(Path::to_owned).collect::<Vec<_>>();
        let base = "data_file_directories: [/a, /b]\nlocal_system_data_file_directory:";
        assert_eq!(dirs(&format!("{base} /s")), ["/a", "/b", "/s"].map(PathBuf::from));
        assert_eq!(dirs(base), ["/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn what_the_layout_cannot_hold_is_refused() {
        for dirs in ["[]", "[/a, /a]", "[/a/b, /a]"] {
            let refused = parse(&format!("data_file_directories: {dirs}"));
            assert!(matches!(refused, Err(Error::DataDirectories { .. })), "{dirs}");
        }
        assert_eq!(parse("data_file_directories: [/a, /ab]").unwrap().dirs().count(), 2);
        let within = parse("data_file_directories: [/a, /b]\nlocal_system_data_file_directory: /b/s");
        assert!(matches!(within, Err(Error::DataDirectories { .. })));
        assert!(matches!(parse("native_transport_port: high"), Err(Error::Port { .. })));
        assert!(matches!(parse("a: [1"), Err(Error::Yaml { .. })));
    }
}
