//! MedusaRestoreJob: a request to put one backup back into one datacenter.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to restore, and where to.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaRestoreJob",
    namespaced,
    status = "MedusaRestoreJobStatus",
    doc = "A request to put one backup back into one datacenter.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual",
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime", description = "Restore start time"),
    printcolumn(
        name = "Finished",
        type_ = "date",
        json_path = ".status.finishTime",
        description = "Restore finish time"
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.message", description = "Error message")
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaRestoreJobSpec {
    /// The name of the MedusaBackup object, in the same namespace, to restore.
    pub backup: String,

    /// The name of the CassandraDatacenter object, in the same namespace, to restore to.
    pub cassandra_datacenter: String,
}

crate::schema::root_schema!(
    MedusaRestoreJob,
    MedusaRestoreJobSpec,
    MedusaRestoreJobStatus,
    ours,
    "A request to put one backup back into one datacenter."
);

/// How far the restore has come; absent until its key is known.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaRestoreJobStatus {
    /// The UUID of this restore, by which each pod knows whether it has done it already.
    // Required by k8ssandra-operator's schema as well: the first write of a status carries it.
    pub restore_key: String,

    /// Whether the sidecars have stored which node restores what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_prepared: Option<bool>,

    /// Which pod restores which node's backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_mapping: Option<RestoreMapping>,

    /// When the restore started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the restore ended, well or not; nothing is done for this job afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// When the datacenter was found stopped, with no pod left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_stopped: Option<Time>,

    /// The pods whose restore is running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,

    /// The pods whose restore is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<String>,

    /// The pods whose restore failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,

    /// One sentence: why the restore was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Which pod restores which node's backup; also the JSON that the init container reads.
// The names are Medusa's, hence no camelCase.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RestoreMapping {
    /// Whether each pod restores what it backed up itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<bool>,

    /// For each pod of the datacenter, the node whose backup it restores.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_map: BTreeMap<String, MappedHost>,
}

/// The node whose backup a pod restores.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MappedHost {
    /// The names of the nodes in the backup; one for each pod.
    pub source: Vec<String>,

    /// Always false; Medusa wants it written.
    pub seed: bool,
}
