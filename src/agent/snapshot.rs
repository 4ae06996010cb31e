//! Snapshots: taken and cleared through the management API, Jolokia or nodetool, found and read on the data volume.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::config::{SNAPSHOT_LIMIT, Snapshots};

mod jolokia;
mod volume;

pub use volume::{EXCLUDED, Extent, Identity, SnapshotFile, Table, extent, scan};

/// How much of a refusal is repeated to the user, in bytes.
const EXCERPT: usize = 400;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client of the management API cannot be made of its certificates.
    #[error("the management API's certificate or key cannot be used")]
    Identity(#[source] reqwest::Error),
    /// A certificate that is not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Jolokia says no.
    #[error("Jolokia cannot {action} snapshot {tag}: {answer}")]
    Jolokia {
        /// take or clear.
        action: &'static str,
        /// Tag.
        tag: String,
        /// What it said.
        answer: String,
    },
    /// The management API or Jolokia does not answer.
    #[error("nothing answers at {url}, where snapshots are taken: is cassandra_url in [kubernetes] right?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The management API says no.
    #[error("the management API cannot {action} snapshot {tag}: {status}: {answer}")]
    Refused {
        /// take or clear.
        action: &'static str,
        /// Tag.
        tag: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        answer: String,
    },
    /// nodetool cannot be run.
    #[error("cannot run {program:?}: is nodetool_executable in [cassandra] right?")]
    Program {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// nodetool says no.
    #[error("nodetool cannot {action} snapshot {tag}: {answer}")]
    Nodetool {
        /// take or clear.
        action: &'static str,
        /// Tag.
        tag: String,
        /// What it said.
        answer: String,
    },
    /// Nothing within the limit.
    #[error("snapshot {tag} was not taken or cleared within {} s", SNAPSHOT_LIMIT.as_secs())]
    Late {
        /// Tag.
        tag: String,
    },
    /// The data directory cannot be read.
    #[error("cannot read {} on the data volume", path.display())]
    Scan {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not two SSTables of one table, then: Cassandra numbers them over all directories.
    #[error("two data directories hold a file of one name: {} and {}; remove the one that was copied there", first.display(), second.display())]
    Twice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Cassandra said that it took one, and nothing of it is on this volume.
    #[error("no file of snapshot {tag} is below {}: is it Cassandra's data directory?", path.display())]
    Nothing {
        /// Tag.
        tag: String,
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl Error {
    /// Whether the same thing may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Jolokia { .. }
            | Self::Nodetool { .. }
            | Self::Late { .. }
            | Self::Scan { .. } => true,
            Self::Identity(_)
            | Self::Read { .. }
            | Self::Program { .. }
            | Self::Nothing { .. }
            | Self::Twice { .. } => false,
        }
    }
}

/// Takes and clears snapshots of the node beside us.
#[derive(Debug, Clone)]
pub enum Service {
    /// The management API.
    Management {
        /// With its certificate, if it needs one.
        client: reqwest::Client,
        /// The snapshots resource.
        url: String,
    },
    /// Jolokia.
    Jolokia {
        /// For plain HTTP.
        client: reqwest::Client,
        /// Where it listens.
        url: String,
    },
    /// nodetool.
    Nodetool {
        /// Program.
        program: String,
        /// What comes before the sub-command.
        arguments: Vec<String>,
    },
}

impl Service {
    /// As the configuration says; nothing is called yet.
    pub fn new(config: &Snapshots) -> Result<Self, Error> {
        match config {
            Snapshots::Nodetool { program, arguments } => {
                Ok(Self::Nodetool { program: program.clone(), arguments: arguments.clone() })
            }
            Snapshots::Jolokia { url } => {
                Ok(Self::Jolokia { client: patient().build().map_err(Error::Identity)?, url: url.clone() })
            }
            Snapshots::Management { url, identity } => {
                let mut client = patient();
                if let Some((certificate, key)) = identity {
                    let read =
                        |path: &PathBuf| fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
                    let mut pem = read(certificate)?;
                    pem.push(b'\n');
                    pem.extend(read(key)?);
                    let identity = reqwest::Identity::from_pem(&pem).map_err(Error::Identity)?;
                    // Medusa's rule: the address is the pod's own, for which no certificate is made.
                    client = client.identity(identity).tls_danger_accept_invalid_certs(true);
                }
                Ok(Self::Management { client: client.build().map_err(Error::Identity)?, url: url.clone() })
            }
        }
    }

    /// Takes a snapshot of every table; Cassandra flushes them first.
    pub async fn take(&self, tag: &str) -> Result<(), Error> {
        match self {
            Self::Management { client, url } => {
                let asked = client.post(url).json(&serde_json::json!({ "snapshot_name": tag }));
                answered("take", tag, url, asked).await
            }
            Self::Jolokia { client, url } => jolokia::take(client, url, tag).await,
            Self::Nodetool { program, arguments } => {
                nodetool("take", tag, program, arguments, &["snapshot", "-t", tag]).await
            }
        }
    }

    /// Clears a snapshot; one that is not there is cleared already.
    pub async fn clear(&self, tag: &str) -> Result<(), Error> {
        match self {
            Self::Management { client, url } => {
                let asked = client.delete(url).query(&[("snapshotNames", tag)]);
                answered("clear", tag, url, asked).await
            }
            Self::Jolokia { client, url } => jolokia::clear(client, url, tag).await,
            Self::Nodetool { program, arguments } => {
                nodetool("clear", tag, program, arguments, &["clearsnapshot", "-t", tag]).await
            }
        }
    }
}

fn patient() -> reqwest::ClientBuilder {
    reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).timeout(SNAPSHOT_LIMIT).no_proxy()
}

async fn answered(action: &'static str, tag: &str, url: &str, asked: reqwest::RequestBuilder) -> Result<(), Error> {
    let unreachable = |source: reqwest::Error| Error::Unreachable { url: url.to_owned(), source: source.without_url() };
    let answer = asked.send().await.map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.text().await.map_err(unreachable)?;
    Err(Error::Refused { action, tag: tag.to_owned(), status: status.as_u16(), answer: excerpt(&text) })
}

async fn nodetool(
    action: &'static str,
    tag: &str,
    program: &str,
    before: &[String],
    command: &[&str],
) -> Result<(), Error> {
    let run = tokio::process::Command::new(program)
        .args(before)
        .args(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SNAPSHOT_LIMIT, run).await.map_err(|_| Error::Late { tag: tag.to_owned() })?;
    let output = output.map_err(|source| Error::Program { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(Error::Nodetool { action, tag: tag.to_owned(), answer: excerpt(&String::from_utf8_lossy(said)) })
}

/// The beginning of what a program said, on one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = (0..=EXCERPT.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodetools_refusal_is_repeated() {
        let service = Service::Nodetool {
            program: "sh".into(),
            arguments: vec!["-c".into(), "echo no such; echo thing >&2; exit 1".into()],
        };
        let error = service.take("medusa-x").await.unwrap_err();
        assert_eq!(error.to_string(), "nodetool cannot take snapshot medusa-x: thing");
        let service = Service::Nodetool { program: "/nowhere/nodetool".into(), arguments: vec![] };
        assert!(matches!(service.clear("medusa-x").await, Err(Error::Program { .. })));
    }

    #[test]
    fn excerpts_are_short_and_whole() {
        assert_eq!(excerpt(" a\n\tb "), "a b");
        assert!(excerpt(&"ü".repeat(1000)).len() <= EXCERPT);
    }
}
