//! MedusaBackup: one backup in the bucket, as seen from Kubernetes; what a restore names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup_job::BackupType;

/// Which datacenter was backed up, and how.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackup",
    namespaced,
    status = "MedusaBackupStatus",
    doc = "A backup in the bucket, which a MedusaRestoreJob can name.",
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
        name = "Nodes",
        type_ = "string",
        json_path = ".status.totalNodes",
        description = "Total number of nodes at the time of the backup"
    ),
    printcolumn(
        name = "Files",
        type_ = "integer",
        json_path = ".status.totalFiles",
        description = "Total number of files in the backup"
    ),
    printcolumn(
        name = "Size",
        type_ = "string",
        json_path = ".status.totalSize",
        description = "Human-readable total size of the backup"
    ),
    printcolumn(
        name = "Completed",
        type_ = "string",
        json_path = ".status.finishedNodes",
        description = "Number of nodes that completed this backup"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.status",
        description = "Backup completion status"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupSpec {
    /// The name of the CassandraDatacenter object, in the same namespace, that the backup belongs to.
    pub cassandra_datacenter: String,

    /// Whether the backup refers to files of earlier ones.
    #[serde(default)]
    pub backup_type: BackupType,
}

crate::schema::root_schema!(
    MedusaBackup,
    MedusaBackupSpec,
    MedusaBackupStatus,
    ours,
    "A backup in the bucket, which a MedusaRestoreJob can name."
);

/// What the bucket holds of this backup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupStatus {
    /// When the backup started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the backup was complete on its last node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// The number of nodes of the datacenter when it was backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_nodes: Option<i32>,

    /// The number of nodes whose backup is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_nodes: Option<i32>,

    /// The nodes of the datacenter when it was backed up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<BackupNode>,

    /// The number of files of all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_files: Option<i64>,

    /// The size of all nodes' files for people, in steps of 1024 with two decimals, such as `127.67 KB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size: Option<String>,

    /// How the backup stands: SUCCESS, IN_PROGRESS, FAILED or UNKNOWN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,

    /// What is true of this backup now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One node of the datacenter when it was backed up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupNode {
    /// The name under which the node stored its backup, in Kubernetes that of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,

    /// The tokens of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<i64>,

    /// The datacenter of the node, as Cassandra calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,

    /// The rack of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}
