//! Effects: what the world outside is asked to do. Data only; `src/effects` runs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::backup::{self, SidecarKind, Summarised};
use stheno_events::observed::BackupType;
use stheno_events::{DcKey, Epoch, PodName, Time, Uid, task};

/// What is called: of which process the claim is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A call of a backup.
    Backup(backup::Call),
    /// A call of a task.
    Task(task::Call),
}

impl Call {
    /// The pod that is called.
    #[must_use]
    pub const fn pod(&self) -> &PodName {
        match self {
            Self::Backup(call) => call.pod(),
            Self::Task(call) => call.pod(),
        }
    }
}

impl From<backup::Call> for Call {
    fn from(call: backup::Call) -> Self {
        Self::Backup(call)
    }
}

impl From<task::Call> for Call {
    fn from(call: task::Call) -> Self {
        Self::Task(call)
    }
}

/// The identity of a claimed effect: one runs at most once in a term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectKey {
    /// The operation.
    pub job: Uid,
    /// What is called.
    pub call: Call,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Which claim on the node it is, from 1.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
}

/// A call to a sidecar, claimed in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its identity.
    pub key: EffectKey,
    /// The datacenter.
    pub dc: DcKey,
    /// The name of the backup; of a task that concerns none, empty.
    pub backup: Arc<str>,
    /// Full or differential.
    pub backup_type: BackupType,
    /// Host and port of the sidecar; none when the pod went away between claim and start.
    pub address: Option<(Arc<str>, u16)>,
    /// Started by another program: ask, never command.
    pub foreign: bool,
    /// Who answered there before.
    pub sidecar: Option<SidecarKind>,
    /// Whether the sidecar has accepted this attempt before.
    pub accepted: bool,
    /// What a call of a task needs beside.
    pub task: Option<TaskWork>,
    /// The latest time at which a command may leave, in milliseconds of the clock that counts suspended time; 0 until
    /// the claim is in the log.
    pub command_by_ms: u64,
}

/// What a call of a task needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskWork {
    /// A purge.
    Purge {
        /// An earlier call may have reached the node: what it began goes on in stock Medusa until then.
        settles: Option<Time>,
    },
    /// A listing.
    List(Asked),
    /// The question what a purge would remove.
    Plan,
    /// The preparation of a restore of [`Effect::backup`].
    Prepare {
        /// The restore.
        restore_key: Arc<str>,
    },
}

/// What a listing is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What Cassandra calls the datacenter.
    pub datacenter: Arc<str>,
    /// What the names of its own nodes begin with.
    pub own: Arc<str>,
    /// What the names of nodes of other datacenters begin with that this operator knows: their backups are theirs, also
    /// where they share the bucket and the datacenter's name.
    pub others: Vec<Arc<str>>,
    /// The backups that are known, with what is known of each.
    pub known: Arc<BTreeMap<Arc<str>, Option<Arc<Summarised>>>>,
}
