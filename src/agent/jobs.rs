//! The operations of this node: who may start one, the one that runs, what became of the others, across restarts.
//!
//! One backup at a time. An operation is known by (operation, attempt), so that a question may be repeated; a leader of a
//! lower epoch than seen before is refused; what was stopped goes on by itself at the next start.

use std::collections::BTreeSet;
use std::sync::Arc;

use stheno_rpc::sidecar::NodeState;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup::{Progress, Tools};
use crate::catalogue::Catalogue;
use crate::metrics::Metrics;
use crate::state::{self, Phase, Record, State};
use crate::store::Store;

mod admission;
mod keeping;
mod runner;

pub use admission::{Claim, Refusal};

/// Longest reason that is kept, in characters.
const REASON: usize = 800;

/// All operations of this node.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tools: Tools,
    /// The bucket for questions that somebody waits for.
    brisk: Store,
    state: Mutex<State>,
    /// Starts are judged one after the other, without holding the state while the bucket is asked.
    admission: Mutex<()>,
    /// What the index says.
    catalogue: Catalogue,
    /// Held by a backup for as long as it relies on the pool of differential files, and by what deletes in it.
    pool: Mutex<()>,
    /// Held by the one purge or deletion at a time.
    keeping: Mutex<()>,
    /// Stops the backup that runs, and only that.
    stop_one: std::sync::Mutex<Option<(String, CancellationToken)>>,
    progress: Progress,
    metrics: Metrics,
    changed: watch::Sender<()>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Jobs {
    /// Loads what is remembered and continues what was stopped.
    pub async fn open(
        tools: Tools,
        brisk: Store,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> Result<Self, state::Error> {
        let state = tools.dir.load()?;
        let shared = Shared {
            catalogue: Catalogue::new(brisk.clone(), tools.layout.clone()),
            pool: Mutex::new(()),
            keeping: Mutex::new(()),
            stop_one: std::sync::Mutex::default(),
            tools,
            brisk,
            state: Mutex::new(state),
            admission: Mutex::new(()),
            progress: Progress::default(),
            metrics,
            changed: watch::Sender::new(()),
            cancel,
            tasks: TaskTracker::new(),
        };
        let jobs = Self(Arc::new(shared));
        let stopped = jobs.0.state.lock().await.running().cloned();
        match stopped {
            Some(record) => {
                tracing::info!(name = record.name, operation = record.operation, "goes on where it was stopped");
                jobs.spawn(record);
            }
            None => {
                let shared = Arc::clone(&jobs.0);
                jobs.0.tasks.spawn(async move { shared.clear_owed().await });
            }
        }
        let shared = Arc::clone(&jobs.0);
        jobs.0.tasks.spawn(async move {
            tokio::select! {
                () = shared.finish_deletions() => {}
                () = shared.cancel.cancelled() => {}
            }
        });
        Ok(jobs)
    }

    /// Waits until what runs has come to a point where it can be continued.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Keys and settings.
    pub fn tools(&self) -> &Tools {
        &self.0.tools
    }

    /// The bucket for questions that somebody waits for.
    pub fn brisk(&self) -> &Store {
        &self.0.brisk
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What the index says.
    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    /// The highest epoch seen.
    pub async fn epoch(&self) -> u64 {
        self.0.state.lock().await.epoch
    }

    /// Refuses a lower epoch, and makes a higher one durable.
    pub async fn fence(&self, epoch: u64) -> Result<(), Refusal> {
        let mut state = self.0.state.lock().await;
        if epoch < state.epoch {
            return Err(Refusal::Epoch { asked: epoch, seen: state.epoch });
        }
        if epoch > state.epoch {
            let next = State { epoch, ..state.clone() };
            self.0.tools.dir.save(&next)?;
            *state = next;
        }
        Ok(())
    }

    /// Ends the backup that runs under a claim, and says how it ended; `None` when there is no such operation. What has
    /// ended stays what it is. Without an operation the name alone counts: a person's way.
    pub async fn cancel_backup(&self, claim: &Claim, name: &str) -> Result<Option<NodeState>, Refusal> {
        if claim.epoch > 0 {
            self.fence(claim.epoch).await?;
        }
        let Some(state) = self.state_of(&claim.operation, name).await else {
            return Ok(None);
        };
        self.0.stop_backup(&state.operation);
        let ended = self.ended(&state.operation).await.ok_or(Refusal::Stopping)?;
        Ok(Some(self.0.view(&ended)))
    }

    /// The state of an operation, or of the latest one about a name when no operation is given.
    pub async fn state_of(&self, operation: &str, name: &str) -> Option<NodeState> {
        let state = self.0.state.lock().await;
        let record = if operation.is_empty() { state.named(name) } else { state.operation(operation) };
        record.filter(|record| name.is_empty() || record.name == name).map(|record| self.0.view(record))
    }

    /// The latest record about a name.
    pub async fn record_of(&self, name: &str) -> Option<Record> {
        self.0.state.lock().await.named(name).cloned()
    }

    /// Names whose latest operation on this node failed.
    pub async fn failed_names(&self) -> BTreeSet<String> {
        let state = self.0.state.lock().await;
        let failed = |record: &&Record| matches!(record.phase, Phase::Failed { .. });
        let latest = state.records.iter().filter_map(|record| state.named(&record.name));
        latest.filter(failed).map(|record| record.name.clone()).collect()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Ends when the process does.
    pub fn cancel(&self) -> &CancellationToken {
        &self.0.cancel
    }

    /// Waits until an operation has ended; `None` when the process ends first.
    pub async fn ended(&self, operation: &str) -> Option<Record> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let record = self.0.state.lock().await.operation(operation).cloned()?;
            if record.phase.ended() {
                return Some(record);
            }
            tokio::select! {
                () = self.0.cancel.cancelled() => return None,
                changed = changes.changed() => changed.ok()?,
            }
        }
    }

    fn spawn(&self, record: Record) {
        let shared = Arc::clone(&self.0);
        let tracker = self.0.tasks.clone();
        let stop = self.0.stopper(&record.operation);
        self.0.tasks.spawn(async move {
            let running = tracker.spawn({
                let (shared, record) = (Arc::clone(&shared), record.clone());
                async move { shared.run(record, stop).await }
            });
            if let Err(error) = running.await {
                tracing::error!(%error, "the backup ended in a way that it must not");
                let reason = "the sidecar has a defect, and its log says which".to_owned();
                shared.end_failed(&record.operation, reason, false).await;
            }
        });
    }
}

/// An error and its sources as one line for people.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Libraries repeat their sources in their own text.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        source = error.source();
    }
    let line = parts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(REASON).collect()
}
