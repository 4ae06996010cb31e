//! The medusa section: storage, service and containers; storage is shared with MedusaConfiguration.
//!
//! The defaults are those of the schema and are filled in by the API server. They are no defaults of these types:
//! merging a cluster with its MedusaConfiguration has to see which values are there.

use k8s_openapi::api::core::v1::{ObjectReference, Probe, ResourceRequirements, SecurityContext};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How Medusa runs beside the nodes of a cluster, and where it stores their backups.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedusaSection {
    /// The MedusaConfiguration, in the cluster's namespace, whose storage properties the cluster shares.
    // An ObjectReference as in k8ssandra-operator's schema, though only its name may be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub medusa_configuration_ref: Option<ObjectReference>,

    /// The image of the sidecar and of the init container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_image: Option<ContainerImage>,

    /// The security context of both containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// The secret with `username` and `password` for CQL; generated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra_user_secret_ref: Option<SecretReference>,

    /// Where backups are stored, and how; what is set here wins over the MedusaConfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_properties: Option<StorageProperties>,

    /// How the sidecar serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_properties: Option<ServiceProperties>,

    /// The secret with `rootca.crt`, `client.crt_signed` and `client.key` for CQL; deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_secret_ref: Option<SecretReference>,

    /// The certificates for CQL when client encryption is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_encryption_stores: Option<EncryptionStores>,

    /// The resources of the init container `medusa-restore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_container_resources: Option<ResourceRequirements>,

    /// The resources of the container `medusa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_resources: Option<ResourceRequirements>,

    /// The delays and thresholds of the sidecar's readiness probe; its handler cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,

    /// The delays and thresholds of the sidecar's liveness probe; its handler cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,

    /// Whether old backups are purged each midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub purge_backups: Option<bool>,
}

/// Where backups are stored, and how.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageProperties {
    /// The kind of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_provider: Option<StorageProvider>,

    /// Whether the pod's own role or the storage secret opens the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_type: Option<CredentialsType>,

    /// The secret whose key `credentials` holds the storage's credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_secret_ref: Option<SecretReference>,

    /// The name of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_name: Option<String>,

    /// The folder in the bucket that keeps this cluster apart from others; the cluster's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// The age in days after which a backup may be purged; 0 is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer", extend("default" = 0))]
    pub max_backup_age: Option<i64>,

    /// The number of backups that are kept; 0 is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer", extend("default" = 0))]
    pub max_backup_count: Option<i64>,

    /// The profile in the credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_profile: Option<String>,

    /// The most that a node transfers, such as `50MB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "50MB/s"))]
    pub transfer_max_bandwidth: Option<String>,

    /// The number of files that a node transfers at once; 0 is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer", extend("default" = 0))]
    pub concurrent_transfers: Option<i64>,

    /// The size in bytes above which a file is uploaded in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer", extend("default" = 104_857_600))]
    pub multi_part_upload_threshold: Option<i64>,

    /// The host of the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,

    /// The region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// The port of the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub port: Option<i64>,

    /// Whether the storage is spoken to with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,

    /// Whether the storage's certificate is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_verify: Option<bool>,

    /// The age in days that an unreferenced file must have to be purged; Medusa's default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub backup_grace_period_in_days: Option<i64>,

    /// The volume for `local` storage; accepted, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_storage: Option<PodStorage>,
}

/// A kind of storage, by Medusa's names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageProvider {
    /// Google Cloud Storage.
    GoogleStorage,
    /// Azure Blob Storage.
    AzureBlobs,
    /// Amazon S3.
    S3,
    /// A server that speaks S3.
    S3Compatible,
    /// Ceph's object gateway.
    S3Rgw,
    /// IBM Cloud Object Storage.
    IbmStorage,
    /// A folder on the node, for tests; k8ssandra-operator's schema lacks it.
    Local,
}

/// What opens the storage.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsType {
    /// The role of the pod's service account.
    RoleBased,
    /// The storage secret.
    CredentialBased,
}

/// The volume for `local` storage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStorage {
    /// The storage class of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,

    /// The size of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::quantity", extend("default" = "10Gi"))]
    pub size: Option<IntOrString>,

    /// The access modes of the volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
}

/// How the sidecar serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProperties {
    /// The port of the sidecar's gRPC service; 50051 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub grpc_port: Option<i64>,

    /// The certificates of the gRPC service; without them it speaks plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<GrpcEncryption>,
}

/// The secrets for mutual TLS between operator and sidecar, each with `ca.crt`, `tls.crt` and `tls.key`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcEncryption {
    /// The secret that the operator shows.
    pub client_secret_name: String,

    /// The secret that the sidecar shows.
    pub server_secret_name: String,
}

/// An image, part by part; an absent part keeps the default's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// The registry, such as `docker.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,

    /// The repository, such as `k8ssandra`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,

    /// The name, such as `medusa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "latest"))]
    pub tag: Option<String>,

    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,

    /// The secret to pull with; accepted, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretReference>,
}

/// When an image is pulled, by Kubernetes' names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// When the machine lacks it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The certificates for CQL, by k8ssandra-operator's names, which do not say what is in them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionStores {
    /// The certificate of the authority.
    pub keystore_secret_ref: SecretKeyReference,

    /// The certificate of the client.
    pub truststore_secret_ref: SecretKeyReference,

    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystore_password_secret_ref: Option<SecretKeyReference>,

    /// The key of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truststore_password_secret_ref: Option<SecretKeyReference>,
}

/// A secret in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// The name of the secret; empty is none.
    #[serde(default)]
    pub name: String,
}

/// A key of a secret in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeyReference {
    /// The name of the secret; empty is none.
    #[serde(default)]
    pub name: String,

    /// The key in the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
