//! Which files of a manifest go where. Pure but for a look at the directories of the node.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ground::Ground;
use super::request::{Mode, Request};
use crate::layout::{BackupName, Layout};
use crate::manifest::{Object, Section};

/// What a new cluster needs of the old one, whichever tables are asked for.
const ALWAYS: [&str; 4] = ["system", "system_schema", "system_auth", "system_distributed"];

/// Why a manifest cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a place below the data directory.
    #[error("the manifest has {text:?} where a keyspace, table or file belongs: nothing was touched")]
    Place {
        /// As written.
        text: String,
    },
    /// Two contents for one file.
    #[error("the manifest has {to} twice: nothing was touched")]
    Twice {
        /// Below the data directory.
        to: String,
    },
    /// Named, and not in the backup.
    #[error("the backup has no {what}: nothing was touched")]
    Unknown {
        /// Keyspace or table.
        what: String,
    },
    /// Restored alone, it would have no schema.
    #[error(
        "this node has no directory {keyspace}/{table}: the table was dropped or made anew since the backup, and its schema \
         comes back with a restore of everything only; nothing was touched"
    )]
    Schema {
        /// Keyspace.
        keyspace: String,
        /// Table directory.
        table: String,
    },
}

/// A table directory that comes from the backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) keyspace: String,
    pub(super) table: String,
}

/// A table with the number of its files.
#[derive(Debug)]
pub(super) struct Incoming {
    place: Place,
}

impl Incoming {
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }
}

/// One file that comes from the backup.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `<keyspace>/<table directory>/<file>`, below the data directory.
    pub(super) to: String,
    pub(super) object: Object,
}

/// Everything that comes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) tables: Vec<Incoming>,
    pub(super) files: Vec<Wanted>,
}

impl Plan {
    pub(super) fn of(
        sections: &[Section],
        layout: &Layout,
        backup: &BackupName,
        request: &Request,
        grounds: &[Ground],
    ) -> Result<Self, Error> {
        named(sections, request)?;
        let (mut tables, mut files) = (Vec::new(), Vec::new());
        let mut taken = BTreeSet::new();
        for section in sections.iter().filter(|section| wanted(section, request)) {
            let place = Place { keyspace: segment(&section.keyspace)?, table: segment(&section.columnfamily)? };
            let here = grounds.iter().any(|ground| ground.data.join(&place.keyspace).join(&place.table).is_dir());
            if !request.whole() && request.mode == Mode::InPlace && !here {
                return Err(Error::Schema { keyspace: place.keyspace, table: place.table });
            }
            for object in &section.objects {
                let file = file(layout, backup, section, &object.path)?;
                let to = format!("{}/{}/{file}", place.keyspace, place.table);
                if !taken.insert(to.clone()) {
                    return Err(Error::Twice { to });
                }
                files.push(Wanted { to, object: object.clone() });
            }
            tables.push(Incoming { place });
        }
        Ok(Self { tables, files })
    }

    pub(super) fn bytes(&self) -> u64 {
        // Sizes are a manifest's words: a sum that overflows is more than any volume has.
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.object.size))
    }
}

/// The table's name without its id.
fn table_name(section: &Section) -> &str {
    section.columnfamily.rsplit_once('-').map_or(section.columnfamily.as_str(), |(name, _)| name)
}

/// Everything that is asked for must be there.
fn named(sections: &[Section], request: &Request) -> Result<(), Error> {
    let keyspaces: BTreeSet<&str> = sections.iter().map(|section| section.keyspace.as_str()).collect();
    if let Some(keyspace) = request.keyspaces.iter().find(|keyspace| !keyspaces.contains(keyspace.as_str())) {
        return Err(Error::Unknown { what: format!("keyspace {keyspace}") });
    }
    let there = |keyspace: &str, table: &str| sections.iter().any(|s| s.keyspace == keyspace && table_name(s) == table);
    match request.tables.iter().find(|(keyspace, table)| !there(keyspace, table)) {
        Some((keyspace, table)) => Err(Error::Unknown { what: format!("table {keyspace}.{table}") }),
        None => Ok(()),
    }
}

fn wanted(section: &Section, request: &Request) -> bool {
    let (keyspace, table) = (section.keyspace.as_str(), table_name(section));
    if request.mode == Mode::Remote {
        // Who the node is stays its own: address, host id, peers, roles.
        let identity = keyspace == "system" && (table == "local" || table.starts_with("peers"));
        if identity || keyspace == "system_auth" {
            return false;
        }
        if ALWAYS.contains(&keyspace) {
            return true;
        }
    }
    request.whole()
        || request.keyspaces.contains(keyspace)
        || request.tables.contains(&(keyspace.to_owned(), table.to_owned()))
}

/// A text that names one directory or file.
fn segment(text: &str) -> Result<String, Error> {
    let bad = |c: char| c == '/' || c == '\\' || c.is_control();
    if text.is_empty() || matches!(text, "." | "..") || text.contains(bad) {
        return Err(Error::Place { text: text.to_owned() });
    }
    Ok(text.to_owned())
}

/// The file of an object below its table: with a directory before it when it belongs to a secondary index.
fn file(layout: &Layout, backup: &BackupName, section: &Section, path: &str) -> Result<String, Error> {
    let place = || Error::Place { text: path.to_owned() };
    let table = format!("/{}/{}/", section.keyspace, section.columnfamily);
    let roots = [layout.pool(), layout.private(backup)];
    let below = roots.iter().find_map(|root| path.strip_prefix(root.as_str())).ok_or_else(place)?;
    let file = match below.strip_prefix(table.as_str()) {
        Some(file) => file,
        // Kept beside a file of the same name: the content's hash comes first.
        None => below.strip_prefix("/.variants/").and_then(|rest| rest.split_once('/')).ok_or_else(place)?.1,
    };
    for part in file.split('/') {
        segment(part).map_err(|_| place())?;
    }
    Ok(file.to_owned())
}

/// Whatever a manifest says, nothing is written outside of the data directory.
#[cfg(test)]
pub(crate) fn hostile(sections: &[Section]) {
    let source = crate::layout::NodeName::parse("h").unwrap();
    let request = Request {
        key: "k".into(),
        backup: BackupName::parse("b").unwrap(),
        source: source.clone(),
        mode: Mode::Remote,
        keyspaces: BTreeSet::new(),
        tables: BTreeSet::new(),
    };
    let layout = Layout::new(Some("p"), source);
    let Ok(plan) = Plan::of(sections, &layout, &request.backup, &request, &[]) else { return };
    let _ = plan.bytes();
    for file in &plan.files {
        assert!(file.to.split('/').count() >= 3 && file.to.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::NodeName;

    fn object(path: &str) -> Object {
        Object { path: path.to_owned(), md5: None, size: 1 }
    }

    fn section(keyspace: &str, table: &str, paths: &[&str]) -> Section {
        let objects = paths.iter().map(|path| object(path)).collect();
        Section { keyspace: keyspace.to_owned(), columnfamily: table.to_owned(), objects }
    }

    fn plan(
        sections: &[Section],
        mode: Mode,
        keyspaces: &[&str],
        tables: &[(&str, &str)],
    ) -> Result<Vec<String>, Error> {
        let source = NodeName::parse("h").unwrap();
        let request = Request {
            key: "k".into(),
            backup: BackupName::parse("b").unwrap(),
            source: source.clone(),
            mode,
            keyspaces: keyspaces.iter().map(|text| (*text).to_owned()).collect(),
            tables: tables.iter().map(|(k, t)| ((*k).to_owned(), (*t).to_owned())).collect(),
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("ks/t-1")).unwrap();
        let layout = Layout::new(Some("p"), source);
        let ground = Ground { data: dir.path().to_owned(), folder: dir.path().to_owned() };
        let plan = Plan::of(sections, &layout, &request.backup, &request, &[ground])?;
        Ok(plan.files.iter().map(|file| file.to.clone()).collect())
    }

    #[test]
    fn files_find_their_place() {
        let sections = [section(
            "ks",
            "t-1",
            &[
                "p/h/data/ks/t-1/nb-1-big-Data.db",
                "p/h/data/ks/t-1/.idx/nb-1-big-Data.db",
                "p/h/data/.variants/0a/.idx/nb-2-big-Data.db",
                "p/h/b/data/ks/t-1/nb-3-big-Data.db",
            ],
        )];
        let expected = [
            "ks/t-1/nb-1-big-Data.db",
            "ks/t-1/.idx/nb-1-big-Data.db",
            "ks/t-1/.idx/nb-2-big-Data.db",
            "ks/t-1/nb-3-big-Data.db",
        ];
        assert_eq!(plan(&sections, Mode::InPlace, &[], &[]).unwrap(), expected);
        for path in
            ["p/h/data/ks/t-1/../../x", "/etc/passwd", "p/h/data/ks/u-1/f", "p/g/data/ks/t-1/f", "p/h/data/.variants/f"]
        {
            let bad = plan(&[section("ks", "t-1", &[path])], Mode::InPlace, &[], &[]);
            assert!(matches!(bad, Err(Error::Place { .. })), "{path}");
        }
        let twice = ["p/h/data/ks/t-1/f", "p/h/data/.variants/0a/f"];
        let twice = plan(&[section("ks", "t-1", &twice)], Mode::InPlace, &[], &[]).unwrap_err();
        assert_eq!(twice.to_string(), "the manifest has ks/t-1/f twice: nothing was touched");
        for (keyspace, table) in [("..", "t-1"), ("ks", "../t"), ("", "t"), ("ks", "a/b")] {
            assert!(matches!(
                plan(&[section(keyspace, table, &[])], Mode::InPlace, &[], &[]),
                Err(Error::Place { .. })
            ));
        }
    }

    /// Hazard k: only the system's own peers are left out.
    #[test]
    fn another_nodes_identity_stays_away() {
        let of = |keyspace: &str, table: &str| section(keyspace, table, &[&format!("p/h/data/{keyspace}/{table}/f")]);
        let sections = [
            of("system", "local-1"),
            of("system", "peers_v2-1"),
            of("system", "paxos-1"),
            of("system_auth", "roles-1"),
            of("ks", "peers_v9-1"),
            of("ks", "local-1"),
        ];
        assert_eq!(
            plan(&sections, Mode::Remote, &[], &[]).unwrap(),
            ["system/paxos-1/f", "ks/peers_v9-1/f", "ks/local-1/f"]
        );
        assert_eq!(plan(&sections, Mode::InPlace, &[], &[]).unwrap().len(), 6);
        assert_eq!(
            plan(&sections, Mode::Remote, &[], &[("ks", "local")]).unwrap(),
            ["system/paxos-1/f", "ks/local-1/f"]
        );
    }

    #[test]
    fn what_is_named_must_be_there() {
        let sections = [section("ks", "t-1", &["p/h/data/ks/t-1/f"]), section("ks", "u-2", &[])];
        assert_eq!(plan(&sections, Mode::InPlace, &[], &[("ks", "t")]).unwrap(), ["ks/t-1/f"]);
        let unknown = plan(&sections, Mode::InPlace, &[], &[("ks", "v")]).unwrap_err();
        assert_eq!(unknown.to_string(), "the backup has no table ks.v: nothing was touched");
        assert!(matches!(plan(&sections, Mode::InPlace, &["other"], &[]), Err(Error::Unknown { .. })));
        // The node does not know u-2 any more.
        assert!(matches!(plan(&sections, Mode::InPlace, &["ks"], &[]), Err(Error::Schema { .. })));
        assert_eq!(plan(&sections, Mode::Remote, &["ks"], &[]).unwrap(), ["ks/t-1/f"]);
    }
}
