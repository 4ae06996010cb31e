//! MedusaConfiguration: storage properties that several clusters share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::medusa::StorageProperties;

/// What the clusters share.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaConfiguration",
    namespaced,
    status = "MedusaConfigurationStatus",
    doc = "Storage properties that several K8ssandraClusters share.",
    derive = "Default",
    derive = "PartialEq",
    schema = "manual"
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationSpec {
    /// Where backups are stored, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_properties: Option<StorageProperties>,
}

crate::schema::root_schema!(
    MedusaConfiguration,
    MedusaConfigurationSpec,
    MedusaConfigurationStatus,
    ours,
    "Storage properties that several K8ssandraClusters share."
);

/// Whether the configuration can be used.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationStatus {
    /// What is true of this configuration now, one entry a type: `SecretAvailable` and `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}
