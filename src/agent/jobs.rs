//! The operations of this node: who may start one, the one that runs, what became of the others, across restarts.
//!
//! One backup at a time. An operation is known by (operation, attempt), so that a question may be repeated; a leader of a
//! lower epoch than seen before is refused; what was stopped goes on by itself at the next start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stheno_rpc::sidecar::NodeState;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup::{self, Progress, Tools};
use crate::catalogue::Catalogue;
use crate::clock::now_ms;
use crate::layout::{self, BackupName, Entry};
use crate::metrics::Metrics;
use crate::presence::{Presence, presence};
use crate::state::{self, Done, Phase, Record, State};
use crate::store::Store;

mod keeping;
mod runner;

/// How long the bucket is asked about a name before a start is accepted; the backup itself asks again. Below the ten seconds
/// that a leader gives a call.
const ADMISSION: Duration = Duration::from_secs(5);
/// Longest reason that is kept, in characters.
const REASON: usize = 800;

/// Why a start is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// No identity to be idempotent by.
    #[error("the claim needs an operation, and an attempt of at least 1")]
    Claim,
    /// A leader that was replaced.
    #[error("epoch {asked} is over: epoch {seen} has been seen")]
    Epoch {
        /// Of the request.
        asked: u64,
        /// The highest so far.
        seen: u64,
    },
    /// A late repetition of an earlier attempt.
    #[error("attempt {asked} of operation {operation} is over: attempt {latest} has been seen")]
    Superseded {
        /// Of the request.
        asked: u32,
        /// Which operation.
        operation: String,
        /// The latest so far.
        latest: u32,
    },
    /// One operation makes one backup.
    #[error("operation {operation} is about backup {name} in another mode or under another name")]
    Other {
        /// Which operation.
        operation: String,
        /// The backup that it is about.
        name: String,
    },
    /// One backup at a time.
    #[error("backup {name} runs on this node: try again when it has ended")]
    Busy {
        /// The one that runs.
        name: String,
    },
    /// The name is taken.
    #[error(transparent)]
    Exists(backup::Error),
    /// The process ends.
    #[error("the sidecar is stopping: try again")]
    Stopping,
    /// The volume.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// The orchestrator's fencing facts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Identity of the operation.
    pub operation: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The leader's epoch.
    pub epoch: u64,
}

/// What a start has before it.
enum Outlook {
    /// Nothing of this operation is in the bucket, as far as is known.
    New,
    /// Something of it may be there.
    Ours,
    /// It is done.
    Done(Phase),
}

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

    /// Starts a backup for our orchestrator, or joins it.
    pub async fn start(&self, claim: &Claim, name: &str, full: bool) -> Result<NodeState, Refusal> {
        if claim.operation.is_empty() || claim.attempt == 0 {
            return Err(Refusal::Claim);
        }
        let name = BackupName::parse(name)?;
        self.fence(claim.epoch).await?;
        let _one = self.0.admission.lock().await;
        self.admit(&claim.operation, claim.attempt, &name, full).await
    }

    /// Starts a backup for a stock client: the name is the operation, and asking again after a failure is another attempt.
    pub async fn start_unclaimed(&self, name: &str, full: bool) -> Result<NodeState, Refusal> {
        let name = BackupName::parse(name)?;
        let _one = self.0.admission.lock().await;
        self.forget_deleted(&name).await?;
        let attempt = match self.0.state.lock().await.operation(name.as_str()) {
            None => 1,
            Some(Record { attempt, phase: Phase::Failed { .. }, .. }) => attempt.saturating_add(1),
            Some(record) => record.attempt,
        };
        self.admit(name.as_str(), attempt, &name, full).await
    }

    /// A backup that was deleted through another node is no backup: its name is free.
    async fn forget_deleted(&self, name: &BackupName) -> Result<(), Refusal> {
        let finished = |record: &Record| matches!(record.phase, Phase::Finished { .. });
        if !self.0.state.lock().await.operation(name.as_str()).is_some_and(finished) {
            return Ok(());
        }
        let look = presence(&self.0.brisk, &self.0.tools.layout, name);
        if let Ok(Ok(Presence::Absent)) = tokio::time::timeout(ADMISSION, look).await {
            self.0.change(|state| state.records.retain(|record| record.operation != name.as_str())).await?;
        }
        Ok(())
    }

    async fn admit(&self, operation: &str, attempt: u32, name: &BackupName, full: bool) -> Result<NodeState, Refusal> {
        if self.0.cancel.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        let (known, running) = {
            let state = self.0.state.lock().await;
            (state.operation(operation).cloned(), state.running().cloned())
        };
        if let Some(known) = &known {
            if known.name != name.as_str() || known.full != full {
                return Err(Refusal::Other { operation: operation.to_owned(), name: known.name.clone() });
            }
            if attempt < known.attempt {
                let (operation, latest) = (operation.to_owned(), known.attempt);
                return Err(Refusal::Superseded { asked: attempt, operation, latest });
            }
            let failed = matches!(known.phase, Phase::Failed { .. });
            if attempt == known.attempt || !failed {
                // What runs or is done already is what a later attempt would make: it takes that number.
                let record = Record { attempt, ..known.clone() };
                if attempt != known.attempt {
                    self.0.renumber(operation, attempt).await?;
                }
                return Ok(self.0.view(&record));
            }
        }
        if let Some(running) = running {
            return Err(Refusal::Busy { name: running.name });
        }
        let touched = known.as_ref().is_some_and(|record| record.phase.touched());
        let accepted = Record {
            operation: operation.to_owned(),
            attempt,
            name: name.to_string(),
            full,
            accepted_ms: now_ms(),
            phase: Phase::Starting { touched },
        };
        let record = match self.look_up(operation, name, touched).await? {
            Outlook::New => accepted,
            Outlook::Ours => Record { phase: Phase::Starting { touched: true }, ..accepted },
            Outlook::Done(phase) => Record { phase, ..accepted },
        };
        self.0.remember(record.clone()).await?;
        if !record.phase.ended() {
            self.0.progress.begin(crate::snapshot::Extent::default());
            self.spawn(record.clone());
        }
        Ok(self.0.view(&record))
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

    /// What the bucket says of a name that is to be started. A bucket that does not answer in time is the backup's trouble.
    async fn look_up(&self, operation: &str, name: &BackupName, touched: bool) -> Result<Outlook, Refusal> {
        let Tools { layout, .. } = &self.0.tools;
        let look = async {
            let found = presence(&self.0.brisk, layout, name).await?;
            let ours = touched || found.owner() == Some(operation);
            let others = if ours { BTreeSet::new() } else { self.0.brisk.names(&layout.index()).await? };
            let complete = ours && matches!(found, Presence::Complete { .. });
            let index = if complete { self.0.brisk.list(&layout.index_of(name)).await? } else { Vec::new() };
            Ok::<_, crate::store::Error>((found, ours, others, index))
        };
        let unknown = if touched { Outlook::Ours } else { Outlook::New };
        let (found, ours, others, index) = match tokio::time::timeout(ADMISSION, look).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(error = sentence(&error), %name, "the bucket says nothing of the name");
                return Ok(unknown);
            }
            Err(_) => return Ok(unknown),
        };
        name.beside(others.iter().map(String::as_str))?;
        let node = layout.node().as_str();
        let indexed = index.iter().filter_map(|found| layout.read_index(&found.key));
        let indexed = indexed.into_iter().any(|(_, of, entry)| of == node && matches!(entry, Entry::Finished(_)));
        match found {
            Presence::Absent => Ok(unknown),
            Presence::Begun { .. } if ours => Ok(Outlook::Ours),
            Presence::Complete { started_ms, finished_ms, .. } if ours && indexed => {
                Ok(Outlook::Done(Phase::Finished { started_ms, finished_ms, totals: self.totals(name).await }))
            }
            // Stopped between the manifest and the index: what is missing is written.
            Presence::Complete { .. } if ours => Ok(Outlook::Ours),
            Presence::Begun { owner, .. } | Presence::Complete { owner, .. } => {
                Err(Refusal::Exists(backup::Error::taken(name, owner)))
            }
        }
    }

    /// What a backup in the bucket holds; nothing when its manifest cannot be read, for it is complete all the same.
    async fn totals(&self, name: &BackupName) -> Done {
        let manifest = self.0.brisk.get(&self.0.tools.layout.meta(name, "manifest.json")).await.ok().flatten();
        manifest.and_then(|json| crate::manifest::totals(&json).ok()).map(Done::from).unwrap_or_default()
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
