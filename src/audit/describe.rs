//! One line for each event, for a tired person at night: who did what, and what it means.

mod task;

pub(super) use task::{outcome as task_outcome, removed};

use super::text::{count, listed, size};
use stheno_events::backup::{Call, Event as BackupEvent, Outcome, Progress, SidecarKind, WaitReason};
use stheno_events::datacenter::Event as DatacenterEvent;
use stheno_events::observed::{Event as ObservedEvent, ObjectKind};
use stheno_events::operator::Event as OperatorEvent;
use stheno_events::schedule::{Event as ScheduleEvent, MissReason, SkipReason};
use stheno_events::task::Event as TaskEvent;
use stheno_events::{Event, Fact, Time};

/// How much an event should catch the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It ended well.
    Good,
    /// Somebody may have to do something.
    Bad,
    /// It waits, or is in doubt.
    Care,
    /// The ordinary course of things.
    Plain,
}

/// What a fact says, in one line.
#[must_use]
pub fn describe(fact: &Fact) -> String {
    match fact {
        Fact::Known(Event::Observed(event)) => observed(event),
        Fact::Known(Event::Backup(event)) => backup(event),
        Fact::Known(Event::Schedule(event)) => schedule(event),
        Fact::Known(Event::Task(event)) => task::task(event),
        Fact::Known(Event::Datacenter(event)) => datacenter(event),
        Fact::Known(Event::Operator(event)) => operator(event),
        Fact::Unknown { version, critical: true, .. } => {
            format!("version {version} of this event is not known to this program; nothing is decided here until it is")
        }
        Fact::Unknown { version, critical: false, .. } => {
            format!("version {version} of this event is not known to this program, and nothing depends on it")
        }
    }
}

fn observed(event: &ObservedEvent) -> String {
    match event {
        ObservedEvent::BackupJob(e) => match e.meta.deleting {
            None => format!("asks for a {} backup of {}", e.backup_type.as_str(), e.dc),
            Some(since) => {
                format!("is being deleted since {} ({} backup of {})", clock(since), e.backup_type.as_str(), e.dc)
            }
        },
        ObservedEvent::Backup(e) => {
            let whose = if e.operation.is_some() { "made by a job of ours" } else { "not made by this operator" };
            format!("the object is there: a {} backup of {}, {whose}", e.backup_type.as_str(), e.dc)
        }
        ObservedEvent::Schedule(e) => {
            let zone = e.time_zone.as_ref().map(|zone| format!(" in {zone}")).unwrap_or_default();
            let suspended = if e.suspended { ", suspended" } else { "" };
            format!("asks for a {} of {} at {:?}{zone}{suspended}", e.operation.as_str(), e.dc, e.cron)
        }
        ObservedEvent::Task(e) => {
            let backup = e.backup.as_ref().map(|backup| format!(" (backup {backup})")).unwrap_or_default();
            match e.meta.deleting {
                None => format!("asks for {} on {}{backup}", e.operation.as_str(), e.dc),
                Some(since) => {
                    format!("is being deleted since {} ({} on {}{backup})", clock(since), e.operation.as_str(), e.dc)
                }
            }
        }
        ObservedEvent::Datacenter(e) => {
            let mut parts = vec![format!("{} of cluster {}", count(i64::from(e.size), "node"), e.cluster)];
            if !e.racks.is_empty() {
                parts.push(format!("racks {}", listed(e.racks.iter())));
            }
            parts.extend(e.stopped.then(|| "stopped".to_owned()));
            parts.extend(e.progress.as_ref().map(|progress| format!("progress {progress}")));
            parts.extend(e.conditions.get("Ready").map(|ready| format!("ready {ready}")));
            parts.extend(e.meta.deleting.map(|since| format!("being deleted since {}", clock(since))));
            parts.join(", ")
        }
        ObservedEvent::Pod(e) => {
            let address = e.ip.as_ref().map_or_else(|| "no address yet".to_owned(), |ip| format!("at {ip}"));
            let sidecar = match &e.sidecar {
                None => "no container medusa".to_owned(),
                Some(sidecar) if sidecar.ready => format!("sidecar ready on port {}", sidecar.port),
                Some(sidecar) => format!("sidecar not ready on port {}", sidecar.port),
            };
            format!("{address}, {sidecar}")
        }
        ObservedEvent::Gone(e) if e.inferred => {
            format!("the {} is there no more: a complete list lacks it", e.kind.as_str())
        }
        ObservedEvent::Gone(e) => format!("the {} was deleted", e.kind.as_str()),
        ObservedEvent::Adopted(e) if e.kind == ObjectKind::MedusaBackupSchedule => {
            "was there before this log began: its times count from now on".into()
        }
        ObservedEvent::Adopted(e) if e.kind == ObjectKind::MedusaTask && e.finished.is_none() => match e.started {
            Some(started) => {
                format!("was started at {} by another program, which alone knows how it ends", clock(started))
            }
            None => "was there before this log began: nobody knows whether it was done".into(),
        },
        ObservedEvent::Adopted(e) => match (e.started, e.finished) {
            (_, Some(finished)) => format!(
                "had ended at {} before this log began ({} finished, {} failed): it stays as it is",
                clock(finished),
                e.finished_pods.len(),
                e.failed_pods.len()
            ),
            (Some(started), None) => {
                format!("was started at {} by another program: it is followed, never commanded", clock(started))
            }
            (None, None) => "was there before this log began, and had not started".into(),
        },
        ObservedEvent::Malformed(e) => format!("the {} cannot be read: {}", e.kind.as_str(), e.reason),
        ObservedEvent::Gap(e) if e.backwards => format!(
            "the API server went back from resourceVersion {} to {} for {}: nothing is done until a person decides",
            e.from,
            e.to,
            plural(e.kind)
        ),
        ObservedEvent::Gap(e) => {
            format!(
                "changes of {} between resourceVersion {} and {} may have been missed",
                plural(e.kind),
                e.from,
                e.to
            )
        }
        ObservedEvent::Unobservable(e) => {
            format!("{} cannot be listed, what depends on them waits: {}", plural(e.kind), e.reason)
        }
        ObservedEvent::Observable(e) => format!("{} can be listed again", plural(e.kind)),
    }
}

fn backup(event: &BackupEvent) -> String {
    match event {
        BackupEvent::Queued(e) => format!("waits ({}): {}", reason(e.reason), e.message),
        BackupEvent::Started(e) => format!("starts on {}: {}", count(e.nodes.len(), "node"), listed(e.nodes.iter())),
        BackupEvent::EffectClaimed(e) => format!("{} (attempt {}, term {})", intent(&e.call), e.attempt, e.epoch),
        BackupEvent::ClaimAbandoned(e) => {
            format!(
                "nothing was sent to {} in time, so it is decided again (attempt {}, term {})",
                e.call.pod(),
                e.attempt,
                e.epoch
            )
        }
        BackupEvent::NodeStarted(e) => {
            let who = match e.sidecar {
                SidecarKind::Stheno => "stheno agent",
                SidecarKind::Medusa => "Medusa",
            };
            format!("{} accepted its backup (attempt {}, answered by {who})", e.pod, e.attempt)
        }
        BackupEvent::Progress(e) => progress(e),
        BackupEvent::NodeFinished(e) => {
            let mut parts = Vec::new();
            parts.extend(e.bytes.map(size));
            parts.extend(e.files.map(|files| count(files, "file")));
            parts.extend(e.reused.map(|reused| format!("{reused} of them in the bucket already")));
            if parts.is_empty() {
                format!("{} is complete", e.pod)
            } else {
                format!("{} is complete: {}", e.pod, parts.join(", "))
            }
        }
        BackupEvent::NodeFailed(e) => {
            let next = if e.retryable { "it will be tried again" } else { "it is not tried again" };
            format!("{} failed (attempt {}), {next}: {}", e.pod, e.attempt, e.reason)
        }
        BackupEvent::NodeUnanswered(e) => {
            let doubt = match (e.not_found, e.in_doubt) {
                (true, _) => "the sidecar knows nothing of this backup",
                (false, true) => "the request may have reached it",
                (false, false) => "nothing was sent",
            };
            format!("{} gave no answer that decides (attempt {}), {doubt}: {}", e.call.pod(), e.attempt, e.error)
        }
        BackupEvent::NodeLost(e) => format!("{} is given up and counts as failed: {}", e.pod, e.reason),
        BackupEvent::OutcomeDecided(e) => format!("the outcome is decided, {}: {}", outcome(e.outcome), e.message),
        BackupEvent::Summarised(e) => format!(
            "the bucket holds {} of {}, {}, {}",
            e.finished_nodes,
            count(i64::from(e.total_nodes), "node"),
            count(e.files, "file"),
            size(u64::try_from(e.bytes).unwrap_or(0))
        ),
        BackupEvent::SummaryFailed(e) => {
            format!("{} could not read the summary from the bucket (attempt {}): {}", e.pod, e.attempt, e.error)
        }
        BackupEvent::Completed(e) => format!("ended well: {}", e.message),
        BackupEvent::Failed(e) => format!("ended {}: {}", outcome(e.outcome), e.message),
        BackupEvent::ObjectCreated(e) if e.foreign => {
            "a MedusaBackup of this name was there already and stays as it is".into()
        }
        BackupEvent::ObjectCreated(e) => format!("its MedusaBackup was created (uid {})", e.uid),
        BackupEvent::Expired(_) => "is to be deleted: its time to live after the end is over".into(),
    }
}

fn schedule(event: &ScheduleEvent) -> String {
    let next = |next: &Option<Time>| match next {
        Some(next) => format!("next at {}", clock(*next)),
        None => "nothing comes after it".into(),
    };
    let times = |first: Time, last: Time, number: u64| match number {
        1 => format!("the time {}", clock(last)),
        _ => format!("{} from {} to {}", count(number, "time"), clock(first), clock(last)),
    };
    match event {
        ScheduleEvent::Accepted(e) => match e.next {
            Some(next) => format!("its times were read: the next is {}", clock(next)),
            None => "its times were read: none comes".into(),
        },
        ScheduleEvent::Rejected(e) => format!("cannot be followed: {}", e.message),
        ScheduleEvent::Postponed(e) => match e.until {
            Some(until) => format!("the time {} {}, at most until {}", clock(e.slot), e.message, clock(until)),
            None => format!("the time {} {}", clock(e.slot), e.message),
        },
        ScheduleEvent::Ran(e) => {
            format!(
                "the time {} asks for {} {}, {}",
                clock(e.slot),
                e.object.operation.as_str(),
                e.object.name,
                next(&e.next)
            )
        }
        ScheduleEvent::RanLate(e) => {
            let (what, name) = (e.object.operation.as_str(), &e.object.name);
            format!("the time {} asks late for {what} {name}, {}", clock(e.slot), next(&e.next))
        }
        ScheduleEvent::Skipped(e) => {
            format!("nothing was started for {}: {}", times(e.first, e.last, e.count), skipped(e.reason))
        }
        ScheduleEvent::Missed(e) => {
            format!("{} missed: {}", times(e.first, e.last, e.count), missed(e.reason))
        }
        ScheduleEvent::ObjectCreated(e) if e.foreign => {
            format!("{} was there already and stays as it is: this schedule did not make it", e.name)
        }
        ScheduleEvent::ObjectCreated(e) => format!("{} was created (uid {})", e.name, e.uid),
        ScheduleEvent::Expired(e) => format!("{} is to be deleted: more have ended than are kept", e.name),
    }
}

/// Why nothing was started for a time of a schedule, on purpose.
pub(super) const fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Suspended => "the schedule was suspended",
        SkipReason::OperationRunning => "an operation before it still ran",
    }
}

/// Why nothing was started for a time of a schedule when it came.
pub(super) const fn missed(reason: MissReason) -> &'static str {
    match reason {
        MissReason::Superseded => "nobody was there, and a later time stands for it",
        MissReason::DeadlinePassed => "it was too late (startingDeadlineSeconds)",
        MissReason::NotInTime => "it was too late, and nothing late is made up for (catchUp: None)",
        MissReason::TooMany => "more had passed than are made up for",
    }
}

fn intent(call: &Call) -> String {
    match call {
        Call::Start(pod) => format!("{pod} is about to be asked to start its backup"),
        Call::Resume(pod) => format!("{pod} is about to be asked what became of its backup"),
        Call::Stop(pod) => format!("{pod} is about to be told to break its backup off"),
        Call::Summary(pod) => format!("{pod} is about to be asked for the backup's summary"),
    }
}

fn progress(event: &Progress) -> String {
    let nodes = event.nodes.iter().map(|node| {
        let percent = (node.bytes.saturating_mul(100)).checked_div(node.bytes_total).unwrap_or(100).min(100);
        format!("{} {percent} % of {}", node.pod, size(node.bytes_total))
    });
    listed(nodes)
}

fn datacenter(event: &DatacenterEvent) -> String {
    match event {
        DatacenterEvent::Led(e) => match e.quiet_until {
            Some(until) => format!(
                "the leader of term {} takes over; it does nothing before {}, for a former one may still be busy",
                e.epoch,
                clock(until)
            ),
            None => format!("the leader of term {} takes over", e.epoch),
        },
        DatacenterEvent::Overtaken(e) => {
            format!("{} has served term {}, later than this log knows: a term above it begins", e.pod, e.epoch)
        }
        DatacenterEvent::Incarnation(e) => {
            format!(
                "this is another datacenter of the same name (uid {}, before {}): what was open has ended",
                e.uid, e.former
            )
        }
    }
}

fn operator(event: &OperatorEvent) -> String {
    match event {
        OperatorEvent::Genesis(e) => format!("the log of cluster {} begins", e.cluster),
        OperatorEvent::Leading(e) => format!("{} leads, term {}", e.identity, e.epoch),
        OperatorEvent::SteppedDown(e) => {
            format!("the leader of term {} ended in order, with nothing in flight", e.epoch)
        }
        OperatorEvent::ApiAccepted(e) => {
            format!("a person accepted the API server's older store, knowing of the log up to message {}", e.until)
        }
        OperatorEvent::Checkpoint(e) => {
            let signed = if e.signature.is_some() { "signed" } else { "not signed" };
            format!("the log up to message {} has the root {:?} ({signed})", e.sequence, e.root)
        }
    }
}

/// How much a fact should catch the eye.
#[must_use]
pub const fn weight(fact: &Fact) -> Weight {
    match fact {
        Fact::Known(Event::Observed(event)) => match event {
            ObservedEvent::Malformed(_) | ObservedEvent::Unobservable(_) => Weight::Bad,
            ObservedEvent::Gap(e) if e.backwards => Weight::Bad,
            ObservedEvent::Gap(_) | ObservedEvent::Gone(_) => Weight::Care,
            ObservedEvent::BackupJob(_)
            | ObservedEvent::Backup(_)
            | ObservedEvent::Schedule(_)
            | ObservedEvent::Task(_)
            | ObservedEvent::Datacenter(_)
            | ObservedEvent::Pod(_)
            | ObservedEvent::Adopted(_)
            | ObservedEvent::Observable(_) => Weight::Plain,
        },
        Fact::Known(Event::Backup(event)) => match event {
            BackupEvent::NodeFailed(_) | BackupEvent::NodeLost(_) | BackupEvent::Failed(_) => Weight::Bad,
            BackupEvent::OutcomeDecided(e) if !matches!(e.outcome, Outcome::Complete) => Weight::Bad,
            BackupEvent::Queued(_)
            | BackupEvent::ClaimAbandoned(_)
            | BackupEvent::NodeUnanswered(_)
            | BackupEvent::SummaryFailed(_) => Weight::Care,
            BackupEvent::NodeFinished(_) | BackupEvent::Completed(_) => Weight::Good,
            BackupEvent::Started(_)
            | BackupEvent::EffectClaimed(_)
            | BackupEvent::NodeStarted(_)
            | BackupEvent::Progress(_)
            | BackupEvent::OutcomeDecided(_)
            | BackupEvent::Summarised(_)
            | BackupEvent::ObjectCreated(_)
            | BackupEvent::Expired(_) => Weight::Plain,
        },
        Fact::Known(Event::Schedule(event)) => match event {
            ScheduleEvent::Rejected(_) | ScheduleEvent::Missed(_) => Weight::Bad,
            ScheduleEvent::Postponed(_) | ScheduleEvent::RanLate(_) => Weight::Care,
            ScheduleEvent::Skipped(e) if matches!(e.reason, SkipReason::OperationRunning) => Weight::Bad,
            ScheduleEvent::ObjectCreated(e) if e.foreign => Weight::Care,
            ScheduleEvent::Accepted(_)
            | ScheduleEvent::Ran(_)
            | ScheduleEvent::Skipped(_)
            | ScheduleEvent::ObjectCreated(_)
            | ScheduleEvent::Expired(_) => Weight::Plain,
        },
        Fact::Known(Event::Task(event)) => match event {
            TaskEvent::NodeFailed(_) | TaskEvent::NodeLost(_) | TaskEvent::Failed(_) | TaskEvent::ApprovalNeeded(_) => {
                Weight::Bad
            }
            TaskEvent::Queued(_) | TaskEvent::ClaimAbandoned(_) | TaskEvent::NodeUnanswered(_) => Weight::Care,
            TaskEvent::SyncCreated(e) if e.foreign => Weight::Care,
            TaskEvent::BackupCreated(e) if e.foreign => Weight::Care,
            TaskEvent::NodeFinished(_) | TaskEvent::Completed(_) => Weight::Good,
            TaskEvent::Started(_)
            | TaskEvent::EffectClaimed(_)
            | TaskEvent::Listed(_)
            | TaskEvent::Planned(_)
            | TaskEvent::Reconciled(_)
            | TaskEvent::SyncRequested(_)
            | TaskEvent::SyncCreated(_)
            | TaskEvent::BackupCreated(_) => Weight::Plain,
        },
        Fact::Known(Event::Datacenter(event)) => match event {
            DatacenterEvent::Incarnation(_) | DatacenterEvent::Overtaken(_) => Weight::Care,
            DatacenterEvent::Led(_) => Weight::Plain,
        },
        Fact::Known(Event::Operator(_)) => Weight::Plain,
        Fact::Unknown { critical: true, .. } => Weight::Bad,
        Fact::Unknown { critical: false, .. } => Weight::Care,
    }
}

/// A moment for people.
pub(super) fn clock(time: Time) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The reason as conditions write it.
#[must_use]
pub const fn reason(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::DatacenterNotFound => "DatacenterNotFound",
        WaitReason::DatacenterStopped => "DatacenterStopped",
        WaitReason::PodsMissing => "PodsMissing",
        WaitReason::SidecarMissing => "SidecarMissing",
        WaitReason::SidecarNotReady => "SidecarNotReady",
        WaitReason::OperationRunning => "OperationRunning",
        WaitReason::Suspended => "Suspended",
    }
}

/// An outcome in the middle of a sentence.
#[must_use]
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Partial => "partial, not restorable",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::DatacenterReplaced => "void, the datacenter was replaced",
        Outcome::DeadlineExceeded => "late, its time was over",
        Outcome::Cancelled => "cancelled",
    }
}

const fn plural(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::MedusaBackupJob => "MedusaBackupJobs",
        ObjectKind::MedusaBackup => "MedusaBackups",
        ObjectKind::MedusaBackupSchedule => "MedusaBackupSchedules",
        ObjectKind::MedusaTask => "MedusaTasks",
        ObjectKind::CassandraDatacenter => "CassandraDatacenters",
        ObjectKind::Pod => "pods",
    }
}
