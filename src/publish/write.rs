//! The writes themselves: one object from what lies there to what should. Each carries what it rests on.

use super::MANAGER;
use super::desired::{Backup, Desired, Job, Owner};
use super::schedule::Status;
use crate::observe::{Copy, Mirror, StatusDigest, chain, shared};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use stheno_crds::{CassandraDatacenter, MedusaBackup, MedusaBackupJob, MedusaBackupSchedule};
use stheno_events::backup::ObjectCreated;
use stheno_events::observed::ObjectKind;
use stheno_events::task::BackupCreated;
use stheno_events::{DcKey, Event, Uid};
use stheno_projections::status::OPERATION_LABEL;
use tokio::sync::mpsc;

/// A write without an answer is given up after this; the next sight tells what became of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an object is not as it should be after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It changed since it was seen.
    Conflict,
    /// It is there no more.
    Gone,
    /// The API server refuses it: what, in one sentence.
    Refused(String),
    /// The API server could not do it, perhaps for this object only: an admission webhook that does not answer, a store
    /// that is away.
    Failed(String),
    /// The API server cannot be reached, or takes nothing from us now.
    Away(String),
}

/// What was created.
#[derive(Debug)]
pub(super) enum Made {
    /// A MedusaBackup of this UID; the fact was handed in.
    Backup(Uid),
    /// What a slot or a purge asked for: the fact, to be handed in.
    Scheduled(Box<Event>),
}

/// Who writes.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) mirror: Mirror,
    pub(super) facts: mpsc::UnboundedSender<(DcKey, Event)>,
}

impl Writer {
    /// Makes an object what it should be. With `refresh` it is read first: a conflict was not explained by a sight.
    /// Returns what was created and the log does not know yet.
    pub(super) async fn write(&self, desired: &Desired, refresh: bool) -> Result<Option<Made>, Trouble> {
        match desired {
            Desired::Job(job) => self.job(job, refresh).await.map(|()| None),
            Desired::Backup(backup) => Ok(self.backup(backup, refresh).await?.map(Made::Backup)),
            Desired::Schedule(schedule) => self.schedule(schedule, refresh).await.map(|()| None),
            Desired::Scheduled(wanted) => {
                self.scheduled(wanted).await.map(|fact| Some(Made::Scheduled(Box::new(fact))))
            }
            Desired::Expired(job) => self.expire(job).await.map(|()| None),
            Desired::Task(task) => self.task(task, refresh).await.map(|()| None),
            Desired::FollowUp(wanted) => self.follow(wanted).await.map(|fact| Some(Made::Scheduled(Box::new(fact)))),
            Desired::Removal(removal) => self.remove(removal).await.map(|()| None),
        }
    }

    async fn job(&self, job: &Job, refresh: bool) -> Result<(), Trouble> {
        let api: Api<MedusaBackupJob> = Api::namespaced(self.client.clone(), &job.namespace);
        if refresh {
            self.read(&api, ObjectKind::MedusaBackupJob, &job.name, &job.uid).await?;
        }
        let copy = self.mirror.get(&job.uid).ok_or(Trouble::Gone)?;
        if let Some(status) = job.status.as_ref().filter(|_| copy.status != job.digest) {
            self.show(&api, &job.uid, &copy, status, job.digest).await?;
        }
        self.own(&api, &job.uid, job.owner.as_ref()).await
    }

    async fn schedule(&self, schedule: &Status, refresh: bool) -> Result<(), Trouble> {
        let api: Api<MedusaBackupSchedule> = Api::namespaced(self.client.clone(), &schedule.namespace);
        if refresh {
            self.read(&api, ObjectKind::MedusaBackupSchedule, &schedule.name, &schedule.uid).await?;
        }
        let copy = self.mirror.get(&schedule.uid).ok_or(Trouble::Gone)?;
        if let Some(status) = schedule.status.as_ref().filter(|_| copy.status != schedule.digest) {
            self.show(&api, &schedule.uid, &copy, status, schedule.digest).await?;
        }
        self.own(&api, &schedule.uid, schedule.owner.as_ref()).await
    }

    /// Gives an object that has no owner its datacenter as one.
    pub(super) async fn own<K: Published>(
        &self,
        api: &Api<K>,
        uid: &Uid,
        owner: Option<&Owner>,
    ) -> Result<(), Trouble> {
        let copy = self.mirror.get(uid).ok_or(Trouble::Gone)?;
        if let Some(owner) = owner.filter(|_| !copy.owned) {
            let reference = json!({
                "apiVersion": CassandraDatacenter::api_version(&()),
                "kind": CassandraDatacenter::kind(&()),
                "name": owner.name,
                "uid": owner.uid,
            });
            let patch = json!({ "metadata": { "ownerReferences": [reference] } });
            self.apply(api, uid, &copy, patch, false).await?;
        }
        Ok(())
    }

    async fn backup(&self, backup: &Backup, refresh: bool) -> Result<Option<Uid>, Trouble> {
        let api: Api<MedusaBackup> = Api::namespaced(self.client.clone(), &backup.dc.namespace);
        let made = match &backup.uid {
            Some(_) => None,
            None => match self.create(&api, backup).await? {
                Some(uid) => Some(uid),
                None => return Ok(None),
            },
        };
        let Some(uid) = backup.uid.clone().or_else(|| made.clone()) else { return Ok(None) };
        if refresh {
            self.read(&api, ObjectKind::MedusaBackup, &backup.name, &uid).await?;
        }
        let copy = self.mirror.get(&uid).ok_or(Trouble::Gone)?;
        if let Some(status) = backup.object.status.as_ref().filter(|_| copy.status != backup.digest) {
            self.show(&api, &uid, &copy, status, backup.digest).await?;
        }
        Ok(made)
    }

    /// Creates a MedusaBackup, or finds the one of that name. Returns its UID when it is ours.
    async fn create(&self, api: &Api<MedusaBackup>, backup: &Backup) -> Result<Option<Uid>, Trouble> {
        let kind = ObjectKind::MedusaBackup;
        let mut object = backup.object.clone();
        // The API server drops the status of a create; it follows by itself.
        object.status = None;
        let label = (OPERATION_LABEL, backup.maker.as_str());
        let (found, foreign) = create(api, kind.as_str(), &object, label).await?;
        let uid = self.keep(kind, &found);
        let Some(uid) = uid else { return Err(Trouble::Refused("the answer to a create has no UID".to_owned())) };
        let (maker, name) = (backup.maker.clone(), backup.name.clone());
        let fact: Event = if backup.synced {
            BackupCreated { task: maker, name, uid: uid.clone(), foreign }.into()
        } else {
            ObjectCreated { job: maker, uid: uid.clone(), foreign }.into()
        };
        // Nobody receives when the process ends: the successor finds the object by its label.
        let _ = self.facts.send((backup.dc.clone(), fact));
        Ok((!foreign).then_some(uid))
    }

    /// Reads an object anew; another one of its name is not it.
    pub(super) async fn read<K>(&self, api: &Api<K>, kind: ObjectKind, name: &str, uid: &Uid) -> Result<(), Trouble>
    where
        K: Published,
    {
        match answer(kind.as_str(), api.get(name)).await {
            Ok(found) if found.uid().as_deref() == Some(uid.as_str()) => {
                self.keep(kind, &found);
                Ok(())
            }
            Ok(_) | Err(Trouble::Gone) => {
                self.mirror.remove(uid);
                Err(Trouble::Gone)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Writes a status: ours is applied. Where others left fields of it, all of it is set in one write, what we do not
    /// say taken out: nobody shall see an end of ours with nodes of theirs that still run.
    pub(super) async fn show<K, S>(
        &self,
        api: &Api<K>,
        uid: &Uid,
        copy: &Copy,
        status: &S,
        digest: Option<StatusDigest>,
    ) -> Result<(), Trouble>
    where
        K: Published,
        S: Serialize,
    {
        let mut status = serde_json::to_value(status)
            .map_err(|error| Trouble::Refused(format!("a status has no JSON form: {error}")))?;
        let mut known = copy.clone();
        if !copy.shared {
            self.apply(api, uid, copy, json!({ "status": status }), true).await?;
            match self.mirror.get(uid).filter(|copy| copy.status != digest) {
                Some(other) => known = other,
                None => return Ok(()),
            }
        }
        for field in K::STATUS.iter().filter(|field| status.get(**field).is_none()).collect::<Vec<_>>() {
            status[*field] = Value::Null;
        }
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(pinned::<K>(uid, &known, json!({ "status": status })));
        self.written(uid, known.kind, api.patch_status(&known.name, &params, &patch)).await
    }

    /// Server-side apply of `patch` onto the object that `copy` tells of, and no other version of it.
    async fn apply<K>(&self, api: &Api<K>, uid: &Uid, copy: &Copy, patch: Value, status: bool) -> Result<(), Trouble>
    where
        K: Published,
    {
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(pinned::<K>(uid, copy, patch));
        if status {
            self.written(uid, copy.kind, api.patch_status(&copy.name, &params, &patch)).await
        } else {
            self.written(uid, copy.kind, api.patch(&copy.name, &params, &patch)).await
        }
    }

    /// Waits for a write of the object with this UID.
    async fn written<K: Published>(
        &self,
        uid: &Uid,
        kind: ObjectKind,
        request: impl Future<Output = Result<K, kube::Error>>,
    ) -> Result<(), Trouble> {
        match answer(kind.as_str(), request).await {
            Ok(object) => {
                self.keep(kind, &object);
                Ok(())
            }
            Err(Trouble::Gone) => {
                self.mirror.remove(uid);
                Err(Trouble::Gone)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Deletes an object: this one, and no other of its name.
    pub(super) async fn delete<K: Published + Resource<Scope = NamespaceResourceScope>>(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<(), Trouble> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let preconditions = Preconditions { uid: Some(uid.to_string()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match answer(kind.as_str(), api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            // Another one has its name: this one is gone.
            Err(Trouble::Conflict) => Err(Trouble::Gone),
            Err(trouble) => Err(trouble),
        }
    }

    /// What the API server answered is what lies there, until a newer sight.
    pub(super) fn keep<K: Published>(&self, kind: ObjectKind, object: &K) -> Option<Uid> {
        let uid = Uid::from(object.meta().uid.as_deref()?);
        let copy = Copy {
            kind,
            namespace: object.namespace().unwrap_or_default().into(),
            name: object.name_any().into(),
            resource_version: Arc::from(object.meta().resource_version.as_deref()?),
            status: object.status_digest(),
            owned: !object.owner_references().is_empty(),
            shared: shared(object.meta()),
        };
        self.mirror.put(&uid, copy);
        Some(uid)
    }
}

/// A patch that names what it rests on: this object, this version of it.
fn pinned<K: Published>(uid: &Uid, copy: &Copy, mut patch: Value) -> Value {
    patch["apiVersion"] = json!(K::api_version(&()));
    patch["kind"] = json!(K::kind(&()));
    patch["metadata"]["name"] = json!(copy.name);
    patch["metadata"]["namespace"] = json!(copy.namespace);
    patch["metadata"]["uid"] = json!(uid);
    patch["metadata"]["resourceVersion"] = json!(copy.resource_version);
    patch
}

/// The kinds that are published.
pub(super) trait Published: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {
    /// The fields of the status.
    const STATUS: &'static [&'static str];

    fn status_digest(&self) -> Option<StatusDigest>;
}

impl Published for MedusaBackupJob {
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
        "nodes",
    ];

    fn status_digest(&self) -> Option<StatusDigest> {
        StatusDigest::of(&self.status.clone().unwrap_or_default())
    }
}

impl Published for MedusaBackup {
    const STATUS: &'static [&'static str] = &[
        "startTime",
        "finishTime",
        "totalNodes",
        "finishedNodes",
        "nodes",
        "totalFiles",
        "totalSize",
        "status",
        "conditions",
    ];

    fn status_digest(&self) -> Option<StatusDigest> {
        StatusDigest::of(&self.status.clone().unwrap_or_default())
    }
}

/// Creates an object, or finds the one of its name; says whether that is another's: ours has the label.
pub(super) async fn create<K>(
    api: &Api<K>,
    kind: &str,
    object: &K,
    (label, value): (&str, &str),
) -> Result<(K, bool), Trouble>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match answer(kind, api.create(&params, object)).await {
        Ok(created) => Ok((created, false)),
        Err(Trouble::Conflict) => match answer(kind, api.get(&object.name_any())).await {
            Ok(found) => {
                let foreign = found.labels().get(label).map(String::as_str) != Some(value);
                Ok((found, foreign))
            }
            // Deleted in between: it is created at the next try.
            Err(Trouble::Gone) => Err(Trouble::Conflict),
            Err(trouble) => Err(trouble),
        },
        Err(trouble) => Err(trouble),
    }
}

/// Waits for an answer and says what it means.
pub(super) async fn answer<T>(kind: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(trouble(kind, error)),
        Err(_) => Err(Trouble::Failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// What an error means.
pub(super) fn trouble(kind: &str, error: kube::Error) -> Trouble {
    let kube::Error::Api(status) = error else { return Trouble::Away(chain(&error)) };
    match status.code {
        404 => Trouble::Gone,
        409 => Trouble::Conflict,
        403 => Trouble::Refused(format!(
            "the operator may not write objects of kind {kind}: allow it to its service account ({})",
            status.message
        )),
        401 | 429 => Trouble::Away(status.message),
        400..500 => Trouble::Refused(format!("an object of kind {kind} is refused: {}", status.message)),
        _ => Trouble::Failed(status.message),
    }
}
