//! What people see of it: statuses, objects and announcements as projections. Conditions and their words live here only.

mod announcement;
mod schedule;
mod task;
mod text;

pub use announcement::{Announcement, Severity, announcements};
pub use schedule::{
    SCHEDULE_LABEL, ScheduledObject, label_value, miss_reason, schedule_status, scheduled_object, skip_reason,
};
pub use task::{TASK_LABEL, follow_up, task_status};
pub use text::size;

use crate::Datacenter;
use crate::backup::{Node, NodeState, Operation, Stage};
use crate::datacenter::{Backup, Object};
use crate::operator::Operator;
use stheno_crds::backup::BackupNode;
use stheno_crds::backup_job::NodeBackup;
use stheno_crds::{
    BackupType, Condition, MedusaBackup, MedusaBackupJobSpec, MedusaBackupJobStatus, MedusaBackupSpec,
    MedusaBackupStatus, condition,
};
use stheno_events::backup::{Outcome, WaitReason};
use stheno_events::observed::{self, JobRules};
use stheno_events::task::Completeness;
use stheno_events::{DcKey, Time};
use text::{brief_size, sentence, time};

/// Label of a MedusaBackup: UID of the MedusaBackupJob that made it, or of the MedusaTask whose sync found it.
pub const OPERATION_LABEL: &str = "stheno.io/operation";

/// The words for the state of one node, `status.nodes[].state`.
pub mod node_state {
    /// Not called yet, or to be called again.
    pub const PENDING: &str = "Pending";
    /// The sidecar was called.
    pub const RUNNING: &str = "Running";
    /// A call ended without an answer; what became of it is being found out.
    pub const UNANSWERED: &str = "Unanswered";
    /// Complete.
    pub const FINISHED: &str = "Finished";
    /// Failed, for good.
    pub const FAILED: &str = "Failed";
}

/// The status of a MedusaBackupJob.
///
/// None when there is nothing to say yet, and for what is not ours to write: a job that had ended before the log met it,
/// and one that another program started and that still runs.
#[must_use]
pub fn job_status(operation: &Operation, dc: &Datacenter, operator: &Operator) -> Option<MedusaBackupJobStatus> {
    let hold = hold(dc, operator);
    match &operation.stage {
        Stage::Ended { adopted: true, .. } => return None,
        Stage::Waiting { wait: None, .. } if hold.is_none() => return None,
        Stage::Ended { .. } => {}
        Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => {
            if operation.foreign {
                return None;
            }
        }
    }
    let pods = |wanted: fn(&Node) -> bool| {
        operation.nodes.iter().filter(|(_, node)| wanted(node)).map(|(pod, _)| pod.to_string()).collect()
    };
    Some(MedusaBackupJobStatus {
        start_time: operation.started().map(time),
        finish_time: finished(operation).map(time),
        in_progress: if operation.ended() { Vec::new() } else { pods(called) },
        finished: pods(|node| matches!(node.state, NodeState::Finished { .. })),
        failed: pods(|node| matches!(node.state, NodeState::Failed { .. })),
        conditions: conditions(operation, hold.as_ref()),
        observed_generation: Some(operation.request.meta.generation),
        message: message(operation, hold.as_ref()),
        progress: progress(operation),
        nodes: operation.nodes.iter().map(|(pod, node)| node_backup(pod.as_str(), node)).collect(),
    })
}

/// What a job asks for, as people write it.
#[must_use]
pub fn job_spec(dc: &str, backup_type: observed::BackupType, rules: &JobRules) -> MedusaBackupJobSpec {
    let told = |number: Option<u32>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let JobRules { parallelism, backoff_limit, active_deadline, ttl, suspended } = *rules;
    MedusaBackupJobSpec {
        cassandra_datacenter: dc.to_owned(),
        backup_type: shown_type(backup_type),
        parallelism: told(parallelism),
        backoff_limit: told(backoff_limit),
        active_deadline_seconds: told(active_deadline),
        ttl_seconds_after_finished: told(ttl),
        suspend: suspended.then_some(true),
    }
}

const fn shown_type(backup_type: observed::BackupType) -> BackupType {
    match backup_type {
        observed::BackupType::Differential => BackupType::Differential,
        observed::BackupType::Full => BackupType::Full,
    }
}

/// The MedusaBackup of a complete backup, without the identity that the API server gives.
///
/// It has no owner: it outlives its datacenter, which may be rebuilt from it. None for objects that others made.
#[must_use]
pub fn backup_object(name: &str, backup: &Backup, key: &DcKey) -> Option<MedusaBackup> {
    let maker = backup.maker()?;
    if matches!(backup.object, Object::Foreign { .. }) {
        return None;
    }
    let spec =
        MedusaBackupSpec { cassandra_datacenter: key.name.to_string(), backup_type: shown_type(backup.backup_type) };
    let mut object = MedusaBackup::new(name, spec);
    object.metadata.namespace = Some(key.namespace.to_string());
    object.metadata.labels = Some([(OPERATION_LABEL.to_owned(), maker.to_string())].into());
    let summary = backup.summary.as_deref();
    object.status = Some(MedusaBackupStatus {
        start_time: backup.started.map(time),
        finish_time: backup.finished.map(time),
        total_nodes: summary.map(|summary| summary.total_nodes),
        finished_nodes: summary.map(|summary| summary.finished_nodes),
        nodes: summary.map_or_else(Vec::new, |summary| summary.nodes.iter().map(backup_node).collect()),
        total_files: summary.map(|summary| summary.files),
        total_size: summary.map(|summary| size(summary.bytes)),
        status: Some(completeness(backup.completeness).to_owned()),
        conditions: Vec::new(),
    });
    Some(object)
}

/// The words of `status.status`: Medusa's.
const fn completeness(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Complete => "SUCCESS",
        Completeness::Unfinished => "IN_PROGRESS",
        Completeness::Failed => "FAILED",
    }
}

fn backup_node(node: &stheno_events::backup::BackupNode) -> BackupNode {
    BackupNode {
        host: Some(node.host.to_string()),
        tokens: node.tokens.clone(),
        datacenter: Some(node.datacenter.to_string()),
        rack: Some(node.rack.to_string()),
    }
}

/// Why nothing is decided about an open operation, whatever its own state.
struct Hold<'a> {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: &'a str,
}

fn hold<'a>(dc: &'a Datacenter, operator: &'a Operator) -> Option<Hold<'a>> {
    if let Some(message) = &dc.frozen {
        let (type_, reason) = (condition::LOG_NEWER_THAN_OPERATOR, "UnknownEvent");
        return Some(Hold { type_, holds: true, reason, message });
    }
    let (reason, message) = match (&operator.api_backwards, operator.unobservable.first_key_value()) {
        (Some(backwards), _) => ("ApiServerWentBack", &backwards.text),
        (None, Some((_, message))) => ("Unobservable", message),
        (None, None) => return None,
    };
    Some(Hold { type_: condition::PROGRESSING, holds: false, reason, message })
}

fn conditions(operation: &Operation, hold: Option<&Hold<'_>>) -> Vec<Condition> {
    let generation = operation.request.meta.generation;
    let condition = |type_: &str, holds: bool, reason: &str, message: &str, since: Time| {
        text::condition(generation, (type_, holds), reason, message, since)
    };
    let (mut conditions, since) = match &operation.stage {
        Stage::Waiting { since, wait } => {
            let waits = wait.as_ref().map(|wait| match (wait.reason, operation.suspended) {
                (WaitReason::Suspended, held) => {
                    condition(condition::SUSPENDED, true, SUSPENDED, &wait.message, held.unwrap_or(*since))
                }
                (reason, _) => condition(condition::QUEUED, true, wait_reason(reason), &wait.message, *since),
            });
            (waits.into_iter().collect(), *since)
        }
        Stage::Running { since } => {
            let message = format!("{} nodes are being backed up", operation.nodes.len());
            let mut running = vec![condition(condition::PROGRESSING, true, "BackupRunning", &message, *since)];
            running
                .extend(operation.suspended.map(|held| condition(condition::SUSPENDED, true, SUSPENDED, HELD, held)));
            (running, *since)
        }
        Stage::Closing { started, since, outcome, message, .. } if outcome.stops() => {
            let target = condition(condition::FAILURE_TARGET, true, outcome_reason(*outcome), message, *since);
            let running = started.unwrap_or(*since);
            let progressing = condition(condition::PROGRESSING, true, "Stopping", &waits_for_ends(operation), running);
            (vec![target, progressing], *since)
        }
        Stage::Closing { started, since, .. } => {
            let message = "all nodes have ended, the summary of the backup is being read";
            let running = started.unwrap_or(*since);
            (vec![condition(condition::PROGRESSING, true, "ReadingSummary", message, running)], *since)
        }
        Stage::Ended { finished, outcome, message, .. } => {
            let well = *outcome == Outcome::Complete;
            let reason = outcome_reason(*outcome);
            let mut ended = vec![condition(condition::COMPLETE, well, reason, message, *finished)];
            if !well {
                ended.push(condition(condition::FAILED, true, reason, message, *finished));
            }
            ended.push(condition(condition::PROGRESSING, false, reason, "the job has ended", *finished));
            (ended, *finished)
        }
    };
    if let Some(hold) = hold.filter(|_| !operation.ended()) {
        conditions.retain(|condition: &Condition| condition.type_ != hold.type_);
        conditions.push(condition(hold.type_, hold.holds, hold.reason, hold.message, since));
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

/// The reason of a condition `Suspended`, as a Kubernetes Job has it.
const SUSPENDED: &str = "JobSuspended";

/// What a job that runs and is suspended says.
const HELD: &str = "suspended (spec.suspend): no further node is started, those at work go on";

/// The reason of a condition `Queued`.
const fn wait_reason(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::DatacenterNotFound => "DatacenterNotFound",
        WaitReason::DatacenterStopped => "DatacenterStopped",
        WaitReason::PodsMissing => "PodsMissing",
        WaitReason::SidecarMissing => "SidecarMissing",
        WaitReason::SidecarNotReady => "SidecarNotReady",
        WaitReason::OperationRunning => "OperationRunning",
        WaitReason::Suspended => SUSPENDED,
    }
}

/// The reason of the conditions of a job that has ended.
const fn outcome_reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "BackupComplete",
        Outcome::Partial => "SomeNodesFailed",
        Outcome::Failed => "AllNodesFailed",
        Outcome::Refused => "Refused",
        Outcome::DatacenterReplaced => "DatacenterReplaced",
        Outcome::DeadlineExceeded => "DeadlineExceeded",
        Outcome::Cancelled => "Cancelled",
    }
}

/// How many nodes an operation that is to stop waits for.
fn waits_for_ends(operation: &Operation) -> String {
    let open = operation.nodes.values().filter(|node| !node.state.ended()).count();
    match open {
        1 => "the end of one node is waited for".to_owned(),
        open => format!("the ends of {open} nodes are waited for"),
    }
}

const fn finished(operation: &Operation) -> Option<Time> {
    match &operation.stage {
        Stage::Ended { finished, .. } => Some(*finished),
        Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
    }
}

/// What the job waits for, or why it did not end as it should.
fn message(operation: &Operation, hold: Option<&Hold<'_>>) -> Option<String> {
    if let (Stage::Closing { outcome, message, .. }, None) = (&operation.stage, hold)
        && outcome.stops()
    {
        return Some(sentence(&format!("{message}; {}", waits_for_ends(operation))));
    }
    let text = match (&operation.stage, hold) {
        (Stage::Ended { outcome: Outcome::Complete, message, .. }, _) => {
            // Worth saying only where something is missing.
            operation.summary.is_none().then_some(&**message)
        }
        (Stage::Ended { message, .. }, _) => Some(&**message),
        (_, Some(hold)) => Some(hold.message),
        (Stage::Waiting { wait, .. }, None) => wait.as_ref().map(|wait| &*wait.message),
        (Stage::Running { .. }, None) => operation.suspended.map(|_| HELD),
        (Stage::Closing { .. }, None) => None,
    };
    text.map(sentence)
}

/// Asked for at least once, and not ended.
fn called(node: &Node) -> bool {
    !node.state.ended() && (node.attempts > 0 || matches!(node.state, NodeState::Called { .. }))
}

fn node_backup(pod: &str, node: &Node) -> NodeBackup {
    let told = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let progress = node.progress.as_ref();
    let mut shown = NodeBackup {
        pod: pod.to_owned(),
        attempts: (node.attempts > 0).then(|| i32::try_from(node.attempts).unwrap_or(i32::MAX)),
        bytes: progress.map(|progress| told(progress.bytes_total)),
        files: progress.map(|progress| told(progress.files_total)),
        start_time: node.started.map(time),
        ..NodeBackup::default()
    };
    let state = match &node.state {
        NodeState::Pending { error, .. } => {
            shown.reason = error.as_deref().map(sentence);
            node_state::PENDING
        }
        NodeState::Called { .. } => node_state::RUNNING,
        NodeState::Doubt { error, .. } => {
            shown.reason = Some(sentence(error));
            node_state::UNANSWERED
        }
        NodeState::Finished { at, bytes, files, .. } => {
            shown.bytes = bytes.map(told).or(shown.bytes);
            shown.files = files.map(told).or(shown.files);
            ended(&mut shown, *at, node);
            node_state::FINISHED
        }
        NodeState::Failed { at, reason } => {
            shown.reason = Some(sentence(reason));
            ended(&mut shown, *at, node);
            node_state::FAILED
        }
    };
    shown.state = Some(state.to_owned());
    shown
}

fn ended(shown: &mut NodeBackup, at: Time, node: &Node) {
    shown.finish_time = Some(time(at));
    shown.duration_seconds = node.started.map(|started| (at - started).num_seconds().max(0));
}

/// `2/3 nodes, 1.2 GB of 3.4 GB`: complete nodes, and bytes in the bucket of those known.
fn progress(operation: &Operation) -> Option<String> {
    if operation.nodes.is_empty() {
        return None;
    }
    let (mut complete, mut bytes, mut total) = (0, 0_u64, 0_u64);
    for node in operation.nodes.values() {
        let (done, all) = match &node.state {
            NodeState::Finished { bytes, .. } => {
                complete += 1;
                let all = bytes.or(node.progress.as_ref().map(|progress| progress.bytes_total)).unwrap_or(0);
                (all, all)
            }
            NodeState::Pending { .. }
            | NodeState::Called { .. }
            | NodeState::Doubt { .. }
            | NodeState::Failed { .. } => {
                node.progress.as_ref().map_or((0, 0), |progress| (progress.bytes, progress.bytes_total))
            }
        };
        bytes = bytes.saturating_add(done);
        total = total.saturating_add(all);
    }
    let nodes = format!("{complete}/{} nodes", operation.nodes.len());
    Some(match total {
        0 => nodes,
        total if total == bytes => format!("{nodes}, {}", brief_size(bytes)),
        total => format!("{nodes}, {} of {}", brief_size(bytes), brief_size(total)),
    })
}
