//! MedusaBackupSchedule: backups or purges of one datacenter at the times of a cron expression.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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

    /// What to do when the one before still runs: `Forbid` (also when absent) waits for its end, `Allow` does not.
    // Free text in k8ssandra-operator's schema, so a misspelt policy arrives here and is for the schedule to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<String>,

    /// What to do at each time.
    #[serde(default)]
    pub operation_type: OperationType,
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
}
