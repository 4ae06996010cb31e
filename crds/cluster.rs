//! K8ssandraCluster: the slice of k8ssandra-operator's kind that we read.
//!
//! Its real schema has 34,400 lines. This one preserves what it does not name and must not replace an installed one.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::datacenter::CassandraDatacenterStatus;
use crate::medusa::{MedusaSection, SecretReference};

/// The value of `status.error` while nothing is wrong.
pub const NO_ERROR: &str = "None";

/// What the cluster should be.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "k8ssandra.io",
    version = "v1alpha1",
    kind = "K8ssandraCluster",
    namespaced,
    status = "K8ssandraClusterStatus",
    shortname = "k8c",
    shortname = "k8cs",
    doc = "A Cassandra cluster; k8ssandra-operator's kind, of which this is the slice that backups need.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual",
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", description = "Latest reconcile error")
)]
#[serde(rename_all = "camelCase")]
pub struct K8ssandraClusterSpec {
    /// Whether Cassandra asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub auth: Option<bool>,

    /// Who brings the secrets into the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "internal"))]
    pub secrets_provider: Option<SecretsProvider>,

    /// The names of datacenters of this cluster that nobody here manages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_datacenters: Vec<String>,

    /// The nodes of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraSection>,

    /// How backups are made; absent is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medusa: Option<MedusaSection>,
}

crate::schema::root_schema!(
    K8ssandraCluster,
    K8ssandraClusterSpec,
    K8ssandraClusterStatus,
    foreign,
    "A Cassandra cluster; k8ssandra-operator's kind, of which this is the slice that backups need."
);

/// Who brings the secrets into the pods.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretsProvider {
    /// Kubernetes secrets, generated where they are missing.
    Internal,
    /// Something outside; no secret is generated or mounted.
    External,
}

/// What all datacenters of the cluster have in common, and the datacenters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CassandraSection {
    /// The name of the cluster in Cassandra, when it is not that of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,

    /// The secret of the superuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superuser_secret_ref: Option<SecretReference>,

    /// The stores for client encryption; their presence is half of switching it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub client_encryption_stores: Option<Value>,

    /// The service account of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,

    /// Whether the containers of the pods may not write outside their volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,

    /// Labels and annotations for what is made for the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ClusterMetadata>,

    /// What each datacenter may say otherwise.
    #[serde(flatten)]
    pub template: DatacenterTemplate,

    /// The datacenters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<DatacenterSection>,
}

/// Labels and annotations for what is made for the cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMetadata {
    /// Labels of every object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub common_labels: BTreeMap<String, String>,

    /// Annotations of every object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub common_annotations: BTreeMap<String, String>,

    /// Annotations of the CassandraDatacenter objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,

    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodMetadata>,
}

/// Annotations of the pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// The annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a cluster and each of its datacenters can say of their nodes; the datacenter's word wins.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterTemplate {
    /// The configuration of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<CassandraConfig>,

    /// Who may call the management API of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_api_auth: Option<ManagementApiAuth>,

    /// Further containers of the pods, or those of the same name in the place where they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Named>,

    /// Further init containers of the pods, or those of the same name in the place where they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Named>,

    /// Further volumes of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_volumes: Option<ExtraVolumes>,
}

/// The configuration of the nodes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CassandraConfig {
    /// What cassandra.yaml is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub cassandra_yaml: Option<Value>,
}

/// Who may call the management API of the nodes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagementApiAuth {
    /// Who shows a certificate of these secrets; everybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<ManualAuth>,
}

/// The secrets for mutual TLS with the management API.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManualAuth {
    /// The secret that callers show.
    pub client_secret_name: String,

    /// The secret that the management API shows.
    pub server_secret_name: String,
}

/// Further volumes of the pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolumes {
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Named>,
}

/// Something in a pod, of which only the name is read.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// The name.
    pub name: String,
}

/// A datacenter of the cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterSection {
    /// The name and namespace of the CassandraDatacenter object.
    pub metadata: DatacenterMetadata,

    /// The Kubernetes cluster of the datacenter; the one of the K8ssandraCluster when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_context: Option<String>,

    /// The name of the datacenter in Cassandra, when it is not that of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,

    /// The number of nodes.
    #[schemars(range(min = 1))]
    pub size: i32,

    /// Whether all pods are to be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub stopped: Option<bool>,

    /// The racks of the datacenter; one named `default` when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<RackSection>,

    /// What this datacenter says otherwise than the cluster.
    #[serde(flatten)]
    pub template: DatacenterTemplate,
}

/// The name and namespace of a CassandraDatacenter object.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterMetadata {
    /// The name of the object.
    pub name: String,

    /// The namespace of the object; that of the K8ssandraCluster when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,

    /// Annotations of the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,

    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodMetadata>,
}

/// A rack of a datacenter.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RackSection {
    /// The name of the rack.
    #[schemars(length(min = 2))]
    pub name: String,
}

/// What is said of the cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct K8ssandraClusterStatus {
    /// What is wrong, or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "None"))]
    pub error: Option<String>,

    /// What is true of the cluster now, one entry a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<crate::datacenter::DatacenterCondition>,

    /// The datacenters by the names of their objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datacenters: BTreeMap<String, DatacenterReport>,

    /// The generation that k8ssandra-operator has finished with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What is said of one datacenter of the cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterReport {
    /// The status of the CassandraDatacenter object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraDatacenterStatus>,

    /// The Kubernetes cluster of the datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_name: Option<String>,
}
