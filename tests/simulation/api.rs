//! The false API server: objects with UIDs and resource versions, optimistic writes, a history to watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_decide::Observation;
use stheno_events::observed::{self, BackupJob, BackupType, Gone, JobRules, Meta, ObjectKind, Pod, Sidecar};
use stheno_events::{PodName, Uid};

pub(crate) const NAMESPACE: &str = "prod";
pub(crate) const DC: &str = "dc1";

/// What the status of a job says, as far as the simulation publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JobStatus {
    pub(crate) started: Option<stheno_events::Time>,
    pub(crate) finished: Option<stheno_events::Time>,
    pub(crate) outcome: Option<String>,
}

impl JobStatus {
    fn adopted(&self, kind: ObjectKind, uid: &Uid) -> Option<observed::Adopted> {
        self.started.or(self.finished).map(|_| observed::Adopted {
            kind,
            uid: uid.clone(),
            started: self.started,
            finished: self.finished,
            in_progress: Vec::new(),
            finished_pods: Vec::new(),
            failed_pods: Vec::new(),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Job(BackupJob, JobStatus),
    Backup(observed::Backup),
    Schedule(observed::Schedule),
    Task(observed::Task, JobStatus),
    Datacenter(observed::Datacenter),
    Pod(Pod),
}

impl Body {
    pub(crate) const fn kind(&self) -> ObjectKind {
        match self {
            Self::Job(..) => ObjectKind::MedusaBackupJob,
            Self::Backup(_) => ObjectKind::MedusaBackup,
            Self::Schedule(_) => ObjectKind::MedusaBackupSchedule,
            Self::Task(..) => ObjectKind::MedusaTask,
            Self::Datacenter(_) => ObjectKind::CassandraDatacenter,
            Self::Pod(_) => ObjectKind::Pod,
        }
    }

    fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Job(job, _) => &mut job.meta,
            Self::Backup(backup) => &mut backup.meta,
            Self::Schedule(schedule) => &mut schedule.meta,
            Self::Task(task, _) => &mut task.meta,
            Self::Datacenter(dc) => &mut dc.meta,
            Self::Pod(pod) => &mut pod.meta,
        }
    }

    pub(crate) const fn meta(&self) -> &Meta {
        match self {
            Self::Job(job, _) => &job.meta,
            Self::Backup(backup) => &backup.meta,
            Self::Schedule(schedule) => &schedule.meta,
            Self::Task(task, _) => &task.meta,
            Self::Datacenter(dc) => &dc.meta,
            Self::Pod(pod) => &pod.meta,
        }
    }

    pub(crate) fn observation(&self) -> Observation {
        match self {
            Self::Job(job, status) => {
                let adopted = status.adopted(ObjectKind::MedusaBackupJob, &job.meta.uid);
                Observation::BackupJob(job.clone(), adopted)
            }
            Self::Task(task, status) => {
                let adopted = status.adopted(ObjectKind::MedusaTask, &task.meta.uid);
                Observation::Task(task.clone(), adopted)
            }
            Self::Backup(backup) => Observation::Backup(backup.clone()),
            Self::Schedule(schedule) => Observation::Schedule(schedule.clone(), None),
            Self::Datacenter(dc) => Observation::Datacenter(dc.clone()),
            Self::Pod(pod) => Observation::Pod(pod.clone()),
        }
    }
}

/// A change as a watch shows it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Is(Body),
    Gone(Gone),
}

#[derive(Default, Clone)]
pub(crate) struct Api {
    pub(crate) version: u64,
    next_uid: u64,
    pub(crate) objects: BTreeMap<Uid, Body>,
    /// How often a MedusaBackup of a name was created.
    pub(crate) created: BTreeMap<Arc<str>, u64>,
    /// How often a job of a name was created for a schedule.
    pub(crate) jobs_created: BTreeMap<Arc<str>, u64>,
    /// How often a sync of a name was created for a purge.
    pub(crate) syncs_created: BTreeMap<Arc<str>, u64>,
}

impl Api {
    fn meta(&mut self, name: &str, now: stheno_events::Time) -> Meta {
        self.version += 1;
        self.next_uid += 1;
        Meta {
            uid: format!("uid-{:04}", self.next_uid).into(),
            name: name.into(),
            resource_version: self.version.to_string().into(),
            generation: 1,
            created: now,
            deleting: None,
        }
    }

    pub(crate) fn datacenter(&mut self, size: i32, now: stheno_events::Time) -> Change {
        let meta = self.meta(DC, now);
        self.put(Body::Datacenter(observed::Datacenter {
            meta,
            cluster: "test".into(),
            datacenter_name: None,
            size,
            racks: Vec::new(),
            stopped: false,
            observed_generation: 1,
            progress: Some("Ready".into()),
            conditions: BTreeMap::new(),
        }))
    }

    pub(crate) fn pod(&mut self, name: &PodName, ready: bool, now: stheno_events::Time) -> Change {
        let meta = self.meta(name.as_str(), now);
        self.put(Body::Pod(Pod {
            meta,
            cluster: "test".into(),
            ip: Some(name.as_str().into()),
            sidecar: Some(Sidecar { port: 50051, ready }),
        }))
    }

    pub(crate) fn job(&mut self, name: &str, rules: JobRules, now: stheno_events::Time) -> Change {
        let meta = self.meta(name, now);
        let job = BackupJob {
            meta,
            dc: DC.into(),
            backup_type: BackupType::Differential,
            owned: false,
            schedule: None,
            rules,
            annotations: BTreeMap::new(),
        };
        self.put(Body::Job(job, JobStatus::default()))
    }

    /// A schedule.
    pub(crate) fn schedule(&mut self, cron: &str, now: stheno_events::Time) -> Change {
        let meta = self.meta("often", now);
        self.put(Body::Schedule(observed::Schedule {
            meta,
            dc: DC.into(),
            backup_type: BackupType::Differential,
            cron: cron.into(),
            time_zone: None,
            suspended: false,
            operation: observed::ScheduledOperation::Backup,
            concurrency: None,
            // Of many slots each would be too much to make up for.
            catch_up: if cron.starts_with("* ") { observed::CatchUp::Latest } else { observed::CatchUp::All },
            starting_deadline: None,
            rules: JobRules::default(),
            keep_complete: None,
            keep_failed: None,
            owned: true,
        }))
    }

    /// Creates the job of a slot; `None` when the name is taken.
    pub(crate) fn scheduled_job(&mut self, name: &str, schedule: Uid, now: stheno_events::Time) -> Option<Change> {
        if self.objects.values().any(|body| matches!(body, Body::Job(job, _) if *job.meta.name == *name)) {
            return None;
        }
        *self.jobs_created.entry(name.into()).or_default() += 1;
        let Change::Is(mut body) = self.job(name, JobRules::default(), now) else { return None };
        if let Body::Job(job, _) = &mut body {
            job.schedule = Some(schedule);
        }
        Some(self.put(body))
    }

    /// Creates a MedusaBackup; `None` when the name is taken.
    pub(crate) fn backup(
        &mut self,
        name: &Arc<str>,
        operation: Option<Uid>,
        now: stheno_events::Time,
    ) -> Option<Change> {
        let taken = |body: &Body| matches!(body, Body::Backup(backup) if backup.meta.name == *name);
        if self.objects.values().any(taken) {
            return None;
        }
        *self.created.entry(name.clone()).or_default() += 1;
        let meta = self.meta(name, now);
        Some(self.put(Body::Backup(observed::Backup {
            meta,
            dc: DC.into(),
            backup_type: BackupType::Differential,
            operation,
        })))
    }

    /// A task, made by a person or for a purge.
    pub(crate) fn task(
        &mut self,
        name: &str,
        operation: observed::TaskOperation,
        purge: Option<Uid>,
        now: stheno_events::Time,
    ) -> Change {
        let meta = self.meta(name, now);
        let task = observed::Task {
            meta,
            dc: DC.into(),
            operation,
            backup: None,
            restore_key: None,
            owned: true,
            labels: purge.map(|purge| ("stheno.io/task".into(), purge.as_str().into())).into_iter().collect(),
            annotations: BTreeMap::new(),
        };
        self.put(Body::Task(task, JobStatus::default()))
    }

    /// Creates the sync that follows a purge; `None` when the name is taken.
    pub(crate) fn follow_up(&mut self, name: &Arc<str>, purge: Uid, now: stheno_events::Time) -> Option<Change> {
        if self.task_named(name).is_some() {
            return None;
        }
        *self.syncs_created.entry(name.clone()).or_default() += 1;
        Some(self.task(name, observed::TaskOperation::Sync, Some(purge), now))
    }

    pub(crate) fn task_named(&self, name: &Arc<str>) -> Option<Uid> {
        let mut objects = self.objects.iter();
        let found = objects.find(|(_, body)| matches!(body, Body::Task(task, _) if task.meta.name == *name));
        found.map(|(uid, _)| uid.clone())
    }

    /// A person consents.
    pub(crate) fn annotate(&mut self, uid: &Uid, token: &Arc<str>) -> Option<Change> {
        let next = self.version + 1;
        let body = self.objects.get_mut(uid)?;
        let Body::Task(task, _) = body else { return None };
        task.annotations.insert("stheno.io/approve".into(), token.clone());
        task.meta.resource_version = next.to_string().into();
        self.version = next;
        Some(Change::Is(body.clone()))
    }

    /// Everything is as it was when the copy was made; no UID is drawn twice, and what was created stays counted.
    pub(crate) fn put_back(&mut self, copy: Self) {
        (self.version, self.objects) = (copy.version, copy.objects);
    }

    fn put(&mut self, body: Body) -> Change {
        self.objects.insert(body.meta().uid.clone(), body.clone());
        Change::Is(body)
    }

    /// Writes a job's status; `None` when the version is stale or the object gone.
    pub(crate) fn status(&mut self, uid: &Uid, version: &str, status: JobStatus) -> Option<Change> {
        let next = self.version + 1;
        let body = self.objects.get_mut(uid).filter(|body| *body.meta().resource_version == *version)?;
        if let Body::Job(_, current) | Body::Task(_, current) = body {
            *current = status;
        }
        self.version = next;
        body.meta_mut().resource_version = next.to_string().into();
        Some(Change::Is(body.clone()))
    }

    /// Edits a job; `None` when it is gone.
    pub(crate) fn edit(&mut self, uid: &Uid, change: impl FnOnce(&mut BackupJob)) -> Option<Change> {
        let next = self.version + 1;
        let body = self.objects.get_mut(uid)?;
        let Body::Job(job, _) = body else { return None };
        change(job);
        job.meta.resource_version = next.to_string().into();
        self.version = next;
        Some(Change::Is(body.clone()))
    }

    /// Changes a pod's readiness.
    pub(crate) fn ready(&mut self, name: &PodName, ready: bool) -> Option<Change> {
        let next = self.version + 1;
        let body = self.objects.values_mut().find(|body| matches!(body, Body::Pod(pod) if pod.name() == *name))?;
        if let Body::Pod(pod) = body {
            pod.sidecar = Some(Sidecar { port: 50051, ready });
        }
        self.version = next;
        body.meta_mut().resource_version = next.to_string().into();
        Some(Change::Is(body.clone()))
    }

    pub(crate) fn delete(&mut self, uid: &Uid) -> Option<Change> {
        let body = self.objects.remove(uid)?;
        self.version += 1;
        let (kind, name) = (body.kind(), body.meta().name.clone());
        Some(Change::Gone(Gone { kind, uid: uid.clone(), name, inferred: false }))
    }

    pub(crate) fn pod_uid(&self, name: &PodName) -> Option<Uid> {
        self.objects
            .values()
            .find(|body| matches!(body, Body::Pod(pod) if pod.name() == *name))
            .map(|body| body.meta().uid.clone())
    }
}
