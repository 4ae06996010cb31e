//! Whether a MedusaBackup can be restored to a datacenter: what is checked before anything is stopped.

use crate::names::{DEFAULT_RACK, Place};
use std::collections::BTreeSet;
use stheno_events::Time;

/// What a MedusaBackup says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup<'a> {
    /// When it ended.
    pub finished: Option<Time>,
    /// Nodes that should be in it.
    pub total_nodes: u32,
    /// Nodes that are complete in it.
    pub finished_nodes: u32,
    /// Datacenter and rack of each node, as Cassandra calls them.
    pub nodes: Vec<(&'a str, &'a str)>,
}

/// Why it cannot be restored there. The first words are those that today's operator writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It runs, or was abandoned.
    #[error("target backup has not finished")]
    Unfinished,
    /// It lacks nodes.
    #[error("target backup has not completed successfully")]
    Incomplete,
    /// Its totals speak of nodes that it does not name.
    #[error(
        "target backup does not say which nodes it holds: sync the datacenter, or create the restore for another backup"
    )]
    NoNodes,
    /// Another number of nodes.
    #[error("node counts differ for source backup and destination datacenter")]
    Size,
    /// Another datacenter.
    #[error("target datacenter has different name than backup")]
    Datacenter,
    /// Another number of racks.
    #[error("amount of racks must match in backup and target datacenter")]
    RackCount,
    /// Other racks.
    #[error("rack names must match in backup and target datacenter")]
    RackNames,
}

/// Judges a backup for a datacenter. One that says nothing of nodes, as old ones do, is let through: the mapping decides.
///
/// # Errors
/// When it cannot be restored there.
pub fn judge(backup: &Backup<'_>, target: &Place<'_>) -> Result<(), Refusal> {
    if (backup.total_nodes, backup.finished_nodes) == (0, 0) {
        return Ok(());
    }
    if backup.finished.is_none() {
        return Err(Refusal::Unfinished);
    }
    if backup.finished_nodes != backup.total_nodes {
        return Err(Refusal::Incomplete);
    }
    if backup.total_nodes != target.size {
        return Err(Refusal::Size);
    }
    if backup.nodes.is_empty() {
        return Err(Refusal::NoNodes);
    }
    if backup.nodes.iter().any(|(datacenter, _)| *datacenter != target.cassandra_name()) {
        return Err(Refusal::Datacenter);
    }
    let found: BTreeSet<&str> = backup.nodes.iter().map(|(_, rack)| *rack).collect();
    let wanted: BTreeSet<&str> =
        if target.racks.is_empty() { BTreeSet::from([DEFAULT_RACK]) } else { target.racks.iter().copied().collect() };
    if found.len() != wanted.len() {
        return Err(Refusal::RackCount);
    }
    if found != wanted {
        return Err(Refusal::RackNames);
    }
    Ok(())
}
