//! The switch: each table's directory is renamed away and the new one renamed into its place. May be repeated from any point.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::ground::Ground;
use super::plan::Place;

/// What is to be switched, written down before it begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Switch {
    /// The data directories; none in what an earlier version wrote.
    #[serde(default)]
    pub(super) dirs: Vec<PathBuf>,
    /// The folder of each, where what comes waits; none in what an earlier version wrote.
    #[serde(default)]
    pub(super) folders: Vec<PathBuf>,
    pub(super) tables: Vec<Place>,
    /// The data is another node's: what says who that node is goes.
    pub(super) remote: bool,
    /// Whether commit log, hints and caches go: they belong to the data that goes.
    pub(super) clear: bool,
    /// The tokens of the source, for a remote restore.
    pub(super) tokens: Option<Vec<String>>,
}

/// Removes what is only there during a restore.
pub(super) fn clean(grounds: &[Ground]) -> Result<(), Error> {
    let mut outcome = Ok(());
    for dir in grounds.iter().flat_map(|ground| [ground.incoming(), ground.outgoing()]) {
        // One that cannot go keeps none of the others.
        let removed = gone(fs::remove_dir_all(&dir)).map_err(|source| Error::File { path: dir, source });
        outcome = outcome.and(removed);
    }
    for ground in grounds.iter().skip(1) {
        // The first one holds the stage. Empty folders do no harm.
        let _ = fs::remove_dir(&ground.folder);
        let _ = ground.folder.parent().map(fs::remove_dir);
    }
    outcome
}

/// Gives a tree to the owner of the data directory.
pub(super) fn give(tree: &Path, data: &Path) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    let found = fs::symlink_metadata(tree)?;
    if (found.uid(), found.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::lchown(tree, Some(owner.uid()), Some(owner.gid()))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(tree)? {
            give(&entry?.path(), data)?;
        }
    }
    Ok(())
}

/// Removes what an interrupted run left half done.
pub(super) fn keep_only(tree: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        if path.is_dir() {
            keep_only(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// What is not there is gone already.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

impl Switch {
    /// Switches everything that is not switched yet.
    pub(super) fn run(&self, grounds: &[Ground], beside: &[PathBuf]) -> Result<(), Error> {
        for ground in grounds {
            self.one(ground)?;
        }
        if self.clear {
            for dir in beside {
                empty(dir).map_err(failed(dir))?;
            }
        }
        for Ground { data, .. } in grounds {
            let synced = fs::File::open(data).and_then(|dir| Ok(nix::unistd::syncfs(&dir)?));
            synced.map_err(failed(data))?;
        }
        Ok(())
    }

    fn one(&self, ground: &Ground) -> Result<(), Error> {
        let data = &ground.data;
        for Place { keyspace, table } in &self.tables {
            let (new, live) = (ground.incoming().join(keyspace).join(table), data.join(keyspace).join(table));
            if !new.is_dir() {
                // Switched before an interruption.
                continue;
            }
            if live.exists() {
                away(&live, ground).map_err(failed(&live))?;
            }
            let parent = data.join(keyspace);
            if !parent.exists() {
                fs::create_dir(&parent).and_then(|()| give(&parent, data)).map_err(failed(&parent))?;
            }
            fs::rename(&new, &live).map_err(failed(&live))?;
        }
        if self.remote {
            let system = data.join("system");
            for identity in identities(&system).map_err(failed(&system))? {
                away(&identity, ground).map_err(failed(&identity))?;
            }
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// Renames a table's directory away. One that was renamed away under the same name before is not needed any more.
fn away(live: &Path, ground: &Ground) -> io::Result<()> {
    let mut names = live.components().rev().filter_map(|part| part.as_os_str().to_str());
    let (table, keyspace) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let old = ground.outgoing().join(keyspace).join(table);
    gone(fs::remove_dir_all(&old))?;
    fs::create_dir_all(ground.outgoing().join(keyspace))?;
    fs::rename(live, &old)
}

/// The directories of system tables that say who a node is.
fn identities(system: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(system) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("local-") || name.starts_with("peers") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Empties a directory that may be a mount of its own.
fn empty(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        gone(if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, content: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn tree(root: &Path) -> Vec<(String, String)> {
        fn walk(root: &Path, dir: &Path, found: &mut Vec<(String, String)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.push((name, fs::read_to_string(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(root, root, &mut found);
        found.sort();
        found
    }

    /// Two data directories; `t-1` lies in both.
    fn node(root: &Path) -> (Switch, [Ground; 2]) {
        let ground = |name: &str| Ground { data: root.join("data").join(name), folder: root.join("folder").join(name) };
        let grounds = [ground("one"), ground("two")];
        let place = |keyspace: &str, table: &str| Place { keyspace: keyspace.into(), table: table.into() };
        for (file, content) in [
            ("one/ks/t-1/a", "old"),
            ("two/ks/t-1/c", "old"),
            ("one/ks/t-1/snapshots/s/a", "old"),
            ("one/ks/u-1/b", "old"),
            ("one/ks/z-1/z", "stays"),
            ("one/system/local-1/l", "me"),
            ("two/system/peers-1/l", "others"),
        ] {
            write(&root.join("data"), file, content);
        }
        for file in ["one/new/ks/t-1/a", "two/new/ks/t-1/b", "one/new/ks/u-1/b", "two/new/new/v-1/c"] {
            write(&root.join("folder"), file, "new");
        }
        for ground in &grounds {
            for table in ["ks/t-1", "ks/u-1", "new/v-1", "ks/empty-1"] {
                fs::create_dir_all(ground.incoming().join(table)).unwrap();
            }
        }
        write(root, "commitlog/segment", "log");
        let tables = vec![place("ks", "t-1"), place("ks", "u-1"), place("new", "v-1"), place("ks", "empty-1")];
        (Switch { dirs: Vec::new(), folders: Vec::new(), tables, remote: true, clear: true, tokens: None }, grounds)
    }

    #[test]
    fn interrupted_anywhere_it_ends_the_same() {
        let expected: Vec<(String, String)> = [
            ("one/ks/t-1/a", "new"),
            ("one/ks/u-1/b", "new"),
            ("one/ks/z-1/z", "stays"),
            ("two/ks/t-1/b", "new"),
            ("two/new/v-1/c", "new"),
        ]
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
        .to_vec();
        for done in 0..=8 {
            let dir = tempfile::tempdir().unwrap();
            let (switch, grounds) = node(dir.path());
            // What a run does until it is killed after `done` tables, or between the two renames of the next one.
            for (at, ground) in grounds.iter().enumerate() {
                let done = (done - done.min(4 * at)).min(4);
                let first =
                    Switch { tables: switch.tables[..done].to_vec(), remote: false, clear: false, ..switch.clone() };
                first.run(std::slice::from_ref(ground), &[]).unwrap();
                if done < 4 {
                    let next = &switch.tables[done];
                    let live = ground.data.join(&next.keyspace).join(&next.table);
                    if live.exists() {
                        away(&live, ground).unwrap();
                    }
                    break;
                }
            }
            for _ in 0..2 {
                switch.run(&grounds, &[dir.path().join("commitlog"), dir.path().join("hints")]).unwrap();
            }
            assert_eq!(tree(&dir.path().join("data")), expected, "after {done}");
            assert!(grounds.iter().all(|ground| ground.data.join("ks/empty-1").is_dir()));
            assert_eq!(tree(&dir.path().join("commitlog")), []);
            clean(&grounds).unwrap();
            assert_eq!(tree(&dir.path().join("folder")), []);
        }
    }
}
