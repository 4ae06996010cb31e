//! While nodes are at work: which of them are called now, and which are given up.

use super::{outcome, quiet_until, stopping};
use crate::{Context, policy};
use stheno_events::backup::{Call, EffectClaimed, NodeLost, Outcome, OutcomeDecided};
use stheno_events::{Event, PodName, Time};
use stheno_projections::Datacenter;
use stheno_projections::backup::{Node, NodeState, Operation};

/// The decisions about an operation that runs since `since`.
pub(super) fn decide(dc: &Datacenter, context: Context<'_>, operation: &Operation, since: Time) -> Vec<Event> {
    let job = &operation.request.meta.uid;
    if operation.nodes.is_empty() {
        // Adopted with a start and no pod: its program may have died in the fan-out.
        if context.now < since + policy::SILENCE {
            return Vec::new();
        }
        let message = "started by another program, which recorded no pod: create a new job".into();
        return vec![OutcomeDecided { job: job.clone(), outcome: Outcome::Failed, message }.into()];
    }
    if operation.nodes.values().all(|node| node.state.ended()) {
        return vec![outcome(job, operation)];
    }
    if let Some((outcome, message)) = stopping::wanted(operation, context, since) {
        return vec![OutcomeDecided { job: job.clone(), outcome, message: message.into() }.into()];
    }
    let mut free = free(operation);
    let quiet = quiet_until(dc, context);
    let mut events = Vec::new();
    for (pod, node) in &operation.nodes {
        if node.state.ended() {
            continue;
        }
        // What another program started is never stopped, but it does not hold the datacenter for ever.
        let overdue = operation.foreign && context.now >= since + policy::BACKUP_DEADLINE;
        let overdue = overdue.then(|| format!("not finished after {} hours", policy::BACKUP_DEADLINE.num_hours()));
        if let Some(reason) = overdue.or_else(|| given_up(dc, context, operation, pod, node)) {
            events.push(NodeLost { job: job.clone(), pod: pod.clone(), reason: reason.into() }.into());
            continue;
        }
        if quiet.is_some() {
            continue;
        }
        let claim = match &node.state {
            NodeState::Pending { failures, failed_at, .. } => {
                let rested = failed_at.is_none_or(|at| context.now >= at + policy::backoff(*failures));
                let there = dc.pods.get(pod).is_some_and(|pod| pod.callable());
                (rested && there && free > 0).then(|| {
                    free -= 1;
                    (Call::Start(pod.clone()), node.attempts + 1)
                })
            }
            NodeState::Called { claim, .. } => {
                (claim.epoch < context.epoch).then(|| (Call::Resume(pod.clone()), claim.attempt))
            }
            NodeState::Doubt { failures, failed_at, .. } => {
                let rested = *failures == 0 || context.now >= *failed_at + policy::backoff(*failures);
                let there = dc.pods.get(pod).is_some_and(|pod| pod.ip.is_some() && pod.sidecar.is_some());
                (rested && there).then(|| (Call::Resume(pod.clone()), node.attempts.max(1)))
            }
            NodeState::Finished { .. } | NodeState::Failed { .. } => None,
        };
        if let Some((call, attempt)) = claim {
            let serial = node.claims + 1;
            events.push(EffectClaimed { job: job.clone(), call, attempt, serial, epoch: context.epoch }.into());
        }
    }
    events
}

/// How many nodes may be started now. A call that ended without an answer may have started something: its node is at work
/// until that is found out.
fn free(operation: &Operation) -> usize {
    if operation.suspended.is_some() {
        return 0;
    }
    let (mut working, mut unanswered) = (0, 0);
    for node in operation.nodes.values() {
        match &node.state {
            NodeState::Called { .. } => {
                working += 1;
                unanswered += usize::from(node.started.is_none());
            }
            NodeState::Doubt { .. } => working += 1,
            NodeState::Pending { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => {}
        }
    }
    let parallelism =
        operation.request.rules.parallelism.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    policy::STARTS_AT_ONCE.saturating_sub(unanswered).min(parallelism.saturating_sub(working))
}

/// Why a node is given up, if it is.
pub(super) fn given_up(
    dc: &Datacenter,
    context: Context<'_>,
    operation: &Operation,
    pod: &PodName,
    node: &Node,
) -> Option<String> {
    let minutes = policy::SILENCE.num_minutes();
    let absent = !dc.pods.contains_key(pod);
    match &node.state {
        NodeState::Pending { failures, since: failing, failed_at, error } => {
            let error = error.as_deref().unwrap_or("it was never called");
            let again = operation.request.rules.backoff_limit.unwrap_or(policy::BACKOFF_LIMIT);
            if node.attempts > again {
                return Some(match node.attempts {
                    1 => error.to_owned(),
                    attempts => format!("failed {attempts} times, at last: {error}"),
                });
            }
            if operation.suspended.is_some() {
                return None;
            }
            // A node may wait for its turn for hours: what counts is how long it cannot be called, or fails to answer.
            if let Some(away) = node.away {
                let called = *failures > 0;
                // Never called, and there: it may just be starting. But it must not hold the datacenter for a day.
                let patience = if absent || called { policy::SILENCE } else { policy::SILENCE * 3 };
                return (context.now >= away + patience).then(|| match (absent, called) {
                    (true, _) => format!("pod {pod} is gone for {minutes} minutes"),
                    (false, true) => format!("no answer for {minutes} minutes: {error}"),
                    (false, false) => format!("its sidecar was not ready for {} minutes", patience.num_minutes()),
                });
            }
            let failed_for = failing.zip(*failed_at).map(|(since, last)| last - since);
            failed_for
                .is_some_and(|long| *failures > 0 && long >= policy::SILENCE)
                .then(|| format!("no answer for {minutes} minutes: {error}"))
        }
        NodeState::Doubt { origin, heard, not_found, error, .. } => {
            if *not_found && context.now >= *origin + policy::START_VISIBLE {
                let minutes = policy::START_VISIBLE.num_minutes();
                return Some(format!(
                    "the sidecar knows nothing of this backup {minutes} minutes after it was asked for it"
                ));
            }
            let silent = !*not_found && context.now >= *heard + policy::SILENCE;
            silent.then(|| {
                if absent {
                    format!("pod {pod} went away and did not come back for {minutes} minutes")
                } else {
                    format!("no answer for {minutes} minutes: {error}")
                }
            })
        }
        // A call that is out reports by itself: its transport has deadlines.
        NodeState::Called { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => None,
    }
}
