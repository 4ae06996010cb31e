//! A backup's life, from request to terminal: decisions, claims, and what the sidecars answered.
//!
//! `job` is the UID of the MedusaBackupJob: the operation's identity.

use crate::{Epoch, PodName, Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

family! { "backup":
    /// The job waits; written when what it waits for changes.
    Queued = "queued" v 1 critical,
    /// The job started: these nodes take part.
    Started = "started" v 1 critical,
    /// The intent of one call to a sidecar (law 1). Nothing is sent without it.
    EffectClaimed = "effect_claimed" v 1 critical,
    /// A claim that was not started in time: nothing was sent.
    ClaimAbandoned = "claim_abandoned" v 1 critical,
    /// The sidecar accepted the node's backup.
    NodeStarted = "node_started" v 1 critical,
    /// How far nodes are; at most one a datacenter and 30 s.
    Progress = "progress" v 1 informational,
    /// The sidecar says that the node's backup is complete.
    NodeFinished = "node_finished" v 1 critical,
    /// The sidecar says that the node's backup failed.
    NodeFailed = "node_failed" v 1 critical,
    /// A call ended without an answer that decides anything: it may or may not have had an effect.
    NodeUnanswered = "node_unanswered" v 1 critical,
    /// The node is given up: it counts as failed.
    NodeLost = "node_lost" v 1 critical,
    /// The outcome is decided, what remains is closing: all nodes have ended, or those at work are stopped.
    OutcomeDecided = "outcome_decided" v 1 critical,
    /// The summary of the whole backup, as a sidecar read it from the bucket.
    Summarised = "summarised" v 1 critical,
    /// The summary could not be read.
    SummaryFailed = "summary_failed" v 1 critical,
    /// Terminal: complete, and restorable.
    Completed = "completed" v 1 critical,
    /// Terminal: not complete.
    Failed = "failed" v 1 critical,
    /// The MedusaBackup object was created, or was there already under that name.
    ObjectCreated = "object_created" v 1 critical,
    /// The custom resource of a job that has ended is to be deleted: its time to live is over; its backup stays.
    Expired = "expired" v 1 critical,
}

/// Why a job waits, or why it was refused in the end. A closed vocabulary: it becomes the reason of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum WaitReason {
    /// No CassandraDatacenter of that name in the namespace.
    DatacenterNotFound,
    /// `spec.stopped` is true.
    DatacenterStopped,
    /// The datacenter has fewer pods than its size, or none.
    PodsMissing,
    /// A pod has no container `medusa`.
    SidecarMissing,
    /// A pod's sidecar is not ready, or the pod has no address.
    SidecarNotReady,
    /// Another operation runs on the datacenter.
    OperationRunning,
    /// `spec.suspend` of the job is true.
    Suspended,
}

/// The job waits.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Queued {
    /// The job.
    pub job: Uid,
    /// What it waits for.
    pub reason: WaitReason,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// The job started.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Started {
    /// The job.
    pub job: Uid,
    /// The pods that take part, by name.
    pub nodes: Vec<PodName>,
}

/// What a claim covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Start a node's backup and follow it.
    Start(PodName),
    /// Find out what became of a start (or follow one), without ever starting a second one.
    Resume(PodName),
    /// Let a node's backup end: break it off where the sidecar can, else follow it. Nothing is ever started.
    Stop(PodName),
    /// Read the backup's summary through this pod.
    Summary(PodName),
}

impl Call {
    /// The pod that is called.
    #[must_use]
    pub const fn pod(&self) -> &PodName {
        match self {
            Self::Start(pod) | Self::Resume(pod) | Self::Stop(pod) | Self::Summary(pod) => pod,
        }
    }
}

/// The intent of a call.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct EffectClaimed {
    /// The job.
    pub job: Uid,
    /// What is claimed.
    pub call: Call,
    /// The attempt, from 1; a resumed call keeps its attempt.
    pub attempt: u32,
    /// Which claim on this node it is, from 1: it tells two calls of one attempt apart.
    pub serial: u32,
    /// The term in which it may be started.
    pub epoch: Epoch,
}

/// A claim that was never started.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ClaimAbandoned {
    /// The job.
    pub job: Uid,
    /// What was claimed.
    pub call: Call,
    /// The attempt.
    pub attempt: u32,
    /// Which claim on this node it is, from 1: it tells two calls of one attempt apart.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
}

/// Which program answers in the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarKind {
    /// `stheno agent`: calls are idempotent, state is streamed.
    Stheno,
    /// Python Medusa: calls are not idempotent, state is polled.
    Medusa,
}

/// The sidecar accepted.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeStarted {
    /// The job.
    pub job: Uid,
    /// The pod.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// Who answered.
    pub sidecar: SidecarKind,
}

/// How far nodes are.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub job: Uid,
    /// The nodes that moved.
    pub nodes: Vec<NodeProgress>,
}

/// How far one node is.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeProgress {
    /// The pod.
    pub pod: PodName,
    /// Bytes in the bucket, reused ones included.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Files in the bucket.
    pub files: u64,
    /// Files in all.
    pub files_total: u64,
}

/// A node's backup is complete.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeFinished {
    /// The job.
    pub job: Uid,
    /// The pod.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// Bytes of the node's backup; absent where the sidecar does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Files of the node's backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Files that were in the bucket already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused: Option<u64>,
}

/// A node's backup failed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeFailed {
    /// The job.
    pub job: Uid,
    /// The pod.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// What the sidecar said, one sentence.
    pub reason: Arc<str>,
    /// Whether another attempt is safe and may succeed.
    pub retryable: bool,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeUnanswered {
    /// The job.
    pub job: Uid,
    /// What was called.
    pub call: Call,
    /// The attempt.
    pub attempt: u32,
    /// Which claim on this node it is, from 1: it tells two calls of one attempt apart.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
    /// Whether the request may have reached the sidecar. False only when no connection was made.
    pub in_doubt: bool,
    /// The sidecar answered, but knows nothing of this backup.
    #[serde(default)]
    pub not_found: bool,
    /// When the sidecar last answered in the course of this call: with a state of the backup, or, while the stream of its
    /// states was open, that it is there. An error is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Time>,
    /// The error, one sentence.
    pub error: Arc<str>,
}

/// A node is given up.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeLost {
    /// The job.
    pub job: Uid,
    /// The pod.
    pub pod: PodName,
    /// Why, one sentence.
    pub reason: Arc<str>,
}

/// How a backup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Outcome {
    /// Every node is complete.
    Complete,
    /// Some nodes are complete: not restorable.
    Partial,
    /// No node is complete.
    Failed,
    /// It never started.
    Refused,
    /// The datacenter was replaced by another one of the same name.
    DatacenterReplaced,
    /// It ran for longer than it may, and was stopped.
    DeadlineExceeded,
    /// A person cancelled it.
    Cancelled,
}

impl Outcome {
    /// Whether it may be decided while nodes are at work, whose ends are waited for before the operation ends.
    #[must_use]
    pub const fn stops(self) -> bool {
        match self {
            Self::DeadlineExceeded | Self::Cancelled => true,
            Self::Complete | Self::Partial | Self::Failed | Self::Refused | Self::DatacenterReplaced => false,
        }
    }
}

/// The outcome is decided.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct OutcomeDecided {
    /// The job.
    pub job: Uid,
    /// The outcome.
    pub outcome: Outcome,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// A node of a backup as the bucket knows it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct BackupNode {
    /// The node's name in object keys.
    pub host: Arc<str>,
    /// Its tokens.
    pub tokens: Vec<i64>,
    /// Its Cassandra datacenter.
    pub datacenter: Arc<str>,
    /// Its rack.
    pub rack: Arc<str>,
}

/// The summary of a backup.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Summarised {
    /// The job.
    pub job: Uid,
    /// When the first node started, by the store's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When the last node finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// Nodes that belong to it.
    pub total_nodes: i32,
    /// Nodes that are complete.
    pub finished_nodes: i32,
    /// Its topology.
    pub nodes: Vec<BackupNode>,
    /// Objects of all nodes.
    pub files: i64,
    /// Bytes of all nodes.
    pub bytes: i64,
    /// Whether the sidecar says SUCCESS.
    pub complete: bool,
}

/// The summary could not be read.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SummaryFailed {
    /// The job.
    pub job: Uid,
    /// The pod that was asked.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// The term of the claim.
    pub epoch: Epoch,
    /// The error, one sentence.
    pub error: Arc<str>,
}

/// Terminal: complete.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Completed {
    /// The job.
    pub job: Uid,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// Terminal: not complete.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Failed {
    /// The job.
    pub job: Uid,
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// The MedusaBackup object exists.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ObjectCreated {
    /// The job.
    pub job: Uid,
    /// UID of the MedusaBackup.
    pub uid: Uid,
    /// It was there before, made by somebody else: it stays as it is.
    #[serde(default)]
    pub foreign: bool,
}

/// The custom resource is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Expired {
    /// The job.
    pub job: Uid,
}

impl Event {
    /// The job that the event is about.
    #[must_use]
    pub const fn job(&self) -> &Uid {
        match self {
            Self::Queued(e) => &e.job,
            Self::Started(e) => &e.job,
            Self::EffectClaimed(e) => &e.job,
            Self::ClaimAbandoned(e) => &e.job,
            Self::NodeStarted(e) => &e.job,
            Self::Progress(e) => &e.job,
            Self::NodeFinished(e) => &e.job,
            Self::NodeFailed(e) => &e.job,
            Self::NodeUnanswered(e) => &e.job,
            Self::NodeLost(e) => &e.job,
            Self::OutcomeDecided(e) => &e.job,
            Self::Summarised(e) => &e.job,
            Self::SummaryFailed(e) => &e.job,
            Self::Completed(e) => &e.job,
            Self::Failed(e) => &e.job,
            Self::ObjectCreated(e) => &e.job,
            Self::Expired(e) => &e.job,
        }
    }
}
