//! What people see of a task: its status, and the sync that follows a purge.

use super::text::{brief_size, sentence, time};
use super::{Hold, hold, outcome_reason, text, wait_reason};
use crate::Datacenter;
use crate::operator::Operator;
use crate::task::{FollowUp, NodeState, Stage, Task};
use std::collections::BTreeMap;
use stheno_crds::task::{Operation, TaskResult};
use stheno_crds::{Condition, MedusaTask, MedusaTaskSpec, MedusaTaskStatus, condition};
use stheno_events::backup::Outcome;
use stheno_events::observed::TaskOperation;
use stheno_events::task::Purged;
use stheno_events::{DcKey, Time};

/// Label of a sync that follows a purge: UID of that MedusaTask.
pub const TASK_LABEL: &str = "stheno.io/task";

/// The status of a MedusaTask.
///
/// None when there is nothing to say yet, and for what is not ours to write: a task that had ended before the log met it,
/// and one that another program works on.
#[must_use]
pub fn task_status(task: &Task, dc: &Datacenter, operator: &Operator) -> Option<MedusaTaskStatus> {
    let hold = hold(dc, operator);
    match &task.stage {
        Stage::Ended { adopted: true, .. } => return None,
        Stage::Waiting { wait: None, .. } if hold.is_none() && task.approval.is_none() => return None,
        Stage::Ended { .. } => {}
        Stage::Waiting { .. } | Stage::Running { .. } => {
            if task.foreign {
                return None;
            }
        }
    }
    let pods = |wanted: fn(&NodeState) -> bool| -> Vec<String> {
        task.nodes.iter().filter(|(_, node)| wanted(&node.state)).map(|(pod, _)| pod.to_string()).collect()
    };
    let listing = task.sync.claim.iter().map(|claim| claim.call.pod().to_string());
    let mut in_progress = pods(|state| matches!(state, NodeState::Called { .. }));
    in_progress.extend(listing);
    Some(MedusaTaskStatus {
        start_time: task.started().map(time),
        finish_time: finished(task).map(time),
        in_progress: if task.ended() { Vec::new() } else { in_progress },
        finished: results(task),
        failed: pods(|state| matches!(state, NodeState::Failed { .. })),
        conditions: conditions(task, hold.as_ref()),
        observed_generation: Some(task.request.meta.generation),
        message: message(task, hold.as_ref()),
        progress: progress(task),
    })
}

/// The sync that follows a purge, as it is created.
#[must_use]
pub fn follow_up(name: &str, wanted: &FollowUp, key: &DcKey) -> MedusaTask {
    let spec = MedusaTaskSpec {
        operation: Operation::Sync,
        cassandra_datacenter: wanted.dc.to_string(),
        backup_name: None,
        restore_key: None,
    };
    let mut task = MedusaTask::new(name, spec);
    let mut labels: BTreeMap<String, String> =
        wanted.labels.iter().map(|(label, value)| (label.to_string(), value.to_string())).collect();
    labels.insert(TASK_LABEL.to_owned(), wanted.task.to_string());
    (task.metadata.namespace, task.metadata.labels) = (Some(key.namespace.to_string()), Some(labels));
    task
}

fn results(task: &Task) -> Vec<TaskResult> {
    let done = task.nodes.iter().filter_map(|(pod, node)| match &node.state {
        NodeState::Finished { purged, .. } => Some(result(pod.as_str(), *purged)),
        NodeState::Pending { .. } | NodeState::Called { .. } | NodeState::Failed { .. } => None,
    });
    let listed = task.sync.listing.as_ref().filter(|listing| listing.whole);
    done.chain(listed.map(|listing| result(listing.pod.as_str(), None))).collect()
}

fn result(pod: &str, purged: Option<Purged>) -> TaskResult {
    TaskResult {
        pod_name: Some(pod.to_owned()),
        nb_backups_purged: purged.map(|purged| purged.backups),
        nb_objects_purged: purged.map(|purged| purged.objects),
        total_purged_size: purged.map(|purged| purged.bytes),
        total_objects_within_gc_grace: purged.map(|purged| purged.within_grace),
    }
}

fn conditions(task: &Task, hold: Option<&Hold<'_>>) -> Vec<Condition> {
    let generation = task.request.meta.generation;
    let condition = |type_: &str, holds: bool, reason: &str, message: &str, since: Time| {
        text::condition(generation, (type_, holds), reason, message, since)
    };
    let (mut conditions, since) = match &task.stage {
        Stage::Waiting { since, wait } => {
            let queued = wait
                .as_ref()
                .map(|wait| condition(condition::QUEUED, true, wait_reason(wait.reason), &wait.message, *since));
            (queued.into_iter().collect(), *since)
        }
        Stage::Running { since } => {
            let (reason, message) = match task.request.operation {
                TaskOperation::Purge => ("PurgeRunning", format!("{} nodes purge", task.nodes.len())),
                TaskOperation::PrepareRestore => {
                    ("PreparationRunning", format!("{} nodes prepare the restore", task.nodes.len()))
                }
                TaskOperation::Sync => ("SyncRunning", "the bucket is listed".to_owned()),
            };
            let works = task.approval.is_none();
            let (reason, message) =
                if works { (reason, message) } else { ("NeedsApproval", "a person's consent is waited for".into()) };
            (vec![condition(condition::PROGRESSING, works, reason, &message, *since)], *since)
        }
        Stage::Ended { finished, outcome, message, .. } => {
            let well = *outcome == Outcome::Complete;
            let reason = match (outcome, task.request.operation) {
                (Outcome::Complete, TaskOperation::Purge) => "PurgeComplete",
                (Outcome::Complete, TaskOperation::Sync) => "SyncComplete",
                (Outcome::Complete, TaskOperation::PrepareRestore) => "PreparationComplete",
                (Outcome::Failed, TaskOperation::Sync) => "BucketNotListed",
                (
                    Outcome::Partial
                    | Outcome::Failed
                    | Outcome::Refused
                    | Outcome::DatacenterReplaced
                    | Outcome::DeadlineExceeded
                    | Outcome::Cancelled,
                    _,
                ) => outcome_reason(*outcome),
            };
            let mut ended = vec![condition(condition::COMPLETE, well, reason, message, *finished)];
            if !well {
                ended.push(condition(condition::FAILED, true, reason, message, *finished));
            }
            ended.push(condition(condition::PROGRESSING, false, reason, "the task has ended", *finished));
            (ended, *finished)
        }
    };
    if let Some(approval) = &task.approval {
        let reason = if task.running() { "ManyWouldGo" } else { "OlderThanTheLog" };
        conditions.push(condition(condition::NEEDS_APPROVAL, true, reason, &approval.message, approval.since));
    }
    if let Some(hold) = hold.filter(|_| !task.ended()) {
        conditions.retain(|condition: &Condition| condition.type_ != hold.type_);
        conditions.push(condition(hold.type_, hold.holds, hold.reason, hold.message, since));
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

const fn finished(task: &Task) -> Option<Time> {
    match &task.stage {
        Stage::Ended { finished, .. } => Some(*finished),
        Stage::Waiting { .. } | Stage::Running { .. } => None,
    }
}

/// What the task waits for, or why it did not end as it should.
fn message(task: &Task, hold: Option<&Hold<'_>>) -> Option<String> {
    let text = match (&task.stage, hold, &task.approval) {
        (Stage::Ended { outcome: Outcome::Complete, .. }, _, _) => None,
        (Stage::Ended { message, .. }, _, _) => Some(&**message),
        (_, Some(hold), _) => Some(hold.message),
        (_, None, Some(approval)) => Some(&*approval.message),
        (Stage::Waiting { wait, .. }, None, None) => wait.as_ref().map(|wait| &*wait.message),
        (Stage::Running { .. }, None, None) => task.sync.error.as_deref(),
    };
    text.map(sentence)
}

/// `2/3 nodes, 4 backups, 1.2 GB purged`; of a sync what it has done.
fn progress(task: &Task) -> Option<String> {
    if task.request.operation == TaskOperation::Sync {
        let done = &task.sync.done;
        task.sync.listing.as_ref().filter(|listing| listing.whole)?;
        return Some(format!("{} created, {} corrected, {} removed", done.created, done.corrected, done.removed));
    }
    if task.nodes.is_empty() {
        return None;
    }
    let done = task.nodes.values().filter_map(|node| match &node.state {
        NodeState::Finished { purged, .. } => Some(purged.unwrap_or_default()),
        NodeState::Pending { .. } | NodeState::Called { .. } | NodeState::Failed { .. } => None,
    });
    let (mut nodes, mut backups, mut bytes) = (0_usize, 0_i64, 0_u64);
    for purged in done {
        nodes += 1;
        backups = backups.saturating_add(purged.backups);
        bytes = bytes.saturating_add(u64::try_from(purged.bytes).unwrap_or(0));
    }
    let nodes = format!("{nodes}/{} nodes", task.nodes.len());
    Some(match task.request.operation {
        TaskOperation::Purge => format!("{nodes}, {backups} node backups and {} purged", brief_size(bytes)),
        TaskOperation::PrepareRestore | TaskOperation::Sync => nodes,
    })
}
