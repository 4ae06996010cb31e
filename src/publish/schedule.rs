//! What should stand there of schedules: their statuses, the objects of their slots, and no jobs beyond what they keep.

use super::desired::{Desired, Owner};
use super::write::{Published, Trouble, Writer, answer, create};
use crate::observe::StatusDigest;
use kube::ResourceExt;
use kube::api::Api;
use std::sync::Arc;
use stheno_crds::{MedusaBackupJob, MedusaBackupScheduleStatus, MedusaTask};
use stheno_events::observed::ObjectKind;
use stheno_events::schedule::ObjectCreated;
use stheno_events::{DcKey, Event, Uid};
use stheno_projections::World;
use stheno_projections::datacenter::Object;
use stheno_projections::status::{SCHEDULE_LABEL, ScheduledObject, schedule_status, scheduled_object};

/// The status of a schedule, and its owner.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) uid: Uid,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) status: Option<MedusaBackupScheduleStatus>,
    pub(super) digest: Option<StatusDigest>,
    /// The owner that it should have, if it has none.
    pub(super) owner: Option<Owner>,
}

/// What a slot asks for: to be created once.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) dc: DcKey,
    pub(super) name: Arc<str>,
    schedule: Uid,
    object: ScheduledObject,
}

impl Scheduled {
    /// The kind, as Kubernetes writes it.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.object {
            ScheduledObject::Job(_) => "MedusaBackupJob",
            ScheduledObject::Task(_) => "MedusaTask",
        }
    }
}

/// A job that a schedule does not keep, or whose time to live is over.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) dc: DcKey,
    pub(super) name: Arc<str>,
    pub(super) uid: Uid,
    /// The time to live on which that rests.
    pub(super) ttl: Option<u32>,
}

/// The status of a schedule as it should be; none when the log knows no such schedule.
pub(super) fn status(world: &World, key: &DcKey, uid: &Uid) -> Option<Desired> {
    let dc = world.datacenter(key)?;
    let schedule = dc.schedules.get(uid)?;
    let meta = &schedule.request.meta;
    let status = schedule_status(schedule, dc, &world.operator)?;
    let bare = !schedule.request.owned && meta.deleting.is_none();
    let object = dc.object.as_ref().filter(|object| bare && object.meta.deleting.is_none());
    Some(Desired::Schedule(Status {
        uid: uid.clone(),
        namespace: key.namespace.clone(),
        name: meta.name.clone(),
        digest: StatusDigest::of(&status),
        status: Some(status),
        owner: object.map(|object| Owner { name: object.meta.name.clone(), uid: object.meta.uid.clone() }),
    }))
}

/// What the slots of a datacenter's schedules ask for and is not there yet, and which jobs are to go.
pub(super) fn objects(world: &World, key: &DcKey) -> Vec<Desired> {
    let Some(dc) = world.datacenter(key).filter(|dc| dc.frozen.is_none()) else { return Vec::new() };
    let wanted = dc.scheduled.iter().filter_map(|(name, made)| match &made.object {
        Object::Wanted => Some(Desired::Scheduled(Scheduled {
            dc: key.clone(),
            name: name.clone(),
            schedule: made.schedule.clone(),
            object: scheduled_object(made, dc, key)?,
        })),
        Object::Ours { uid } if made.expired => {
            Some(Desired::Expired(Expired { dc: key.clone(), name: name.clone(), uid: uid.clone(), ttl: None }))
        }
        Object::Ours { .. } | Object::Foreign { .. } => None,
    });
    let over = dc.lapses.keys().filter_map(|uid| {
        let operation = dc.operation(uid).filter(|operation| operation.expired)?;
        let (name, ttl) = (operation.request.meta.name.clone(), operation.request.rules.ttl);
        Some(Desired::Expired(Expired { dc: key.clone(), name, uid: uid.clone(), ttl }))
    });
    wanted.chain(over).collect()
}

impl Writer {
    /// Creates what a slot asks for, or finds what has its name. Returns the fact.
    pub(super) async fn scheduled(&self, wanted: &Scheduled) -> Result<Event, Trouble> {
        let (namespace, label) = (&wanted.dc.namespace, (SCHEDULE_LABEL, wanted.schedule.as_str()));
        let (uid, foreign) = match &wanted.object {
            ScheduledObject::Job(job) => {
                let api: Api<MedusaBackupJob> = Api::namespaced(self.client.clone(), namespace);
                let (found, foreign) = create(&api, wanted.kind(), job, label).await?;
                self.keep(ObjectKind::MedusaBackupJob, &found);
                (found.uid(), foreign)
            }
            ScheduledObject::Task(task) => {
                let api: Api<MedusaTask> = Api::namespaced(self.client.clone(), namespace);
                let (found, foreign) = create(&api, wanted.kind(), task, label).await?;
                self.keep(ObjectKind::MedusaTask, &found);
                (found.uid(), foreign)
            }
        };
        let Some(uid) = uid else { return Err(Trouble::Refused("the answer to a create has no UID".to_owned())) };
        let (schedule, name) = (wanted.schedule.clone(), wanted.name.clone());
        Ok(ObjectCreated { schedule, name, uid: uid.into(), foreign }.into())
    }

    /// Deletes a job that is not kept: this one, and no other of its name. A time to live is looked at once more: whoever
    /// changes it in time keeps the job.
    pub(super) async fn expire(&self, job: &Expired) -> Result<(), Trouble> {
        let kind = ObjectKind::MedusaBackupJob;
        if let Some(ttl) = job.ttl {
            let api: Api<MedusaBackupJob> = Api::namespaced(self.client.clone(), &job.dc.namespace);
            let found = answer(kind.as_str(), api.get(&job.name)).await?;
            let lives = found.spec.ttl_seconds_after_finished.and_then(|seconds| u32::try_from(seconds).ok());
            if found.uid().as_deref() != Some(job.uid.as_str()) || lives != Some(ttl) {
                return Err(Trouble::Gone);
            }
        }
        self.delete::<MedusaBackupJob>(kind, &job.dc.namespace, &job.name, &job.uid).await
    }
}

impl Published for stheno_crds::MedusaBackupSchedule {
    const STATUS: &'static [&'static str] =
        &["nextSchedule", "lastExecution", "counts", "outcomes", "conditions", "observedGeneration", "message"];

    fn status_digest(&self) -> Option<StatusDigest> {
        StatusDigest::of(&self.status.clone().unwrap_or_default())
    }
}
