//! A task as the log tells it: who asked, which nodes were called and what they said, what a listing holds, how it ended.

mod node;

pub use node::{Node, NodeState, SETTLES};

use crate::backup::Wait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_events::backup::{Outcome, Summarised};
use stheno_events::observed::{self, Adopted};
use stheno_events::task::{Call, Event, Found, Listed, NodeUnanswered, Planned};
use stheno_events::{Digest, Epoch, PodName, Time, Uid};

/// One MedusaTask and all that became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What was asked for.
    pub request: observed::Task,
    /// Whether the custom resource is there no more.
    pub gone: bool,
    /// Another program works on it: never commanded, and not followed either, for a sidecar does not tell.
    pub foreign: bool,
    /// It is older than the log and nobody had begun it: what it destroys needs a person's consent.
    pub stale: bool,
    /// Where it stands.
    pub stage: Stage,
    /// The nodes that take part, by pod; none of a sync.
    pub nodes: BTreeMap<PodName, Node>,
    /// How far a sync is.
    pub sync: Sync,
    /// The consent that is waited for.
    pub approval: Option<Approval>,
}

/// Where a task stands. Terminal is terminal: nothing leads out of `Ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Not started.
    Waiting {
        /// Since when the log knows it.
        since: Time,
        /// What for, once that was said.
        wait: Option<Wait>,
    },
    /// Sidecars are called.
    Running {
        /// Start.
        since: Time,
    },
    /// Terminal.
    Ended {
        /// Start, if it started at all.
        started: Option<Time>,
        /// End.
        finished: Time,
        /// The outcome.
        outcome: Outcome,
        /// One sentence.
        message: Arc<str>,
        /// It had ended before the log met it: its status is not ours to write.
        adopted: bool,
    },
}

/// A claimed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What is called.
    pub call: Call,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Which claim on this node it is, from 1.
    pub serial: u32,
    /// The term in which it may be started.
    pub epoch: Epoch,
    /// When it was claimed.
    pub at: Time,
}

/// How far a sync is, or the question what a purge would remove.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sync {
    /// The claim that is out.
    pub claim: Option<Claim>,
    /// Claims so far.
    pub claims: u32,
    /// Attempts that failed, in a row.
    pub failures: u32,
    /// Since when the bucket is looked at in vain.
    pub looking: Option<Time>,
    /// When the last one failed.
    pub failed_at: Option<Time>,
    /// Its error.
    pub error: Option<Arc<str>>,
    /// What the bucket holds, as far as it was told.
    pub listing: Option<Listing>,
    /// What the purge would remove, once that was told.
    pub plan: Option<Plan>,
    /// What was done about it so far.
    pub done: Done,
}

/// What the bucket holds, where it differs from what was known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Which claim it answers.
    pub serial: u32,
    /// The pod that listed.
    pub pod: PodName,
    /// When its last page was recorded.
    pub at: Time,
    /// What a consent is bound to.
    pub digest: Digest,
    /// Pages so far.
    pub pages: u32,
    /// Whether all of it is there.
    pub whole: bool,
    /// Backups in the bucket, whosever they are.
    pub total: u64,
    /// This datacenter's among them.
    pub ours: u64,
    /// Backups that are not known, or known otherwise, and about which nothing was done yet.
    pub found: BTreeMap<Arc<str>, Arc<Found>>,
    /// Known backups that the bucket lacks, and about which nothing was done yet.
    pub missing: BTreeSet<Arc<str>>,
}

/// What a purge would remove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// When it was told.
    pub at: Time,
    /// What a consent is bound to.
    pub digest: Digest,
    /// Names of the backups that would go, as far as a sidecar can tell.
    pub backups: BTreeSet<Arc<str>>,
}

/// What a sync has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    /// Backups that became known.
    pub created: u64,
    /// Backups that were known otherwise.
    pub corrected: u64,
    /// Backups that are known no more.
    pub removed: u64,
}

/// A consent that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What the annotation must say.
    pub token: Arc<str>,
    /// One sentence.
    pub message: Arc<str>,
    /// Names of what would be removed; of many only the first.
    pub names: Vec<Arc<str>>,
    /// Since when.
    pub since: Time,
}

/// A sync that a purge asks for: to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The purge.
    pub task: Uid,
    /// The datacenter, as typed.
    pub dc: Arc<str>,
    /// The labels of the purge.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// An object that a sync has deleted: to go, this one and no other of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// MedusaBackup, or the MedusaBackupJob of the same name.
    pub kind: observed::ObjectKind,
    /// Its name.
    pub name: Arc<str>,
    /// The sync.
    pub task: Uid,
}

impl Task {
    /// A request that the log has just met.
    #[must_use]
    pub fn requested(request: observed::Task, at: Time) -> Self {
        Self {
            request,
            gone: false,
            foreign: false,
            stale: false,
            stage: Stage::Waiting { since: at, wait: None },
            nodes: BTreeMap::new(),
            sync: Sync::default(),
            approval: None,
        }
    }

    /// Whether it is terminal.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// Whether it is at work.
    #[must_use]
    pub const fn running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// When it started, if it did.
    #[must_use]
    pub const fn started(&self) -> Option<Time> {
        match &self.stage {
            Stage::Waiting { .. } => None,
            Stage::Running { since } => Some(*since),
            Stage::Ended { started, .. } => *started,
        }
    }

    /// Takes over the status that another program left, or learns that there is none.
    pub(crate) fn adopt(&mut self, adopted: &Adopted, at: Time) {
        let pods = (adopted.in_progress.iter().map(|pod| (pod, NodeState::FRESH)))
            .chain(adopted.finished_pods.iter().map(|pod| (pod, NodeState::Finished { at, purged: None })))
            .chain(
                adopted
                    .failed_pods
                    .iter()
                    .map(|pod| (pod, NodeState::Failed { at, reason: "failed before this log began".into() })),
            );
        self.nodes = pods.map(|(pod, state)| (pod.clone(), Node::new(state))).collect();
        match (adopted.started, adopted.finished) {
            (started, Some(finished)) => {
                self.stage = Stage::Ended {
                    started,
                    finished,
                    outcome: if adopted.failed_pods.is_empty() { Outcome::Complete } else { Outcome::Partial },
                    message: "finished before this log began".into(),
                    adopted: true,
                };
            }
            // Deadlines count from here.
            (Some(_), None) => {
                self.stage = Stage::Running { since: at };
                self.foreign = true;
            }
            (None, None) => self.stale = true,
        }
    }

    /// Folds one event of this task. Returns whether it was legal: nothing follows a terminal event.
    pub(crate) fn apply(&mut self, event: &Event, at: Time) -> bool {
        if self.ended() {
            // What these are about is the datacenter's: see there.
            return matches!(event, Event::SyncCreated(_) | Event::BackupCreated(_));
        }
        match event {
            Event::Queued(e) => {
                if let Stage::Waiting { wait, .. } = &mut self.stage {
                    let since = wait.as_ref().filter(|w| w.reason == e.reason).map_or(at, |w| w.since);
                    *wait = Some(Wait { reason: e.reason, message: e.message.clone(), since });
                }
            }
            Event::ApprovalNeeded(e) => {
                let (token, message, names) = (e.token.clone(), e.message.clone(), e.names.clone());
                self.approval = Some(Approval { token, message, names, since: at });
            }
            Event::Started(e) => {
                self.stage = Stage::Running { since: at };
                self.approval = None;
                self.nodes = e.nodes.iter().map(|pod| (pod.clone(), Node::new(NodeState::FRESH))).collect();
            }
            Event::EffectClaimed(e) => {
                let claim = Claim { call: e.call.clone(), attempt: e.attempt, serial: e.serial, epoch: e.epoch, at };
                match &e.call {
                    Call::List(_) | Call::Plan(_) => self.sync.claim(claim, at),
                    Call::Purge(pod) | Call::Prepare(pod) => {
                        self.approval = None;
                        if let Some(node) = self.nodes.get_mut(pod) {
                            node.claim(claim);
                        }
                    }
                }
            }
            Event::ClaimAbandoned(e) => match &e.call {
                Call::List(_) | Call::Plan(_) => {
                    self.sync.claim.take_if(|claim| (claim.epoch, claim.serial) == (e.epoch, e.serial));
                }
                Call::Purge(pod) | Call::Prepare(pod) => {
                    if let Some(node) = self.nodes.get_mut(pod).filter(|node| node.claimed_by(e.epoch, e.serial)) {
                        node.abandon();
                    }
                }
            },
            Event::NodeFinished(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.state = NodeState::Finished { at, purged: e.purged };
                }
            }
            Event::NodeFailed(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.fail(&e.reason, e.retryable, at);
                }
            }
            Event::NodeUnanswered(e) => match &e.call {
                Call::List(_) | Call::Plan(_) => self.sync.unanswered(e, at),
                Call::Purge(pod) | Call::Prepare(pod) => {
                    if let Some(node) = self.nodes.get_mut(pod) {
                        node.unanswered(e, at);
                    }
                }
            },
            Event::NodeLost(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.state = NodeState::Failed { at, reason: e.reason.clone() };
                }
            }
            Event::Listed(e) => self.sync.listed(e, at),
            Event::Planned(e) => self.sync.planned(e, at),
            Event::Reconciled(e) => {
                let Some(listing) = self.sync.listing.as_mut().filter(|listing| listing.whole) else { return false };
                for name in e.created.iter().chain(&e.corrected) {
                    listing.found.remove(name);
                }
                for name in &e.removed {
                    listing.missing.remove(name);
                }
                let count = |names: &[Arc<str>]| u64::try_from(names.len()).unwrap_or(u64::MAX);
                self.sync.done.created += count(&e.created);
                self.sync.done.corrected += count(&e.corrected);
                self.sync.done.removed += count(&e.removed);
                self.approval = None;
            }
            Event::SyncRequested(_) => {}
            Event::Completed(e) => self.end(at, Outcome::Complete, &e.message),
            Event::Failed(e) => self.end(at, e.outcome, &e.message),
            Event::SyncCreated(_) => return false,
            Event::BackupCreated(_) => {}
        }
        true
    }

    fn end(&mut self, at: Time, outcome: Outcome, message: &Arc<str>) {
        let started = self.started();
        self.stage = Stage::Ended { started, finished: at, outcome, message: message.clone(), adopted: false };
        self.approval = None;
        self.sync.claim = None;
    }
}

impl Sync {
    fn claim(&mut self, claim: Claim, at: Time) {
        self.claims = claim.serial;
        self.claim = Some(claim);
        self.looking = self.looking.or(Some(at));
        (self.listing, self.plan) = (None, None);
    }

    fn planned(&mut self, told: &Planned, at: Time) {
        let current = |claim: &mut Claim| (claim.epoch, claim.serial) == (told.epoch, told.serial);
        if self.claim.take_if(current).is_some() {
            let backups = told.backups.iter().flatten().cloned().collect();
            self.plan = Some(Plan { at, digest: told.digest, backups });
            self.seen();
        }
    }

    /// The bucket was looked at, not in vain.
    fn seen(&mut self) {
        (self.failures, self.looking, self.failed_at, self.error) = (0, None, None, None);
    }

    fn unanswered(&mut self, event: &NodeUnanswered, at: Time) {
        let current = |claim: &mut Claim| (claim.epoch, claim.serial) == (event.epoch, event.serial);
        if self.claim.take_if(current).is_some() {
            self.failures += 1;
            self.failed_at = Some(at);
            self.error = Some(event.error.clone());
            self.listing = None;
        }
    }

    /// A page counts when it follows the page before it, of the claim that is out.
    fn listed(&mut self, page: &Listed, at: Time) {
        let current = |claim: &Claim| (claim.epoch, claim.serial) == (page.epoch, page.serial);
        if !self.claim.as_ref().is_some_and(current) {
            return;
        }
        if page.page == 0 {
            self.listing = Some(Listing {
                serial: page.serial,
                pod: page.pod.clone(),
                at,
                digest: page.digest,
                pages: 0,
                whole: false,
                total: page.total,
                ours: page.ours,
                found: BTreeMap::new(),
                missing: BTreeSet::new(),
            });
        }
        let follows = |listing: &&mut Listing| listing.pages == page.page && !listing.whole;
        let Some(listing) = self.listing.as_mut().filter(follows) else { return };
        listing.pages += 1;
        listing.at = at;
        listing.whole = page.last;
        listing.found.extend(page.found.iter().map(|found| (found.name.clone(), Arc::new(found.clone()))));
        listing.missing.extend(page.missing.iter().cloned());
        if page.last {
            self.claim = None;
            self.seen();
        }
    }
}

/// What a listing says of a backup, as the summary of a job says it.
pub(crate) fn summary(task: &Uid, found: &Found) -> Summarised {
    Summarised {
        job: task.clone(),
        started: found.started,
        finished: found.finished,
        total_nodes: found.total_nodes,
        finished_nodes: found.finished_nodes,
        nodes: found.nodes.clone(),
        files: found.files,
        bytes: found.bytes,
        complete: found.completeness == stheno_events::task::Completeness::Complete,
    }
}
