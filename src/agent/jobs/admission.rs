//! Who may start a backup: the claims of orchestrators, the names of stock clients, and what the bucket says of a name.

use std::collections::BTreeSet;
use std::time::Duration;

use stheno_rpc::sidecar::NodeState;

use super::{Jobs, sentence};
use crate::backup::{self, Tools};
use crate::clock::now_ms;
use crate::layout::{self, BackupName, Entry};
use crate::presence::{Presence, presence};
use crate::state::{self, Done, Phase, Record};

/// How long the bucket is asked about a name before a start is accepted; the backup itself asks again. Below the ten seconds
/// that a leader gives a call.
const ADMISSION: Duration = Duration::from_secs(5);

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

impl Jobs {
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
}
