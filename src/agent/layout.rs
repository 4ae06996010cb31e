//! Names of objects in the bucket: Medusa's layout, and the names that are refused because stock Medusa would harm them.
//!
//! Every key of the sidecar is made here. `P` is the prefix, `H` the node, `N` the backup: see `Layout`.

use std::fmt;

/// Words that stock Medusa looks for anywhere in an index key: a backup whose name holds one breaks its listing.
const INDEX_WORDS: [&str; 7] = ["tokenmap", "schema", "manifest", "differential", "incremental", "started", "finished"];

/// Longest name: Kubernetes' limit, below what file systems allow for a directory.
const LONGEST: usize = 200;

/// Why a name is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No name at all.
    #[error("no backup name supplied")]
    Empty,
    /// Longer than a directory's name may be with the index's additions.
    #[error("the backup name is {length} characters long: choose one of at most {LONGEST}")]
    TooLong {
        /// Characters.
        length: usize,
    },
    /// A character that a key, a directory or a command line cannot carry safely.
    #[error(
        "the backup name {name:?} is not made of letters, digits, '-', '_' and '.', beginning with a letter or digit: choose another"
    )]
    Character {
        /// As it was asked for.
        name: String,
    },
    /// Medusa's clean-up lists `H/data*` and deletes what it finds.
    #[error(
        "the backup name {name:?} begins with \"data\", and Medusa's purge would delete it as leftovers: choose another"
    )]
    Data {
        /// As it was asked for.
        name: String,
    },
    /// Medusa's index would misread every listing.
    #[error("the backup name {name:?} contains {word:?}, which breaks Medusa's index: choose another")]
    IndexWord {
        /// As it was asked for.
        name: String,
        /// What it contains.
        word: &'static str,
    },
    /// Medusa's deletion of the shorter name takes the longer one with it.
    #[error(
        "the backup name {name:?} and the existing {other:?} begin alike, and Medusa's deletion of the shorter one deletes both: choose another"
    )]
    Overlaps {
        /// As it was asked for.
        name: String,
        /// What is in the bucket.
        other: String,
    },
    /// A node's name that cannot be one segment of a key.
    #[error("the node name {name:?} cannot be part of an object's key: set fqdn in [storage]")]
    Node {
        /// As it was found.
        name: String,
    },
}

/// The name of a backup, fit to be a key segment, a directory and an argument.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupName(String);

impl BackupName {
    /// Accepts a name that can do no harm by itself.
    pub fn parse(name: &str) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::Empty);
        }
        if name.chars().count() > LONGEST {
            return Err(Error::TooLong { length: name.chars().count() });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.chars().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Error::Character { name: name.to_owned() });
        }
        if name.starts_with("data") {
            return Err(Error::Data { name: name.to_owned() });
        }
        if let Some(word) = INDEX_WORDS.into_iter().find(|word| name.contains(word)) {
            return Err(Error::IndexWord { name: name.to_owned(), word });
        }
        Ok(Self(name.to_owned()))
    }

    /// A name that is in the bucket already, by whatever rule its writer had: fit to be one segment of a key.
    pub fn existing(name: &str) -> Result<Self, Error> {
        let fits = !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..");
        if fits { Ok(Self(name.to_owned())) } else { Err(Error::Character { name: name.to_owned() }) }
    }

    /// Refuses a name that begins another one in the bucket, or begins with it.
    pub fn beside<'a>(&self, existing: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let overlaps = |other: &&str| *other != self.0 && (other.starts_with(&self.0) || self.0.starts_with(*other));
        match existing.into_iter().filter(|other| !other.is_empty()).find(overlaps) {
            Some(other) => Err(Error::Overlaps { name: self.0.clone(), other: other.to_owned() }),
            None => Ok(()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The snapshot's tag, as Medusa names it.
    pub fn snapshot_tag(&self) -> String {
        format!("medusa-{}", self.0)
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The node's name in keys: Medusa's `fqdn`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(String);

impl NodeName {
    /// Accepts a name that is one segment of a key.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let bad =
            |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '#' | '?' | '%' | '*' | ',');
        if name.is_empty() || matches!(name, "." | ".." | "data" | "index" | "meta") || name.contains(bad) {
            return Err(Error::Node { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a file of a table goes below its data root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath<'a> {
    /// Keyspace.
    pub keyspace: &'a str,
    /// Table directory: `<table>-<id>`.
    pub table: &'a str,
    /// The file, with the directory of a secondary index before it.
    pub file: &'a str,
}

/// Makes the keys of one node in one bucket.
#[derive(Debug, Clone)]
pub struct Layout {
    prefix: String,
    node: NodeName,
}

impl Layout {
    /// `prefix` without a slash, as in medusa.ini; `None` for none.
    pub fn new(prefix: Option<&str>, node: NodeName) -> Self {
        let prefix = prefix.map(|p| format!("{p}/")).unwrap_or_default();
        Self { prefix, node }
    }

    /// The same bucket from another node's point of view.
    pub fn of(&self, node: &str) -> Result<Self, Error> {
        Ok(Self { prefix: self.prefix.clone(), node: NodeName::parse(node)? })
    }

    /// `P H`: everything of this node.
    pub fn node_root(&self) -> String {
        format!("{}{}", self.prefix, self.node)
    }

    /// Whether a key below `pool()` is a file of the pool: a backup that is named `data` shares the directory.
    pub fn is_pooled(&self, key: &str) -> bool {
        let below = key.strip_prefix(self.pool().as_str()).and_then(|rest| rest.strip_prefix('/'));
        below.is_some_and(|rest| rest.split('/').count() > 2)
    }

    /// The node that this layout writes for.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// `P H/N`: everything that belongs to one backup of this node alone. No slash at the end.
    pub fn backup_root(&self, name: &BackupName) -> String {
        format!("{}{}/{name}", self.prefix, self.node)
    }

    /// `P H/N/meta/<file>` of any node.
    pub fn meta_of(&self, node: &str, name: &str, file: &str) -> String {
        format!("{}{node}/{name}/meta/{file}", self.prefix)
    }

    /// `P H/N/meta/<file>`.
    pub fn meta(&self, name: &BackupName, file: &str) -> String {
        self.meta_of(self.node.as_str(), name.as_str(), file)
    }

    /// `P H/data`: the pool that all differential backups of this node share.
    pub fn pool(&self) -> String {
        format!("{}{}/data", self.prefix, self.node)
    }

    /// `P H/data/<keyspace>/<table>/<file>`.
    pub fn pooled(&self, at: &FilePath<'_>) -> String {
        format!("{}/{}/{}/{}", self.pool(), at.keyspace, at.table, at.file)
    }

    /// `P H/data/.variants/<md5>/<file>`: a file whose name in the pool is taken by other content.
    ///
    /// Below the pool, because Medusa's `verify` looks for differential files there and its clean-up of the pool covers
    /// them; named by content, so that later backups find it again. Medusa restores by the last segments of the path:
    /// file name, and the directory before it when that is a secondary index (a dot at its beginning). Not below the
    /// table's own directory, because Medusa's listing of the pool forgets the tables of a keyspace that come before a
    /// deeper directory.
    pub fn variant(&self, md5: &str, at: &FilePath<'_>) -> String {
        format!("{}/.variants/{md5}/{}", self.pool(), at.file)
    }

    /// `P H/N/data`: the private copy of a full backup.
    pub fn private(&self, name: &BackupName) -> String {
        format!("{}/data", self.backup_root(name))
    }

    /// `P H/N/data/<keyspace>/<table>/<file>`.
    pub fn privately(&self, name: &BackupName, at: &FilePath<'_>) -> String {
        format!("{}/{}/{}/{}", self.private(name), at.keyspace, at.table, at.file)
    }

    /// `P index/backup_index`.
    pub fn index(&self) -> String {
        format!("{}index/backup_index", self.prefix)
    }

    /// `P index/backup_index/N`.
    pub fn index_of(&self, name: &BackupName) -> String {
        format!("{}/{name}", self.index())
    }

    /// The key of one of this node's entries in the index.
    pub fn index_entry(&self, name: &BackupName, entry: Entry) -> String {
        let (root, node) = (self.index_of(name), &self.node);
        match entry {
            Entry::Tokenmap => format!("{root}/tokenmap_{node}.json"),
            Entry::Schema => format!("{root}/schema_{node}.cql"),
            Entry::Manifest => format!("{root}/manifest_{node}.json"),
            Entry::Differential => format!("{root}/differential_{node}"),
            Entry::Started(epoch) => format!("{root}/started_{node}_{epoch}.timestamp"),
            Entry::Finished(epoch) => format!("{root}/finished_{node}_{epoch}.timestamp"),
        }
    }

    /// `P index/latest_backup/H/<file>`.
    pub fn latest(&self, file: &str) -> String {
        format!("{}index/latest_backup/{}/{file}", self.prefix, self.node)
    }

    /// Reads a key below `index()`: which backup, which node, what. `None` for a foreign file.
    pub fn read_index<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str, Entry)> {
        let rest = key.strip_prefix(self.index().as_str())?.strip_prefix('/')?;
        let (name, file) = rest.split_once('/')?;
        let (word, rest) = file.split_once('_')?;
        let stamped = |rest: &'a str| -> Option<(&'a str, i64)> {
            let (node, epoch) = rest.strip_suffix(".timestamp")?.rsplit_once('_')?;
            Some((node, epoch.parse().ok()?))
        };
        let (node, entry) = match word {
            "tokenmap" => (rest.strip_suffix(".json")?, Entry::Tokenmap),
            "schema" => (rest.strip_suffix(".cql")?, Entry::Schema),
            "manifest" => (rest.strip_suffix(".json")?, Entry::Manifest),
            "differential" | "incremental" => (rest, Entry::Differential),
            "started" => stamped(rest).map(|(node, at)| (node, Entry::Started(at)))?,
            "finished" => stamped(rest).map(|(node, at)| (node, Entry::Finished(at)))?,
            _ => return None,
        };
        (!name.is_empty() && !node.is_empty() && !node.contains('/')).then_some((name, node, entry))
    }
}

/// What an object of the index says of a node's backup. Times are seconds since the Unix epoch, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Copy of tokenmap.json.
    Tokenmap,
    /// Copy of schema.cql.
    Schema,
    /// Copy of manifest.json: the node is done.
    Manifest,
    /// Marks a differential backup.
    Differential,
    /// When schema.cql was written.
    Started(i64),
    /// When manifest.json was written.
    Finished(i64),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(prefix: Option<&str>) -> Layout {
        Layout::new(prefix, NodeName::parse("host_1.example").unwrap())
    }

    #[test]
    fn keys_are_medusas() {
        let name = BackupName::parse("b1").unwrap();
        let at = FilePath { keyspace: "ks", table: "t-0a", file: ".idx/nb-1-big-Data.db" };
        let plain = layout(None);
        assert_eq!(plain.meta(&name, "schema.cql"), "host_1.example/b1/meta/schema.cql");
        assert_eq!(plain.pooled(&at), "host_1.example/data/ks/t-0a/.idx/nb-1-big-Data.db");
        let prefixed = layout(Some("p"));
        assert_eq!(prefixed.privately(&name, &at), "p/host_1.example/b1/data/ks/t-0a/.idx/nb-1-big-Data.db");
        assert_eq!(prefixed.latest("backup_name.txt"), "p/index/latest_backup/host_1.example/backup_name.txt");
        assert_eq!(
            prefixed.index_entry(&name, Entry::Started(17)),
            "p/index/backup_index/b1/started_host_1.example_17.timestamp"
        );
        assert_eq!(prefixed.variant("ff", &at), "p/host_1.example/data/.variants/ff/.idx/nb-1-big-Data.db");
    }

    /// Hazards b, f and g.
    #[test]
    fn names_that_harm_are_refused() {
        let word = |name: &str| matches!(BackupName::parse(name), Err(Error::IndexWord { .. }));
        assert!(word("my-tokenmap") && word("startedx") && word("a.finished") && word("differential-1"));
        assert!(matches!(BackupName::parse("data-2026"), Err(Error::Data { .. })));
        assert!(matches!(BackupName::parse("data"), Err(Error::Data { .. })));
        assert_eq!(BackupName::parse(""), Err(Error::Empty));
        for bad in ["a/b", "../x", ".hidden", "a b", "ü", "a\n", "-t", "a%2f", "a;b"] {
            assert!(matches!(BackupName::parse(bad), Err(Error::Character { .. })), "{bad}");
        }
        assert!(matches!(BackupName::parse(&"x".repeat(201)), Err(Error::TooLong { length: 201 })));
    }

    /// Hazard a.
    #[test]
    fn names_that_begin_alike_are_refused() {
        let name = BackupName::parse("day-1").unwrap();
        assert!(name.beside(["day-2", "day-1", "other"]).is_ok());
        assert!(matches!(name.beside(["day-10"]), Err(Error::Overlaps { .. })));
        assert!(matches!(name.beside(["day"]), Err(Error::Overlaps { .. })));
    }

    #[test]
    fn foreign_files_in_the_index_are_not_read() {
        let layout = layout(None);
        for key in [
            "index/backup_index/b1/readme.txt",
            "index/backup_index/b1/started_h_x.timestamp",
            "index/backup_index/b1/deep/tokenmap_h.json",
            "index/backup_index/tokenmap_h.json",
            "index/latest_backup/h/tokenmap.json",
            "index/backup_index/b1/tokenmap_.json",
        ] {
            assert_eq!(layout.read_index(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn index_keys_are_read_back(
            name in "[a-ce-hj-lnp-r0-9][a-c0-9.-]{0,20}", node in "[a-zA-Z0-9._-]{1,30}", epoch in 0_i64..4_000_000_000,
            prefix in proptest::option::of("[a-z-]{1,10}"),
        ) {
            prop_assume!(NodeName::parse(&node).is_ok());
            let layout = Layout::new(prefix.as_deref(), NodeName::parse(&node).unwrap());
            let backup = BackupName::parse(&name).unwrap();
            for entry in [
                Entry::Tokenmap, Entry::Schema, Entry::Manifest, Entry::Differential, Entry::Started(epoch), Entry::Finished(epoch),
            ] {
                let key = layout.index_entry(&backup, entry);
                prop_assert_eq!(layout.read_index(&key), Some((name.as_str(), node.as_str(), entry)));
            }
        }

        #[test]
        fn any_name_gets_an_answer(name in "\\PC{0,40}") {
            if let Ok(name) = BackupName::parse(&name) {
                prop_assert!(!name.as_str().contains('/'));
            }
        }
    }
}
