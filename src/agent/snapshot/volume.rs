//! A snapshot on the data volume: its tables and files, found without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

/// Not in a backup: Medusa leaves this keyspace out.
pub const EXCLUDED: &str = "system_traces";
/// Files that Cassandra adds to a snapshot, and that Medusa leaves out.
const NEVER: [&str; 2] = ["manifest.json", "schema.cql"];

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

/// Finds a snapshot below the data directories, tables and files in order. Empty when there is none.
pub async fn scan(dirs: impl Iterator<Item = &Path>, tag: &str) -> Result<Vec<Table>, Error> {
    let (dirs, tag): (Vec<PathBuf>, _) = (dirs.map(Path::to_owned).collect(), tag.to_owned());
    let path = dirs.first().cloned().unwrap_or_default();
    let scanned = tokio::task::spawn_blocking(move || find(&dirs, &tag)).await;
    scanned.unwrap_or_else(|error| Err(Error::Scan { path, source: std::io::Error::other(error) }))
}

/// A table that lies in several data directories is one table: Cassandra numbers its SSTables over all of them.
fn find(dirs: &[PathBuf], tag: &str) -> Result<Vec<Table>, Error> {
    let mut all: BTreeMap<(String, String), Vec<SnapshotFile>> = BTreeMap::new();
    for dir in dirs {
        for found in find_in(dir, tag)? {
            all.entry((found.keyspace, found.table)).or_default().extend(found.files);
        }
    }
    let table = |((keyspace, table), mut files): ((String, String), Vec<SnapshotFile>)| {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        match files.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name)) {
            Some(pair) => {
                let path = |at: usize| pair.get(at).map(|file| file.path.clone()).unwrap_or_default();
                Err(Error::Twice { first: path(0), second: path(1) })
            }
            None => Ok(Table { keyspace, table, files }),
        }
    };
    all.into_iter().map(table).collect()
}

fn find_in(data: &Path, tag: &str) -> Result<Vec<Table>, Error> {
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
        let scan = async |dir: &Path, tag| scan(std::iter::once(dir), tag).await;
        let tables = scan(dir.path(), "medusa-a").await.unwrap();
        let names: Vec<(&str, Vec<&str>)> =
            tables.iter().map(|t| (t.table.as_str(), t.files.iter().map(|f| f.name.as_str()).collect())).collect();
        assert_eq!(names, [("empty-2", vec![]), ("t-1", vec![".idx/nb-1-big-Data.db", "nb-1-big-Data.db"])]);
        assert_eq!(extent(&tables), Extent { files: 2, bytes: 6 });
        assert_eq!(scan(dir.path(), "medusa-none").await.unwrap(), []);
        assert!(matches!(scan(&dir.path().join("no"), "x").await, Err(Error::Scan { .. })));
    }

    #[tokio::test]
    async fn a_table_in_several_directories_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| dir.path().join(name));
        for (file, content) in [
            ("one/ks/t-1/snapshots/medusa-a/nb-2-big-Data.db", "12"),
            ("two/ks/t-1/snapshots/medusa-a/nb-1-big-Data.db", "1"),
            ("two/ks/t-1/snapshots/medusa-a/.idx/nb-2-big-Data.db", ""),
            ("two/ks/u-2/snapshots/medusa-a/nb-1-big-Data.db", "1"),
        ] {
            write(dir.path(), file, content);
        }
        let scan = async || scan(dirs.iter().map(PathBuf::as_path), "medusa-a").await;
        let tables = scan().await.unwrap();
        let names: Vec<&str> = tables[0].files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [".idx/nb-2-big-Data.db", "nb-1-big-Data.db", "nb-2-big-Data.db"]);
        assert_eq!((tables.len(), extent(&tables)), (2, Extent { files: 4, bytes: 4 }));
        // One place in the bucket cannot hold both.
        write(dir.path(), "one/ks/t-1/snapshots/medusa-a/nb-1-big-Data.db", "other");
        let said = scan().await.unwrap_err().to_string();
        assert!(
            said.starts_with("two data directories hold a file of one name: ") && said.contains("/one/ks/t-1/"),
            "{said}"
        );
    }
}
