//! The state of an object in a few words, out of the projection.

use super::describe::{outcome, reason, task_outcome};
use super::text::count;
use stheno_events::observed::ObjectKind;
use stheno_events::{PodName, Time, Uid};
use stheno_projections::Datacenter;
use stheno_projections::backup::{NodeState, Operation, Stage};
use stheno_projections::datacenter::Object;
use stheno_projections::schedule::Plan;
use stheno_projections::task::Stage as TaskStage;

/// The state of an object of a datacenter.
#[must_use]
pub(super) fn state(dc: &Datacenter, kind: ObjectKind, name: &str, uid: Option<&Uid>) -> String {
    match kind {
        ObjectKind::MedusaBackupJob => job(dc, uid),
        ObjectKind::MedusaBackup => backup(dc, name),
        ObjectKind::MedusaBackupSchedule => schedule(dc, uid),
        ObjectKind::MedusaTask => task(dc, uid),
        ObjectKind::CassandraDatacenter => datacenter(dc),
        ObjectKind::Pod => pod(dc, &PodName::from(name)),
    }
}

fn job(dc: &Datacenter, uid: Option<&Uid>) -> String {
    let Some(uid) = uid else { return "unknown".into() };
    if dc.malformed.contains_key(uid) {
        return "malformed".into();
    }
    match dc.operation(uid) {
        Some(operation) => operation_state(operation),
        None => "gone".into(),
    }
}

fn operation_state(operation: &Operation) -> String {
    let finished = operation.nodes.values().filter(|node| matches!(node.state, NodeState::Finished { .. })).count();
    let failed = operation.nodes.values().filter(|node| matches!(node.state, NodeState::Failed { .. })).count();
    let mut nodes = format!("{finished} of {}", count(operation.nodes.len(), "node"));
    if failed > 0 {
        nodes.push_str(&format!(", {failed} failed"));
    }
    let mut text = match &operation.stage {
        Stage::Waiting { wait: None, .. } => "waiting".into(),
        Stage::Waiting { wait: Some(wait), .. } => format!("waiting: {}", reason(wait.reason)),
        Stage::Running { .. } => format!("running: {nodes}"),
        Stage::Closing { outcome: how, .. } => format!("closing: {}", outcome(*how)),
        Stage::Ended { outcome: how, adopted: false, .. } => outcome(*how).to_owned(),
        Stage::Ended { outcome: how, adopted: true, .. } => format!("{}, before this log", outcome(*how)),
    };
    if operation.foreign && !operation.ended() {
        text.push_str(" (another program's)");
    }
    if operation.gone {
        text.push_str(", object deleted");
    }
    text
}

fn backup(dc: &Datacenter, name: &str) -> String {
    match dc.backups.get(name).map(|backup| &backup.object) {
        Some(Object::Wanted) => "complete, object to be created".into(),
        Some(Object::Ours { .. }) => "there".into(),
        Some(Object::Foreign { .. }) => "there, not ours".into(),
        None => {
            let making = dc.operations.values().any(|operation| &*operation.request.meta.name == name);
            if making { "in the making".into() } else { "gone".into() }
        }
    }
}

fn schedule(dc: &Datacenter, uid: Option<&Uid>) -> String {
    let Some(schedule) = uid.and_then(|uid| dc.schedules.get(uid)) else { return "gone".into() };
    let clock = |time: &Time| time.format("%Y-%m-%d %H:%M:%S").to_string();
    if let Some(postponed) = &schedule.postponed {
        return format!("the time {} {}", clock(&postponed.slot), postponed.message);
    }
    match &schedule.plan {
        Plan::Unread => "not read yet".into(),
        Plan::Refused { message } => format!("cannot be followed: {message}"),
        Plan::Times { .. } if schedule.request.suspended => "suspended".into(),
        Plan::Times { next: Some(next) } => format!("next at {}", clock(next)),
        Plan::Times { next: None } => "never comes".into(),
    }
}

fn task(dc: &Datacenter, uid: Option<&Uid>) -> String {
    let Some(uid) = uid else { return "unknown".into() };
    if dc.malformed.contains_key(uid) {
        return "malformed".into();
    }
    let Some(task) = dc.task_of(uid) else { return "gone".into() };
    let ended = task.nodes.values().filter(|node| node.state.ended()).count();
    let mut text = match &task.stage {
        TaskStage::Waiting { .. } | TaskStage::Running { .. } if task.approval.is_some() => "needs approval".to_owned(),
        TaskStage::Waiting { wait: None, .. } => "waiting".into(),
        TaskStage::Waiting { wait: Some(wait), .. } => format!("waiting: {}", reason(wait.reason)),
        TaskStage::Running { .. } if task.nodes.is_empty() => match &task.sync.listing {
            Some(listing) if listing.whole => {
                format!("listed: {} to take in, {} missing", listing.found.len(), listing.missing.len())
            }
            Some(_) | None => "running".into(),
        },
        TaskStage::Running { .. } => format!("running: {ended} of {}", count(task.nodes.len(), "node")),
        TaskStage::Ended { outcome: how, adopted: false, .. } => task_outcome(*how).to_owned(),
        TaskStage::Ended { outcome: how, adopted: true, .. } => format!("{}, before this log", task_outcome(*how)),
    };
    if task.foreign && !task.ended() {
        text.push_str(" (another program's)");
    }
    if task.gone {
        text.push_str(", object deleted");
    }
    text
}

fn datacenter(dc: &Datacenter) -> String {
    let mut parts = vec![match &dc.object {
        Some(object) if object.stopped => "stopped".to_owned(),
        Some(_) => "there".to_owned(),
        None => "not there".to_owned(),
    }];
    parts.extend(dc.led.as_ref().map(|led| format!("term {}", led.epoch)));
    parts.push(count(dc.open.len(), "open job"));
    parts.push(count(dc.backups.len(), "backup"));
    parts.extend(dc.frozen.as_ref().map(|_| "frozen".to_owned()));
    parts.join(", ")
}

fn pod(dc: &Datacenter, name: &PodName) -> String {
    let active = dc.operations.values().find(|operation| operation.active() && operation.nodes.contains_key(name));
    if let Some(node) = active.and_then(|operation| operation.nodes.get(name)) {
        return match &node.state {
            NodeState::Pending { failures: 0, .. } => "not called yet".into(),
            NodeState::Pending { failures, .. } => format!("called in vain, {}", count(*failures, "failure")),
            NodeState::Called { claim, .. } => format!("called (attempt {})", claim.attempt),
            NodeState::Doubt { .. } => "in doubt".into(),
            NodeState::Finished { .. } => "complete".into(),
            NodeState::Failed { .. } => "failed".into(),
        };
    }
    match dc.pods.get(name) {
        Some(pod) if pod.sidecar.as_ref().is_some_and(|sidecar| sidecar.ready) => "ready".into(),
        Some(_) => "not ready".into(),
        None => "not followed".into(),
    }
}
