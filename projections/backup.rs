//! A backup operation as the log tells it: who asked, which nodes, what each of them said, how it ended.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::backup::{Call, Event, NodeProgress, Outcome, SidecarKind, Summarised, WaitReason};
use stheno_events::observed::{Adopted, BackupJob};
use stheno_events::{Epoch, PodName, Time};

/// One MedusaBackupJob and all that became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// What was asked for.
    pub request: BackupJob,
    /// Whether the custom resource is there no more.
    pub gone: bool,
    /// Whether another program started it: followed, never commanded.
    pub foreign: bool,
    /// Where it stands.
    pub stage: Stage,
    /// The nodes that take part, by pod.
    pub nodes: BTreeMap<PodName, Node>,
    /// What the bucket says, once it was read.
    pub summary: Option<Arc<Summarised>>,
    /// When progress was last recorded.
    pub progress_at: Option<Time>,
}

/// Where an operation stands. Terminal is terminal: nothing leads out of `Ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Not started.
    Waiting {
        /// Since when the log knows it.
        since: Time,
        /// What for, once that was said.
        wait: Option<Wait>,
    },
    /// Nodes are called and followed.
    Running {
        /// Start.
        since: Time,
    },
    /// The outcome is decided; what is left is to read the summary.
    Closing {
        /// Start, if it started at all.
        started: Option<Time>,
        /// When the outcome was decided.
        since: Time,
        /// The outcome.
        outcome: Outcome,
        /// One sentence.
        message: Arc<str>,
        /// How far the reading of the summary is.
        reading: Reading,
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

/// What an operation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The reason, as conditions show it.
    pub reason: WaitReason,
    /// One sentence.
    pub message: Arc<str>,
    /// Since when it is this reason.
    pub since: Time,
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

/// How far the reading of the summary is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The claim that is out.
    pub claim: Option<Claim>,
    /// Claims so far.
    pub claims: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// When the last one failed.
    pub failed_at: Option<Time>,
    /// Its error.
    pub error: Option<Arc<str>>,
}

/// One node of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Where it stands.
    pub state: NodeState,
    /// Attempts so far.
    pub attempts: u32,
    /// Claims so far.
    pub claims: u32,
    /// Who answers there, once somebody did.
    pub sidecar: Option<SidecarKind>,
    /// When the sidecar accepted.
    pub started: Option<Time>,
    /// The last progress recorded.
    pub progress: Option<NodeProgress>,
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Not called, or called in vain with nothing sent.
    Pending {
        /// Failures in a row: the wait grows with them.
        failures: u32,
        /// Since when the failures last.
        since: Option<Time>,
        /// When the last one happened.
        failed_at: Option<Time>,
        /// The last error.
        error: Option<Arc<str>>,
    },
    /// A claim is out; the sidecar may be working.
    Called {
        /// The claim.
        claim: Claim,
        /// The first claim of this attempt: from here an in-doubt start counts.
        origin: Time,
        /// Failures in a row before this claim.
        failures: u32,
        /// When the node last gave a sign of life, or was first called.
        heard: Time,
    },
    /// The call ended without an answer; it must be resumed, never repeated blindly.
    Doubt {
        /// The first claim of this attempt.
        origin: Time,
        /// Failures in a row.
        failures: u32,
        /// When the last one happened.
        failed_at: Time,
        /// When the node last gave a sign of life, or was first called.
        heard: Time,
        /// The sidecar answered, and knew nothing of it.
        not_found: bool,
        /// The error.
        error: Arc<str>,
    },
    /// Complete.
    Finished {
        /// When.
        at: Time,
        /// Bytes, where told.
        bytes: Option<u64>,
        /// Files, where told.
        files: Option<u64>,
        /// Files that were in the bucket already.
        reused: Option<u64>,
    },
    /// Failed, for good.
    Failed {
        /// When.
        at: Time,
        /// One sentence.
        reason: Arc<str>,
    },
}

impl NodeState {
    const FRESH: Self = Self::Pending { failures: 0, since: None, failed_at: None, error: None };

    /// Whether the node has ended.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed { .. })
    }
}

impl Node {
    fn new(state: NodeState) -> Self {
        Self { state, attempts: 0, claims: 0, sidecar: None, started: None, progress: None }
    }
}

impl Operation {
    /// A request that the log has just met.
    #[must_use]
    pub fn requested(request: BackupJob, at: Time) -> Self {
        Self {
            request,
            gone: false,
            foreign: false,
            stage: Stage::Waiting { since: at, wait: None },
            nodes: BTreeMap::new(),
            summary: None,
            progress_at: None,
        }
    }

    /// Whether it is terminal.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// Whether it holds the datacenter.
    #[must_use]
    pub const fn active(&self) -> bool {
        matches!(self.stage, Stage::Running { .. } | Stage::Closing { .. })
    }

    /// When it started, if it did.
    #[must_use]
    pub const fn started(&self) -> Option<Time> {
        match &self.stage {
            Stage::Waiting { .. } => None,
            Stage::Running { since } => Some(*since),
            Stage::Closing { started, .. } | Stage::Ended { started, .. } => *started,
        }
    }

    /// Takes over the status that another program left.
    pub(crate) fn adopt(&mut self, adopted: &Adopted, at: Time) {
        let doubt = |since| NodeState::Doubt {
            origin: since,
            failures: 0,
            failed_at: since,
            heard: at,
            not_found: false,
            error: "started by another program".into(),
        };
        let started = adopted.started.unwrap_or(at);
        let states = (adopted.in_progress.iter().map(|pod| (pod, doubt(at))))
            .chain(adopted.finished_pods.iter().map(|pod| {
                (
                    pod,
                    NodeState::Finished { at: adopted.finished.unwrap_or(at), bytes: None, files: None, reused: None },
                )
            }))
            .chain(adopted.failed_pods.iter().map(|pod| {
                let reason = "failed before this log began".into();
                (pod, NodeState::Failed { at: adopted.finished.unwrap_or(at), reason })
            }));
        self.nodes = states.map(|(pod, state)| (pod.clone(), Node::new(state))).collect();
        self.stage = match adopted.finished {
            Some(finished) => Stage::Ended {
                started: adopted.started,
                finished,
                outcome: if adopted.failed_pods.is_empty() { Outcome::Complete } else { Outcome::Partial },
                message: "finished before this log began".into(),
                adopted: true,
            },
            None => Stage::Running { since: started },
        };
        self.foreign = adopted.finished.is_none();
    }

    /// Folds one event of this operation. Returns whether it was legal: nothing follows a terminal event.
    pub(crate) fn apply(&mut self, event: &Event, at: Time) -> bool {
        if self.ended() {
            return matches!(event, Event::ObjectCreated(_));
        }
        match event {
            Event::Queued(e) => {
                if let Stage::Waiting { wait, .. } = &mut self.stage {
                    let since = wait.as_ref().filter(|w| w.reason == e.reason).map_or(at, |w| w.since);
                    *wait = Some(Wait { reason: e.reason, message: e.message.clone(), since });
                }
            }
            Event::Started(e) => {
                self.stage = Stage::Running { since: at };
                self.nodes = e.nodes.iter().map(|pod| (pod.clone(), Node::new(NodeState::FRESH))).collect();
            }
            Event::EffectClaimed(e) => {
                let claim = Claim { call: e.call.clone(), attempt: e.attempt, serial: e.serial, epoch: e.epoch, at };
                match &e.call {
                    Call::Summary(_) => {
                        if let Stage::Closing { reading, .. } = &mut self.stage {
                            reading.claims = claim.serial;
                            reading.claim = Some(claim);
                        }
                    }
                    Call::Start(pod) | Call::Resume(pod) => {
                        if let Some(node) = self.nodes.get_mut(pod) {
                            node.claim(claim, at);
                        }
                    }
                }
            }
            Event::ClaimAbandoned(e) => match &e.call {
                Call::Summary(_) => {
                    if let Stage::Closing { reading, .. } = &mut self.stage {
                        reading.claim = None;
                    }
                }
                Call::Start(pod) | Call::Resume(pod) => {
                    if let Some(node) = self.nodes.get_mut(pod) {
                        node.abandon(at);
                    }
                }
            },
            Event::NodeStarted(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod) {
                    node.sidecar = Some(e.sidecar);
                    node.started = node.started.or(Some(at));
                    if let NodeState::Called { heard, failures, .. } = &mut node.state {
                        (*heard, *failures) = (at, 0);
                    }
                }
            }
            Event::Progress(e) => {
                self.progress_at = Some(at);
                for progress in &e.nodes {
                    if let Some(node) = self.nodes.get_mut(&progress.pod) {
                        node.progress = Some(progress.clone());
                        if let NodeState::Called { heard, .. } = &mut node.state {
                            *heard = at;
                        }
                    }
                }
            }
            Event::NodeFinished(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.state = NodeState::Finished { at, bytes: e.bytes, files: e.files, reused: e.reused };
                }
            }
            Event::NodeFailed(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.fail(&e.reason, e.retryable, at);
                }
            }
            Event::NodeUnanswered(e) => {
                if let Some(node) = self.nodes.get_mut(e.call.pod()) {
                    node.unanswered(e, at);
                }
            }
            Event::NodeLost(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| !node.state.ended()) {
                    node.state = NodeState::Failed { at, reason: e.reason.clone() };
                }
            }
            Event::OutcomeDecided(e) => {
                self.stage = Stage::Closing {
                    started: self.started(),
                    since: at,
                    outcome: e.outcome,
                    message: e.message.clone(),
                    reading: Reading::default(),
                };
            }
            Event::Summarised(e) => {
                self.summary = Some(Arc::new(e.clone()));
                if let Stage::Closing { reading, .. } = &mut self.stage {
                    reading.claim = None;
                }
            }
            Event::SummaryFailed(e) => {
                if let Stage::Closing { reading, .. } = &mut self.stage {
                    let failures = reading.failures + 1;
                    *reading = Reading {
                        claim: None,
                        claims: reading.claims,
                        failures,
                        failed_at: Some(at),
                        error: Some(e.error.clone()),
                    };
                }
            }
            Event::Completed(e) => self.end(at, Outcome::Complete, &e.message),
            Event::Failed(e) => self.end(at, e.outcome, &e.message),
            Event::ObjectCreated(_) => return false,
        }
        true
    }

    fn end(&mut self, at: Time, outcome: Outcome, message: &Arc<str>) {
        let started = self.started();
        self.stage = Stage::Ended { started, finished: at, outcome, message: message.clone(), adopted: false };
    }
}

impl Node {
    fn claim(&mut self, claim: Claim, at: Time) {
        let (origin, failures, heard) = match &self.state {
            NodeState::Pending { failures, since, .. } => (at, *failures, since.unwrap_or(at)),
            NodeState::Called { origin, failures, heard, .. } | NodeState::Doubt { origin, failures, heard, .. } => {
                (*origin, *failures, *heard)
            }
            NodeState::Finished { .. } | NodeState::Failed { .. } => return,
        };
        self.attempts = self.attempts.max(claim.attempt);
        self.claims = claim.serial;
        self.state = NodeState::Called { claim, origin, failures, heard };
    }

    /// Nothing was sent: a fresh start goes back to where it was, a resumed one stays in doubt.
    fn abandon(&mut self, at: Time) {
        if let NodeState::Called { claim, origin, failures, heard } = &self.state {
            self.state = if matches!(claim.call, Call::Start(_)) {
                self.attempts = claim.attempt.saturating_sub(1);
                NodeState::Pending { failures: *failures, since: Some(*heard), failed_at: None, error: None }
            } else {
                let error = "the claim was abandoned: it was not started in time".into();
                NodeState::Doubt {
                    origin: *origin,
                    failures: *failures,
                    failed_at: at,
                    heard: *heard,
                    not_found: false,
                    error,
                }
            };
        }
    }

    fn fail(&mut self, reason: &Arc<str>, retryable: bool, at: Time) {
        self.state = if retryable {
            // The next attempt is another start: nobody has accepted that one yet.
            self.started = None;
            let (failures, since) = match &self.state {
                NodeState::Called { failures, heard, .. } | NodeState::Doubt { failures, heard, .. } => {
                    (*failures, *heard)
                }
                NodeState::Pending { failures, since, .. } => (*failures, since.unwrap_or(at)),
                NodeState::Finished { .. } | NodeState::Failed { .. } => return,
            };
            let error = Some(reason.clone());
            NodeState::Pending { failures: failures + 1, since: Some(since), failed_at: Some(at), error }
        } else {
            NodeState::Failed { at, reason: reason.clone() }
        };
    }

    fn unanswered(&mut self, event: &stheno_events::backup::NodeUnanswered, at: Time) {
        let NodeState::Called { claim, origin, failures, heard } = &self.state else { return };
        if (claim.epoch, claim.serial) != (event.epoch, event.serial) {
            return;
        }
        // Who answered since the claim is not failing in a row.
        let failures = if event.heard.is_some() { 1 } else { failures + 1 };
        let (error, heard) = (event.error.clone(), event.heard.map_or(*heard, |time| time.max(*heard)));
        let never_sent = matches!(claim.call, Call::Start(_)) && !event.in_doubt && self.started.is_none();
        self.state = if never_sent {
            self.attempts = claim.attempt.saturating_sub(1);
            NodeState::Pending { failures, since: Some(heard), failed_at: Some(at), error: Some(error) }
        } else {
            NodeState::Doubt { origin: *origin, failures, failed_at: at, heard, not_found: event.not_found, error }
        };
    }
}
