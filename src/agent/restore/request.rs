//! What the environment asks for: which backup, of which node, which tables. The names are Medusa's and its operator's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::config::Config;
use crate::layout::{self, BackupName, NodeName};

/// Why it is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of an operator.
    #[error("RESTORE_MAPPING is not what an operator writes")]
    Mapping(#[source] serde_json::Error),
    /// A node of which no source, or more than one, is named.
    #[error("RESTORE_MAPPING names {count} sources for {pod}: exactly one can be restored")]
    Sources {
        /// Target.
        pod: String,
        /// How many.
        count: usize,
    },
    /// A table without its keyspace.
    #[error("RESTORE_TABLES has {text:?}: write keyspace.table")]
    Table {
        /// As written.
        text: String,
    },
    /// The backup's or a node's name.
    #[error(transparent)]
    Name(#[from] layout::Error),
}

/// Whether the node gets its own data back, or another node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its own: tokens, host id and roles come back too.
    InPlace,
    /// Another one's: it takes that node's tokens, and keeps its own roles.
    Remote,
}

/// One restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Identity of the restore: done once.
    pub key: String,
    /// Which backup.
    pub backup: BackupName,
    /// Whose part of it.
    pub source: NodeName,
    /// Own data or another node's.
    pub mode: Mode,
    /// Only these keyspaces, if any are named.
    pub keyspaces: BTreeSet<String>,
    /// Only these tables, if any are named.
    pub tables: BTreeSet<(String, String)>,
}

#[derive(Deserialize)]
struct Mapping {
    in_place: bool,
    host_map: BTreeMap<String, Target>,
}

#[derive(Deserialize)]
struct Target {
    source: Vec<String>,
}

impl Request {
    /// Reads the environment; the inner error is the reason for which there is nothing to do.
    pub fn read(config: &Config, env: impl Fn(&str) -> Option<String>) -> Result<Result<Self, &'static str>, Error> {
        let text = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (Some(backup), Some(key)) = (text("BACKUP_NAME"), text("RESTORE_KEY")) else {
            return Ok(Err("no backup is asked for"));
        };
        let pod = text("POD_NAME").unwrap_or_else(|| config.node.to_string());
        let (source, mode) = match text("RESTORE_MAPPING") {
            None => (config.node.clone(), Mode::InPlace),
            Some(json) => {
                let mapping: Mapping = serde_json::from_str(&json).map_err(Error::Mapping)?;
                // A pod that came after the restore: its datacenter was scaled up.
                let Some(target) = mapping.host_map.get(&pod) else {
                    return Ok(Err("the mapping does not name this node"));
                };
                let [source] = target.source.as_slice() else {
                    return Err(Error::Sources { pod, count: target.source.len() });
                };
                (NodeName::parse(source)?, if mapping.in_place { Mode::InPlace } else { Mode::Remote })
            }
        };
        let list = |name: &str| -> Vec<String> {
            let all = text(name).unwrap_or_default();
            all.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        };
        let table = |text: String| match text.split_once('.') {
            Some((keyspace, table)) if !keyspace.is_empty() && !table.is_empty() => {
                Ok((keyspace.to_owned(), table.to_owned()))
            }
            Some(_) | None => Err(Error::Table { text }),
        };
        Ok(Ok(Self {
            key,
            backup: BackupName::existing(&backup)?,
            source,
            mode,
            keyspaces: list("RESTORE_KEYSPACES").into_iter().collect(),
            tables: list("RESTORE_TABLES").into_iter().map(table).collect::<Result<_, _>>()?,
        }))
    }

    /// Whether nothing is left out.
    pub fn whole(&self) -> bool {
        self.keyspaces.is_empty() && self.tables.is_empty()
    }
}
