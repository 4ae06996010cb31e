//! CassandraDatacenter: the slice of cass-operator's kind that we read and write.
//!
//! Write it by patches of single fields only: what the slice lacks would be lost in a whole object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The types of cass-operator's conditions that are read here.
pub mod condition {
    /// The datacenter serves; stays true during a rolling restart.
    pub const READY: &str = "Ready";
    /// The datacenter is to be stopped; true some seconds *before* its pods are gone.
    pub const STOPPED: &str = "Stopped";
    /// A stopped datacenter is being started.
    pub const RESUMING: &str = "Resuming";
    /// A change of the pods is being rolled out.
    pub const UPDATING: &str = "Updating";
    /// A change waits that cass-operator will not roll out by itself.
    pub const REQUIRES_UPDATE: &str = "RequiresUpdate";
}

/// The value of `status.cassandraOperatorProgress` while cass-operator has nothing to do.
pub const PROGRESS_READY: &str = "Ready";

/// The label of a pod with the name of its cluster, cleaned for labels.
pub const CLUSTER_LABEL: &str = "cassandra.datastax.com/cluster";

/// The label of a pod with the name of its CassandraDatacenter object, cleaned for labels.
pub const DATACENTER_LABEL: &str = "cassandra.datastax.com/datacenter";

/// The rack of a datacenter whose spec names none.
pub const DEFAULT_RACK: &str = "default";

/// What the datacenter should be.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cassandra.datastax.com",
    version = "v1beta1",
    kind = "CassandraDatacenter",
    namespaced,
    status = "CassandraDatacenterStatus",
    shortname = "cassdc",
    shortname = "cassdcs",
    doc = "A Cassandra datacenter; cass-operator's kind, of which this is the slice that backups need.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual"
)]
#[serde(rename_all = "camelCase")]
pub struct CassandraDatacenterSpec {
    /// The name of the Cassandra cluster, as Cassandra knows it.
    pub cluster_name: String,

    /// The name of the datacenter in Cassandra, when it is not that of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,

    /// The number of nodes.
    pub size: i32,

    /// The racks, over which the nodes are spread evenly; one named `default` when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<Rack>,

    /// Whether all pods are to be stopped, their volumes kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<bool>,

    /// The template of the pods, kept as it was written.
    // Not PodTemplateSpec: the template may leave out what cass-operator completes and hold what k8s-openapi lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub pod_template_spec: Option<Value>,
}

crate::schema::root_schema!(
    CassandraDatacenter,
    CassandraDatacenterSpec,
    CassandraDatacenterStatus,
    foreign,
    "A Cassandra datacenter; cass-operator's kind, of which this is the slice that backups need."
);

/// A rack of a datacenter.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// The name of the rack.
    pub name: String,
}

/// What cass-operator says of the datacenter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CassandraDatacenterStatus {
    /// The generation that cass-operator has finished with; written last of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// What cass-operator is doing: `Ready` or `Updating`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra_operator_progress: Option<String>,

    /// What is true of the datacenter now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DatacenterCondition>,

    /// The name of the datacenter in Cassandra, as it was fixed at its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,

    /// The nodes by the names of their pods; the addresses are old while the datacenter is stopped or starting.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_statuses: BTreeMap<String, NodeStatus>,
}

/// A condition as cass-operator writes it: reason and message may be empty, the time `null`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterCondition {
    /// The name of the condition.
    #[serde(rename = "type")]
    pub type_: String,

    /// `True`, `False` or `Unknown`.
    pub status: String,

    /// One word that says why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,

    /// One sentence that says why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,

    /// When the status of this condition last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// A node as cass-operator last saw it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's id in Cassandra.
    #[serde(rename = "hostID", default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,

    /// The address that the node had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,

    /// The rack of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}

impl CassandraDatacenter {
    /// The name of the datacenter in Cassandra, which is what backups record: `spec.datacenterName`, else the
    /// object's name. Empty for an object without a name.
    pub fn cassandra_name(&self) -> &str {
        self.spec
            .datacenter_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }

    /// The names of the racks in the order of the spec, [`DEFAULT_RACK`] when it names none.
    pub fn rack_names(&self) -> Vec<&str> {
        if self.spec.racks.is_empty() {
            return vec![DEFAULT_RACK];
        }
        self.spec.racks.iter().map(|rack| rack.name.as_str()).collect()
    }

    /// Whether cass-operator's condition of this type is `True`; false when it has never been written.
    pub fn is_condition_true(&self, type_: &str) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
        })
    }

    /// Whether cass-operator has finished with the newest generation of the object.
    ///
    /// It does not say that the pods follow it: cass-operator can lose a change of the template for good, and reports
    /// a datacenter as stopped before its pods are.
    pub fn is_settled(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.cassandra_operator_progress.as_deref() == Some(PROGRESS_READY)
                && status.observed_generation >= self.metadata.generation
        })
    }

    /// The template of the pods in Kubernetes' types, for reading.
    ///
    /// # Errors
    ///
    /// When the template is not one, with the field that is wrong.
    pub fn pod_template(&self) -> Result<Option<PodTemplateSpec>, serde_json::Error> {
        self.spec.pod_template_spec.as_ref().map(PodTemplateSpec::deserialize).transpose()
    }
}
