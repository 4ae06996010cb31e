//! Deleting backups and what they leave in the pool: planned first, object by object, then done in an order that a crash
//! cannot turn into loss.
//!
//! A backup stops being listed as complete before any of its data goes, and schema.cql, which marks it as begun, goes last.
//! The pool is only touched when nothing of this node can be using it and every manifest that is there can be read.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::backup::Tools;
use crate::catalogue::Catalogue;
use crate::layout::{self, BackupName, Entry, Layout};
use crate::manifest;
use crate::presence::CLAIM;
use crate::state;
use crate::store::{self, Found, Store};

mod inventory;
mod pool;
pub mod retention;

use inventory::NodeBackup;
use pool::{Ledger, Verdict};
use retention::{Reason, Seen};

/// Where the ledger of the pool lies, in the sidecar's folder.
const LEDGER: &str = "unreferenced.json";
/// Objects that one request deletes: S3's limit.
const BATCH: usize = 1000;
/// Manifests that are read at once.
const AT_ONCE: usize = 4;
/// An unfinished backup of another program may still run for this long, in ms.
const MAY_RUN_MS: i64 = 3 * 24 * 60 * 60 * 1000;

/// Why nothing, or not everything, was deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// The volume.
    #[error(transparent)]
    State(#[from] state::Error),
    /// No node has it.
    #[error("backup <{name}> does not exist")]
    Absent {
        /// Name.
        name: String,
    },
    /// It is being made.
    #[error("backup {name} runs on this node: cancel it or wait for its end")]
    Running {
        /// Name.
        name: String,
    },
    /// A name whose directory is that of the pool.
    #[error(
        "a backup named {name:?} shares its directory with the files of all differential backups: delete its objects by hand"
    )]
    Pool {
        /// Name.
        name: String,
    },
    /// What it refers to is unknown.
    #[error("{key:?} cannot be read, so that no file of the pool is known to be free: delete that backup by its name")]
    Manifest {
        /// Which object.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The process ends.
    #[error("the sidecar is stopping: what was begun is finished at its next start")]
    Stopping,
}

/// A node's part of a backup that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deletion {
    /// Node.
    pub node: String,
    /// Backup.
    pub name: String,
}

/// What is to be deleted.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Whatever has had its time.
    Expired,
    /// One backup, of all nodes.
    Named(&'a str),
    /// Only what was stopped on the way.
    Interrupted,
}

/// What the sidecar knows and the bucket does not.
#[derive(Debug, Default)]
pub struct Facts {
    /// The backup that runs.
    pub running: Option<String>,
    /// Whether the pool could not be reserved for the purge.
    pub pool_in_use: bool,
    /// Backups whose end is known here: an unfinished one of these is dead.
    pub ended: BTreeSet<String>,
    /// Deletions that were stopped on the way.
    pub interrupted: BTreeSet<Deletion>,
    /// The time, in ms since the Unix epoch.
    pub now_ms: i64,
}

/// A node's part of a backup, with everything that belongs to it alone.
#[derive(Debug)]
struct Part {
    of: Deletion,
    reason: Reason,
    layout: Layout,
    name: BackupName,
    objects: Vec<Found>,
    index: Vec<String>,
}

/// Everything that goes, and why.
#[derive(Debug)]
pub struct Plan {
    parts: Vec<Part>,
    pool: Verdict,
    grace_days: u32,
    /// Why the pool is left alone.
    pub left_alone: Option<&'static str>,
}

/// What a plan adds up to. As Medusa's: entries of the index are not counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Backups of this node.
    pub backups: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files of the pool that stay for the grace period only.
    pub within_grace: u64,
}

impl Plan {
    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        let objects = self.parts.iter().flat_map(|part| &part.objects).chain(&self.pool.gone);
        let mut totals = Totals { within_grace: self.pool.within_grace, ..Totals::default() };
        totals.backups = self.parts.len() as u64;
        for found in objects {
            totals.objects += 1;
            totals.bytes = totals.bytes.saturating_add(found.size);
        }
        totals
    }

    /// Each object with its size and the reason.
    pub fn each(&self) -> impl Iterator<Item = (&str, u64, Reason)> {
        let parts = self.parts.iter().flat_map(|part| {
            let index = part.index.iter().map(|key| (key.as_str(), 0));
            let objects = part.objects.iter().map(|found| (found.key.as_str(), found.size));
            objects.chain(index).map(|(key, size)| (key, size, part.reason.clone()))
        });
        let reason = Reason::Unreferenced { days: self.grace_days };
        parts.chain(self.pool.gone.iter().map(move |found| (found.key.as_str(), found.size, reason.clone())))
    }

    /// The parts of backups that go.
    pub fn deletions(&self) -> BTreeSet<Deletion> {
        self.parts.iter().map(|part| part.of.clone()).collect()
    }
}

/// Plans and executes on one bucket, from one node's point of view.
#[derive(Debug, Clone, Copy)]
pub struct Purge<'a> {
    tools: &'a Tools,
    catalogue: &'a Catalogue,
}

impl<'a> Purge<'a> {
    /// On the sidecar's bucket.
    pub fn new(tools: &'a Tools, catalogue: &'a Catalogue) -> Self {
        Self { tools, catalogue }
    }

    /// Looks at everything and deletes nothing.
    pub async fn plan(&self, which: Which<'_>, facts: &Facts) -> Result<Plan, Error> {
        let Tools { layout, store, config, .. } = self.tools;
        let own = inventory::read(store, layout).await?;
        let mut doomed: BTreeMap<Deletion, Reason> = match which {
            Which::Expired => self.expired(&own, facts).await?,
            Which::Named(name) => self.named(name, &own, facts).await?,
            Which::Interrupted => BTreeMap::new(),
        };
        doomed.extend(facts.interrupted.iter().map(|of| (of.clone(), Reason::Interrupted)));
        let mut parts = Vec::with_capacity(doomed.len());
        for (of, reason) in doomed {
            parts.push(self.part(of, reason).await?);
        }
        let node = layout.node().as_str();
        let gone: BTreeSet<&str> =
            parts.iter().filter(|part| part.of.node == node).map(|part| part.of.name.as_str()).collect();
        let left: Vec<&NodeBackup> = own.iter().filter(|backup| !gone.contains(backup.name.as_str())).collect();
        let left_alone = if facts.running.is_some() || facts.pool_in_use {
            Some("a backup of this node runs")
        } else if left.iter().any(|backup| self.may_run(backup, facts)) {
            Some("an unfinished backup of this node may still be running in another program")
        } else {
            None
        };
        let grace_days = config.storage.retention.grace_days;
        let pool = if left_alone.is_some() { Verdict::default() } else { self.pool(&left, grace_days, facts).await? };
        Ok(Plan { parts, pool, grace_days, left_alone })
    }

    /// Deletes what a plan says. Ends early, and exactly where it can go on, when `cancel` says so.
    pub async fn execute(&self, plan: &Plan, cancel: &CancellationToken) -> Result<Totals, Error> {
        let Tools { layout, store, dir, .. } = self.tools;
        let mut left = Vec::new();
        for part in &plan.parts {
            tracing::info!(node = part.of.node, name = part.of.name, reason = %part.reason, "the backup is deleted");
            for stage in part.stages() {
                delete(store, stage, cancel).await?;
            }
            left.push(part.of.name.as_str());
        }
        self.point_at_latest(layout, &left).await?;
        if plan.left_alone.is_none() {
            delete(store, plan.pool.gone.iter().map(|found| found.key.clone()).collect(), cancel).await?;
            // After the files: what is not deleted keeps its time.
            dir.write(LEDGER, &plan.pool.ledger)?;
        }
        Ok(plan.totals())
    }

    async fn expired(&self, own: &[NodeBackup], facts: &Facts) -> Result<BTreeMap<Deletion, Reason>, Error> {
        let Tools { layout, config, .. } = self.tools;
        let good = self.catalogue.complete().await?;
        let seen: Vec<Seen> = own
            .iter()
            .map(|backup| Seen {
                name: backup.name.clone(),
                started_ms: backup.started_ms,
                complete: backup.manifest.is_some(),
                good: good.contains(&backup.name),
                running: facts.running.as_ref() == Some(&backup.name) || self.may_run(backup, facts),
            })
            .collect();
        let gone = retention::expired(&seen, &config.storage.retention, facts.now_ms);
        let node = layout.node().to_string();
        Ok(gone.into_iter().map(|(name, reason)| (Deletion { node: node.clone(), name }, reason)).collect())
    }

    async fn named(&self, name: &str, own: &[NodeBackup], facts: &Facts) -> Result<BTreeMap<Deletion, Reason>, Error> {
        let Tools { layout, store, .. } = self.tools;
        if facts.running.as_deref() == Some(name) {
            return Err(Error::Running { name: name.to_owned() });
        }
        let backup = BackupName::existing(name)?;
        let index = store.list(&layout.index_of(&backup)).await?;
        let mut nodes: BTreeSet<&str> =
            index.iter().filter_map(|found| layout.read_index(&found.key)).map(|(_, node, _)| node).collect();
        if own.iter().any(|backup| backup.name == name) {
            nodes.insert(layout.node().as_str());
        }
        if nodes.is_empty() {
            return Err(Error::Absent { name: name.to_owned() });
        }
        let deletion = |node: &str| (Deletion { node: node.to_owned(), name: name.to_owned() }, Reason::Asked);
        Ok(nodes.into_iter().map(deletion).collect())
    }

    async fn part(&self, of: Deletion, reason: Reason) -> Result<Part, Error> {
        let store = &self.tools.store;
        if of.name == "data" {
            return Err(Error::Pool { name: of.name });
        }
        let (layout, name) = (self.tools.layout.of(&of.node)?, BackupName::existing(&of.name)?);
        let objects = store.list(&layout.backup_root(&name)).await?;
        let index = store.list(&layout.index_of(&name)).await?.into_iter().map(|found| found.key);
        let own = |key: &String| layout.read_index(key).is_some_and(|(_, node, _)| node == of.node);
        let index = index.filter(own).collect();
        Ok(Part { of, reason, layout, name, objects, index })
    }

    /// Whether another program may be working on an unfinished backup: it looks the same as a dead one.
    fn may_run(&self, backup: &NodeBackup, facts: &Facts) -> bool {
        let young = facts.now_ms.saturating_sub(backup.started_ms) < MAY_RUN_MS;
        backup.manifest.is_none() && young && !facts.ended.contains(&backup.name)
    }

    async fn pool(&self, left: &[&NodeBackup], grace_days: u32, facts: &Facts) -> Result<Verdict, Error> {
        let Tools { layout, store, dir, .. } = self.tools;
        let mut pool = store.list(&layout.pool()).await?;
        pool.retain(|found| layout.is_pooled(&found.key));
        let root = format!("{}/", layout.pool());
        let mut referenced = BTreeSet::new();
        let read = left.iter().filter_map(|backup| backup.manifest.as_ref()).map(|found| async {
            let json = store.get(&found.key).await?;
            Ok::<_, store::Error>((found.key.clone(), json.unwrap_or_default()))
        });
        let mut read = futures::stream::iter(read.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((key, json)) = read.try_next().await? {
            let note = |path: &str| {
                if path.starts_with(&root) {
                    referenced.insert(path.to_owned());
                }
            };
            manifest::each_path(&json, note).map_err(|source| Error::Manifest { key, source })?;
        }
        let ledger: Ledger = dir.read(LEDGER).unwrap_or_else(|error| {
            tracing::warn!(%error, "all grace periods begin anew");
            Ledger::default()
        });
        Ok(pool::judge(pool, &referenced, &ledger, grace_days, facts.now_ms))
    }

    /// Medusa's pointer to the newest backup of this node, when it points at one that is gone.
    async fn point_at_latest(&self, layout: &Layout, gone: &[&str]) -> Result<(), Error> {
        let store = &self.tools.store;
        let pointer = layout.latest("backup_name.txt");
        let points_at = store.get(&pointer).await?.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        if !points_at.is_some_and(|name| gone.contains(&name.as_str())) {
            return Ok(());
        }
        let mut left = inventory::read(store, layout).await?;
        left.retain(|backup| backup.manifest.is_some());
        left.sort_by_key(|backup| backup.started_ms);
        let tokens = layout.latest("tokenmap.json");
        if let Some(newest) = left.pop()
            && let Some(map) = store.get(&layout.meta_of(layout.node().as_str(), &newest.name, "tokenmap.json")).await?
        {
            store.put(&tokens, map).await?;
            return Ok(store.put(&pointer, newest.name).await?);
        }
        Ok(store.delete(vec![tokens, pointer]).await?)
    }
}

impl Part {
    /// What goes together, in order: a listing never shows a backup as complete whose data is gone.
    fn stages(&self) -> [Vec<String>; 4] {
        let ends =
            |key: &&String| matches!(self.layout.read_index(key), Some((_, _, Entry::Finished(_) | Entry::Manifest)));
        let (finish, begin): (Vec<&String>, Vec<&String>) = self.index.iter().partition(ends);
        let marks = [self.layout.meta(&self.name, "schema.cql"), self.layout.meta(&self.name, CLAIM)];
        let keys = self.objects.iter().map(|found| found.key.clone());
        let (last, data) = keys.partition(|key| marks.contains(key));
        [finish.into_iter().cloned().collect(), data, begin.into_iter().cloned().collect(), last]
    }
}

async fn delete(store: &Store, keys: Vec<String>, cancel: &CancellationToken) -> Result<(), Error> {
    for batch in keys.chunks(BATCH) {
        if cancel.is_cancelled() {
            return Err(Error::Stopping);
        }
        store.delete(batch.to_vec()).await?;
    }
    Ok(())
}
