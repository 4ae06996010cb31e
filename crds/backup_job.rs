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
    doc = "A request for one backup of one datacenter; deleting it or annotating it with stheno.io/cancel stops what runs.",
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

    /// How many nodes may be at work at one time, all of them when absent; a lower number stops none that is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self >= 1",
        "message": "must be at least 1: leave it out for all nodes at once, or set suspend to start none",
    }]))]
    pub parallelism: Option<i32>,

    /// How often the backup of each node is tried again where its sidecar says that this may help, twice when absent, and
    /// never on Medusa's own sidecars, which do not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self >= 0",
        "message": "must not be negative: write 0 where no node shall be tried again",
    }]))]
    pub backoff_limit: Option<i32>,

    /// How many seconds after its start the job is stopped and fails, a day when absent; the nodes at work are told to
    /// break off, and where Medusa's own sidecars cannot, the datacenter stays taken until they have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self >= 1",
        "message": "must be at least 1: leave it out for a day",
    }]))]
    pub active_deadline_seconds: Option<i32>,

    /// How many seconds after its end, well or not, the job is deleted, never when absent; its MedusaBackup stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self >= 0",
        "message": "must not be negative: write 0 to delete the job as soon as it has ended, or leave it out to keep it",
    }]))]
    pub ttl_seconds_after_finished: Option<i32>,

    /// Whether the job is held back: one that has not started waits and lets others pass, and one that runs starts no
    /// further nodes, while those at work go on and the time of activeDeadlineSeconds too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

crate::schema::root_schema!(
    MedusaBackupJob,
    MedusaBackupJobSpec,
    MedusaBackupJobStatus,
    ours,
    "A request for one backup of one datacenter; deleting it or annotating it with stheno.io/cancel stops what runs."
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

    /// How long the last attempt took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,

    /// Why the backup of this pod waits, was tried again, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
