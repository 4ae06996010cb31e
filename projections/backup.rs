//! A backup operation as the log tells it: who asked, which nodes, what each of them said, how it ended.

mod node;

pub use node::{Node, NodeState};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::backup::{Call, Event, Outcome, Summarised, WaitReason};
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
    /// Whether its custom resource is to be deleted.
    pub expired: bool,
    /// Since when it is suspended, if it is.
    pub suspended: Option<Time>,
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
    /// The outcome is decided; what is left is to read the summary, or to stop the nodes that are at work.
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

impl Operation {
    /// A request that the log has just met.
    #[must_use]
    pub fn requested(request: BackupJob, at: Time) -> Self {
        Self {
            suspended: request.rules.suspended.then_some(at),
            request,
            gone: false,
            foreign: false,
            stage: Stage::Waiting { since: at, wait: None },
            nodes: BTreeMap::new(),
            summary: None,
            progress_at: None,
            expired: false,
        }
    }

    /// Whether it is terminal.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// When its custom resource is to be deleted, if it is: its time to live counts from its end.
    #[must_use]
    pub fn lapse(&self) -> Option<Time> {
        let Stage::Ended { finished, .. } = &self.stage else { return None };
        let there = !self.gone && self.request.meta.deleting.is_none();
        let ttl = self.request.rules.ttl.filter(|_| there)?;
        Some(*finished + chrono::TimeDelta::seconds(ttl.into()))
    }

    /// The request is as it was seen now.
    pub(crate) fn edit(&mut self, request: BackupJob, at: Time) {
        let suspended = request.rules.suspended.then(|| self.suspended.unwrap_or(at));
        if self.suspended.is_some() && suspended.is_none() {
            // Nobody was called meanwhile: the patience with those that cannot be begins anew.
            self.nodes.values_mut().for_each(|node| node.away = node.away.map(|_| at));
        }
        (self.request, self.gone, self.suspended) = (request, false, suspended);
        // Whoever lets it live longer in time keeps it.
        self.expired &= self.lapse().is_some_and(|lapse| lapse <= at);
    }

    /// Whether it is to stop, and nodes of it are still at work.
    #[must_use]
    pub fn stopping(&self) -> bool {
        matches!(&self.stage, Stage::Closing { outcome, .. } if outcome.stops())
            && self.nodes.values().any(|node| !node.state.ended())
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

    /// Whether what is known of a node's reach changes when its pod can be called from now on, or cannot.
    pub(crate) fn hears_of(&self, pod: &PodName, callable: bool) -> bool {
        self.nodes.get(pod).is_some_and(|node| node.away.is_some() == callable)
    }

    /// The pod of a node can be called from now on, or cannot.
    pub(crate) fn reach(&mut self, pod: &PodName, callable: bool, at: Time) {
        if let Some(node) = self.nodes.get_mut(pod) {
            node.away = (!callable).then_some(at);
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
        // Deadlines count from here: a start that lies ahead would hold the datacenter until then.
        let started = adopted.started.map_or(at, |started| started.min(at));
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
            let expires = matches!(event, Event::Expired(_));
            let legal = matches!(event, Event::ObjectCreated(_)) || (expires && !self.expired);
            self.expired |= expires;
            return legal;
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
                    Call::Start(pod) | Call::Resume(pod) | Call::Stop(pod) => {
                        if let Some(node) = self.nodes.get_mut(pod) {
                            node.claim(claim, at);
                        }
                    }
                }
            }
            Event::ClaimAbandoned(e) => match &e.call {
                Call::Summary(_) => {
                    if let Stage::Closing { reading, .. } = &mut self.stage {
                        reading.claim.take_if(|claim| (claim.epoch, claim.serial) == (e.epoch, e.serial));
                    }
                }
                Call::Start(pod) | Call::Resume(pod) | Call::Stop(pod) => {
                    if let Some(node) = self.nodes.get_mut(pod).filter(|node| node.claimed_by(e.epoch, e.serial)) {
                        node.abandon(at);
                    }
                }
            },
            Event::NodeStarted(e) => {
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(|node| node.attempts.max(1) == e.attempt) {
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
                // What is said of an earlier attempt says nothing of the one that runs.
                let current = |node: &&mut Node| !node.state.ended() && node.attempts.max(1) == e.attempt;
                if let Some(node) = self.nodes.get_mut(&e.pod).filter(current) {
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
            Event::ObjectCreated(_) | Event::Expired(_) => return false,
        }
        true
    }

    fn end(&mut self, at: Time, outcome: Outcome, message: &Arc<str>) {
        let started = self.started();
        self.stage = Stage::Ended { started, finished: at, outcome, message: message.clone(), adopted: false };
    }
}
