//! Effects: what the world outside is asked to do. Data only; `src/effects` runs them.

use std::sync::Arc;
use stheno_events::backup::{Call, SidecarKind};
use stheno_events::observed::BackupType;
use stheno_events::{DcKey, Epoch, Uid};

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
    /// The name of the backup.
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
    /// The latest time at which a command may leave, in milliseconds of the clock that counts suspended time; 0 until
    /// the claim is in the log.
    pub command_by_ms: u64,
}
