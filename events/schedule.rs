//! A schedule's slots, one by one: each ends as exactly one of ran, ran late, skipped and missed.
//!
//! `schedule` is the UID of the MedusaBackupSchedule; a slot is a time at which its expression asks for an operation.

use crate::observed::{BackupType, JobRules, ScheduledOperation};
use crate::{Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

family! { "schedule":
    /// The times of a schedule were read: at its first sight, and after each edit of them.
    Accepted = "accepted" v 1 critical,
    /// A schedule cannot be followed as it is written: it has no slots until it is edited.
    Rejected = "rejected" v 1 critical,
    /// A slot waits for the end of an operation before it (`concurrencyPolicy`).
    Postponed = "postponed" v 1 critical,
    /// A slot ended: its object is to be created, in time. This is the intent of that creation (law 1).
    Ran = "ran" v 1 critical,
    /// A slot ended: its object is to be created, late. This is the intent of that creation (law 1).
    RanLate = "ran_late" v 1 critical,
    /// One or more slots in a row ended: on purpose nothing was started.
    Skipped = "skipped" v 1 critical,
    /// One or more slots in a row ended: nothing was started when it was time.
    Missed = "missed" v 1 critical,
    /// The object of a slot was created, or one was there already under its name.
    ObjectCreated = "object_created" v 1 critical,
    /// A job that has ended is to be deleted: there are more than the schedule's history limit keeps.
    Expired = "expired" v 1 critical,
}

/// The times of a schedule were read.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Accepted {
    /// The schedule.
    pub schedule: Uid,
    /// The generation that was read.
    pub generation: i64,
    /// The next slot; none when the expression never comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// A schedule cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Rejected {
    /// The schedule.
    pub schedule: Uid,
    /// The generation that was read.
    pub generation: i64,
    /// What is wrong, and what to write instead: one sentence.
    pub message: Arc<str>,
}

/// A slot waits.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Postponed {
    /// The schedule.
    pub schedule: Uid,
    /// The slot.
    pub slot: Time,
    /// When it is skipped if it still waits then; none when nothing comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// What it waits for, one sentence.
    pub message: Arc<str>,
}

/// A slot ran in time.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Ran {
    /// The schedule.
    pub schedule: Uid,
    /// The slot.
    pub slot: Time,
    /// What is to be created.
    pub object: Requested,
    /// The slot after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// A slot ran late: it waited, or nobody was there when it came.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RanLate {
    /// The schedule.
    pub schedule: Uid,
    /// The slot.
    pub slot: Time,
    /// What is to be created.
    pub object: Requested,
    /// The slot after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// The object that a slot asks for.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Requested {
    /// Its name: that of the schedule and the slot's unix seconds.
    pub name: Arc<str>,
    /// What it does.
    pub operation: ScheduledOperation,
    /// Its datacenter, as typed.
    pub dc: Arc<str>,
    /// Full or differential, of a backup.
    #[serde(default)]
    pub backup_type: BackupType,
    /// How a backup is carried out.
    #[serde(default, skip_serializing_if = "JobRules::usual")]
    pub rules: JobRules,
}

/// Why nothing was started on purpose. A closed vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum SkipReason {
    /// The schedule was suspended or disabled.
    Suspended,
    /// An operation before it still ran when the next slot came, or when its starting deadline had passed.
    OperationRunning,
}

/// Slots were skipped.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Skipped {
    /// The schedule.
    pub schedule: Uid,
    /// The first of them.
    pub first: Time,
    /// The last of them.
    pub last: Time,
    /// How many there are, both included.
    pub count: u64,
    /// Why.
    pub reason: SkipReason,
    /// The slot after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// Why nothing was started when it was time. A closed vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum MissReason {
    /// Nobody was there when it came, and a later slot came meanwhile, which stands for it.
    Superseded,
    /// It could not start within `startingDeadlineSeconds`.
    DeadlinePassed,
    /// It could not start in time, and the schedule makes up for none (`catchUp: None`).
    NotInTime,
    /// More slots had passed than are made up for at once.
    TooMany,
}

/// Slots were missed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Missed {
    /// The schedule.
    pub schedule: Uid,
    /// The first of them.
    pub first: Time,
    /// The last of them.
    pub last: Time,
    /// How many there are, both included.
    pub count: u64,
    /// Why.
    pub reason: MissReason,
    /// The slot after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// The object of a slot exists.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ObjectCreated {
    /// The schedule.
    pub schedule: Uid,
    /// Name of the object.
    pub name: Arc<str>,
    /// UID of the object.
    pub uid: Uid,
    /// It was there before, made by somebody else: it stays as it is.
    #[serde(default)]
    pub foreign: bool,
}

/// A job is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Expired {
    /// The schedule.
    pub schedule: Uid,
    /// Name of the job.
    pub name: Arc<str>,
    /// UID of the job.
    pub job: Uid,
}

impl Event {
    /// The schedule that the event is about.
    #[must_use]
    pub const fn schedule(&self) -> &Uid {
        match self {
            Self::Accepted(e) => &e.schedule,
            Self::Rejected(e) => &e.schedule,
            Self::Postponed(e) => &e.schedule,
            Self::Ran(e) => &e.schedule,
            Self::RanLate(e) => &e.schedule,
            Self::Skipped(e) => &e.schedule,
            Self::Missed(e) => &e.schedule,
            Self::ObjectCreated(e) => &e.schedule,
            Self::Expired(e) => &e.schedule,
        }
    }
}
