//! A task's life: purges, syncs and preparations of restores; decisions, claims, and what the sidecars answered.
//!
//! `task` is the UID of the MedusaTask: the operation's identity.

use crate::backup::{BackupNode, Outcome, SidecarKind, WaitReason};
use crate::observed::BackupType;
use crate::{Digest, Epoch, PodName, Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

family! { "task":
    /// The task waits; written when what it waits for changes.
    Queued = "queued" v 1 critical,
    /// The task waits for a person's consent, which an annotation gives.
    ApprovalNeeded = "approval_needed" v 1 critical,
    /// The task started: these nodes take part.
    Started = "started" v 1 critical,
    /// The intent of one call to a sidecar (law 1). Nothing is sent without it.
    EffectClaimed = "effect_claimed" v 1 critical,
    /// A claim that was not started in time: nothing was sent.
    ClaimAbandoned = "claim_abandoned" v 1 critical,
    /// The sidecar did what it was asked for.
    NodeFinished = "node_finished" v 1 critical,
    /// The sidecar answered that it could not.
    NodeFailed = "node_failed" v 1 critical,
    /// A call ended without an answer that decides anything: it may or may not have had an effect.
    NodeUnanswered = "node_unanswered" v 1 critical,
    /// The node is given up: it counts as failed.
    NodeLost = "node_lost" v 1 critical,
    /// A page of what the bucket holds: where it differs from what is known of this datacenter's backups.
    Listed = "listed" v 1 critical,
    /// What a purge would remove, as a sidecar plans it; asked before anything is removed.
    Planned = "planned" v 1 critical,
    /// What is known of backups is brought in line with the listing: the intent of creating and deleting their objects.
    Reconciled = "reconciled" v 1 critical,
    /// A purge asks for a sync: the intent of creating that task.
    SyncRequested = "sync_requested" v 1 critical,
    /// Terminal: done.
    Completed = "completed" v 1 critical,
    /// Terminal: not done, or not everywhere.
    Failed = "failed" v 1 critical,
    /// The sync that a purge asked for was created, or a task was there already under that name.
    SyncCreated = "sync_created" v 1 critical,
    /// The MedusaBackup of a backup that a sync found was created, or one was there already under that name.
    BackupCreated = "backup_created" v 1 critical,
}

/// The task waits.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Queued {
    /// The task.
    pub task: Uid,
    /// What it waits for.
    pub reason: WaitReason,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// The task waits for consent.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ApprovalNeeded {
    /// The task.
    pub task: Uid,
    /// What the annotation `stheno.io/approve` must say: it is bound to what would be done.
    pub token: Arc<str>,
    /// How many backups would be removed.
    pub removes: u64,
    /// How many are known.
    pub known: u64,
    /// Names of those that would be removed; of many only the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Arc<str>>,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// The task started.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Started {
    /// The task.
    pub task: Uid,
    /// The pods that take part, by name; none of a sync, which asks one of them.
    pub nodes: Vec<PodName>,
}

/// What a claim covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Have a node purge its part of the bucket.
    Purge(PodName),
    /// Have a node store which part of a restore is its own.
    Prepare(PodName),
    /// List the backups of the bucket through this pod.
    List(PodName),
    /// Ask through this pod what a purge would remove.
    Plan(PodName),
}

impl Call {
    /// The pod that is called.
    #[must_use]
    pub const fn pod(&self) -> &PodName {
        match self {
            Self::Purge(pod) | Self::Prepare(pod) | Self::List(pod) | Self::Plan(pod) => pod,
        }
    }
}

/// The intent of a call.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct EffectClaimed {
    /// The task.
    pub task: Uid,
    /// What is claimed.
    pub call: Call,
    /// The attempt, from 1; a call whose answer nobody waits for any more, because its leader is gone, keeps its number.
    pub attempt: u32,
    /// Which claim on this node it is, from 1: it tells two calls of one attempt apart.
    pub serial: u32,
    /// The term in which it may be started.
    pub epoch: Epoch,
}

/// A claim that was never started.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ClaimAbandoned {
    /// The task.
    pub task: Uid,
    /// What was claimed.
    pub call: Call,
    /// The attempt.
    pub attempt: u32,
    /// Which claim on this node it is, from 1.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
}

/// What a purge removed from the bucket, as one node counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
pub struct Purged {
    /// Backups of this node.
    pub backups: i64,
    /// Objects, unreferenced ones included.
    pub objects: i64,
    /// Bytes of these objects.
    pub bytes: i64,
    /// Unreferenced objects that stay for the grace period.
    pub within_grace: i64,
}

/// A node is done.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeFinished {
    /// The task.
    pub task: Uid,
    /// The pod.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// What it removed, of a purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Purged>,
}

/// A node could not do it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeFailed {
    /// The task.
    pub task: Uid,
    /// The pod.
    pub pod: PodName,
    /// The attempt.
    pub attempt: u32,
    /// What the sidecar said, one sentence.
    pub reason: Arc<str>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeUnanswered {
    /// The task.
    pub task: Uid,
    /// What was called.
    pub call: Call,
    /// The attempt.
    pub attempt: u32,
    /// Which claim on this node it is, from 1.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
    /// Whether the request of this call may have reached the sidecar.
    pub in_doubt: bool,
    /// Who answers there, where that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<SidecarKind>,
    /// The error, one sentence.
    pub error: Arc<str>,
}

/// A node is given up.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeLost {
    /// The task.
    pub task: Uid,
    /// The pod.
    pub pod: PodName,
    /// Why, one sentence.
    pub reason: Arc<str>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Listed {
    /// The task.
    pub task: Uid,
    /// The pod that listed.
    pub pod: PodName,
    /// Which claim of the task it answers, from 1.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
    /// Which page it is, from 0. One that does not follow the page before it counts for nothing.
    pub page: u32,
    /// Whether it is the last one: only a whole listing counts.
    pub last: bool,
    /// Digest of the names and states of this datacenter's backups, and of what is missing: what a consent is bound to.
    pub digest: Digest,
    /// Backups in the bucket, whosever they are.
    pub total: u64,
    /// This datacenter's backups among them.
    pub ours: u64,
    /// Backups of this datacenter that are not known, or known otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Backups that are known and that the bucket does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Arc<str>>,
}

/// What a purge would remove.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Planned {
    /// The task.
    pub task: Uid,
    /// The pod that was asked: retention is the same for all nodes.
    pub pod: PodName,
    /// Which claim of the task it answers, from 1.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
    /// Digest of these names: what a consent is bound to.
    pub digest: Digest,
    /// Names of the backups that would go; none at all where the sidecar cannot tell before it purges, as stock Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Vec<Arc<str>>>,
}

/// What the bucket says of a backup as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Every node is done.
    #[default]
    Complete,
    /// Some are not: they still run, or nobody finishes them.
    Unfinished,
    /// Some failed.
    Failed,
}

/// A backup as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: Arc<str>,
    /// Full or differential.
    #[serde(default)]
    pub backup_type: BackupType,
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
    /// Whether it is whole.
    pub completeness: Completeness,
}

/// What is known is brought in line.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Reconciled {
    /// The task.
    pub task: Uid,
    /// Backups that become known: a MedusaBackup is to be created for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<Arc<str>>,
    /// Backups that were known otherwise: their MedusaBackups are to say what the bucket says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrected: Vec<Arc<str>>,
    /// Backups that the bucket does not hold: their MedusaBackups are to be deleted, with the jobs of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Arc<str>>,
}

/// A sync is to follow.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SyncRequested {
    /// The purge.
    pub task: Uid,
    /// Name of the sync.
    pub name: Arc<str>,
}

/// Terminal: done.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Completed {
    /// The task.
    pub task: Uid,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// Terminal: not done.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Failed {
    /// The task.
    pub task: Uid,
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence for people.
    pub message: Arc<str>,
}

/// The sync exists.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SyncCreated {
    /// The purge.
    pub task: Uid,
    /// Name of the sync.
    pub name: Arc<str>,
    /// UID of the sync.
    pub uid: Uid,
    /// It was there before, made by somebody else: it stays as it is.
    #[serde(default)]
    pub foreign: bool,
}

/// The MedusaBackup exists.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct BackupCreated {
    /// The sync.
    pub task: Uid,
    /// Name of the MedusaBackup.
    pub name: Arc<str>,
    /// UID of the MedusaBackup.
    pub uid: Uid,
    /// It was there before, made by somebody else: it stays as it is.
    #[serde(default)]
    pub foreign: bool,
}

impl Event {
    /// The task that the event is about.
    #[must_use]
    pub const fn task(&self) -> &Uid {
        match self {
            Self::Queued(e) => &e.task,
            Self::ApprovalNeeded(e) => &e.task,
            Self::Started(e) => &e.task,
            Self::EffectClaimed(e) => &e.task,
            Self::ClaimAbandoned(e) => &e.task,
            Self::NodeFinished(e) => &e.task,
            Self::NodeFailed(e) => &e.task,
            Self::NodeUnanswered(e) => &e.task,
            Self::NodeLost(e) => &e.task,
            Self::Listed(e) => &e.task,
            Self::Planned(e) => &e.task,
            Self::Reconciled(e) => &e.task,
            Self::SyncRequested(e) => &e.task,
            Self::Completed(e) => &e.task,
            Self::Failed(e) => &e.task,
            Self::SyncCreated(e) => &e.task,
            Self::BackupCreated(e) => &e.task,
        }
    }
}
