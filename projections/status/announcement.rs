//! What is worth a Kubernetes Event: what happened, on the object that people look at.

use super::text::sentence;
use super::{miss_reason, skip_reason};
use crate::Datacenter;
use crate::backup::{NodeState, Operation, Stage};
use crate::task::{NodeState as TaskNode, Task};
use std::sync::Arc;
use stheno_events::backup::{Event as BackupEvent, Outcome, WaitReason};
use stheno_events::observed::{Event as ObservedEvent, ObjectKind};
use stheno_events::schedule::{Event as ScheduleEvent, SkipReason};
use stheno_events::task::{Call as TaskCall, Event as TaskEvent};
use stheno_events::{Envelope, Event, EventId, Fact, PodName, Time, Uid};

/// How a Kubernetes Event is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As wished.
    Normal,
    /// Something that a person may have to look at.
    Warning,
}

impl Severity {
    /// As it stands in an Event's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One Kubernetes Event to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The message of the log that says it; with `index` the Event's identity.
    pub message: EventId,
    /// Which fact of the message it is.
    pub index: usize,
    /// When it happened.
    pub at: Time,
    /// The kind of the object that it is about.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Uid,
    /// Normal or a warning.
    pub severity: Severity,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub note: String,
}

/// What a message announces. `dc` is the message's datacenter with the message folded: it names the objects, and tells
/// the first of several failures in a row, which alone is announced.
#[must_use]
pub fn announcements(envelope: &Envelope, dc: &Datacenter) -> Vec<Announcement> {
    let mut announcements = Vec::new();
    for (index, fact) in envelope.events.iter().enumerate() {
        let said = match fact {
            Fact::Known(Event::Backup(event)) => {
                dc.operation(event.job()).filter(|operation| !operation.gone).and_then(|operation| {
                    let meta = &operation.request.meta;
                    let object = (ObjectKind::MedusaBackupJob, meta.name.clone(), meta.uid.clone());
                    Some((object, backup(event, operation)?))
                })
            }
            Fact::Known(Event::Schedule(event)) => dc.schedules.get(event.schedule()).and_then(|schedule| {
                let meta = &schedule.request.meta;
                let object = (ObjectKind::MedusaBackupSchedule, meta.name.clone(), meta.uid.clone());
                Some((object, slot(event)?))
            }),
            Fact::Known(Event::Task(event)) => dc.task_of(event.task()).filter(|task| !task.gone).and_then(|task| {
                let meta = &task.request.meta;
                let object = (ObjectKind::MedusaTask, meta.name.clone(), meta.uid.clone());
                Some((object, work(event, task)?))
            }),
            Fact::Known(Event::Observed(ObservedEvent::Malformed(e))) => {
                let object = (e.kind, e.name.clone(), e.uid.clone());
                Some((object, (Severity::Warning, "Malformed", e.reason.to_string())))
            }
            Fact::Known(Event::Observed(_) | Event::Datacenter(_) | Event::Operator(_)) | Fact::Unknown { .. } => None,
        };
        if let Some(((kind, name, uid), (severity, reason, note))) = said {
            announcements.push(Announcement {
                message: envelope.id.clone(),
                index,
                at: envelope.at,
                kind,
                namespace: envelope.ns.clone(),
                name,
                uid,
                severity,
                reason,
                note: sentence(&note),
            });
        }
    }
    announcements
}

fn backup(event: &BackupEvent, operation: &Operation) -> Option<(Severity, &'static str, String)> {
    use Severity::{Normal, Warning};
    let said = match event {
        BackupEvent::Queued(e) => {
            let reason = if e.reason == WaitReason::Suspended { "Suspended" } else { "Queued" };
            (Normal, reason, e.message.to_string())
        }
        BackupEvent::Started(e) => (Normal, "Started", format!("backup of {} nodes", e.nodes.len())),
        BackupEvent::NodeFailed(e) if e.retryable => {
            (Warning, "NodeRetried", format!("{}: {}; it is tried again", e.pod, e.reason))
        }
        BackupEvent::NodeFailed(e) => (Warning, "NodeFailed", format!("{}: {}", e.pod, e.reason)),
        BackupEvent::NodeLost(e) => (Warning, "NodeLost", format!("{}: {}", e.pod, e.reason)),
        BackupEvent::NodeUnanswered(e) => {
            let pod = e.call.pod();
            return first_failure(operation, pod)
                .then(|| (Warning, "NodeUnanswered", format!("{pod}: {}; it is asked again", e.error)));
        }
        BackupEvent::SummaryFailed(e) => {
            let first = matches!(&operation.stage, Stage::Closing { reading, .. } if reading.failures == 1);
            return first
                .then(|| (Warning, "SummaryUnread", format!("{}: {}; another sidecar is asked", e.pod, e.error)));
        }
        BackupEvent::OutcomeDecided(e) if operation.stopping() => (Warning, "Stopping", e.message.to_string()),
        BackupEvent::Completed(e) => (Normal, "Completed", e.message.to_string()),
        BackupEvent::Failed(e) => {
            let reason = match e.outcome {
                Outcome::Refused => "Refused",
                Outcome::DatacenterReplaced => "DatacenterReplaced",
                Outcome::DeadlineExceeded => "DeadlineExceeded",
                Outcome::Cancelled => "Cancelled",
                Outcome::Complete | Outcome::Partial | Outcome::Failed => "Failed",
            };
            (Warning, reason, e.message.to_string())
        }
        BackupEvent::ObjectCreated(e) if e.foreign => {
            let note =
                "a MedusaBackup of this name was there before and stays as it is: it does not describe this backup";
            (Warning, "BackupExists", note.to_owned())
        }
        BackupEvent::ObjectCreated(_)
        | BackupEvent::Expired(_)
        | BackupEvent::EffectClaimed(_)
        | BackupEvent::ClaimAbandoned(_)
        | BackupEvent::NodeStarted(_)
        | BackupEvent::Progress(_)
        | BackupEvent::NodeFinished(_)
        | BackupEvent::OutcomeDecided(_)
        | BackupEvent::Summarised(_) => return None,
    };
    Some(said)
}

fn work(event: &TaskEvent, task: &Task) -> Option<(Severity, &'static str, String)> {
    use Severity::{Normal, Warning};
    let what = task.request.operation.as_str();
    let said = match event {
        TaskEvent::Queued(e) => (Normal, "Queued", e.message.to_string()),
        TaskEvent::ApprovalNeeded(e) => (Warning, "NeedsApproval", e.message.to_string()),
        TaskEvent::Started(e) if e.nodes.is_empty() => (Normal, "Started", what.to_owned()),
        TaskEvent::Started(e) => (Normal, "Started", format!("{what} on {} nodes", e.nodes.len())),
        TaskEvent::NodeFailed(e) if e.retryable => {
            (Warning, "NodeRetried", format!("{}: {}; it is tried again", e.pod, e.reason))
        }
        TaskEvent::NodeFailed(e) => (Warning, "NodeFailed", format!("{}: {}", e.pod, e.reason)),
        TaskEvent::NodeLost(e) => (Warning, "NodeLost", format!("{}: {}", e.pod, e.reason)),
        TaskEvent::NodeUnanswered(e) => {
            let pod = e.call.pod();
            let first = match &e.call {
                TaskCall::List(_) | TaskCall::Plan(_) => task.sync.failures == 1,
                TaskCall::Purge(_) | TaskCall::Prepare(_) => task.nodes.get(pod).is_some_and(|node| {
                    matches!(node.state, TaskNode::Pending { failures: 1, .. } | TaskNode::Called { failures: 1, .. })
                }),
            };
            return first.then(|| (Warning, "NodeUnanswered", format!("{pod}: {}; it is asked again", e.error)));
        }
        TaskEvent::Reconciled(e) => {
            let (new, other, gone) = (e.created.len(), e.corrected.len(), e.removed.len());
            let note = format!("MedusaBackups: {new} to be created, {other} to be corrected, {gone} to be deleted");
            (Normal, "Reconciled", note)
        }
        TaskEvent::Completed(e) => (Normal, "Completed", e.message.to_string()),
        TaskEvent::Failed(e) => {
            let reason = match e.outcome {
                Outcome::Refused => "Refused",
                Outcome::DatacenterReplaced => "DatacenterReplaced",
                Outcome::DeadlineExceeded => "DeadlineExceeded",
                Outcome::Cancelled => "Cancelled",
                Outcome::Complete | Outcome::Partial | Outcome::Failed => "Failed",
            };
            (Warning, reason, e.message.to_string())
        }
        TaskEvent::SyncCreated(e) if e.foreign => {
            let note = format!("a MedusaTask {} was there before and stays as it is: no sync follows", e.name);
            (Warning, "TaskExists", note)
        }
        TaskEvent::BackupCreated(e) if e.foreign => {
            let note = format!("a MedusaBackup {} was there before and stays as it is", e.name);
            (Warning, "BackupExists", note)
        }
        TaskEvent::SyncCreated(_)
        | TaskEvent::BackupCreated(_)
        | TaskEvent::EffectClaimed(_)
        | TaskEvent::ClaimAbandoned(_)
        | TaskEvent::NodeFinished(_)
        | TaskEvent::Listed(_)
        | TaskEvent::Planned(_)
        | TaskEvent::SyncRequested(_) => return None,
    };
    Some(said)
}

fn slot(event: &ScheduleEvent) -> Option<(Severity, &'static str, String)> {
    use Severity::{Normal, Warning};
    let clock = |time: Time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let several = |first: Time, last: Time, count: u64| match count {
        1 => format!("the time {}", clock(last)),
        _ => format!("{count} times from {} to {}", clock(first), clock(last)),
    };
    let said = match event {
        ScheduleEvent::Rejected(e) => (Warning, "InvalidSpec", e.message.to_string()),
        ScheduleEvent::Postponed(e) => (Normal, "Postponed", format!("the time {} {}", clock(e.slot), e.message)),
        ScheduleEvent::Ran(e) => {
            (Normal, "Ran", format!("{} {} is requested", e.object.operation.as_str(), e.object.name))
        }
        ScheduleEvent::RanLate(e) => {
            let (what, name) = (e.object.operation.as_str(), &e.object.name);
            (Normal, "RanLate", format!("{what} {name} is requested late, its time was {}", clock(e.slot)))
        }
        // Whoever suspended it knows.
        ScheduleEvent::Skipped(e) if e.reason == SkipReason::Suspended => return None,
        ScheduleEvent::Skipped(e) => {
            let times = several(e.first, e.last, e.count);
            (Warning, "Skipped", format!("{times}: nothing was started ({})", skip_reason(e.reason)))
        }
        ScheduleEvent::Missed(e) => {
            let times = several(e.first, e.last, e.count);
            (Warning, "Missed", format!("{times}: nothing was started ({})", miss_reason(e.reason)))
        }
        ScheduleEvent::ObjectCreated(e) if e.foreign => {
            let note = format!("{} was there before and was not made by this schedule: it stays as it is", e.name);
            (Warning, "ObjectExists", note)
        }
        ScheduleEvent::ObjectCreated(_) | ScheduleEvent::Accepted(_) | ScheduleEvent::Expired(_) => return None,
    };
    Some(said)
}

/// Whether a node's last failure was the first in a row.
fn first_failure(operation: &Operation, pod: &PodName) -> bool {
    operation.nodes.get(pod).is_some_and(|node| match &node.state {
        NodeState::Pending { failures, .. } | NodeState::Doubt { failures, .. } => *failures == 1,
        NodeState::Called { failures, .. } => *failures == 1,
        NodeState::Finished { .. } | NodeState::Failed { .. } => false,
    })
}
