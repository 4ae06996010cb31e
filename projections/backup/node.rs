//! One node of a backup: where it stands, and how claims, answers and silence move it.

use super::Claim;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stheno_events::backup::{Call, NodeProgress, NodeUnanswered, SidecarKind};
use stheno_events::{Epoch, Time};

/// A call that breaks off after it was followed for this long is the first failure, not one of a row: the longest wait
/// between attempts.
const FOLLOWED: TimeDelta = TimeDelta::seconds(60);

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
    /// Since when its sidecar cannot be called, as far as the API server shows it: the pod is gone, or not ready.
    pub away: Option<Time>,
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
    pub(super) const FRESH: Self = Self::Pending { failures: 0, since: None, failed_at: None, error: None };

    /// Whether the node has ended.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed { .. })
    }
}

impl Node {
    pub(super) fn new(state: NodeState) -> Self {
        Self { state, attempts: 0, claims: 0, sidecar: None, started: None, progress: None, away: None }
    }

    /// Whether this claim is the one that is out.
    pub(super) fn claimed_by(&self, epoch: Epoch, serial: u32) -> bool {
        matches!(&self.state, NodeState::Called { claim, .. } if (claim.epoch, claim.serial) == (epoch, serial))
    }

    pub(super) fn claim(&mut self, claim: Claim, at: Time) {
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
    pub(super) fn abandon(&mut self, at: Time) {
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

    pub(super) fn fail(&mut self, reason: &Arc<str>, retryable: bool, at: Time) {
        self.state = if retryable {
            // The next attempt is another start: nobody has accepted that one yet.
            self.started = None;
            // The sidecar answered just now: what bounds the attempts is their number, not silence.
            let failures = match &self.state {
                NodeState::Called { failures, .. }
                | NodeState::Doubt { failures, .. }
                | NodeState::Pending { failures, .. } => *failures,
                NodeState::Finished { .. } | NodeState::Failed { .. } => return,
            };
            let error = Some(reason.clone());
            NodeState::Pending { failures: failures + 1, since: Some(at), failed_at: Some(at), error }
        } else {
            NodeState::Failed { at, reason: reason.clone() }
        };
    }

    pub(super) fn unanswered(&mut self, event: &NodeUnanswered, at: Time) {
        let NodeState::Called { claim, origin, failures, heard } = &self.state else { return };
        if (claim.epoch, claim.serial) != (event.epoch, event.serial) {
            return;
        }
        // Who was followed for a while is not failing in a row; who breaks off after each good answer is.
        let followed = event.heard.is_some_and(|heard| heard >= claim.at + FOLLOWED);
        let failures = if followed { 1 } else { failures + 1 };
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
