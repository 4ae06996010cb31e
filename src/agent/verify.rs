//! Compares this node's part of a backup with its manifest: every object is there, has its size and, when it is read, its hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use stheno_rpc::sidecar::{Fault, VerifyState};
use tokio::sync::mpsc;
use tonic::Status;

use crate::backup::Tools;
use crate::digests::{DIGESTS, Digests};
use crate::hash::Hasher;
use crate::layout::{self, BackupName, Layout};
use crate::manifest::{Object, Section};
use crate::store::{self, Found, Store};
use crate::throttle::Throttle;

/// Objects between two messages, when nothing is wrong.
const STEP: u64 = 200;
/// Objects that are read at once.
const AT_ONCE: usize = 4;

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// This node has no complete part of it.
    #[error("backup <{name}> does not exist, or is not complete, on node {node}")]
    Absent {
        /// Name.
        name: String,
        /// Node.
        node: String,
    },
    /// What it consists of is unknown.
    #[error("{key:?} cannot be read: the backup cannot be restored")]
    Manifest {
        /// Which object.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// How thoroughly.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Reads every object.
    pub read: bool,
    /// Bytes per second, 0 for the configured limit.
    pub bandwidth: u64,
}

/// Reads a node's manifest of a backup.
pub(crate) async fn manifest(store: &Store, layout: &Layout, name: &BackupName) -> Result<Vec<Section>, Error> {
    let key = layout.meta(name, "manifest.json");
    let json = store.get(&key).await?;
    let json = json.ok_or_else(|| Error::Absent { name: name.to_string(), node: layout.node().to_string() })?;
    serde_json::from_slice(&json).map_err(|source| Error::Manifest { key, source })
}

/// One verification.
#[derive(Debug)]
pub struct Verify {
    objects: Vec<Object>,
    there: BTreeMap<String, Found>,
    throttle: Option<Arc<Throttle>>,
    digests: Digests,
    part_size: u64,
    read: bool,
}

impl Verify {
    /// Reads the manifest and lists what is there.
    pub async fn open(tools: &Tools, name: &str, check: Check) -> Result<Self, Error> {
        let Tools { layout, store, config, .. } = tools;
        let name = BackupName::existing(name)?;
        let objects: Vec<Object> =
            manifest(store, layout, &name).await?.into_iter().flat_map(|section| section.objects).collect();
        let mut there = BTreeMap::new();
        for root in [layout.pool(), layout.private(&name)] {
            if objects.iter().any(|object| object.path.starts_with(&root)) {
                there.extend(store.list(&root).await?.into_iter().map(|found| (found.key.clone(), found)));
            }
        }
        let rate = if check.bandwidth > 0 { Some(check.bandwidth) } else { config.storage.bandwidth };
        let throttle = rate.map(|rate| Arc::new(Throttle::new(rate)));
        let digests = Digests::read(store, &layout.meta(&name, DIGESTS)).await?;
        Ok(Self { objects, there, throttle, digests, part_size: config.storage.part_size, read: check.read })
    }

    /// Looks at every object and tells of the progress; ends early when nobody listens.
    pub async fn run(&self, store: &Store, to: &mpsc::Sender<Result<VerifyState, Status>>) -> Result<(), store::Error> {
        let mut state = VerifyState {
            objects_total: self.objects.len() as u64,
            bytes_total: self.objects.iter().fold(0, |sum, object| sum.saturating_add(object.size)),
            ..VerifyState::default()
        };
        let looked = self.objects.iter().map(|object| async move { (object, self.look(store, object).await) });
        let mut looked = futures::stream::iter(looked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((object, outcome)) = looked.next().await {
            state.objects_done += 1;
            state.bytes_done = state.bytes_done.saturating_add(object.size);
            match outcome? {
                Outcome::Good => {}
                Outcome::Unhashed => state.unhashed += 1,
                Outcome::Bad(reason) => state.faults.push(Fault { key: object.path.clone(), reason }),
            }
            if state.faults.len() >= 50 || state.objects_done.is_multiple_of(STEP) {
                let message = VerifyState { faults: std::mem::take(&mut state.faults), ..state.clone() };
                if to.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
        }
        state.done = true;
        // Who asked may have gone.
        let _ = to.send(Ok(state)).await;
        Ok(())
    }

    async fn look(&self, store: &Store, object: &Object) -> Result<Outcome, store::Error> {
        let Some(found) = self.there.get(&object.path) else {
            return Ok(Outcome::Bad("it is not in the bucket".to_owned()));
        };
        if found.size != object.size {
            return Ok(Outcome::Bad(format!("it has {} bytes instead of {}", found.size, object.size)));
        }
        if !self.read {
            return Ok(Outcome::Good);
        }
        let Some(mut content) = store.read(&object.path).await? else {
            return Ok(Outcome::Bad("it is not in the bucket".to_owned()));
        };
        let expected = self.digests.expected(object, self.part_size, content.opaque());
        let mut hasher = Hasher::new(&expected);
        while let Some(piece) = content.next().await? {
            if let Some(throttle) = &self.throttle {
                throttle.wait(piece.len() as u64).await;
            }
            hasher.update(piece);
        }
        if hasher.length() != object.size {
            return Ok(Outcome::Bad(format!("{} bytes could be read instead of {}", hasher.length(), object.size)));
        }
        Ok(match hasher.finish() {
            Some(true) => Outcome::Good,
            None => Outcome::Unhashed,
            Some(false) => Outcome::Bad("its content has another hash than the manifest says".to_owned()),
        })
    }
}

/// What is said of one object.
enum Outcome {
    Good,
    /// As far as can be told without a hash.
    Unhashed,
    Bad(String),
}
