//! What people ask for: the custom resources, their schemas, and the words of their conditions.
//!
//! The six kinds of `medusa.k8ssandra.io/v1alpha1` are those of k8ssandra-operator: every manifest that it accepts is
//! accepted here (`tests/shapes.rs` compares with its published schemas). Fields of our own stand beside theirs, are
//! optional, and have no defaults. `K8ssandraCluster` and `CassandraDatacenter` belong to others: only the slice that
//! is read here is written down, so their schemas must never be applied over installed ones.
//!
//! Nothing here decides, and nothing here talks to an API server.
#![expect(
    clippy::duplicated_attributes,
    reason = "it takes two columns of the same type for one attribute written twice"
)]

pub mod backup;
pub mod backup_job;
pub mod backup_schedule;
pub mod cluster;
pub mod configuration;
pub mod datacenter;
pub mod medusa;
pub mod restore_job;
mod schema;
pub mod task;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use backup::{MedusaBackup, MedusaBackupSpec, MedusaBackupStatus};
pub use backup_job::{BackupType, MedusaBackupJob, MedusaBackupJobSpec, MedusaBackupJobStatus};
pub use backup_schedule::{MedusaBackupSchedule, MedusaBackupScheduleSpec, MedusaBackupScheduleStatus};
pub use cluster::{K8ssandraCluster, K8ssandraClusterSpec, K8ssandraClusterStatus};
pub use configuration::{MedusaConfiguration, MedusaConfigurationSpec, MedusaConfigurationStatus};
pub use datacenter::{CassandraDatacenter, CassandraDatacenterSpec, CassandraDatacenterStatus};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
pub use restore_job::{MedusaRestoreJob, MedusaRestoreJobSpec, MedusaRestoreJobStatus};
pub use task::{MedusaTask, MedusaTaskSpec, MedusaTaskStatus};

/// The API group of the six Medusa kinds.
pub const GROUP: &str = "medusa.k8ssandra.io";

/// The only version of the six Medusa kinds, served and stored.
pub const VERSION: &str = "v1alpha1";

/// The six Medusa kinds, in the order of [`all_crds`].
pub const KINDS: [&str; 6] = [
    "MedusaBackupJob",
    "MedusaBackup",
    "MedusaBackupSchedule",
    "MedusaRestoreJob",
    "MedusaTask",
    "MedusaConfiguration",
];

/// The types of conditions in the statuses that we write.
///
/// Only the names stand here, because users and scripts wait for them; when a condition is true, its reasons and its
/// sentences belong to the projection that writes it.
pub mod condition {
    /// The request waits for something, and the message says for what.
    pub const QUEUED: &str = "Queued";
    /// A person holds the request back: nothing is started for it, as with a Kubernetes Job.
    pub const SUSPENDED: &str = "Suspended";
    /// The request is being worked on.
    pub const PROGRESSING: &str = "Progressing";
    /// The request waits for a person's consent, and the message says to what and how.
    pub const NEEDS_APPROVAL: &str = "NeedsApproval";
    /// The request ended well.
    pub const COMPLETE: &str = "Complete";
    /// The request ended, and not well; the message says why.
    pub const FAILED: &str = "Failed";
    /// The request will fail: what runs for it is being stopped, as with a Kubernetes Job.
    pub const FAILURE_TARGET: &str = "FailureTarget";
    /// A MedusaConfiguration can be used (k8ssandra-operator's name); a schedule will start something at its next time.
    pub const READY: &str = "Ready";
    /// The secret that a MedusaConfiguration names is there (k8ssandra-operator's name).
    pub const SECRET_AVAILABLE: &str = "SecretAvailable";
    /// The log holds critical events that this binary does not know.
    pub const LOG_NEWER_THAN_OPERATOR: &str = "LogNewerThanOperator";
    /// The log is the one that the witness remembers, whole.
    pub const LOG_INTEGRITY: &str = "LogIntegrity";
    /// What the log's settings promise when a machine fails.
    pub const DURABILITY: &str = "Durability";
    /// The wall clock and the log server's clock are apart.
    pub const CLOCK_SKEW: &str = "ClockSkew";

    /// Every type above: a condition of another type is never written by us.
    pub const ALL: [&str; 13] = [
        QUEUED,
        SUSPENDED,
        PROGRESSING,
        NEEDS_APPROVAL,
        COMPLETE,
        FAILED,
        FAILURE_TARGET,
        READY,
        SECRET_AVAILABLE,
        LOG_NEWER_THAN_OPERATOR,
        LOG_INTEGRITY,
        DURABILITY,
        CLOCK_SKEW,
    ];
}

/// Why the definitions could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition has no YAML form.
    #[error("the definition of {name} cannot be written as YAML; report this as a defect")]
    Yaml {
        /// The definition's name, `<plural>.<group>`.
        name: String,
        /// What the serializer said.
        #[source]
        source: serde_yaml_ng::Error,
    },
}

/// The definitions of the six Medusa kinds, in the order of [`KINDS`].
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![
        MedusaBackupJob::crd(),
        MedusaBackup::crd(),
        MedusaBackupSchedule::crd(),
        MedusaRestoreJob::crd(),
        MedusaTask::crd(),
        MedusaConfiguration::crd(),
    ]
}

/// Definitions of the kinds that belong to k8ssandra-operator and cass-operator, for API servers that lack them.
///
/// They hold a slice and preserve every other field. Applied over the real ones they would take validation and
/// defaults away from their owners, so they are no part of [`all_crds`].
pub fn foreign_crds() -> Vec<CustomResourceDefinition> {
    vec![K8ssandraCluster::crd(), CassandraDatacenter::crd()]
}

/// [`all_crds`] as one YAML stream, the same bytes at each call.
///
/// # Errors
///
/// [`Error::Yaml`] when a definition has no YAML form, which would be a defect of this crate.
pub fn all_crds_yaml() -> Result<String, Error> {
    let mut stream = String::new();
    for crd in all_crds() {
        let document = serde_yaml_ng::to_string(&crd)
            .map_err(|source| Error::Yaml { name: crd.metadata.name.clone().unwrap_or_default(), source })?;
        stream.push_str("---\n");
        stream.push_str(&document);
    }
    Ok(stream)
}
