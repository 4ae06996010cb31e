//! MedusaBackupJob: a request for one backup of one datacenter, and how far it has come.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to back up, and how.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackupJob",
    namespaced,
    status = "MedusaBackupJobStatus",
    doc = "A request for one backup of one datacenter.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual",
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime", description = "Backup start time"),
    printcolumn(
        name = "Finished",
        type_ = "date",
        json_path = ".status.finishTime",
        description = "Backup finish time"
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "How far the backup has come"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What the backup waits for, or why it failed"
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
pub struct MedusaBackupJobSpec {
    /// The name of the CassandraDatacenter object, in the same namespace, whose nodes are backed up.
    #[schemars(length(min = 1))]
    pub cassandra_datacenter: String,

    /// Whether files that an earlier backup has stored are stored again.
    #[serde(default)]
    pub backup_type: BackupType,
}

crate::schema::root_schema!(
    MedusaBackupJob,
    MedusaBackupJobSpec,
    MedusaBackupJobStatus,
    ours,
    "A request for one backup of one datacenter."
);

/// Whether files that an earlier backup has stored are stored again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Files that the bucket holds already are referred to.
    #[default]
    Differential,
    /// Every file is stored.
    Full,
}

/// How far the backup has come; empty until it starts or has to wait.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupJobStatus {
    /// When the backup started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the backup ended, well or not; nothing is done for this job afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// The pods whose backup is running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,

    /// The pods whose backup is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<String>,

    /// The pods whose backup failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,

    /// What is true of this job now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The generation of the job that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One sentence: what the job waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// How far the backup has come, for people; programs read `nodes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,

    /// The backup of each pod, one entry a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub nodes: Vec<NodeBackup>,
}

/// The backup of one pod.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBackup {
    /// The name of the pod.
    pub pod: String,

    /// Where the backup of this pod stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,

    /// How often the backup of this pod was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,

    /// The size of the files of this pod's backup, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,

    /// The number of files of this pod's backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,

    /// When the last attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the backup of this pod ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// Why the backup of this pod waits, was tried again, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
