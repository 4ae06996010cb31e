//! What people see of a schedule: its status, and the objects that its slots ask for.

use super::text::{self, sentence, time};
use super::{Hold, hold, job_spec};
use crate::Datacenter;
use crate::datacenter::Object;
use crate::operator::Operator;
use crate::schedule::{Counts, Ended, Outcome, Plan, Schedule, Scheduled};
use std::collections::BTreeMap;
use stheno_crds::backup_schedule::{SlotCounts, SlotOutcome};
use stheno_crds::datacenter::{CLUSTER_LABEL, DATACENTER_LABEL};
use stheno_crds::task::Operation as TaskOperation;
use stheno_crds::{MedusaBackupJob, MedusaBackupScheduleStatus, MedusaTask, MedusaTaskSpec, condition};
use stheno_events::observed::ScheduledOperation;
use stheno_events::schedule::{MissReason, SkipReason};
use stheno_events::{DcKey, Time};

/// Label of what a schedule created: UID of the MedusaBackupSchedule.
pub const SCHEDULE_LABEL: &str = "stheno.io/schedule";

/// The status of a MedusaBackupSchedule; none before its times were read.
#[must_use]
pub fn schedule_status(
    schedule: &Schedule,
    dc: &Datacenter,
    operator: &Operator,
) -> Option<MedusaBackupScheduleStatus> {
    let hold = hold(dc, operator);
    let (ready, since) = match (schedule.ready, &hold) {
        (Some((ready, since)), hold) => (ready && hold.is_none(), since),
        // Its times are not read while nothing is decided: that is all there is to say.
        (None, Some(_)) => (false, schedule.since),
        (None, None) => return None,
    };
    let next = match &schedule.plan {
        Plan::Times { next } => next.filter(|_| !schedule.request.suspended),
        Plan::Unread | Plan::Refused { .. } => None,
    };
    let (reason, words) = match &hold {
        Some(hold) => (hold.reason, hold.message.to_owned()),
        None => stands(schedule, next),
    };
    let message = match &schedule.postponed {
        Some(postponed) if hold.is_none() => Some(postponed.message.to_string()),
        Some(_) | None => (!ready).then(|| words.clone()),
    };
    let generation = schedule.request.meta.generation;
    let condition = |type_: &str, holds: bool, reason: &str, message: &str, since: Time| {
        text::condition(generation, (type_, holds), reason, message, since)
    };
    let mut conditions = vec![condition(condition::READY, ready, reason, &words, since)];
    if let Some(postponed) = &schedule.postponed {
        let reason = "OperationRunning";
        conditions.push(condition(condition::QUEUED, true, reason, &postponed.message, postponed.since));
    }
    if let Some(Hold { type_, holds, reason, message }) = hold {
        conditions.push(condition(type_, holds, reason, message, since));
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    Some(MedusaBackupScheduleStatus {
        next_schedule: next.map(time),
        last_execution: schedule.last_execution.map(time),
        counts: (schedule.counts != Counts::default()).then(|| counts(&schedule.counts)),
        outcomes: schedule.outcomes.iter().map(outcome).collect(),
        conditions,
        observed_generation: Some(generation),
        message: message.as_deref().map(sentence),
    })
}

/// Why it starts something, or nothing: one word, one sentence.
fn stands(schedule: &Schedule, next: Option<Time>) -> (&'static str, String) {
    match &schedule.plan {
        Plan::Refused { message } => ("InvalidSpec", message.to_string()),
        Plan::Unread => ("Unread", "the times are being read".to_owned()),
        Plan::Times { .. } if schedule.request.suspended => {
            ("Suspended", "nothing is started while spec.suspend or spec.disabled is true".to_owned())
        }
        Plan::Times { .. } => match next {
            Some(next) => ("Scheduled", format!("the next time is {}", next.format("%Y-%m-%dT%H:%M:%SZ"))),
            None => ("NeverComes", format!("no time fits {:?}: nothing will be started", schedule.request.cron)),
        },
    }
}

fn counts(counts: &Counts) -> SlotCounts {
    let told = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    SlotCounts {
        ran: told(counts.ran),
        ran_late: told(counts.ran_late),
        skipped: told(counts.skipped),
        missed: told(counts.missed),
    }
}

fn outcome(outcome: &Outcome) -> SlotOutcome {
    let (word, reason, object) = match &outcome.ended {
        Ended::Ran(name) => ("Ran", None, Some(name.to_string())),
        Ended::RanLate(name) => ("RanLate", None, Some(name.to_string())),
        Ended::Skipped(reason) => ("Skipped", Some(skip_reason(*reason)), None),
        Ended::Missed(reason) => ("Missed", Some(miss_reason(*reason)), None),
    };
    SlotOutcome {
        slot: Some(time(outcome.last)),
        outcome: Some(word.to_owned()),
        reason: reason.map(str::to_owned),
        object,
        count: (outcome.count > 1).then(|| i64::try_from(outcome.count).unwrap_or(i64::MAX)),
    }
}

/// Why nothing was started on purpose, in one word.
#[must_use]
pub const fn skip_reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Suspended => "Suspended",
        SkipReason::OperationRunning => "OperationRunning",
    }
}

/// Why nothing was started when it was time, in one word.
#[must_use]
pub const fn miss_reason(reason: MissReason) -> &'static str {
    match reason {
        MissReason::Superseded => "Superseded",
        MissReason::DeadlinePassed => "DeadlinePassed",
        MissReason::NotInTime => "NotInTime",
        MissReason::TooMany => "TooMany",
    }
}

/// What a slot asks for, as it is created.
#[allow(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduledObject {
    /// A backup.
    Job(MedusaBackupJob),
    /// A purge.
    Task(MedusaTask),
}

/// The object that a slot asked for, while it is to be created.
#[must_use]
pub fn scheduled_object(made: &Scheduled, dc: &Datacenter, key: &DcKey) -> Option<ScheduledObject> {
    if made.object != Object::Wanted {
        return None;
    }
    let request = &made.request;
    let mut labels = BTreeMap::from([(SCHEDULE_LABEL.to_owned(), made.schedule.to_string())]);
    if let Some(object) = dc.object.as_ref().filter(|_| *request.dc == *key.name) {
        labels.insert(CLUSTER_LABEL.to_owned(), label_value(&object.cluster));
        labels.insert(DATACENTER_LABEL.to_owned(), label_value(&object.meta.name));
    }
    let (namespace, dc) = (Some(key.namespace.to_string()), request.dc.to_string());
    Some(match request.operation {
        ScheduledOperation::Backup => {
            let spec = job_spec(&dc, request.backup_type, &request.rules);
            let mut job = MedusaBackupJob::new(&request.name, spec);
            (job.metadata.namespace, job.metadata.labels) = (namespace, Some(labels));
            ScheduledObject::Job(job)
        }
        ScheduledOperation::Purge => {
            let spec = MedusaTaskSpec {
                operation: TaskOperation::Purge,
                cassandra_datacenter: dc,
                backup_name: None,
                restore_key: None,
            };
            let mut task = MedusaTask::new(&request.name, spec);
            (task.metadata.namespace, task.metadata.labels) = (namespace, Some(labels));
            ScheduledObject::Task(task)
        }
    })
}

/// A name as cass-operator writes it into labels (`CleanLabelValue`): case stays, what a label forbids is dropped.
#[must_use]
pub fn label_value(name: &str) -> String {
    name.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .map(|piece| piece.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .collect()
}
