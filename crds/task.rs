//! MedusaTask: a request to sync, to purge, or to prepare a restore.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do, and where.
#[derive(CustomResource, Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaTask",
    namespaced,
    status = "MedusaTaskStatus",
    doc = "A request to sync MedusaBackup objects with the bucket, to purge old backups, or to prepare a restore.",
    derive = "PartialEq",
    schema = "manual",
    printcolumn(
        name = "Datacenter",
        type_ = "string",
        json_path = ".spec.cassandraDatacenter",
        description = "Datacenter which the task targets"
    ),
    printcolumn(
        name = "Operation",
        type_ = "string",
        json_path = ".spec.operation",
        description = "Type of operation"
    ),
    printcolumn(name = "Start", type_ = "date", json_path = ".status.startTime", description = "Start time"),
    printcolumn(name = "Finish", type_ = "date", json_path = ".status.finishTime", description = "Finish time"),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "How far the task has come"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What the task waits for, or why it failed"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the request",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaTaskSpec {
    /// What to do.
    pub operation: Operation,

    /// The name of the CassandraDatacenter object, in the same namespace, whose sidecars do it.
    pub cassandra_datacenter: String,

    /// The backup to prepare the restore of; other operations ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<String>,

    /// The UUID of the restore to prepare; other operations ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_key: Option<String>,
}

crate::schema::root_schema!(
    MedusaTask,
    MedusaTaskSpec,
    MedusaTaskStatus,
    ours,
    "A request to sync MedusaBackup objects with the bucket, to purge old backups, or to prepare a restore."
);

/// What a task does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Makes the MedusaBackup objects match what the bucket holds.
    Sync,
    /// Removes the backups that the retention settings let go.
    Purge,
    /// Has each sidecar store which node it is to restore.
    PrepareRestore,
}

/// How far the task has come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaTaskStatus {
    /// When the task started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the task ended, well or not; nothing is done for it afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// The pods that are at work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,

    /// The pods that are done, with what they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<TaskResult>,

    /// The pods that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,

    /// What is true of this task now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The generation of the task that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One sentence: what the task waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// How far the task has come, for people; programs read the lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}

/// What one pod did.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,

    /// The number of backups that the pod removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub nb_backups_purged: Option<i64>,

    /// The number of objects that the pod removed from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub nb_objects_purged: Option<i64>,

    /// The size of the objects that the pod removed, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub total_purged_size: Option<i64>,

    /// The number of unreferenced objects that the pod left alone because they are too young.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub total_objects_within_gc_grace: Option<i64>,
}
