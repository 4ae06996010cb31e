//! Which file of the data volume is which object of the bucket, so that an unchanged file is never read again.
//!
//! SSTables are told apart by inode, time and size on the volume: names come back (a replaced node counts its SSTables from
//! one again), and stock Medusa, which compares sizes, then keeps or overwrites the wrong object. A lost or damaged file here
//! costs reading everything once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::snapshot::{Identity, Table};
use crate::state::{self, StateDir};

const FILE: &str = "known.json";

/// An object that holds a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// The file on the volume.
    pub(crate) identity: Identity,
    /// The object.
    pub(crate) key: String,
    /// The manifest's MD5 of it.
    pub(crate) tag: String,
    /// Hex md5 of its content, where the tag says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) md5: Option<String>,
}

/// Objects by place: `<keyspace>/<table>/<file>`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    /// In the pool of differential backups.
    pool: BTreeMap<String, Object>,
    /// In the private copy of the full backup that runs.
    private: BTreeMap<String, Object>,
}

impl Known {
    /// What was known before a restart.
    pub(crate) fn load(dir: &StateDir) -> Self {
        dir.read(FILE).unwrap_or_else(|error| {
            tracing::warn!(%error, "every file is read once more");
            Self::default()
        })
    }

    /// Keeps it for the next start.
    pub(crate) fn save(&self, dir: &StateDir) -> Result<(), state::Error> {
        dir.write(FILE, self)
    }

    /// The object of a file that has not changed since.
    pub(crate) fn get(&self, full: bool, place: &str, identity: Identity) -> Option<&Object> {
        self.side(full).get(place).filter(|object| object.identity == identity)
    }

    /// Remembers where a file went.
    pub(crate) fn insert(&mut self, full: bool, place: String, object: Object) {
        if full { &mut self.private } else { &mut self.pool }.insert(place, object);
    }

    /// Before a full backup of which nothing is in the bucket.
    pub(crate) fn forget_private(&mut self) {
        self.private.clear();
    }

    /// After a differential backup: files that are gone from the volume are not asked for again.
    pub(crate) fn keep_only(&mut self, tables: &[Table]) {
        let all = tables.iter().flat_map(|table| table.files.iter().map(move |file| place(table, &file.name)));
        let current: std::collections::BTreeSet<String> = all.collect();
        self.pool.retain(|place, _| current.contains(place));
    }

    fn side(&self, full: bool) -> &BTreeMap<String, Object> {
        if full { &self.private } else { &self.pool }
    }
}

/// How a file is named here.
pub(crate) fn place(table: &Table, file: &str) -> String {
    format!("{}/{}/{file}", table.keyspace, table.table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_not_known() {
        let identity = Identity { inode: 1, modified_ns: 2, size: 3 };
        let object = Object { identity, key: "h/data/k/t/f".into(), tag: "x".into(), md5: None };
        let mut known = Known::default();
        known.insert(false, "k/t/f".into(), object.clone());
        assert_eq!(known.get(false, "k/t/f", identity), Some(&object));
        assert_eq!(known.get(true, "k/t/f", identity), None);
        for other in [
            Identity { inode: 9, ..identity },
            Identity { modified_ns: 9, ..identity },
            Identity { size: 9, ..identity },
        ] {
            assert_eq!(known.get(false, "k/t/f", other), None);
        }
        known.keep_only(&[]);
        assert_eq!(known.get(false, "k/t/f", identity), None);
    }

    #[test]
    fn damage_costs_reading_not_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Known::load(&state).pool.is_empty());
    }
}
