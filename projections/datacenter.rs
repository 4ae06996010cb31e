//! A datacenter as the log tells it: the object, its pods, its operations, the inventory of its backups.

mod forgotten;
mod schedules;
mod tasks;

pub use forgotten::{Forgotten, Tombstone};

use crate::backup::{Operation, Stage};
use crate::schedule::{Schedule, Scheduled};
use crate::task::{FollowUp, Removal, Task};
use crate::world::{Head, Touched};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_events::backup::Summarised;
use stheno_events::datacenter::{Event as DcEvent, Led};
use stheno_events::observed::{self, BackupType, ObjectKind, Pod};
use stheno_events::task::Completeness;
use stheno_events::{Event, PodName, Time, Uid, backup};

/// All that decides about one datacenter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Datacenter {
    /// Its last message.
    pub head: Head,
    /// Who may append and act here.
    pub led: Option<Led>,
    /// Why nothing may be decided here: an event that this build does not understand.
    pub frozen: Option<Arc<str>>,
    /// The CassandraDatacenter, while there is one.
    pub object: Option<Arc<observed::Datacenter>>,
    /// Its UID at last sight, kept when the object goes.
    pub uid: Option<Uid>,
    /// Its pods, as far as they were recorded.
    pub pods: BTreeMap<PodName, Arc<Pod>>,
    /// Operations by the UID of their job.
    pub operations: BTreeMap<Uid, Arc<Operation>>,
    /// Operations that have not ended, in order of request.
    pub open: BTreeSet<(Time, Uid)>,
    /// When the time to live of a job that has ended is over, of those that are there; by their UID.
    pub lapses: BTreeMap<Uid, Time>,
    /// The inventory: complete backups that have, or shall have, an object.
    pub backups: BTreeMap<Arc<str>, Arc<Backup>>,
    /// Schedules, by UID.
    pub schedules: BTreeMap<Uid, Arc<Schedule>>,
    /// Objects that schedules asked for: to be created, or jobs that are there; by name.
    pub scheduled: BTreeMap<Arc<str>, Arc<Scheduled>>,
    /// Up to where the slots of schedules that are gone had ended, by name: who is created anew repeats none.
    pub former_slots: BTreeMap<Arc<str>, Time>,
    /// Tasks, by UID.
    pub tasks: BTreeMap<Uid, Arc<Task>>,
    /// Tasks that have not ended, in order of request.
    pub open_tasks: BTreeSet<(Time, Uid)>,
    /// Syncs that purges asked for and that are to be created, by name.
    pub follow_ups: BTreeMap<Arc<str>, Arc<FollowUp>>,
    /// Objects that syncs have deleted and that are to go, by UID.
    pub removals: BTreeMap<Uid, Removal>,
    /// Objects that could not be read, by UID.
    pub malformed: BTreeMap<Uid, Arc<observed::Malformed>>,
    /// Operations that ended and are gone: they left the world, and must not come back to life.
    pub forgotten: Arc<Forgotten>,
    /// Events that broke a law of the log: counted, never obeyed.
    pub illegal: u64,
}

/// A complete backup of this datacenter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// The job that made it; none for one that the log merely saw, or that a sync found.
    pub operation: Option<Uid>,
    /// The sync that found it in the bucket: it has no job here, and its object says what the bucket says.
    pub sync: Option<Uid>,
    /// Whether the bucket has all of it, as far as is known.
    pub completeness: Completeness,
    /// Full or differential.
    pub backup_type: BackupType,
    /// Start.
    pub started: Option<Time>,
    /// End.
    pub finished: Option<Time>,
    /// What the bucket said.
    pub summary: Option<Arc<Summarised>>,
    /// The MedusaBackup object.
    pub object: Object,
}

/// The MedusaBackup object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// To be created. Once it has been, a deletion is the user's and is not undone.
    Wanted,
    /// Created by us, or taken over by a sync; its status is a projection.
    Ours {
        /// Its UID.
        uid: Uid,
    },
    /// Made by somebody else: it stays as it is.
    Foreign {
        /// Its UID.
        uid: Uid,
    },
}

impl Backup {
    /// Who made it known: the job that made it, or the sync that found it. Its object carries this as a label.
    #[must_use]
    pub const fn maker(&self) -> Option<&Uid> {
        match (&self.operation, &self.sync) {
            (Some(maker), _) | (None, Some(maker)) => Some(maker),
            (None, None) => None,
        }
    }

    /// Whether this is its object.
    #[must_use]
    pub fn is(&self, object: &Uid) -> bool {
        match &self.object {
            Object::Ours { uid } | Object::Foreign { uid } => uid == object,
            Object::Wanted => false,
        }
    }
}

impl Datacenter {
    /// Whether any operation has not ended: only then pods are recorded.
    #[must_use]
    pub fn busy(&self) -> bool {
        !self.open.is_empty() || !self.open_tasks.is_empty()
    }

    /// The operation of a job.
    #[must_use]
    pub fn operation(&self, job: &Uid) -> Option<&Operation> {
        self.operations.get(job).map(AsRef::as_ref)
    }

    /// Folds one event that is not in the log yet: how a decision sees what it has just decided.
    pub fn fold(&mut self, event: &Event, at: Time) {
        self.apply(event, at, &mut Vec::new());
    }

    /// Folds one event; what it touched goes to `touched`.
    pub(crate) fn apply(&mut self, event: &Event, at: Time, touched: &mut Vec<Touched>) {
        match event {
            Event::Observed(event) => self.observe(event, at, touched),
            Event::Backup(event) => self.backup(event, at, touched),
            Event::Schedule(event) => self.schedule(event, at, touched),
            Event::Task(event) => self.task(event, at, touched),
            Event::Datacenter(DcEvent::Led(led)) => self.led = Some(led.clone()),
            // What it means is the operator's: see World::apply.
            Event::Datacenter(DcEvent::Overtaken(_)) => {}
            Event::Datacenter(DcEvent::Incarnation(e)) => {
                self.uid = Some(e.uid.clone());
                self.pods.clear();
            }
            Event::Operator(_) => self.illegal += 1,
        }
    }

    fn observe(&mut self, event: &observed::Event, at: Time, touched: &mut Vec<Touched>) {
        match event {
            observed::Event::BackupJob(job) => {
                let uid = job.meta.uid.clone();
                self.malformed.remove(&uid);
                touched.push(Touched::Job(uid.clone()));
                if let Some(made) = self.scheduled.get_mut(&job.meta.name)
                    && made.object == Object::Wanted
                    && job.schedule.as_ref() == Some(&made.schedule)
                {
                    // Created by a leader that could not say so any more.
                    Arc::make_mut(made).object = Object::Ours { uid: uid.clone() };
                }
                if let Some(operation) = self.operations.get_mut(&uid) {
                    Arc::make_mut(operation).edit(job.clone(), at);
                } else {
                    let mut operation = Operation::requested(job.clone(), at);
                    if let Some(ended) = Forgotten::rise(&mut self.forgotten, &job.meta) {
                        // It came back from an older copy of the API server's store.
                        operation.stage = ended;
                    } else {
                        self.open.insert((job.meta.created, uid.clone()));
                    }
                    self.operations.insert(uid.clone(), Arc::new(operation));
                }
                self.reckon(&uid);
            }
            observed::Event::Schedule(seen) => {
                self.malformed.remove(&seen.meta.uid);
                self.scheduling(seen, at);
                touched.push(Touched::Schedule(seen.meta.uid.clone()));
            }
            observed::Event::Task(seen) => self.tasked(seen, at, touched),
            observed::Event::Adopted(adopted) if adopted.kind == ObjectKind::MedusaTask => {
                self.adopted_task(adopted, at, touched);
            }
            observed::Event::Adopted(adopted) if adopted.kind == ObjectKind::MedusaBackupSchedule => {
                if let Some(schedule) = self.schedules.get_mut(&adopted.uid) {
                    Arc::make_mut(schedule).adopt(at);
                }
            }
            observed::Event::Adopted(adopted) => {
                if let Some(operation) = self.operations.get_mut(&adopted.uid) {
                    let operation = Arc::make_mut(operation);
                    match &mut operation.stage {
                        Stage::Waiting { .. } => operation.adopt(adopted, at),
                        // It came back with the status of its end: that says more than what is remembered of it.
                        Stage::Ended { adopted: seen, .. } if adopted.finished.is_some() => *seen = true,
                        Stage::Running { .. } | Stage::Closing { .. } | Stage::Ended { .. } => self.illegal += 1,
                    }
                    self.close_if_ended(&adopted.uid);
                    self.reckon(&adopted.uid);
                    touched.push(Touched::Job(adopted.uid.clone()));
                }
            }
            observed::Event::Backup(object) => {
                let uid = object.meta.uid.clone();
                let name = object.meta.name.clone();
                self.malformed.remove(&uid);
                let backup = self.backups.entry(name.clone()).or_insert_with(|| {
                    Arc::new(Backup {
                        operation: None,
                        sync: None,
                        completeness: Completeness::Complete,
                        backup_type: object.backup_type,
                        started: None,
                        finished: None,
                        summary: None,
                        object: Object::Foreign { uid: uid.clone() },
                    })
                });
                let ours = object.operation.is_some() && object.operation.as_ref() == backup.maker();
                Arc::make_mut(backup).object = if ours { Object::Ours { uid } } else { Object::Foreign { uid } };
                touched.push(Touched::Backup(name));
            }
            observed::Event::Datacenter(object) => {
                self.uid = self.uid.take().or_else(|| Some(object.meta.uid.clone()));
                self.object = Some(Arc::new(object.clone()));
            }
            observed::Event::Pod(pod) => {
                self.reach(&pod.name(), pod.callable(), at);
                self.pods.insert(pod.name(), Arc::new(pod.clone()));
            }
            observed::Event::Gone(gone) => self.gone(gone, at, touched),
            observed::Event::Malformed(object) => {
                self.malformed.insert(object.uid.clone(), Arc::new(object.clone()));
                touched.push(Touched::Malformed(object.uid.clone()));
            }
            observed::Event::Gap(_) | observed::Event::Unobservable(_) | observed::Event::Observable(_) => {}
        }
    }

    fn gone(&mut self, gone: &observed::Gone, at: Time, touched: &mut Vec<Touched>) {
        self.malformed.remove(&gone.uid);
        if self.removals.remove(&gone.uid).is_some() {
            touched.push(Touched::Removal(gone.uid.clone()));
        }
        match gone.kind {
            ObjectKind::MedusaBackupJob => {
                if let Some(operation) = self.operations.get_mut(&gone.uid) {
                    Arc::make_mut(operation).gone = true;
                }
                if let Some(made) = self.scheduled.get(&gone.name).filter(|made| made.is(&gone.uid)) {
                    touched.push(Touched::Schedule(made.schedule.clone()));
                    self.scheduled.remove(&gone.name);
                }
                self.forget(&gone.uid);
                self.reckon(&gone.uid);
            }
            ObjectKind::MedusaBackup => {
                if self.backups.get(&gone.name).is_some_and(|backup| backup.is(&gone.uid)) {
                    self.backups.remove(&gone.name);
                    touched.push(Touched::Backup(gone.name.clone()));
                }
            }
            ObjectKind::MedusaBackupSchedule => {
                if self.drop_schedule(&gone.uid) {
                    touched.push(Touched::Schedule(gone.uid.clone()));
                }
            }
            ObjectKind::MedusaTask => self.task_gone(&gone.uid, touched),
            ObjectKind::CassandraDatacenter => {
                if self.object.as_ref().is_some_and(|object| object.meta.uid == gone.uid) {
                    self.object = None;
                }
            }
            ObjectKind::Pod => {
                let name = PodName::from(gone.name.clone());
                if self.pods.get(&name).is_some_and(|pod| pod.meta.uid == gone.uid) {
                    self.pods.remove(&name);
                    self.reach(&name, false, at);
                }
            }
        }
    }

    /// What operations know of a pod's reach: from here the patience with its node counts.
    fn reach(&mut self, pod: &PodName, callable: bool, at: Time) {
        for (_, job) in &self.open {
            // Nearly always nothing changes: what is shared with a snapshot or a draft is not copied for that.
            let hears = |operation: &&mut Arc<Operation>| operation.hears_of(pod, callable);
            if let Some(operation) = self.operations.get_mut(job).filter(hears) {
                Arc::make_mut(operation).reach(pod, callable, at);
            }
        }
    }

    fn backup(&mut self, event: &backup::Event, at: Time, touched: &mut Vec<Touched>) {
        let job = event.job();
        let Some(operation) = self.operations.get_mut(job) else {
            self.illegal += 1;
            return;
        };
        let operation = Arc::make_mut(operation);
        if !operation.apply(event, at) {
            self.illegal += 1;
            return;
        }
        touched.push(Touched::Job(job.clone()));
        match event {
            backup::Event::Completed(_) => {
                let name = operation.request.meta.name.clone();
                let started = operation.started();
                let made = Backup {
                    operation: Some(job.clone()),
                    sync: None,
                    completeness: Completeness::Complete,
                    backup_type: operation.request.backup_type,
                    started,
                    finished: Some(at),
                    summary: operation.summary.clone(),
                    object: Object::Wanted,
                };
                // An object of that name stays as it is.
                self.backups.entry(name.clone()).or_insert_with(|| Arc::new(made));
                touched.push(Touched::Backup(name));
            }
            backup::Event::ObjectCreated(e) => {
                let name = operation.request.meta.name.clone();
                if let Some(backup) = self.backups.get_mut(&name)
                    && backup.operation.as_ref() == Some(job)
                    && backup.object == Object::Wanted
                {
                    let uid = e.uid.clone();
                    Arc::make_mut(backup).object =
                        if e.foreign { Object::Foreign { uid } } else { Object::Ours { uid } };
                }
                touched.push(Touched::Backup(name));
            }
            backup::Event::Queued(_)
            | backup::Event::Started(_)
            | backup::Event::EffectClaimed(_)
            | backup::Event::ClaimAbandoned(_)
            | backup::Event::NodeStarted(_)
            | backup::Event::Progress(_)
            | backup::Event::NodeFinished(_)
            | backup::Event::NodeFailed(_)
            | backup::Event::NodeUnanswered(_)
            | backup::Event::NodeLost(_)
            | backup::Event::OutcomeDecided(_)
            | backup::Event::Summarised(_)
            | backup::Event::SummaryFailed(_)
            | backup::Event::Failed(_)
            | backup::Event::Expired(_) => {}
        }
        self.close_if_ended(job);
        self.forget(job);
        self.reckon(job);
    }

    /// Notes when the time to live of a job is over.
    fn reckon(&mut self, job: &Uid) {
        match self.operation(job).and_then(Operation::lapse) {
            Some(lapse) => self.lapses.insert(job.clone(), lapse),
            None => self.lapses.remove(job),
        };
    }

    fn close_if_ended(&mut self, job: &Uid) {
        if let Some(operation) = self.operations.get(job).filter(|operation| operation.ended()) {
            self.open.remove(&(operation.request.meta.created, job.clone()));
            self.rest();
        }
    }

    /// Pods are recorded only while an operation needs them.
    fn rest(&mut self) {
        if !self.busy() {
            self.pods.clear();
        }
    }

    /// An operation that ended and whose custom resource is gone leaves the world, not the log.
    fn forget(&mut self, job: &Uid) {
        if self.operations.get(job).is_some_and(|operation| operation.gone && operation.ended())
            && let Some(operation) = self.operations.remove(job)
        {
            Arc::make_mut(&mut self.forgotten).bury(&operation);
        }
    }

    /// A person accepted an API server whose store had gone back: its versions say nothing about those seen before.
    pub(crate) fn forget_versions(&mut self) {
        let none: Arc<str> = "".into();
        for operation in self.operations.values_mut() {
            Arc::make_mut(operation).request.meta.resource_version = none.clone();
        }
        for task in self.tasks.values_mut() {
            Arc::make_mut(task).request.meta.resource_version = none.clone();
        }
        for pod in self.pods.values_mut() {
            Arc::make_mut(pod).meta.resource_version = none.clone();
        }
        for schedule in self.schedules.values_mut() {
            Arc::make_mut(schedule).request.meta.resource_version = none.clone();
        }
        if let Some(object) = &mut self.object {
            Arc::make_mut(object).meta.resource_version = none;
        }
    }
}
