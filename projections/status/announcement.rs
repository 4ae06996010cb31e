//! What is worth a Kubernetes Event: what happened, on the object that people look at.

use super::text::sentence;
use crate::Datacenter;
use crate::backup::{NodeState, Operation, Stage};
use std::sync::Arc;
use stheno_events::backup::{Event as BackupEvent, Outcome};
use stheno_events::observed::{Event as ObservedEvent, ObjectKind};
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
        BackupEvent::Queued(e) => (Normal, "Queued", e.message.to_string()),
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
        BackupEvent::Completed(e) => (Normal, "Completed", e.message.to_string()),
        BackupEvent::Failed(e) => {
            let reason = match e.outcome {
                Outcome::Refused => "Refused",
                Outcome::DatacenterReplaced => "DatacenterReplaced",
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

/// Whether a node's last failure was the first in a row.
fn first_failure(operation: &Operation, pod: &PodName) -> bool {
    operation.nodes.get(pod).is_some_and(|node| match &node.state {
        NodeState::Pending { failures, .. } | NodeState::Doubt { failures, .. } => *failures == 1,
        NodeState::Called { failures, .. } => *failures == 1,
        NodeState::Finished { .. } | NodeState::Failed { .. } => false,
    })
}
