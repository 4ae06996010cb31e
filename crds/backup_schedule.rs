//! MedusaBackupSchedule: backups or purges of one datacenter at the times of a cron expression.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup_job::MedusaBackupJobSpec;

/// When to do what.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackupSchedule",
    namespaced,
    status = "MedusaBackupScheduleStatus",
    doc = "Backups or purges of one datacenter at the times of a cron expression.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual",
    printcolumn(
        name = "Datacenter",
        type_ = "string",
        json_path = ".spec.backupSpec.cassandraDatacenter",
        description = "Datacenter which the task targets"
    ),
    // Text, not a date: kubectl prints a date that lies in the future as `<invalid>`.
    printcolumn(
        name = "ScheduledExecution",
        type_ = "string",
        json_path = ".status.nextSchedule",
        description = "Next scheduled execution time"
    ),
    printcolumn(
        name = "LastExecution",
        type_ = "date",
        json_path = ".status.lastExecution",
        description = "Previous execution time"
    ),
    printcolumn(
        name = "OperationType",
        type_ = "string",
        json_path = ".spec.operationType",
        description = "Type of scheduled operation"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What the schedule waits for, or why it starts nothing"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupScheduleSpec {
    /// The times, as a cron expression of five fields, in UTC unless it begins with `CRON_TZ=`.
    #[schemars(length(min = 1))]
    pub cron_schedule: String,

    /// Nothing is started while this is true; times that pass meanwhile are not made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,

    /// The backup to request at each time; a purge reads the datacenter only.
    pub backup_spec: MedusaBackupJobSpec,

    /// What to do when the one before still runs: `Forbid` (also when absent) waits until the next time and then skips,
    /// `Allow` does not wait, `Replace` takes the place of one that has not started and waits for one that has.
    // Free text in k8ssandra-operator's schema, so a misspelt policy arrives here and is for the schedule to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<String>,

    /// What to do at each time.
    #[serde(default)]
    pub operation_type: OperationType,

    /// The zone of the times, a name of the IANA database such as `Europe/Berlin`; `CRON_TZ=` in the expression says the
    /// same, and only one of the two may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,

    /// Nothing is started while this is true, as with `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How many seconds after its time something may still be started; without a limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub starting_deadline_seconds: Option<i32>,

    /// Which of the times that passed while nobody was there are made up for: the latest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,

    /// How many jobs of this schedule that are complete are kept, all when absent; their backups stay whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub successful_jobs_history_limit: Option<i32>,

    /// How many jobs of this schedule that failed are kept; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed_jobs_history_limit: Option<i32>,
}

crate::schema::root_schema!(
    MedusaBackupSchedule,
    MedusaBackupScheduleSpec,
    MedusaBackupScheduleStatus,
    ours,
    "Backups or purges of one datacenter at the times of a cron expression."
);

/// What a schedule starts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationType {
    /// A MedusaBackupJob.
    #[default]
    Backup,
    /// A MedusaTask that purges.
    Purge,
}

/// Which of the times that passed while nobody was there are made up for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CatchUp {
    /// None of them.
    None,
    /// The latest.
    #[default]
    Latest,
    /// Each of them, at most a hundred.
    All,
}

/// Where the schedule stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupScheduleStatus {
    /// The next time at which something is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule: Option<Time>,

    /// The last time at which something was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<Time>,

    /// How many times ended how, since the operator met the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<SlotCounts>,

    /// How the last times ended, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<SlotOutcome>,

    /// What is true of this schedule now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The generation of the schedule that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One sentence: what the schedule waits for, or why it starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How many times of a schedule ended how.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotCounts {
    /// Something was started in time.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::integer")]
    pub ran: i64,

    /// Something was started late.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::integer")]
    pub ran_late: i64,

    /// Nothing was started, on purpose.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::integer")]
    pub skipped: i64,

    /// Nothing was started when it was time.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::integer")]
    pub missed: i64,
}

/// How one time of a schedule, or several in a row, ended.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotOutcome {
    /// The time, or the last of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,

    /// How it ended: Ran, RanLate, Skipped or Missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,

    /// Why nothing was started, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// The object that was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,

    /// How many times in a row ended like this, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub count: Option<i64>,
}
