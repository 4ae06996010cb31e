//! What should stand there of tasks: their statuses, the syncs that purges ask for, and nothing that a sync has deleted.

use super::desired::{Desired, Owner};
use super::write::{Published, Trouble, Writer, create};
use crate::observe::StatusDigest;
use kube::ResourceExt as _;
use kube::api::Api;
use std::sync::Arc;
use stheno_crds::{MedusaBackup, MedusaBackupJob, MedusaTask, MedusaTaskStatus};
use stheno_events::observed::ObjectKind;
use stheno_events::task::SyncCreated;
use stheno_events::{DcKey, Event, Uid};
use stheno_projections::status::{TASK_LABEL, follow_up, task_status};
use stheno_projections::task::{Stage, Task};
use stheno_projections::{Datacenter, World};

/// The status of a task, and its owner.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) uid: Uid,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// None where it is not ours, or there is nothing to say yet.
    pub(super) status: Option<MedusaTaskStatus>,
    pub(super) digest: Option<StatusDigest>,
    /// Changes of these are shown soon, others in time.
    pub(super) stage: &'static str,
    pub(super) nodes: Option<StatusDigest>,
    /// The owner that it should have, if it has none.
    pub(super) owner: Option<Owner>,
}

/// The sync that follows a purge: to be created once.
#[derive(Debug)]
pub(super) struct FollowUp {
    pub(super) dc: DcKey,
    pub(super) name: Arc<str>,
    purge: Uid,
    object: MedusaTask,
}

/// An object that a sync has deleted.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) dc: DcKey,
    pub(super) kind: ObjectKind,
    pub(super) name: Arc<str>,
    pub(super) uid: Uid,
}

/// The status of a task as it should be; none when the log knows no such task, or its custom resource is gone.
pub(super) fn status(world: &World, key: &DcKey, uid: &Uid) -> Option<Desired> {
    let dc = world.datacenter(key)?;
    let task = dc.task_of(uid).filter(|task| !task.gone)?;
    let status = task_status(task, dc, &world.operator);
    let owner = owner(task, dc);
    if status.is_none() && owner.is_none() {
        return None;
    }
    let nodes = status.as_ref().map(|status| (&status.in_progress, &status.finished, &status.failed));
    Some(Desired::Task(Status {
        uid: uid.clone(),
        namespace: key.namespace.clone(),
        name: task.request.meta.name.clone(),
        digest: status.as_ref().and_then(StatusDigest::of),
        nodes: nodes.as_ref().and_then(StatusDigest::of),
        status,
        stage: stage(task, dc),
        owner,
    }))
}

/// The stages that people wait for.
fn stage(task: &Task, dc: &Datacenter) -> &'static str {
    match &task.stage {
        Stage::Ended { .. } => "ended",
        Stage::Waiting { .. } | Stage::Running { .. } if dc.frozen.is_some() => "frozen",
        Stage::Waiting { .. } | Stage::Running { .. } if task.approval.is_some() => "needs approval",
        Stage::Waiting { .. } => "waiting",
        Stage::Running { .. } => "running",
    }
}

/// The datacenter as owner of a task that the log carries out: never of one that another program works on.
fn owner(task: &Task, dc: &Datacenter) -> Option<Owner> {
    let ours = !task.foreign && !matches!(task.stage, Stage::Ended { adopted: true, .. });
    let started = task.started()?;
    // Not the datacenter that took the name later.
    let object = dc.object.as_ref().filter(|object| object.meta.created <= started)?;
    let bare = !task.request.owned && task.request.meta.deleting.is_none();
    (ours && bare && object.meta.deleting.is_none())
        .then(|| Owner { name: object.meta.name.clone(), uid: object.meta.uid.clone() })
}

/// What tasks ask for and is not there yet, and what they have deleted and may still be there.
pub(super) fn objects(world: &World, key: &DcKey) -> Vec<Desired> {
    let Some(dc) = world.datacenter(key) else { return Vec::new() };
    let wanted = dc.follow_ups.iter().map(|(name, wanted)| {
        let (dc, name, purge) = (key.clone(), name.clone(), wanted.task.clone());
        let object = follow_up(&name, wanted, key);
        Desired::FollowUp(Box::new(FollowUp { dc, name, purge, object }))
    });
    let removed = dc.removals.iter().map(|(uid, removal)| {
        let (dc, kind, name) = (key.clone(), removal.kind, removal.name.clone());
        Desired::Removal(Removal { dc, kind, name, uid: uid.clone() })
    });
    wanted.chain(removed).collect()
}

impl Writer {
    /// Writes the status of a task, and gives it its owner.
    pub(super) async fn task(&self, task: &Status, refresh: bool) -> Result<(), Trouble> {
        let api: Api<MedusaTask> = Api::namespaced(self.client.clone(), &task.namespace);
        if refresh {
            self.read(&api, ObjectKind::MedusaTask, &task.name, &task.uid).await?;
        }
        let copy = self.mirror.get(&task.uid).ok_or(Trouble::Gone)?;
        if let Some(status) = task.status.as_ref().filter(|_| copy.status != task.digest) {
            self.show(&api, &task.uid, &copy, status, task.digest).await?;
        }
        self.own(&api, &task.uid, task.owner.as_ref()).await
    }

    /// Creates the sync that follows a purge, or finds what has its name. Returns the fact.
    pub(super) async fn follow(&self, wanted: &FollowUp) -> Result<Event, Trouble> {
        let api: Api<MedusaTask> = Api::namespaced(self.client.clone(), &wanted.dc.namespace);
        let (kind, label) = (ObjectKind::MedusaTask, (TASK_LABEL, wanted.purge.as_str()));
        let (found, foreign) = create(&api, kind.as_str(), &wanted.object, label).await?;
        self.keep(kind, &found);
        let Some(uid) = found.uid() else {
            return Err(Trouble::Refused("the answer to a create has no UID".to_owned()));
        };
        let (task, name) = (wanted.purge.clone(), wanted.name.clone());
        Ok(SyncCreated { task, name, uid: uid.into(), foreign }.into())
    }

    /// Deletes what a sync has deleted: this object, and no other of its name.
    pub(super) async fn remove(&self, removal: &Removal) -> Result<(), Trouble> {
        let Removal { dc, kind, name, uid } = removal;
        match kind {
            ObjectKind::MedusaBackup => self.delete::<MedusaBackup>(*kind, &dc.namespace, name, uid).await,
            ObjectKind::MedusaBackupJob => self.delete::<MedusaBackupJob>(*kind, &dc.namespace, name, uid).await,
            ObjectKind::MedusaBackupSchedule
            | ObjectKind::MedusaTask
            | ObjectKind::CassandraDatacenter
            | ObjectKind::Pod => Err(Trouble::Refused(format!("no sync deletes an object of kind {}", kind.as_str()))),
        }
    }
}

impl Published for MedusaTask {
    const STATUS: &'static [&'static str] = &[
        "startTime",
        "finishTime",
        "inProgress",
        "finished",
        "failed",
        "conditions",
        "observedGeneration",
        "message",
        "progress",
    ];

    fn status_digest(&self) -> Option<StatusDigest> {
        StatusDigest::of(&self.status.clone().unwrap_or_default())
    }
}
