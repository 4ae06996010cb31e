//! The one operation that runs: to its end, to a stop, and what it looks like on the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stheno_rpc::sidecar::{NodeState, node_state};
use tokio_util::sync::CancellationToken;

use super::{Shared, sentence};
use crate::backup::{self, Backup, Journal};
use crate::clock::now_ms;
use crate::layout::BackupName;
use crate::state::{self, Phase, Record, State};

/// How often a watcher hears of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// Waits between attempts to clear a snapshot, in seconds.
const CLEAR_WAITS: [u64; 3] = [1, 5, 15];

impl Shared {
    /// A token that ends this operation alone, from before it is heard of.
    pub(super) fn stopper(&self, operation: &str) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.stop_one() = Some((operation.to_owned(), stop.clone()));
        stop
    }

    pub(super) async fn run(&self, record: Record, stop: CancellationToken) {
        let operation = record.operation.clone();
        let work = async {
            let _pool = self.pool.lock().await;
            self.clear_others(&record).await;
            let journal = Running { shared: self, operation: &operation };
            Backup::new(&self.tools, &journal, &self.progress, record)?.run().await
        };
        let mut tick = tokio::time::interval(PROGRESS);
        let mut work = Box::pin(work);
        let outcome: Result<Phase, backup::Error> = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = stop.cancelled() => break Err(backup::Error::Cancelled),
                () = self.cancel.cancelled() => {
                    tracing::info!(operation, "stopped on the way; it goes on at the next start");
                    self.metrics.idle();
                    return;
                }
                _ = tick.tick() => {
                    self.metrics.progress(&self.progress);
                    self.changed.send_replace(());
                }
            }
        };
        // Nothing goes up any more, and the pool is free.
        drop(work);
        // Before the end is told: who hears of it may count on the snapshot being gone.
        tokio::select! {
            () = self.clear_owed() => {}
            () = self.cancel.cancelled() => {}
        }
        match outcome {
            Ok(phase) => self.end(&operation, phase).await,
            Err(error) => self.end_failed(&operation, sentence(&error), error.retryable()).await,
        }
    }

    fn stop_one(&self) -> std::sync::MutexGuard<'_, Option<(String, CancellationToken)>> {
        // Nothing panics while it is held.
        self.stop_one.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets an operation end as cancelled, if it is the one that runs.
    pub(super) fn stop_backup(&self, operation: &str) {
        if let Some((_, stop)) = self.stop_one().as_ref().filter(|(of, _)| of == operation) {
            stop.cancel();
        }
    }

    pub(super) async fn end_failed(&self, operation: &str, reason: String, retryable: bool) {
        tracing::warn!(operation, reason, retryable, "the backup failed");
        let (started_ms, touched) = match self.state.lock().await.operation(operation) {
            Some(record) => (record.phase.started_ms(), record.phase.touched()),
            None => (None, false),
        };
        let phase = Phase::Failed { started_ms, finished_ms: now_ms(), reason, retryable, touched };
        self.end(operation, phase).await;
    }

    /// A volume that does not take the end must not hide it: it is told all the same, and after a restart found again, for
    /// what the volume says then is that the operation still runs.
    async fn end(&self, operation: &str, phase: Phase) {
        if let Some(record) = self.state.lock().await.operation(operation) {
            self.metrics.ended(record, &phase, now_ms());
        }
        if let Err(error) = self.advance(operation, phase.clone()).await {
            tracing::error!(error = sentence(&error), operation, "the end cannot be written down");
            if let Some(record) = self.state.lock().await.operation_mut(operation) {
                record.phase = phase;
            }
            self.changed.send_replace(());
        }
    }

    /// Gives what runs or is done the number of a later attempt. Only the number: it may have gone on meanwhile.
    pub(super) async fn renumber(&self, operation: &str, attempt: u32) -> Result<(), state::Error> {
        self.change(|state| {
            if let Some(record) = state.operation_mut(operation) {
                record.attempt = attempt;
            }
        })
        .await
    }

    async fn advance(&self, operation: &str, phase: Phase) -> Result<(), state::Error> {
        self.change(|state| {
            if let Some(record) = state.operation_mut(operation) {
                record.phase = phase;
            }
        })
        .await
    }

    pub(super) async fn remember(&self, record: Record) -> Result<(), state::Error> {
        self.change(|state| state.remember(record)).await
    }

    /// Durable first, then visible.
    pub(super) async fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), state::Error> {
        let mut state = self.state.lock().await;
        let mut next = state.clone();
        change(&mut next);
        self.tools.dir.save(&next)?;
        *state = next;
        self.changed.send_replace(());
        Ok(())
    }

    /// Clears what earlier operations left, but not the snapshot that this one may continue with.
    async fn clear_others(&self, record: &Record) {
        let own = BackupName::parse(&record.name).map(|name| name.snapshot_tag()).ok();
        let owed = self.state.lock().await.snapshots.clone();
        let others = owed.into_iter().filter(|tag| Some(tag) != own.as_ref()).collect();
        self.clear(others).await;
    }

    pub(super) async fn clear_owed(&self) {
        let owed = self.state.lock().await.snapshots.clone();
        self.clear(owed.into_iter().collect()).await;
    }

    async fn clear(&self, tags: Vec<String>) {
        for tag in tags {
            let mut waits = CLEAR_WAITS.into_iter();
            loop {
                let Err(error) = self.tools.snapshots.clear(&tag).await else {
                    let cleared = self
                        .change(|state| {
                            state.snapshots.remove(&tag);
                        })
                        .await;
                    if let Err(error) = cleared {
                        tracing::warn!(error = sentence(&error), tag, "will be cleared once more");
                    }
                    break;
                };
                tracing::warn!(error = sentence(&error), tag, "the snapshot is not cleared yet");
                match waits.next() {
                    Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    None => break,
                }
            }
        }
    }

    pub(super) fn view(&self, record: &Record) -> NodeState {
        let mut view = NodeState {
            name: record.name.clone(),
            operation: record.operation.clone(),
            attempt: record.attempt,
            started_ms: record.phase.started_ms().unwrap_or_default(),
            ..NodeState::default()
        };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        match &record.phase {
            Phase::Starting { .. } => view.set_phase(node_state::Phase::Starting),
            Phase::Uploading { .. } => {
                view.set_phase(node_state::Phase::Uploading);
                view.files_total = count(&self.progress.files_total);
                view.files_done = count(&self.progress.files_done);
                view.files_reused = count(&self.progress.files_reused);
                view.bytes_total = count(&self.progress.bytes_total);
                view.bytes_done = count(&self.progress.bytes_done);
            }
            Phase::Finished { finished_ms, totals, .. } => {
                view.set_phase(node_state::Phase::Finished);
                view.finished_ms = *finished_ms;
                (view.files_total, view.files_done, view.files_reused) = (totals.files, totals.files, totals.reused);
                (view.bytes_total, view.bytes_done) = (totals.bytes, totals.bytes);
            }
            Phase::Failed { finished_ms, reason, retryable, .. } => {
                view.set_phase(node_state::Phase::Failed);
                view.finished_ms = *finished_ms;
                view.reason = reason.clone();
                view.retryable = *retryable;
            }
        }
        view
    }
}

/// The journal of the backup that runs.
struct Running<'a> {
    shared: &'a Shared,
    operation: &'a str,
}

#[async_trait::async_trait]
impl Journal for Running<'_> {
    async fn phase(&self, phase: Phase) -> Result<(), state::Error> {
        self.shared.advance(self.operation, phase).await
    }

    async fn owe(&self, tag: &str) -> Result<(), state::Error> {
        self.shared
            .change(|state| {
                state.snapshots.insert(tag.to_owned());
            })
            .await
    }
}
