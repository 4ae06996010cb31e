//! One node of a task: where it stands, and how claims, answers and silence move it. Asking again is always allowed: what
//! a node did already it does not do twice.

use super::Claim;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stheno_events::backup::SidecarKind;
use stheno_events::task::{NodeUnanswered, Purged};
use stheno_events::{Epoch, Time};

/// A purge whose answer was lost goes on in stock Medusa, and a second one beside it can end its process: it is asked again
/// no earlier than this after the first. Purges that are well take about ten minutes (medusa-dataplane.md, O#1767).
pub const SETTLES: TimeDelta = TimeDelta::minutes(10);

/// One node of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Where it stands.
    pub state: NodeState,
    /// Calls that were answered with a failure, or may have reached the node.
    pub attempts: u32,
    /// Claims so far.
    pub claims: u32,
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// To be called, or called again.
    Pending {
        /// Failures in a row: the wait grows with them.
        failures: u32,
        /// Since when the node gives no answer.
        since: Option<Time>,
        /// When the last failure happened.
        failed_at: Option<Time>,
        /// The last error.
        error: Option<Arc<str>>,
        /// When a call was first made whose answer was lost: what it began may go on.
        doubt: Option<Time>,
        /// Not to be called before.
        rests_until: Option<Time>,
    },
    /// A claim is out.
    Called {
        /// The claim.
        claim: Claim,
        /// Failures in a row before this claim.
        failures: u32,
        /// Since when the node gives no answer.
        since: Option<Time>,
        /// When a call was first made whose answer was lost.
        doubt: Option<Time>,
    },
    /// Done.
    Finished {
        /// When.
        at: Time,
        /// What it removed, of a purge.
        purged: Option<Purged>,
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
    pub(super) const FRESH: Self =
        Self::Pending { failures: 0, since: None, failed_at: None, error: None, doubt: None, rests_until: None };

    /// Whether the node has ended.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed { .. })
    }
}

impl Node {
    pub(super) const fn new(state: NodeState) -> Self {
        Self { state, attempts: 0, claims: 0 }
    }

    /// Whether this claim is the one that is out.
    pub(super) fn claimed_by(&self, epoch: Epoch, serial: u32) -> bool {
        matches!(&self.state, NodeState::Called { claim, .. } if (claim.epoch, claim.serial) == (epoch, serial))
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        let (failures, since, doubt) = match &self.state {
            NodeState::Pending { failures, since, doubt, .. } => (*failures, *since, *doubt),
            // Its leader is gone: nobody knows whether it was sent.
            NodeState::Called { failures, since, doubt, claim } => (*failures, *since, doubt.or(Some(claim.at))),
            NodeState::Finished { .. } | NodeState::Failed { .. } => return,
        };
        self.claims = claim.serial;
        self.state = NodeState::Called { claim, failures, since, doubt };
    }

    /// Nothing was sent.
    pub(super) fn abandon(&mut self) {
        if let NodeState::Called { failures, since, doubt, .. } = &self.state {
            self.state = NodeState::Pending {
                failures: *failures,
                since: *since,
                failed_at: None,
                error: None,
                doubt: *doubt,
                rests_until: None,
            };
        }
    }

    pub(super) fn fail(&mut self, reason: &Arc<str>, retryable: bool, at: Time) {
        self.attempts += 1;
        self.state = if retryable {
            // The sidecar answered just now: what bounds the attempts is their number, not silence.
            let failures = match &self.state {
                NodeState::Called { failures, .. } | NodeState::Pending { failures, .. } => *failures,
                NodeState::Finished { .. } | NodeState::Failed { .. } => return,
            };
            NodeState::Pending {
                failures: failures + 1,
                since: Some(at),
                failed_at: Some(at),
                error: Some(reason.clone()),
                doubt: None,
                rests_until: None,
            }
        } else {
            NodeState::Failed { at, reason: reason.clone() }
        };
    }

    pub(super) fn unanswered(&mut self, event: &NodeUnanswered, at: Time) {
        let NodeState::Called { claim, failures, since, doubt } = &self.state else { return };
        if (claim.epoch, claim.serial) != (event.epoch, event.serial) {
            return;
        }
        self.attempts += u32::from(event.in_doubt);
        let doubt = if event.in_doubt { Some(claim.at) } else { *doubt };
        let rests_until = doubt.filter(|_| event.sidecar == Some(SidecarKind::Medusa)).map(|doubt| doubt + SETTLES);
        let since = match rests_until.filter(|until| *until > at) {
            // As long as it is not asked it cannot answer.
            Some(until) => Some(until),
            None => (*since).or(Some(at)),
        };
        self.state = NodeState::Pending {
            failures: failures + 1,
            since,
            failed_at: Some(at),
            error: Some(event.error.clone()),
            doubt,
            rests_until,
        };
    }
}
