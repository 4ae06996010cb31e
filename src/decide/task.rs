//! The task process: when a purge, a sync or a preparation may start, which nodes are called when, when it has ended.

mod due;
mod sync;

pub use due::{due, wake};

use crate::{Context, backup, policy};
use std::sync::Arc;
use stheno_events::backup::{Outcome, WaitReason};
use stheno_events::observed::TaskOperation;
use stheno_events::task::{
    ApprovalNeeded, Call, Completed, EffectClaimed, Event as TaskEvent, Failed, NodeLost, Queued, Started,
    SyncRequested,
};
use stheno_events::{Event, PodName, Time, Uid};
use stheno_projections::Datacenter;
use stheno_projections::backup::Wait;
use stheno_projections::task::{Approval, Node, NodeState, Stage, Task};

/// Annotation by which a person consents: its value is the token of the request for consent.
pub const APPROVE: &str = "stheno.io/approve";

/// The longest name of a Kubernetes object, in bytes.
const LONGEST_NAME: usize = 253;

/// What the name of a sync that follows a purge ends with.
const SYNC_SUFFIX: &str = "-sync";

/// The decisions about the tasks of a datacenter, up to the first that starts: those behind it see that.
#[must_use]
pub fn decide(dc: &Datacenter, context: Context<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    for task in dc.tasks_open() {
        match &task.stage {
            Stage::Waiting { wait, .. } => events.extend(waiting(dc, context, task, wait.as_ref())),
            Stage::Running { since } => events.extend(running(dc, context, task, *since)),
            Stage::Ended { .. } => {}
        }
        if events.iter().any(|event| matches!(event, Event::Task(TaskEvent::Started(_)))) {
            break;
        }
    }
    events
}

/// What runs on a datacenter that was replaced ends.
pub(crate) fn abandon(dc: &Datacenter) -> impl Iterator<Item = Event> {
    dc.tasks_open().filter(|task| task.running()).map(|task| {
        let message = "the datacenter was deleted and another one of the same name created";
        failed(&task.request.meta.uid, Outcome::DatacenterReplaced, message)
    })
}

/// The purge for which a backup requested at `created` under `uid` waits: one that runs, or one that was asked for earlier
/// and waits for its turn only.
pub(crate) fn purge_before<'a>(dc: &'a Datacenter, created: Time, uid: &Uid) -> Option<&'a Task> {
    dc.tasks_open().find(|task| {
        let meta = &task.request.meta;
        task.request.operation == TaskOperation::Purge
            && match &task.stage {
                Stage::Running { .. } => holds(task),
                Stage::Waiting { wait, .. } => {
                    let in_line = wait.as_ref().is_none_or(|wait| wait.reason == WaitReason::OperationRunning);
                    in_line
                        && !task.gone
                        && meta.deleting.is_none()
                        && !unapproved(task)
                        && (meta.created, &meta.uid) < (created, uid)
                }
                Stage::Ended { .. } => false,
            }
    })
}

fn waiting(dc: &Datacenter, context: Context<'_>, task: &Task, wait: Option<&Wait>) -> Vec<Event> {
    let request = &task.request;
    let uid = &request.meta.uid;
    if task.gone || request.meta.deleting.is_some() {
        return vec![failed(uid, Outcome::Refused, "the task was deleted before it started")];
    }
    if let Err(message) = complete(task) {
        return vec![failed(uid, Outcome::Refused, message)];
    }
    if unapproved(task) {
        if task.approval.is_some() {
            return Vec::new();
        }
        let token: Arc<str> = uid.as_str().into();
        let message = format!(
            "this purge is older than the operator's log, which does not know whether it was done: annotate it with \
             {APPROVE}={token} if it is to run, or delete it"
        );
        let (names, message) = (Vec::new(), message.into());
        return vec![ApprovalNeeded { task: uid.clone(), token, removes: 0, known: 0, names, message }.into()];
    }
    let (reason, message) = if let Some(message) = excluded(dc, task) {
        (WaitReason::OperationRunning, message)
    } else {
        let ready = match request.operation {
            TaskOperation::Purge | TaskOperation::PrepareRestore => backup::ready(dc, context),
            // One pod can list for all; which one is decided call by call.
            TaskOperation::Sync => backup::reachable(dc, context).map(|_| Vec::new()),
        };
        match ready {
            Ok(nodes) => return vec![Started { task: uid.clone(), nodes }.into()],
            Err(not_ready) => not_ready,
        }
    };
    if let Some(wait) = wait.filter(|wait| wait.reason == reason) {
        let patience = reason != WaitReason::OperationRunning;
        if patience && context.now >= wait.since + policy::WAIT_FOR_DATACENTER {
            let minutes = policy::WAIT_FOR_DATACENTER.num_minutes();
            let message = format!("refused after waiting {minutes} minutes: {message}");
            return vec![failed(uid, Outcome::Refused, &message)];
        }
        if *wait.message == *message {
            return Vec::new();
        }
    }
    vec![Queued { task: uid.clone(), reason, message: message.into() }.into()]
}

/// Whether the spec says all that its operation needs; what to write where it does not.
fn complete(task: &Task) -> Result<(), &'static str> {
    let given = |field: &Option<Arc<str>>| field.as_ref().is_some_and(|text| !text.is_empty());
    match task.request.operation {
        TaskOperation::Sync | TaskOperation::Purge => Ok(()),
        TaskOperation::PrepareRestore if !given(&task.request.backup) => {
            Err("spec.backupName is missing: name the backup whose restore is to be prepared")
        }
        TaskOperation::PrepareRestore if !given(&task.request.restore_key) => {
            Err("spec.restoreKey is missing: give the UUID of the restore that is to be prepared")
        }
        TaskOperation::PrepareRestore => Ok(()),
    }
}

/// Whether it destroys, and a person has not consented to what the log does not know.
fn unapproved(task: &Task) -> bool {
    let approved =
        task.request.annotations.get(APPROVE).is_some_and(|token| **token == *task.request.meta.uid.as_str());
    task.stale && task.request.operation == TaskOperation::Purge && !approved
}

/// What excludes this task now, in the middle of a sentence (LOG.md, exclusion).
fn excluded(dc: &Datacenter, task: &Task) -> Option<String> {
    let uid = &task.request.meta.uid;
    let own = (task.request.meta.created, uid);
    let purge = |before: &Task| {
        let (other, earlier) = (&before.request.meta, (before.request.meta.created, &before.request.meta.uid) < own);
        before.request.operation == TaskOperation::Purge
            && other.uid != *uid
            && before.running()
            // Of two that have started and not begun, the earlier one begins.
            && (begun(before) || holds(before) && (earlier || !task.running()))
    };
    let name = |task: &Task| format!("waits for purge {} of the same datacenter", task.request.meta.name);
    match task.request.operation {
        TaskOperation::Purge => {
            let mut open = dc.open.iter().filter_map(|(_, job)| dc.operation(job));
            if let Some(backup) = open.find(|operation| operation.active()) {
                return Some(format!("waits for backup {} of the same datacenter", backup.request.meta.name));
            }
            dc.tasks_open().find(|before| purge(before)).map(name)
        }
        // It reads what a purge may be deleting.
        TaskOperation::PrepareRestore => dc.tasks_open().find(|before| purge(before)).map(name),
        // A listing reads the index only: it runs beside all that there is.
        TaskOperation::Sync => None,
    }
}

/// Whether a node was asked to purge.
fn begun(task: &Task) -> bool {
    task.foreign || task.nodes.values().any(|node| node.claims > 0)
}

/// Whether a purge that has started keeps others off: not while it waits for a person.
fn holds(task: &Task) -> bool {
    let consent = |approval: &Approval| task.request.annotations.get(APPROVE) == Some(&approval.token);
    task.approval.as_ref().is_none_or(consent)
}

fn running(dc: &Datacenter, context: Context<'_>, task: &Task, since: Time) -> Vec<Event> {
    let uid = &task.request.meta.uid;
    if task.foreign {
        // Nobody can be asked how far it is: a purge is known to its caller only.
        if context.now < since + policy::SILENCE {
            return Vec::new();
        }
        let message = "started by another program, which did not say how it ended: create a new task";
        return vec![failed(uid, Outcome::Failed, message)];
    }
    match task.request.operation {
        TaskOperation::Sync => sync::running(dc, context, task, since),
        TaskOperation::Purge | TaskOperation::PrepareRestore => on_nodes(dc, context, task, since),
    }
}

fn on_nodes(dc: &Datacenter, context: Context<'_>, task: &Task, since: Time) -> Vec<Event> {
    let uid = &task.request.meta.uid;
    let since = match task.request.operation {
        TaskOperation::PrepareRestore | TaskOperation::Sync => since,
        TaskOperation::Purge => match sync::may_purge(dc, context, task, since) {
            // While a consent was waited for, something else may have begun.
            Ok(_) if !begun(task) && excluded(dc, task).is_some() => return Vec::new(),
            Ok(planned) => planned,
            Err(first) => return first,
        },
    };
    if task.nodes.values().all(|node| node.state.ended()) {
        return ended(task);
    }
    let out = task
        .nodes
        .values()
        .filter(|node| matches!(&node.state, NodeState::Called { claim, .. } if claim.epoch == context.epoch));
    let mut slots = policy::TASKS_AT_ONCE.saturating_sub(out.count());
    let quiet = backup::quiet_until(dc, context).is_some();
    let mut events = Vec::new();
    for (pod, node) in task.nodes.iter().filter(|(_, node)| !node.state.ended()) {
        if let Some(reason) = given_up(dc, context, pod, node, since) {
            events.push(NodeLost { task: uid.clone(), pod: pod.clone(), reason: reason.into() }.into());
            continue;
        }
        let due = match &node.state {
            NodeState::Pending { failures, failed_at, rests_until, .. } => {
                failed_at.is_none_or(|at| context.now >= at + policy::backoff(*failures))
                    && rests_until.is_none_or(|until| context.now >= until)
            }
            // Its leader is gone. Asked again a node does no harm: what is purged is purged.
            NodeState::Called { claim, .. } => claim.epoch < context.epoch,
            NodeState::Finished { .. } | NodeState::Failed { .. } => false,
        };
        let there = dc.pods.get(pod).is_some_and(|pod| pod.callable());
        if quiet || !due || !there || slots == 0 {
            continue;
        }
        slots -= 1;
        let call = match task.request.operation {
            TaskOperation::PrepareRestore => Call::Prepare(pod.clone()),
            TaskOperation::Purge | TaskOperation::Sync => Call::Purge(pod.clone()),
        };
        let (attempt, serial) = (node.attempts + 1, node.claims + 1);
        events.push(EffectClaimed { task: uid.clone(), call, attempt, serial, epoch: context.epoch }.into());
    }
    events
}

/// Why a node is given up, if it is.
fn given_up(dc: &Datacenter, context: Context<'_>, pod: &PodName, node: &Node, since: Time) -> Option<String> {
    if context.now >= since + policy::TASK_DEADLINE {
        return Some(format!("not done after {} hours", policy::TASK_DEADLINE.num_hours()));
    }
    let NodeState::Pending { since: silent, error, rests_until, .. } = &node.state else { return None };
    let error = error.as_deref().unwrap_or("it was never called");
    if node.attempts > policy::BACKOFF_LIMIT {
        return Some(format!("failed {} times, at last: {error}", node.attempts));
    }
    if rests_until.is_some_and(|until| context.now < until) {
        return None;
    }
    let from = silent.unwrap_or(since);
    if context.now < from + policy::SILENCE {
        return None;
    }
    let minutes = policy::SILENCE.num_minutes();
    match dc.pods.get(pod) {
        None => Some(format!("pod {pod} is gone for {minutes} minutes")),
        Some(_) if silent.is_some() => Some(format!("no answer for {minutes} minutes: {error}")),
        Some(there) if !there.callable() => Some(format!("its sidecar was not ready for {minutes} minutes")),
        // Others are called before it.
        Some(_) => None,
    }
}

/// How a task on nodes ends, once all of them have.
fn ended(task: &Task) -> Vec<Event> {
    let request = &task.request;
    let uid = &request.meta.uid;
    let bad: Vec<(&PodName, &Arc<str>)> = task
        .nodes
        .iter()
        .filter_map(|(pod, node)| match &node.state {
            NodeState::Failed { reason, .. } => Some((pod, reason)),
            NodeState::Pending { .. } | NodeState::Called { .. } | NodeState::Finished { .. } => None,
        })
        .collect();
    let all = task.nodes.len();
    let end = match bad.first() {
        None => Completed { task: uid.clone(), message: done(task).into() }.into(),
        Some((pod, reason)) => {
            let outcome = if bad.len() == all { Outcome::Failed } else { Outcome::Partial };
            failed(uid, outcome, &format!("{} of {all} nodes failed; {pod}: {reason}", bad.len()))
        }
    };
    let mut events = Vec::new();
    if request.operation == TaskOperation::Purge {
        // Whatever became of it: a purge that failed may have removed something before.
        events.push(SyncRequested { task: uid.clone(), name: sync_name(&request.meta.name) }.into());
    }
    events.push(end);
    events
}

fn done(task: &Task) -> String {
    let all = task.nodes.len();
    if task.request.operation == TaskOperation::PrepareRestore {
        return format!("{all} of {all} nodes prepared");
    }
    let (mut backups, mut objects) = (0_i64, 0_i64);
    for node in task.nodes.values() {
        if let NodeState::Finished { purged: Some(purged), .. } = &node.state {
            backups = backups.saturating_add(purged.backups);
            objects = objects.saturating_add(purged.objects);
        }
    }
    format!("{all} of {all} nodes purged: {backups} node backups, {objects} objects")
}

/// The name of the sync that follows a purge, which fits an object.
fn sync_name(purge: &str) -> Arc<str> {
    let end = purge.floor_char_boundary(LONGEST_NAME - SYNC_SUFFIX.len());
    format!("{}{SYNC_SUFFIX}", &purge[..end]).into()
}

fn failed(task: &Uid, outcome: Outcome, message: &str) -> Event {
    Failed { task: task.clone(), outcome, message: message.into() }.into()
}
