//! What should stand there of schedules: their statuses, the objects of their slots, and no jobs beyond what they keep.

use super::MANAGER;
use super::desired::{Desired, Owner};
use super::write::{Published, Trouble, Writer, answer, trouble};
use crate::observe::StatusDigest;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use stheno_crds::{MedusaBackupJob, MedusaBackupScheduleStatus, MedusaTask};
use stheno_events::observed::ObjectKind;
use stheno_events::schedule::ObjectCreated;
use stheno_events::{DcKey, Uid};
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

/// A job that a schedule does not keep.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) dc: DcKey,
    pub(super) name: Arc<str>,
    pub(super) uid: Uid,
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

/// What the slots of one schedule, or of all, ask for and is not there yet, and what is to go.
pub(super) fn objects(world: &World, key: &DcKey, schedule: Option<&Uid>) -> Vec<Desired> {
    let Some(dc) = world.datacenter(key) else { return Vec::new() };
    let made = dc.scheduled.iter().filter(|(_, made)| schedule.is_none_or(|schedule| made.schedule == *schedule));
    made.filter_map(|(name, made)| match &made.object {
        Object::Wanted => Some(Desired::Scheduled(Scheduled {
            dc: key.clone(),
            name: name.clone(),
            schedule: made.schedule.clone(),
            object: scheduled_object(made, dc, key)?,
        })),
        Object::Ours { uid } if made.expired => {
            Some(Desired::Expired(Expired { dc: key.clone(), name: name.clone(), uid: uid.clone() }))
        }
        Object::Ours { .. } | Object::Foreign { .. } => None,
    })
    .collect()
}

impl Writer {
    /// Creates what a slot asks for, or finds what has its name.
    pub(super) async fn scheduled(&self, wanted: &Scheduled) -> Result<(), Trouble> {
        let namespace = &wanted.dc.namespace;
        let (uid, foreign) = match &wanted.object {
            ScheduledObject::Job(job) => {
                let api: Api<MedusaBackupJob> = Api::namespaced(self.client.clone(), namespace);
                let (found, foreign) = create(&api, wanted, job).await?;
                self.keep(ObjectKind::MedusaBackupJob, &found);
                (found.uid(), foreign)
            }
            ScheduledObject::Task(task) => {
                let api: Api<MedusaTask> = Api::namespaced(self.client.clone(), namespace);
                let (found, foreign) = create(&api, wanted, task).await?;
                (found.uid(), foreign)
            }
        };
        let Some(uid) = uid else { return Err(Trouble::Refused("the answer to a create has no UID".to_owned())) };
        let (schedule, name) = (wanted.schedule.clone(), wanted.name.clone());
        let fact = ObjectCreated { schedule, name, uid: uid.into(), foreign };
        // Nobody receives when the process ends: the successor finds the object by its label.
        let _ = self.facts.send((wanted.dc.clone(), fact.into()));
        Ok(())
    }

    /// Deletes a job that a schedule does not keep: this one, and no other of its name.
    pub(super) async fn expire(&self, job: &Expired) -> Result<(), Trouble> {
        let api: Api<MedusaBackupJob> = Api::namespaced(self.client.clone(), &job.dc.namespace);
        let preconditions = Preconditions { uid: Some(job.uid.to_string()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(&job.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) => match trouble(ObjectKind::MedusaBackupJob.as_str(), error) {
                // Another one has its name: this one is gone.
                Trouble::Conflict => Err(Trouble::Gone),
                trouble @ (Trouble::Gone | Trouble::Refused(_) | Trouble::Failed(_) | Trouble::Away(_)) => Err(trouble),
            },
        }
    }
}

/// Creates an object, or finds the one of its name; says whether that is another's.
async fn create<K>(api: &Api<K>, wanted: &Scheduled, object: &K) -> Result<(K, bool), Trouble>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match answer(wanted.kind(), api.create(&params, object)).await {
        Ok(created) => Ok((created, false)),
        Err(Trouble::Conflict) => {
            let found = answer(wanted.kind(), api.get(&wanted.name)).await.map_err(|trouble| match trouble {
                // Deleted in between: it is created at the next try.
                Trouble::Gone => Trouble::Conflict,
                trouble @ (Trouble::Conflict | Trouble::Refused(_) | Trouble::Failed(_) | Trouble::Away(_)) => trouble,
            })?;
            let foreign = found.labels().get(SCHEDULE_LABEL).map(String::as_str) != Some(wanted.schedule.as_str());
            Ok((found, foreign))
        }
        Err(trouble) => Err(trouble),
    }
}

impl Published for stheno_crds::MedusaBackupSchedule {
    const STATUS: &'static [&'static str] =
        &["nextSchedule", "lastExecution", "counts", "outcomes", "conditions", "observedGeneration", "message"];

    fn status_digest(&self) -> Option<StatusDigest> {
        StatusDigest::of(&self.status.clone().unwrap_or_default())
    }
}
