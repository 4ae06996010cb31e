//! Which objects an event is about, and how people name them.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use stheno_events::backup::Event as BackupEvent;
use stheno_events::observed::{Event as ObservedEvent, ObjectKind, ScheduledOperation};
use stheno_events::schedule::{Event as ScheduleEvent, Requested};
use stheno_events::task::Event as TaskEvent;
use stheno_events::{DcKey, Event, Uid};

/// A kind as people type it: as in `kubectl get`, in any case, singular or plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindArg(pub ObjectKind);

impl KindArg {
    const NAMES: [(ObjectKind, &'static [&'static str]); 6] = [
        (ObjectKind::MedusaBackupJob, &["medusabackupjob", "backupjob", "job"]),
        (ObjectKind::MedusaBackup, &["medusabackup", "backup"]),
        (ObjectKind::MedusaBackupSchedule, &["medusabackupschedule", "backupschedule", "schedule"]),
        (ObjectKind::MedusaTask, &["medusatask", "task"]),
        (ObjectKind::CassandraDatacenter, &["cassandradatacenter", "cassdc", "datacenter", "dc"]),
        (ObjectKind::Pod, &["pod", "po"]),
    ];
}

impl FromStr for KindArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let name = name.split_once('.').map_or(name.as_str(), |(kind, _group)| kind);
        let singular = name.strip_suffix('s').unwrap_or(name);
        Self::NAMES
            .iter()
            .find(|(_, names)| names.iter().any(|known| *known == name || *known == singular))
            .map(|(kind, _)| Self(*kind))
            .ok_or_else(|| {
                let kinds: Vec<_> = Self::NAMES.iter().map(|(kind, _)| kind.as_str()).collect();
                format!("the log knows no such kind; it knows {}", kinds.join(", "))
            })
    }
}

/// An object by its name: `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameArg {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl FromStr for NameArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            Some(_) | None => Err("expected NAMESPACE/NAME".into()),
        }
    }
}

impl std::fmt::Display for NameArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name, where the log has told it.
    pub name: Option<Arc<str>>,
    /// Its UID, where the event tells it.
    pub uid: Option<Uid>,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, &self.uid) {
            (Some(name), _) => write!(f, "{}/{name}", short(self.kind)),
            (None, Some(uid)) => write!(f, "{}/?{}", short(self.kind), uid.as_str().get(..8).unwrap_or(uid.as_str())),
            (None, None) => f.write_str(short(self.kind)),
        }
    }
}

const fn short(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::MedusaBackupJob => "job",
        ObjectKind::MedusaBackup => "backup",
        ObjectKind::MedusaBackupSchedule => "schedule",
        ObjectKind::MedusaTask => "task",
        ObjectKind::CassandraDatacenter => "datacenter",
        ObjectKind::Pod => "pod",
    }
}

/// What the log has said of names so far: events after the first name a job, a schedule or a task by its UID only.
#[derive(Debug, Default)]
pub struct Names {
    jobs: BTreeMap<Uid, Arc<str>>,
}

impl Names {
    /// Remembers the name that an event tells.
    pub fn learn(&mut self, event: &Event) {
        let meta = match event {
            Event::Observed(ObservedEvent::BackupJob(job)) => &job.meta,
            Event::Observed(ObservedEvent::Schedule(schedule)) => &schedule.meta,
            Event::Observed(ObservedEvent::Task(task)) => &task.meta,
            Event::Observed(_)
            | Event::Backup(_)
            | Event::Schedule(_)
            | Event::Task(_)
            | Event::Datacenter(_)
            | Event::Operator(_) => return,
        };
        self.jobs.entry(meta.uid.clone()).or_insert_with(|| meta.name.clone());
    }

    /// The name of a job, a schedule or a task.
    #[must_use]
    pub fn job(&self, uid: &Uid) -> Option<&Arc<str>> {
        self.jobs.get(uid)
    }

    /// The objects that an event of the datacenter `dc` is about, the foremost first. Events of the operator itself are
    /// about none.
    #[must_use]
    pub fn objects(&self, dc: Option<&DcKey>, event: &Event) -> Vec<Object> {
        let namespace: Arc<str> = dc.map_or_else(|| "".into(), |dc| dc.namespace.clone());
        let object = |kind, name: Option<Arc<str>>, uid: Option<&Uid>| Object {
            kind,
            namespace: namespace.clone(),
            name,
            uid: uid.cloned(),
        };
        let seen =
            |kind, meta: &stheno_events::observed::Meta| vec![object(kind, Some(meta.name.clone()), Some(&meta.uid))];
        match event {
            Event::Observed(event) => match event {
                ObservedEvent::BackupJob(e) => seen(ObjectKind::MedusaBackupJob, &e.meta),
                ObservedEvent::Backup(e) => seen(ObjectKind::MedusaBackup, &e.meta),
                ObservedEvent::Schedule(e) => seen(ObjectKind::MedusaBackupSchedule, &e.meta),
                ObservedEvent::Task(e) => seen(ObjectKind::MedusaTask, &e.meta),
                ObservedEvent::Datacenter(e) => seen(ObjectKind::CassandraDatacenter, &e.meta),
                ObservedEvent::Pod(e) => seen(ObjectKind::Pod, &e.meta),
                ObservedEvent::Gone(e) => vec![object(e.kind, Some(e.name.clone()), Some(&e.uid))],
                ObservedEvent::Malformed(e) => vec![object(e.kind, Some(e.name.clone()), Some(&e.uid))],
                ObservedEvent::Adopted(e) => vec![object(e.kind, self.job(&e.uid).cloned(), Some(&e.uid))],
                ObservedEvent::Gap(_) | ObservedEvent::Unobservable(_) | ObservedEvent::Observable(_) => Vec::new(),
            },
            Event::Backup(event) => {
                let name = self.job(event.job()).cloned();
                let mut objects = vec![object(ObjectKind::MedusaBackupJob, name.clone(), Some(event.job()))];
                if let Some(pod) = pod_of(event) {
                    objects.push(object(ObjectKind::Pod, Some(pod.as_str().into()), None));
                }
                match event {
                    BackupEvent::ObjectCreated(e) => {
                        objects.push(object(ObjectKind::MedusaBackup, name, Some(&e.uid)));
                    }
                    // The backup has the name of its job.
                    BackupEvent::Summarised(_) | BackupEvent::Completed(_) => {
                        objects.push(object(ObjectKind::MedusaBackup, name, None));
                    }
                    BackupEvent::Started(_) | BackupEvent::Failed(_) => {}
                    BackupEvent::Progress(e) => {
                        let pods = e.nodes.iter().map(|node| node.pod.as_str().into());
                        objects.extend(pods.map(|name| object(ObjectKind::Pod, Some(name), None)));
                    }
                    BackupEvent::Queued(_)
                    | BackupEvent::EffectClaimed(_)
                    | BackupEvent::ClaimAbandoned(_)
                    | BackupEvent::NodeStarted(_)
                    | BackupEvent::NodeFinished(_)
                    | BackupEvent::NodeFailed(_)
                    | BackupEvent::NodeUnanswered(_)
                    | BackupEvent::NodeLost(_)
                    | BackupEvent::OutcomeDecided(_)
                    | BackupEvent::SummaryFailed(_)
                    | BackupEvent::Expired(_) => {}
                }
                if marks_datacenter(event) {
                    objects.push(object(ObjectKind::CassandraDatacenter, dc.map(|dc| dc.name.clone()), None));
                }
                objects
            }
            Event::Schedule(event) => {
                let uid = event.schedule();
                let mut objects = vec![object(ObjectKind::MedusaBackupSchedule, self.job(uid).cloned(), Some(uid))];
                let job = |name: &Arc<str>, uid| object(ObjectKind::MedusaBackupJob, Some(name.clone()), uid);
                let backs_up = |request: &Requested| request.operation == ScheduledOperation::Backup;
                match event {
                    ScheduleEvent::Ran(e) if backs_up(&e.object) => objects.push(job(&e.object.name, None)),
                    ScheduleEvent::RanLate(e) if backs_up(&e.object) => objects.push(job(&e.object.name, None)),
                    ScheduleEvent::Expired(e) => objects.push(job(&e.name, Some(&e.job))),
                    ScheduleEvent::ObjectCreated(_)
                    | ScheduleEvent::Ran(_)
                    | ScheduleEvent::RanLate(_)
                    | ScheduleEvent::Accepted(_)
                    | ScheduleEvent::Rejected(_)
                    | ScheduleEvent::Postponed(_)
                    | ScheduleEvent::Skipped(_)
                    | ScheduleEvent::Missed(_) => {}
                }
                objects
            }
            Event::Task(event) => {
                let uid = event.task();
                let mut objects = vec![object(ObjectKind::MedusaTask, self.job(uid).cloned(), Some(uid))];
                if let Some(pod) = pod_of_task(event) {
                    objects.push(object(ObjectKind::Pod, Some(pod.as_str().into()), None));
                }
                let backup = |name: &Arc<str>, uid| object(ObjectKind::MedusaBackup, Some(name.clone()), uid);
                match event {
                    TaskEvent::Reconciled(e) => {
                        let names = e.created.iter().chain(&e.corrected).chain(&e.removed);
                        objects.extend(names.map(|name| backup(name, None)));
                    }
                    TaskEvent::BackupCreated(e) => objects.push(backup(&e.name, Some(&e.uid))),
                    TaskEvent::SyncRequested(e) => {
                        objects.push(object(ObjectKind::MedusaTask, Some(e.name.clone()), None));
                    }
                    TaskEvent::SyncCreated(e) => {
                        objects.push(object(ObjectKind::MedusaTask, Some(e.name.clone()), Some(&e.uid)));
                    }
                    TaskEvent::Started(_) | TaskEvent::Completed(_) | TaskEvent::Failed(_) => {
                        objects.push(object(ObjectKind::CassandraDatacenter, dc.map(|dc| dc.name.clone()), None));
                    }
                    TaskEvent::Queued(_)
                    | TaskEvent::ApprovalNeeded(_)
                    | TaskEvent::EffectClaimed(_)
                    | TaskEvent::ClaimAbandoned(_)
                    | TaskEvent::NodeFinished(_)
                    | TaskEvent::NodeFailed(_)
                    | TaskEvent::NodeUnanswered(_)
                    | TaskEvent::NodeLost(_)
                    | TaskEvent::Listed(_)
                    | TaskEvent::Planned(_) => {}
                }
                objects
            }
            Event::Datacenter(_) => {
                vec![object(ObjectKind::CassandraDatacenter, dc.map(|dc| dc.name.clone()), None)]
            }
            Event::Operator(_) => Vec::new(),
        }
    }
}

/// Whether the datacenter's own life tells of it: an operation that began or ended there.
const fn marks_datacenter(event: &BackupEvent) -> bool {
    matches!(event, BackupEvent::Started(_) | BackupEvent::Completed(_) | BackupEvent::Failed(_))
}

/// The pod that an event of a backup is about.
const fn pod_of(event: &BackupEvent) -> Option<&stheno_events::PodName> {
    match event {
        BackupEvent::EffectClaimed(e) => Some(e.call.pod()),
        BackupEvent::ClaimAbandoned(e) => Some(e.call.pod()),
        BackupEvent::NodeUnanswered(e) => Some(e.call.pod()),
        BackupEvent::NodeStarted(e) => Some(&e.pod),
        BackupEvent::NodeFinished(e) => Some(&e.pod),
        BackupEvent::NodeFailed(e) => Some(&e.pod),
        BackupEvent::NodeLost(e) => Some(&e.pod),
        BackupEvent::SummaryFailed(e) => Some(&e.pod),
        BackupEvent::Queued(_)
        | BackupEvent::Started(_)
        | BackupEvent::Progress(_)
        | BackupEvent::OutcomeDecided(_)
        | BackupEvent::Summarised(_)
        | BackupEvent::Completed(_)
        | BackupEvent::Failed(_)
        | BackupEvent::ObjectCreated(_)
        | BackupEvent::Expired(_) => None,
    }
}

/// The pod that an event of a task is about.
const fn pod_of_task(event: &TaskEvent) -> Option<&stheno_events::PodName> {
    match event {
        TaskEvent::EffectClaimed(e) => Some(e.call.pod()),
        TaskEvent::ClaimAbandoned(e) => Some(e.call.pod()),
        TaskEvent::NodeUnanswered(e) => Some(e.call.pod()),
        TaskEvent::NodeFinished(e) => Some(&e.pod),
        TaskEvent::NodeFailed(e) => Some(&e.pod),
        TaskEvent::NodeLost(e) => Some(&e.pod),
        TaskEvent::Listed(e) => Some(&e.pod),
        TaskEvent::Planned(e) => Some(&e.pod),
        TaskEvent::Queued(_)
        | TaskEvent::ApprovalNeeded(_)
        | TaskEvent::Started(_)
        | TaskEvent::Reconciled(_)
        | TaskEvent::SyncRequested(_)
        | TaskEvent::Completed(_)
        | TaskEvent::Failed(_)
        | TaskEvent::SyncCreated(_)
        | TaskEvent::BackupCreated(_) => None,
    }
}
