//! What the API server showed: the fields of objects that decisions rest on, and nothing that is secret.

use crate::{PodName, Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

family! { "observed":
    /// A MedusaBackupJob appeared, or what we read of it changed.
    BackupJob = "backup_job" v 1 critical,
    /// A MedusaBackup appeared, or what we read of it changed.
    Backup = "backup" v 1 critical,
    /// A MedusaBackupSchedule appeared, or what we read of it changed.
    Schedule = "schedule" v 1 critical,
    /// A MedusaTask appeared, or what we read of it changed.
    Task = "task" v 1 critical,
    /// A CassandraDatacenter appeared, or what we read of it changed.
    Datacenter = "datacenter" v 1 critical,
    /// A pod of a datacenter appeared, or what we read of it changed.
    Pod = "pod" v 1 critical,
    /// An object that a successful list or a watch says is there no more.
    Gone = "gone" v 1 critical,
    /// The status that an object had when the log met it for the first time: read once, never again.
    Adopted = "adopted" v 1 critical,
    /// An object that cannot be read: it stalls nobody else.
    Malformed = "malformed" v 1 informational,
    /// Watch events may have been missed between two resource versions.
    Gap = "gap" v 1 informational,
    /// A scope cannot be listed (forbidden, or the kind is not installed): what depends on it waits.
    Unobservable = "unobservable" v 1 critical,
    /// The scope can be listed again.
    Observable = "observable" v 1 critical,
}

/// The kinds of objects that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
pub enum ObjectKind {
    /// `medusa.k8ssandra.io/v1alpha1`.
    MedusaBackupJob,
    /// `medusa.k8ssandra.io/v1alpha1`.
    MedusaBackup,
    /// `medusa.k8ssandra.io/v1alpha1`.
    MedusaBackupSchedule,
    /// `medusa.k8ssandra.io/v1alpha1`.
    MedusaTask,
    /// `cassandra.datastax.com/v1beta1`.
    CassandraDatacenter,
    /// `v1`.
    Pod,
}

impl ObjectKind {
    /// The kind as Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MedusaBackupJob => "MedusaBackupJob",
            Self::MedusaBackup => "MedusaBackup",
            Self::MedusaBackupSchedule => "MedusaBackupSchedule",
            Self::MedusaTask => "MedusaTask",
            Self::CassandraDatacenter => "CassandraDatacenter",
            Self::Pod => "Pod",
        }
    }
}

/// Which version of which object was seen.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Meta {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// `metadata.generation`, 0 for kinds without one.
    #[serde(default)]
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Time,
    /// `metadata.deletionTimestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Time>,
}

/// How much of a node's data a backup copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Files that an earlier differential backup holds are referred to, not copied.
    #[default]
    Differential,
    /// A private copy of everything.
    Full,
}

impl BackupType {
    /// As it stands in the custom resource.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Full => "full",
        }
    }
}

/// Annotation of a MedusaBackupJob: it is cancelled. The value says why; `true` says nothing, `false` is no wish.
pub const CANCEL: &str = "stheno.io/cancel";

/// How a backup job is carried out: the rules of its spec, in the words of the Kubernetes Job API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
pub struct JobRules {
    /// `spec.parallelism`: nodes at work at one time; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// `spec.backoffLimit`: how often the backup of a node is tried again; twice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<u32>,
    /// `spec.activeDeadlineSeconds`: from its start; after that what runs is stopped. 24 hours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline: Option<u32>,
    /// `spec.ttlSecondsAfterFinished`: after its end the custom resource is deleted; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// `spec.suspend`: no node is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

impl JobRules {
    /// Whether nothing but the usual is asked for.
    #[must_use]
    pub fn usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A MedusaBackupJob as a request.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct BackupJob {
    /// Identity and version.
    pub meta: Meta,
    /// `spec.cassandraDatacenter`, as typed.
    pub dc: Arc<str>,
    /// `spec.backupType`.
    #[serde(default)]
    pub backup_type: BackupType,
    /// Whether the object has an owner.
    #[serde(default)]
    pub owned: bool,
    /// Label `stheno.io/schedule`: UID of the MedusaBackupSchedule that made it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Uid>,
    /// How it is carried out.
    #[serde(default, skip_serializing_if = "JobRules::usual")]
    pub rules: JobRules,
    /// The annotations that we give meaning to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
}

impl BackupJob {
    /// Whether a person wishes it cancelled, and why: empty where that is not said.
    #[must_use]
    pub fn cancelled(&self) -> Option<&str> {
        match self.annotations.get(CANCEL)?.trim() {
            "false" => None,
            "true" => Some(""),
            why => Some(why),
        }
    }
}

/// A MedusaBackup object.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Backup {
    /// Identity and version.
    pub meta: Meta,
    /// `spec.cassandraDatacenter`.
    pub dc: Arc<str>,
    /// `spec.backupType`.
    #[serde(default)]
    pub backup_type: BackupType,
    /// Label `stheno.io/operation`: UID of the job that made it, where it is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Uid>,
}

/// What a schedule starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduledOperation {
    /// A MedusaBackupJob.
    #[default]
    Backup,
    /// A MedusaTask that purges.
    Purge,
}

impl ScheduledOperation {
    /// As it stands in the custom resource.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Purge => "purge",
        }
    }
}

/// Which slots are made up for when they could not start in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
pub enum CatchUp {
    /// None.
    None,
    /// The latest.
    #[default]
    Latest,
    /// Each of them.
    All,
}

impl CatchUp {
    /// As it stands in the custom resource.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Latest => "Latest",
            Self::All => "All",
        }
    }
}

/// A MedusaBackupSchedule.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Schedule {
    /// Identity and version.
    pub meta: Meta,
    /// `spec.backupSpec.cassandraDatacenter`, as typed.
    pub dc: Arc<str>,
    /// `spec.backupSpec.backupType`.
    #[serde(default)]
    pub backup_type: BackupType,
    /// The other fields of `spec.backupSpec`: how its jobs are carried out.
    #[serde(default, skip_serializing_if = "JobRules::usual")]
    pub rules: JobRules,
    /// `spec.cronSchedule`, as typed.
    pub cron: Arc<str>,
    /// `spec.timeZone`, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Arc<str>>,
    /// `spec.suspend` or `spec.disabled`.
    #[serde(default)]
    pub suspended: bool,
    /// `spec.operationType`.
    #[serde(default)]
    pub operation: ScheduledOperation,
    /// `spec.concurrencyPolicy`, as typed: the API server takes any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Arc<str>>,
    /// `spec.catchUp`.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// `spec.startingDeadlineSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<u32>,
    /// `spec.successfulJobsHistoryLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_complete: Option<u32>,
    /// `spec.failedJobsHistoryLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_failed: Option<u32>,
    /// Whether the object has an owner.
    #[serde(default)]
    pub owned: bool,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOperation {
    /// Makes what is known of backups match what the bucket holds.
    Sync,
    /// Removes the backups that the retention settings let go.
    Purge,
    /// Has each sidecar store which node it is to restore.
    PrepareRestore,
}

impl TaskOperation {
    /// As it stands in the custom resource.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Purge => "purge",
            Self::PrepareRestore => "prepare_restore",
        }
    }
}

/// A MedusaTask as a request.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Task {
    /// Identity and version.
    pub meta: Meta,
    /// `spec.cassandraDatacenter`, as typed.
    pub dc: Arc<str>,
    /// `spec.operation`.
    pub operation: TaskOperation,
    /// `spec.backupName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Arc<str>>,
    /// `spec.restoreKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_key: Option<Arc<str>>,
    /// Whether the object has an owner.
    #[serde(default)]
    pub owned: bool,
    /// Its labels: the sync that follows a purge inherits them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The annotations that we give meaning to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
}

/// A CassandraDatacenter.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Datacenter {
    /// Identity and version.
    pub meta: Meta,
    /// `spec.clusterName`.
    pub cluster: Arc<str>,
    /// `spec.datacenterName`, where it differs from the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<Arc<str>>,
    /// `spec.size`: nodes wanted.
    pub size: i32,
    /// Names of `spec.racks`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<Arc<str>>,
    /// `spec.stopped`.
    #[serde(default)]
    pub stopped: bool,
    /// `status.observedGeneration`.
    #[serde(default)]
    pub observed_generation: i64,
    /// `status.cassandraOperatorProgress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Arc<str>>,
    /// `status.conditions`: type to status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<Arc<str>, Arc<str>>,
}

/// A pod of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Pod {
    /// Identity and version.
    pub meta: Meta,
    /// Label `cassandra.datastax.com/cluster`.
    pub cluster: Arc<str>,
    /// `status.podIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Arc<str>>,
    /// The container `medusa`, where the pod has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
}

impl Pod {
    /// The pod's name as the key by which nodes are followed.
    #[must_use]
    pub fn name(&self) -> PodName {
        PodName::from(self.meta.name.clone())
    }

    /// Whether its sidecar can be called: the pod has an address, and the readiness probe passes.
    #[must_use]
    pub fn callable(&self) -> bool {
        self.ip.is_some() && self.sidecar.as_ref().is_some_and(|sidecar| sidecar.ready)
    }
}

/// The sidecar container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its port named `grpc`, else 50051.
    pub port: u16,
    /// Whether its readiness probe passes.
    pub ready: bool,
}

/// An object that is there no more.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Gone {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub name: Arc<str>,
    /// Concluded from a complete list that lacks it, not told by a watch.
    #[serde(default)]
    pub inferred: bool,
}

/// An object from before this log, with what another program said of it: of a MedusaBackupJob or a MedusaTask its status; of
/// a MedusaBackupSchedule at most when it last started something.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Adopted {
    /// The kind of the object.
    pub kind: ObjectKind,
    /// Its UID.
    pub uid: Uid,
    /// `status.startTime`; of a schedule `status.lastExecution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// `status.finishTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// `status.inProgress`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<PodName>,
    /// `status.finished`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished_pods: Vec<PodName>,
    /// `status.failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_pods: Vec<PodName>,
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Malformed {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its UID, as far as it can be read.
    pub uid: Uid,
    /// Its name.
    pub name: Arc<str>,
    /// What is wrong with it, one sentence.
    pub reason: Arc<str>,
}

/// Watch events may have been missed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Gap {
    /// The kind watched.
    pub kind: ObjectKind,
    /// The last resource version seen before.
    pub from: Arc<str>,
    /// The first one seen after.
    pub to: Arc<str>,
    /// Whether versions ran backwards: the API server's store was put back to an older state.
    #[serde(default)]
    pub backwards: bool,
}

/// A scope that cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Unobservable {
    /// The kind.
    pub kind: ObjectKind,
    /// The API server's answer, one sentence.
    pub reason: Arc<str>,
}

/// A scope that can be listed again.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Observable {
    /// The kind.
    pub kind: ObjectKind,
}
