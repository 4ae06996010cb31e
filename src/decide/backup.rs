//! The backup process: when a job may start, which nodes are called when, when it has ended.

mod due;
mod running;
mod stopping;

pub use due::{due, wake};

use crate::{Context, names, policy, schedule, task};
use std::sync::Arc;
use stheno_events::backup::{
    Call, Completed, EffectClaimed, Expired, Failed, Outcome, OutcomeDecided, Queued, Started, WaitReason,
};
use stheno_events::observed::Pod;
use stheno_events::{Event, PodName, Time, Uid};
use stheno_projections::Datacenter;
use stheno_projections::backup::{NodeState, Operation, Reading, Stage};
use stheno_projections::datacenter::Object;

/// The decisions about all backups of a datacenter.
#[must_use]
pub fn decide(dc: &Datacenter, context: Context<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut taken = dc.open.iter().filter_map(|(_, job)| dc.operation(job)).find(|operation| operation.active());
    let mut in_line = 0;
    for (_, job) in &dc.open {
        let Some(operation) = dc.operation(job) else { continue };
        match &operation.stage {
            Stage::Waiting { wait, .. } => {
                let place = Place { taken, in_line };
                let decided = waiting(dc, context, operation, place, wait.as_ref());
                // Who starts takes the datacenter: those behind it see that in the same breath.
                if decided.iter().any(|event| matches!(event, Event::Backup(stheno_events::backup::Event::Started(_))))
                {
                    taken = Some(operation);
                } else if operation.suspended.is_none() {
                    in_line += 1;
                }
                events.extend(decided);
            }
            Stage::Running { since } => events.extend(running::decide(dc, context, operation, *since)),
            Stage::Closing { since, .. } if operation.stopping() => {
                events.extend(stopping::decide(dc, context, operation, *since));
            }
            Stage::Closing { since, outcome, message, reading, .. } => {
                events.extend(closing(
                    dc,
                    context,
                    operation,
                    Close { since: *since, outcome: *outcome, message, reading },
                ));
            }
            Stage::Ended { .. } => {}
        }
    }
    events.extend(expired(dc, context));
    events
}

/// Jobs whose time to live is over. Not before their MedusaBackup is there: its creation is told of by way of the job.
fn expired(dc: &Datacenter, context: Context<'_>) -> impl Iterator<Item = Event> {
    let over = dc.lapses.iter().filter(move |(_, lapse)| **lapse <= context.now);
    let goes = move |job: &Uid| {
        dc.operation(job).filter(|operation| !operation.expired).is_some_and(|operation| {
            let backup = dc.backups.get(&operation.request.meta.name);
            !backup.is_some_and(|backup| backup.operation.as_ref() == Some(job) && backup.object == Object::Wanted)
        })
    };
    over.filter(move |(job, _)| goes(job)).map(|(job, _)| Expired { job: job.clone() }.into())
}

/// What runs on a datacenter that was replaced ends.
pub(crate) fn abandon(dc: &Datacenter) -> impl Iterator<Item = Event> {
    let runs = |operation: &Operation| matches!(operation.stage, Stage::Running { .. }) || operation.stopping();
    dc.operations.iter().filter(move |(_, operation)| runs(operation)).map(|(job, _)| {
        let message = "the datacenter was deleted and another one of the same name created".into();
        OutcomeDecided { job: job.clone(), outcome: Outcome::DatacenterReplaced, message }.into()
    })
}

/// What a job that waits has before it.
struct Place<'a> {
    /// The operation that holds the datacenter.
    taken: Option<&'a Operation>,
    /// Jobs that wait and came earlier.
    in_line: usize,
}

fn waiting(
    dc: &Datacenter,
    context: Context<'_>,
    operation: &Operation,
    place: Place<'_>,
    wait: Option<&stheno_projections::backup::Wait>,
) -> Vec<Event> {
    let job = &operation.request.meta.uid;
    if operation.gone || operation.request.meta.deleting.is_some() {
        return vec![refused(job, "the job was deleted before it started")];
    }
    if let Some(message) = schedule::repeats(dc, &operation.request) {
        return vec![refused(job, &message)];
    }
    if let Some(message) = stopping::cancelled(operation) {
        return vec![OutcomeDecided { job: job.clone(), outcome: Outcome::Cancelled, message: message.into() }.into()];
    }
    let (reason, message) = if operation.suspended.is_some() {
        (WaitReason::Suspended, "suspended (spec.suspend): it starts when that is false".to_owned())
    } else if let Some(other) = place.taken {
        let message = if place.in_line < policy::NAMED_WAITS {
            format!("waits for backup {} of the same datacenter", other.request.meta.name)
        } else {
            "waits for the backups of the same datacenter that were asked for earlier".to_owned()
        };
        (WaitReason::OperationRunning, message)
    } else if let Some(purge) = task::purge_before(dc, operation.request.meta.created, job) {
        let message = if place.in_line < policy::NAMED_WAITS {
            format!("waits for purge {} of the same datacenter", purge.request.meta.name)
        } else {
            "waits for a purge of the same datacenter that was asked for earlier".to_owned()
        };
        (WaitReason::OperationRunning, message)
    } else {
        match ready(dc, context) {
            Ok(nodes) => return vec![Started { job: job.clone(), nodes }.into()],
            Err(not_ready) => not_ready,
        }
    };
    if let Some(wait) = wait.filter(|wait| wait.reason == reason) {
        if policy::limited(reason) && context.now >= wait.since + policy::WAIT_FOR_DATACENTER {
            let minutes = policy::WAIT_FOR_DATACENTER.num_minutes();
            return vec![refused(job, &format!("refused after waiting {minutes} minutes: {message}"))];
        }
        if *wait.message == *message {
            return Vec::new();
        }
    }
    vec![Queued { job: job.clone(), reason, message: message.into() }.into()]
}

fn refused(job: &Uid, message: &str) -> Event {
    OutcomeDecided { job: job.clone(), outcome: Outcome::Refused, message: message.into() }.into()
}

/// The pods of a datacenter once all of them can be called, or what is missing.
pub(crate) fn ready(dc: &Datacenter, context: Context<'_>) -> Result<Vec<PodName>, (WaitReason, String)> {
    let (pods, wanted) = there(dc, context)?;
    if pods.len() < wanted {
        let message = format!("datacenter {} has {} of {wanted} pods", context.key.name, pods.len());
        return Err((WaitReason::PodsMissing, message));
    }
    match pods.iter().find_map(|pod| unready(pod)) {
        Some(not_ready) => Err(not_ready),
        None => Ok(pods.into_iter().map(|pod| pod.name()).collect()),
    }
}

/// The pods of a datacenter that can be called, or why none can.
pub(crate) fn reachable(dc: &Datacenter, context: Context<'_>) -> Result<Vec<PodName>, (WaitReason, String)> {
    let (pods, _) = there(dc, context)?;
    let callable: Vec<PodName> = pods.iter().filter(|pod| pod.callable()).map(|pod| pod.name()).collect();
    match pods.iter().find_map(|pod| unready(pod)) {
        Some(not_ready) if callable.is_empty() => Err(not_ready),
        Some(_) | None => Ok(callable),
    }
}

/// Why a pod's sidecar cannot be called.
fn unready(pod: &Pod) -> Option<(WaitReason, String)> {
    if pod.sidecar.is_none() {
        let message =
            format!("pod {} has no container \"medusa\": add the medusa section to the cluster", pod.meta.name);
        return Some((WaitReason::SidecarMissing, message));
    }
    (!pod.callable()).then(|| {
        let message =
            format!("the sidecar of pod {} is not ready: see the logs of its container medusa", pod.meta.name);
        (WaitReason::SidecarNotReady, message)
    })
}

type Pods<'a> = (Vec<&'a Arc<Pod>>, usize);

/// The pods of a datacenter, at least one, and how many there should be.
fn there<'a>(dc: &'a Datacenter, context: Context<'_>) -> Result<Pods<'a>, (WaitReason, String)> {
    let key = context.key;
    let Some(object) = &dc.object else {
        let message = format!("no CassandraDatacenter {:?} in namespace {}", key.name, key.namespace);
        return Err((WaitReason::DatacenterNotFound, message));
    };
    if object.stopped {
        let message = format!("datacenter {} is stopped (spec.stopped): start it", key.name);
        return Err((WaitReason::DatacenterStopped, message));
    }
    let cluster = names::label(&object.cluster);
    let pods: Vec<&Arc<Pod>> =
        dc.pods.values().filter(|pod| *pod.cluster == *cluster && pod.meta.deleting.is_none()).collect();
    let wanted = usize::try_from(object.size).unwrap_or(0);
    if pods.is_empty() {
        let message = format!("datacenter {} has 0 of {wanted} pods", key.name);
        return Err((WaitReason::PodsMissing, message));
    }
    Ok((pods, wanted))
}

/// Until when nothing may be started here, if that is still to come.
pub(crate) fn quiet_until(dc: &Datacenter, context: Context<'_>) -> Option<Time> {
    let led = dc.led.as_ref().filter(|led| led.epoch == context.epoch)?;
    led.quiet_until.filter(|until| context.now < *until)
}

fn outcome(job: &Uid, operation: &Operation) -> Event {
    let failed: Vec<(&PodName, &Arc<str>)> = operation
        .nodes
        .iter()
        .filter_map(|(pod, node)| match &node.state {
            NodeState::Failed { reason, .. } => Some((pod, reason)),
            NodeState::Pending { .. }
            | NodeState::Called { .. }
            | NodeState::Doubt { .. }
            | NodeState::Finished { .. } => None,
        })
        .collect();
    let all = operation.nodes.len();
    let (outcome, message) = match failed.first() {
        None => (Outcome::Complete, format!("{all} of {all} nodes complete")),
        Some((pod, reason)) => {
            let outcome = if failed.len() == all { Outcome::Failed } else { Outcome::Partial };
            (outcome, format!("{} of {all} nodes failed; {pod}: {reason}", failed.len()))
        }
    };
    OutcomeDecided { job: job.clone(), outcome, message: message.into() }.into()
}

struct Close<'a> {
    since: Time,
    outcome: Outcome,
    message: &'a Arc<str>,
    reading: &'a Reading,
}

fn closing(dc: &Datacenter, context: Context<'_>, operation: &Operation, close: Close<'_>) -> Vec<Event> {
    let job = &operation.request.meta.uid;
    if close.outcome != Outcome::Complete {
        let message = if close.outcome.stops() && !operation.nodes.is_empty() {
            let complete = operation.nodes.values().filter(|node| matches!(node.state, NodeState::Finished { .. }));
            format!("{}; {} of {} nodes are complete", close.message, complete.count(), operation.nodes.len()).into()
        } else {
            close.message.clone()
        };
        return vec![Failed { job: job.clone(), outcome: close.outcome, message }.into()];
    }
    if let Some(summary) = &operation.summary {
        return vec![if summary.complete {
            Completed { job: job.clone(), message: close.message.clone() }.into()
        } else {
            let message = format!(
                "every node reported success, but the bucket lists {} of {} nodes as finished",
                summary.finished_nodes, summary.total_nodes
            );
            Failed { job: job.clone(), outcome: Outcome::Partial, message: message.into() }.into()
        }];
    }
    if context.now >= close.since + policy::CLOSING_DEADLINE {
        let error = close.reading.error.as_deref().unwrap_or("no sidecar could be asked");
        let message = format!("{}; its summary could not be read: {error}", close.message);
        return vec![Completed { job: job.clone(), message: message.into() }.into()];
    }
    if quiet_until(dc, context).is_some() {
        return Vec::new();
    }
    let reading = close.reading;
    let out = reading.claim.as_ref().is_some_and(|claim| claim.epoch == context.epoch);
    let rested = reading.failed_at.is_none_or(|at| context.now >= at + policy::backoff(reading.failures));
    if out || !rested {
        return Vec::new();
    }
    // Another pod at each attempt: one that cannot read the bucket must not stand for all.
    let callable: Vec<&PodName> =
        operation.nodes.keys().filter(|pod| dc.pods.get(*pod).is_some_and(|pod| pod.callable())).collect();
    let failures = usize::try_from(reading.failures).unwrap_or(0);
    let Some(pod) = callable.get(failures % callable.len().max(1)) else { return Vec::new() };
    let call = Call::Summary((*pod).clone());
    let (attempt, serial) = (reading.failures + 1, reading.claims + 1);
    vec![EffectClaimed { job: job.clone(), call, attempt, serial, epoch: context.epoch }.into()]
}
