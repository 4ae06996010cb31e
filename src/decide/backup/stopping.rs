//! A job that is to stop before its nodes have ended: why, and how each of them comes to its end.
//!
//! Our sidecar breaks a backup off when it is told to; stock Medusa cannot, and is followed to its end. Either way the
//! operation holds the datacenter until then, so that the next one finds nothing at work.

use super::quiet_until;
use super::running::given_up;
use crate::{Context, policy};
use chrono::TimeDelta;
use stheno_events::backup::{Call, EffectClaimed, NodeLost, Outcome, SidecarKind};
use stheno_events::observed::CANCEL;
use stheno_events::{Event, PodName, Time};
use stheno_projections::Datacenter;
use stheno_projections::backup::{Node, NodeState, Operation};

/// Why an operation that runs since `since` is to stop now, if it is. What another program started is never commanded.
pub(super) fn wanted(operation: &Operation, context: Context<'_>, since: Time) -> Option<(Outcome, String)> {
    if operation.foreign {
        return None;
    }
    if let Some(message) = cancelled(operation) {
        return Some((Outcome::Cancelled, message));
    }
    (context.now >= since + deadline(operation)).then(|| {
        let message = match operation.request.rules.active_deadline {
            Some(seconds) => format!("not finished within {seconds} s (activeDeadlineSeconds)"),
            None => format!("not finished after {} hours", policy::BACKUP_DEADLINE.num_hours()),
        };
        (Outcome::DeadlineExceeded, message)
    })
}

/// That a person cancelled it, in words.
pub(super) fn cancelled(operation: &Operation) -> Option<String> {
    let request = &operation.request;
    if operation.gone || request.meta.deleting.is_some() {
        return Some("cancelled: the job was deleted".to_owned());
    }
    request.cancelled().map(|why| match why {
        "" => format!("cancelled (annotation {CANCEL})"),
        why => format!("cancelled: {why}"),
    })
}

/// How long it may run.
pub(super) fn deadline(operation: &Operation) -> TimeDelta {
    let seconds = operation.request.rules.active_deadline;
    seconds.map_or(policy::BACKUP_DEADLINE, |seconds| TimeDelta::seconds(seconds.into()))
}

/// The decisions about an operation that is to stop since `since`, and has nodes at work.
pub(super) fn decide(dc: &Datacenter, context: Context<'_>, operation: &Operation, since: Time) -> Vec<Event> {
    let job = &operation.request.meta.uid;
    let quiet = quiet_until(dc, context).is_some();
    let mut events = Vec::new();
    for (pod, node) in operation.nodes.iter().filter(|(_, node)| !node.state.ended()) {
        let lost = if let NodeState::Pending { error, .. } = &node.state {
            let never = "the job was stopped before its turn came";
            Some(error.as_ref().map_or_else(|| never.to_owned(), ToString::to_string))
        } else if context.now >= since + policy::BACKUP_DEADLINE {
            Some(format!("did not end within {} hours of being stopped", policy::BACKUP_DEADLINE.num_hours()))
        } else {
            given_up(dc, context, operation, pod, node)
        };
        if let Some(reason) = lost {
            events.push(NodeLost { job: job.clone(), pod: pod.clone(), reason: reason.into() }.into());
        } else if !quiet && is_told(dc, context, pod, node) {
            let (call, attempt, serial) = (Call::Stop(pod.clone()), node.attempts.max(1), node.claims + 1);
            events.push(EffectClaimed { job: job.clone(), call, attempt, serial, epoch: context.epoch }.into());
        }
    }
    events
}

/// Whether a node is told to end now.
///
/// Not while its start is unanswered: what is told to end before it begins would begin after that. Stock Medusa is not
/// told while it is followed, for it cannot break off.
fn is_told(dc: &Datacenter, context: Context<'_>, pod: &PodName, node: &Node) -> bool {
    match &node.state {
        NodeState::Called { claim, .. } if claim.epoch < context.epoch => true,
        NodeState::Called { claim, .. } => {
            let can = node.sidecar == Some(SidecarKind::Stheno) && node.started.is_some();
            can && !matches!(claim.call, Call::Stop(_))
        }
        NodeState::Doubt { failures, failed_at, .. } => {
            let rested = *failures == 0 || context.now >= *failed_at + policy::backoff(*failures);
            rested && dc.pods.get(pod).is_some_and(|pod| pod.ip.is_some() && pod.sidecar.is_some())
        }
        NodeState::Pending { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => false,
    }
}
