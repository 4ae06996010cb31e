//! What should stand on the API server: one object, with what the worker needs to order and compare it.

use super::{schedule, task};
use crate::observe::StatusDigest;
use std::sync::Arc;
use stheno_crds::{MedusaBackup, MedusaBackupJobStatus};
use stheno_events::{DcKey, Uid};
use stheno_projections::backup::{Operation, Stage};
use stheno_projections::datacenter::Object;
use stheno_projections::status::{backup_object, job_status};
use stheno_projections::{Datacenter, World};

/// One object as it should be.
#[allow(clippy::large_enum_variant, reason = "it is boxed where it waits")]
#[derive(Debug)]
pub(super) enum Desired {
    /// The status of a job, and its owner.
    Job(Job),
    /// A MedusaBackup.
    Backup(Backup),
    /// The status of a schedule, and its owner.
    Schedule(schedule::Status),
    /// What a slot of a schedule asks for.
    Scheduled(schedule::Scheduled),
    /// A job that a schedule does not keep, or whose time to live is over.
    Expired(schedule::Expired),
    /// The status of a task, and its owner.
    Task(task::Status),
    /// The sync that follows a purge.
    FollowUp(Box<task::FollowUp>),
    /// An object that a sync has deleted.
    Removal(task::Removal),
}

impl Desired {
    /// The datacenter for which this is created or deleted.
    pub(super) const fn made_in(&self) -> Option<&DcKey> {
        match self {
            Self::Scheduled(wanted) => Some(&wanted.dc),
            Self::Expired(job) => Some(&job.dc),
            Self::FollowUp(sync) => Some(&sync.dc),
            Self::Removal(gone) => Some(&gone.dc),
            Self::Job(_) | Self::Backup(_) | Self::Schedule(_) | Self::Task(_) => None,
        }
    }

    /// What it is, for people.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Job(job) => format!("MedusaBackupJob {}/{}", job.namespace, job.name),
            Self::Backup(backup) => format!("MedusaBackup {}/{}", backup.dc.namespace, backup.name),
            Self::Schedule(schedule) => format!("MedusaBackupSchedule {}/{}", schedule.namespace, schedule.name),
            Self::Scheduled(made) => format!("{} {}/{}", made.kind(), made.dc.namespace, made.name),
            Self::Expired(job) => format!("MedusaBackupJob {}/{}", job.dc.namespace, job.name),
            Self::Task(task) => format!("MedusaTask {}/{}", task.namespace, task.name),
            Self::FollowUp(sync) => format!("MedusaTask {}/{}", sync.dc.namespace, sync.name),
            Self::Removal(gone) => format!("{} {}/{}", gone.kind.as_str(), gone.dc.namespace, gone.name),
        }
    }
}

/// The status of a job, and its owner.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) uid: Uid,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// None where it is not ours, or there is nothing to say yet.
    pub(super) status: Option<MedusaBackupJobStatus>,
    pub(super) digest: Option<StatusDigest>,
    /// Changes of these are shown soon, others in time.
    pub(super) stage: &'static str,
    pub(super) nodes: Option<StatusDigest>,
    /// The owner that it should have, if it has none.
    pub(super) owner: Option<Owner>,
}

/// A CassandraDatacenter as an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    pub(super) uid: Uid,
}

/// A MedusaBackup.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) dc: DcKey,
    pub(super) name: Arc<str>,
    /// The job that made it, or the sync that found it.
    pub(super) maker: Uid,
    /// Whether a sync found it.
    pub(super) synced: bool,
    pub(super) object: MedusaBackup,
    pub(super) digest: Option<StatusDigest>,
    /// Its UID, once it was created; a deletion after that is the user's.
    pub(super) uid: Option<Uid>,
}

/// A job as it should be; none when the log knows no such job, or its custom resource is gone.
pub(super) fn job(world: &World, key: &DcKey, uid: &Uid) -> Option<Desired> {
    let dc = world.datacenter(key)?;
    let operation = dc.operation(uid).filter(|operation| !operation.gone)?;
    let status = job_status(operation, dc, &world.operator);
    let owner = owner(operation, dc);
    if status.is_none() && owner.is_none() {
        return None;
    }
    let nodes = status.as_ref().map(|status| (&status.in_progress, &status.finished, &status.failed));
    Some(Desired::Job(Job {
        uid: uid.clone(),
        namespace: key.namespace.clone(),
        name: operation.request.meta.name.clone(),
        digest: status.as_ref().and_then(StatusDigest::of),
        nodes: nodes.as_ref().and_then(StatusDigest::of),
        status,
        stage: stage(operation, dc),
        owner,
    }))
}

/// The stages that people wait for.
fn stage(operation: &Operation, dc: &Datacenter) -> &'static str {
    match &operation.stage {
        Stage::Ended { .. } => "ended",
        Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } if dc.frozen.is_some() => "frozen",
        Stage::Waiting { .. } => "waiting",
        Stage::Closing { .. } if operation.stopping() => "stopping",
        Stage::Running { .. } if operation.suspended.is_some() => "suspended",
        Stage::Running { .. } | Stage::Closing { .. } => "running",
    }
}

/// The datacenter as owner of a job that the log runs or ran: never of one that another program started.
fn owner(operation: &Operation, dc: &Datacenter) -> Option<Owner> {
    let ours = !operation.foreign && !matches!(operation.stage, Stage::Ended { adopted: true, .. });
    let started = operation.started()?;
    // Not the datacenter that took the name later.
    let object = dc.object.as_ref().filter(|object| object.meta.created <= started)?;
    let bare = !operation.request.owned && operation.request.meta.deleting.is_none();
    (ours && bare && object.meta.deleting.is_none())
        .then(|| Owner { name: object.meta.name.clone(), uid: object.meta.uid.clone() })
}

/// A MedusaBackup as it should be; none for those of others.
pub(super) fn backup(world: &World, key: &DcKey, name: &Arc<str>) -> Option<Desired> {
    let dc = world.datacenter(key)?;
    let backup = dc.backups.get(name)?;
    let object = backup_object(name, backup, key)?;
    let uid = match &backup.object {
        Object::Wanted => None,
        Object::Ours { uid } => Some(uid.clone()),
        Object::Foreign { .. } => return None,
    };
    Some(Desired::Backup(Backup {
        dc: key.clone(),
        name: name.clone(),
        maker: backup.maker()?.clone(),
        synced: backup.operation.is_none(),
        digest: object.status.as_ref().and_then(StatusDigest::of),
        object,
        uid,
    }))
}
