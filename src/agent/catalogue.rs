//! What is in the bucket: the backups of all nodes, from Medusa's index. Only reads, whatever the store answers.
//!
//! A store that fails is an error for the caller, never an absent backup. An entry that cannot be read costs that entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::Value;
use stheno_rpc::medusa::{BackupNode, BackupSummary, StatusType};
use stheno_rpc::sidecar::{ListedBackup, ListedNode, listed_backup};
use tokio::sync::Semaphore;

use crate::layout::{Entry, Layout};
use crate::manifest::{self, Totals};
use crate::store::{Error, Found, Store};

/// Objects that are fetched at once.
const AT_ONCE: usize = 16;
/// Manifests in memory at once: each has some hundred bytes for every file of a node.
const MANIFESTS: usize = 4;

/// Reads the index; remembers what manifests add up to, since they never change.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
    layout: Layout,
    totals: Mutex<BTreeMap<String, (String, Totals)>>,
    room: Semaphore,
    /// Memory for manifests, used again and again.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// One node's entries of one backup.
#[derive(Debug, Default, Clone)]
struct NodeEntries {
    started: Option<i64>,
    finished: Option<i64>,
    differential: bool,
    tokenmap: Option<Found>,
    schema: Option<Found>,
    manifest: Option<Found>,
}

/// Nodes by name.
type Nodes = BTreeMap<String, NodeEntries>;

impl NodeEntries {
    /// As Medusa: by the start file, else by the copy of the schema.
    fn started(&self) -> Option<i64> {
        self.started.or_else(|| self.schema.as_ref().map(|found| found.modified.timestamp()))
    }

    /// As Medusa: by the finish file, else by the copy of the manifest.
    fn finished(&self) -> Option<i64> {
        let manifest = self.manifest.as_ref()?;
        self.finished.or(Some(manifest.modified.timestamp()))
    }
}

impl Catalogue {
    /// Over one bucket, from one node's point of view.
    pub fn new(store: Store, layout: Layout) -> Self {
        Self { store, layout, totals: Mutex::default(), room: Semaphore::new(MANIFESTS), buffers: Mutex::default() }
    }

    /// All backups, oldest first. `failed` says whether this node knows that its part of a backup failed.
    pub async fn all(&self, failed: impl Fn(&str) -> bool) -> Result<Vec<BackupSummary>, Error> {
        let backups = self.existing(self.read(&self.layout.index()).await?).await?;
        let mut asked = Vec::with_capacity(backups.len());
        for (name, nodes) in &backups {
            asked.push(self.summary(name, nodes, failed(name)).boxed());
        }
        let mut summaries: Vec<BackupSummary> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        // A listing is rare, and the buffers have the size of the biggest manifests.
        lock(&self.buffers).clear();
        summaries.sort_by(|a, b| (a.start_time, &a.backup_name).cmp(&(b.start_time, &b.backup_name)));
        Ok(summaries)
    }

    /// One backup; `None` when the index does not have it.
    pub async fn one(&self, name: &str, failed: bool) -> Result<Option<BackupSummary>, Error> {
        let Ok(root) = crate::store::segment(name) else {
            return Ok(None);
        };
        let found = self.existing(self.read(&format!("{}/{root}", self.layout.index())).await?).await?;
        match found.get(name) {
            Some(nodes) => self.summary(name, nodes, failed).await.map(Some),
            None => Ok(None),
        }
    }

    /// At most `size` backups after a position (start in seconds since the Unix epoch, name), oldest first, and the position
    /// of the last one when more follow. Only what is on the page is read.
    pub async fn page(
        &self,
        after: Option<(i64, String)>,
        size: usize,
        failed: impl Fn(&str) -> bool,
    ) -> Result<(Vec<ListedBackup>, Option<(i64, String)>), Error> {
        let backups = self.existing(self.read(&self.layout.index()).await?).await?;
        let mut order: Vec<((i64, String), &Nodes)> = Vec::with_capacity(backups.len());
        for (name, nodes) in &backups {
            let started = nodes.values().filter_map(NodeEntries::started).min().unwrap_or_default();
            order.push(((started, name.clone()), nodes));
        }
        order.retain(|(at, _)| after.as_ref().is_none_or(|after| at > after));
        order.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = order.len() > size;
        order.truncate(size);
        let next = order.last().filter(|_| more).map(|(at, _)| at.clone());
        let mut asked = Vec::with_capacity(order.len());
        for ((_, name), nodes) in &order {
            asked.push(self.summary(name, nodes, failed(name)).boxed());
        }
        let page: Vec<BackupSummary> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok((page.into_iter().map(listed).collect(), next))
    }

    /// Names of the backups that every node of their ring has finished.
    pub async fn complete(&self) -> Result<BTreeSet<String>, Error> {
        let backups = self.existing(self.read(&self.layout.index()).await?).await?;
        let judged = backups.iter().map(|(name, nodes)| async move {
            let tokenmap = self.first(nodes).and_then(|entries| entries.tokenmap.as_ref());
            let ring = match tokenmap {
                Some(found) => self.ring(found).await?.unwrap_or_default(),
                None => Vec::new(),
            };
            let done = |host: &str| nodes.get(host).is_some_and(|entries| entries.finished().is_some());
            let complete = !ring.is_empty() && ring.iter().all(|node| done(&node.host));
            Ok(complete.then(|| name.clone()))
        });
        let judged = futures::stream::iter(judged.collect::<Vec<_>>()).buffered(AT_ONCE);
        Ok(judged.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    /// The node whose tokenmap counts. Medusa takes the one that began first; the own one, where there is one, is that of
    /// our datacenter.
    fn first<'n>(&self, nodes: &'n Nodes) -> Option<&'n NodeEntries> {
        let own = nodes.get(self.layout.node().as_str());
        let earliest = || nodes.iter().min_by_key(|(node, entries)| (entries.started(), (*node).clone()));
        own.or_else(|| earliest().map(|(_, entries)| entries))
    }

    async fn read(&self, root: &str) -> Result<BTreeMap<String, Nodes>, Error> {
        let mut backups: BTreeMap<String, Nodes> = BTreeMap::new();
        for found in self.store.list(root).await? {
            let Some((name, node, entry)) = self.layout.read_index(&found.key) else {
                tracing::debug!(key = found.key, "no file of the index");
                continue;
            };
            let nodes = backups.entry(name.to_owned()).or_default();
            let node = nodes.entry(node.to_owned()).or_default();
            match entry {
                Entry::Started(epoch) => node.started = node.started.max(Some(epoch)),
                Entry::Finished(epoch) => node.finished = node.finished.max(Some(epoch)),
                Entry::Differential => node.differential = true,
                Entry::Tokenmap => node.tokenmap = Some(found),
                Entry::Schema => node.schema = Some(found),
                Entry::Manifest => node.manifest = Some(found),
            }
        }
        Ok(backups)
    }

    /// Leaves out the oldest entries whose backup has expired from the bucket. Like Medusa, the first one that is there
    /// vouches for all later ones; unlike Medusa, nothing is deleted here.
    async fn existing(&self, mut backups: BTreeMap<String, Nodes>) -> Result<BTreeMap<String, Nodes>, Error> {
        let mut oldest: Vec<(i64, String, String)> = Vec::new();
        for (name, nodes) in &mut backups {
            nodes.retain(|_, entries| entries.started().is_some());
            let started =
                |(node, entries): (&String, &NodeEntries)| Some((entries.started()?, name.clone(), node.clone()));
            oldest.extend(nodes.iter().filter_map(started));
        }
        oldest.sort();
        for (_, name, node) in oldest {
            if self.store.head(&self.layout.meta_of(&node, &name, "schema.cql")).await?.is_some() {
                break;
            }
            tracing::debug!(name, node, "is only in the index");
            if let Some(nodes) = backups.get_mut(&name) {
                nodes.remove(&node);
            }
        }
        backups.retain(|_, nodes| !nodes.is_empty());
        Ok(backups)
    }

    async fn summary(&self, name: &str, nodes: &Nodes, failed: bool) -> Result<BackupSummary, Error> {
        let first = self.first(nodes);
        let mut ring = match first.and_then(|entries| entries.tokenmap.as_ref()) {
            Some(found) => self.ring(found).await?,
            None => None,
        };
        if !nodes.contains_key(self.layout.node().as_str()) {
            // Seen from outside, none of the datacenters that share the name counts more than another.
            for (node, entries) in nodes {
                if let (Some(ring), Some(found)) = (&mut ring, &entries.tokenmap)
                    && !ring.iter().any(|known| known.host == *node)
                    && let Some(other) = self.ring(found).await?
                {
                    ring.extend(other);
                    ring.sort_by(|a, b| a.host.cmp(&b.host));
                    ring.dedup_by(|a, b| a.host == b.host);
                }
            }
        }
        let readable = ring.is_some();
        let ring = ring.unwrap_or_else(|| {
            nodes.keys().map(|host| BackupNode { host: host.clone(), ..BackupNode::default() }).collect()
        });
        let expected: Vec<(&str, &NodeEntries)> =
            ring.iter().filter_map(|node| Some((node.host.as_str(), nodes.get(&node.host)?))).collect();
        let done: Vec<&NodeEntries> =
            expected.iter().map(|(_, entries)| *entries).filter(|entries| entries.finished().is_some()).collect();
        let complete = readable && !ring.is_empty() && done.len() == ring.len();

        let mut sum = Totals::default();
        let mut damaged = !readable;
        for found in done.iter().filter_map(|entries| entries.manifest.as_ref()) {
            match self.totals(found).await? {
                Some(totals) => {
                    sum.objects += totals.objects;
                    sum.bytes = sum.bytes.saturating_add(totals.bytes);
                }
                None => damaged = true,
            }
        }
        let status = match (damaged, complete, failed) {
            (true, _, _) => StatusType::Unknown,
            (false, true, _) => StatusType::Success,
            (false, false, true) => StatusType::Failed,
            (false, false, false) => StatusType::InProgress,
        };
        let started = expected.iter().filter_map(|(_, entries)| entries.started()).min();
        let started = started.or_else(|| nodes.values().filter_map(NodeEntries::started).min());
        let finished = done.iter().filter_map(|entries| entries.finished()).max().filter(|_| complete);
        let differential = first.is_some_and(|entries| entries.differential);
        Ok(BackupSummary {
            backup_name: name.to_owned(),
            start_time: started.unwrap_or_default(),
            finish_time: finished.unwrap_or_default(),
            total_nodes: count(ring.len()),
            finished_nodes: count(done.len()),
            nodes: ring,
            status: status.into(),
            backup_type: if differential { "differential" } else { "full" }.to_owned(),
            total_size: i64::try_from(sum.bytes).unwrap_or(i64::MAX),
            total_objects: i64::try_from(sum.objects).unwrap_or(i64::MAX),
        })
    }

    /// The nodes of a tokenmap; `None` when it is damaged.
    async fn ring(&self, found: &Found) -> Result<Option<Vec<BackupNode>>, Error> {
        let Some(json) = self.store.get(&found.key).await? else {
            return Ok(None);
        };
        let ring = ring(&json);
        if ring.is_none() {
            tracing::warn!(key = found.key, "the tokenmap cannot be read");
        }
        Ok(ring)
    }

    /// What a manifest adds up to; `None` when it is damaged.
    async fn totals(&self, found: &Found) -> Result<Option<Totals>, Error> {
        let version = format!(
            "{} {} {}",
            found.modified.timestamp_micros(),
            found.size,
            found.etag.as_deref().unwrap_or_default()
        );
        let seen = self.cache().get(&found.key).filter(|(of, _)| *of == version).map(|(_, totals)| *totals);
        if let Some(totals) = seen {
            return Ok(Some(totals));
        }
        // The semaphore is never closed.
        let _room = self.room.acquire().await.ok();
        let buffer = lock(&self.buffers).pop().unwrap_or_default();
        let Some(json) = self.store.get_into(&found.key, buffer).await? else {
            return Ok(None);
        };
        // Megabytes of JSON: not on a thread that answers others.
        let parsed = tokio::task::spawn_blocking(move || (manifest::totals(&json), json)).await;
        let Ok((parsed, buffer)) = parsed else {
            return Ok(None);
        };
        lock(&self.buffers).push(buffer);
        match parsed {
            Ok(totals) => {
                self.cache().insert(found.key.clone(), (version, totals));
                Ok(Some(totals))
            }
            Err(error) => {
                tracing::warn!(%error, key = found.key, "the manifest cannot be read");
                Ok(None)
            }
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, Totals)>> {
        lock(&self.totals)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A summary in the words of our extension.
fn listed(summary: BackupSummary) -> ListedBackup {
    let status = match summary.status() {
        StatusType::Success => listed_backup::Status::Complete,
        StatusType::InProgress => listed_backup::Status::Unfinished,
        StatusType::Failed => listed_backup::Status::PartFailed,
        StatusType::Unknown => listed_backup::Status::Damaged,
    };
    let node = |node: BackupNode| ListedNode {
        host: node.host,
        datacenter: node.datacenter,
        rack: node.rack,
        tokens: node.tokens,
    };
    ListedBackup {
        status: status.into(),
        differential: summary.backup_type == "differential",
        started: summary.start_time,
        finished: summary.finish_time,
        bytes: summary.total_size.unsigned_abs(),
        objects: summary.total_objects.unsigned_abs(),
        nodes: summary.nodes.into_iter().map(node).collect(),
        name: summary.backup_name,
    }
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// Reads a tokenmap.json leniently: tokens that the wire's 64 bits cannot hold are left out.
fn ring(json: &[u8]) -> Option<Vec<BackupNode>> {
    let Value::Object(hosts) = serde_json::from_slice(json).ok()? else {
        return None;
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let node = |(host, facts): (&String, &Value)| {
        let facts = facts.as_object()?;
        let tokens = facts.get("tokens")?.as_array()?.iter().filter_map(Value::as_i64).collect();
        Some(BackupNode {
            host: host.clone(),
            tokens,
            datacenter: text(facts.get("dc")).unwrap_or_default(),
            rack: text(facts.get("rack")).unwrap_or_default(),
        })
    };
    hosts.iter().map(node).collect()
}

/// The status over all backups, by Medusa's rule.
pub fn overall(summaries: &[BackupSummary]) -> StatusType {
    let any = |status: StatusType| summaries.iter().any(|summary| summary.status() == status);
    if summaries.is_empty() {
        StatusType::Unknown
    } else if any(StatusType::InProgress) {
        StatusType::InProgress
    } else if any(StatusType::Failed) {
        StatusType::Failed
    } else if any(StatusType::Unknown) {
        StatusType::Unknown
    } else {
        StatusType::Success
    }
}

#[cfg(test)]
mod hazards;
