//! Snapshots: taken and cleared through the management API or nodetool, found and read on the data volume.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{SNAPSHOT_LIMIT, Snapshots};

/// Not in a backup: Medusa leaves this keyspace out.
pub const EXCLUDED: &str = "system_traces";
/// Files that Cassandra adds to a snapshot, and that Medusa leaves out.
const NEVER: [&str; 2] = ["manifest.json", "schema.cql"];
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
    /// The management API does not answer.
    #[error("the management API does not answer at {url}")]
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
            | Self::Nodetool { .. }
            | Self::Late { .. }
            | Self::Scan { .. } => true,
            Self::Identity(_) | Self::Read { .. } | Self::Program { .. } | Self::Nothing { .. } => false,
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
            Snapshots::Management { url, identity } => {
                let mut client = reqwest::Client::builder()
                    .connect_timeout(Duration::from_secs(10))
                    .timeout(SNAPSHOT_LIMIT)
                    .no_proxy();
                if let Some((certificate, key)) = identity {
                    let read =
                        |path: &PathBuf| fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
                    let mut pem = read(certificate)?;
                    pem.push(b'\n');
                    pem.extend(read(key)?);
                    let identity = reqwest::Identity::from_pem(&pem).map_err(Error::Identity)?;
                    // Medusa's rule: the address is the pod's own, for which no certificate is made.
                    client = client.use_rustls_tls().identity(identity).danger_accept_invalid_certs(true);
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
            Self::Nodetool { program, arguments } => {
                nodetool("clear", tag, program, arguments, &["clearsnapshot", "-t", tag]).await
            }
        }
    }
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

/// One table of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Keyspace.
    pub keyspace: String,
    /// Table directory: `<table>-<id>`.
    pub table: String,
    /// Its files, by name.
    pub files: Vec<SnapshotFile>,
}

/// One file of a snapshot: a hard link to an SSTable's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// On the volume.
    pub path: PathBuf,
    /// Below the snapshot: the file, with a secondary index's directory before it.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
}

/// What tells a file from any other without reading it: SSTables are never written to in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Inode.
    pub inode: u64,
    /// Last modification, nanoseconds since the Unix epoch.
    pub modified_ns: i128,
    /// Bytes.
    pub size: u64,
}

/// How much a snapshot holds: tells a whole one from one that was half cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extent {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The extent of what was found.
pub fn extent(tables: &[Table]) -> Extent {
    let mut extent = Extent::default();
    for file in tables.iter().flat_map(|table| &table.files) {
        extent.files += 1;
        extent.bytes += file.identity.size;
    }
    extent
}

/// Finds a snapshot below the data directory, tables and files in order. Empty when there is none.
pub async fn scan(data: &Path, tag: &str) -> Result<Vec<Table>, Error> {
    let (data, tag) = (data.to_owned(), tag.to_owned());
    let path = data.clone();
    let scanned = tokio::task::spawn_blocking(move || find(&data, &tag)).await;
    scanned.unwrap_or_else(|error| Err(Error::Scan { path, source: std::io::Error::other(error) }))
}

fn find(data: &Path, tag: &str) -> Result<Vec<Table>, Error> {
    let mut tables = Vec::new();
    for (keyspace, keyspace_dir) in directories(data)? {
        if keyspace == EXCLUDED {
            continue;
        }
        for (table, table_dir) in directories(&keyspace_dir)? {
            let snapshot = table_dir.join("snapshots").join(tag);
            if !snapshot.is_dir() {
                continue;
            }
            let mut files = Vec::new();
            collect(&snapshot, "", &mut files)?;
            files.sort_by(|a, b| a.name.cmp(&b.name));
            tables.push(Table { keyspace: keyspace.clone(), table, files });
        }
    }
    Ok(tables)
}

fn directories(of: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |source| Error::Scan { path: of.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(of).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_dir()
        {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

fn collect(dir: &Path, below: &str, files: &mut Vec<SnapshotFile>) -> Result<(), Error> {
    let failed = |source| Error::Scan { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let meta = fs::metadata(&path).map_err(failed)?;
        if meta.is_dir() {
            collect(&path, &format!("{below}{name}/"), files)?;
        } else if !NEVER.contains(&name.as_str()) {
            let modified_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            let identity = Identity { inode: meta.ino(), modified_ns, size: meta.len() };
            files.push(SnapshotFile { path, name: format!("{below}{name}"), identity });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, file: &str, content: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[tokio::test]
    async fn a_snapshot_is_found_by_table() {
        let dir = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("ks/t-1/snapshots/medusa-a/nb-1-big-Data.db", "12345"),
            ("ks/t-1/snapshots/medusa-a/.idx/nb-1-big-Data.db", "1"),
            ("ks/t-1/snapshots/medusa-a/manifest.json", "{}"),
            ("ks/t-1/snapshots/medusa-a/schema.cql", ""),
            ("ks/t-1/snapshots/medusa-b/nb-2-big-Data.db", "1"),
            ("ks/t-1/nb-1-big-Data.db", "12345"),
            ("ks/empty-2/snapshots/medusa-a/manifest.json", "{}"),
            ("system_traces/x-3/snapshots/medusa-a/nb-1-big-Data.db", "1"),
            ("stray-file", ""),
        ] {
            write(dir.path(), file, content);
        }
        let tables = scan(dir.path(), "medusa-a").await.unwrap();
        let names: Vec<(&str, Vec<&str>)> =
            tables.iter().map(|t| (t.table.as_str(), t.files.iter().map(|f| f.name.as_str()).collect())).collect();
        assert_eq!(names, [("empty-2", vec![]), ("t-1", vec![".idx/nb-1-big-Data.db", "nb-1-big-Data.db"])]);
        assert_eq!(extent(&tables), Extent { files: 2, bytes: 6 });
        assert_eq!(scan(dir.path(), "medusa-none").await.unwrap(), []);
        assert!(matches!(scan(&dir.path().join("no"), "x").await, Err(Error::Scan { .. })));
    }

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
