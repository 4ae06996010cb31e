//! One operator process: the real engine, and what its shell would remember.

use crate::api::{Body, Change, JobStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::engine::{Engine, Identity};
use stheno_decide::{Effect, EffectKey};
use stheno_events::observed::{Gap, ObjectKind};
use stheno_events::{Aggregate, DcKey, Event, EventId, Uid};
use stheno_projections::World;

/// What reaches a process.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The message of this sequence can be read.
    Message(u64),
    CaughtUp,
    Sight(Change, Option<DcKey>),
    Listed(ObjectKind, BTreeSet<Uid>),
    Appended(Aggregate, EventId, stheno_decide::engine::Appended),
    Fact(EffectKey, DcKey, Vec<Event>),
    EffectEnded(EffectKey),
    /// A step of an effect that runs in this process.
    Effect(Effect, Step),
    Witnessed(stheno_events::Epoch),
    Lease(bool),
    /// The term is to end in order.
    Finish,
    /// Something stands in the way of acting, or nothing does any more.
    Block(bool),
    Gap(Gap),
    /// A person accepts an API server that went back.
    Accept(u64),
    Written(Uid),
    /// What publishing found out.
    Published(Event),
    Wake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask what became of it.
    Ask,
}

pub(crate) struct Process {
    /// Grows with each restart: what was meant for a former life does not arrive.
    pub(crate) life: u64,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    /// What arrived while it was paused.
    pub(crate) mailbox: Vec<Input>,
    pub(crate) engine: Engine,
    /// Next sequence to hand in.
    pub(crate) next: u64,
    /// Arrival times must not overtake each other, by channel.
    pub(crate) channels: BTreeMap<u8, u64>,
    /// Newest sight of each job: version and status.
    pub(crate) jobs: BTreeMap<Uid, (Arc<str>, JobStatus)>,
    /// Names of jobs seen.
    pub(crate) job_names: BTreeSet<Arc<str>>,
    /// Whether it may create what schedules ask for.
    pub(crate) creates: bool,
    /// Names of MedusaBackup objects seen.
    pub(crate) backups: BTreeSet<Arc<str>>,
    /// Objects with a write on its way.
    pub(crate) writing: BTreeSet<Uid>,
    pub(crate) stopped: BTreeSet<EffectKey>,
    /// Calls on their way to a sidecar.
    pub(crate) out: BTreeSet<EffectKey>,
    /// Those of them that were stopped when they were sent already: they come back first.
    pub(crate) sent: BTreeSet<EffectKey>,
    pub(crate) wake: Option<u64>,
    pub(crate) has_lease: bool,
    /// The terms that the witness knows of.
    pub(crate) witnessed: BTreeSet<stheno_events::Epoch>,
    /// The highest version of the API server that its watches have seen before a store was put back.
    pub(crate) highest: Option<u64>,
}

impl Process {
    pub(crate) fn new(index: usize, life: u64, world: World) -> Self {
        let identity = Identity {
            name: format!("operator-{index}-{life}").into(),
            by: format!("operator-{index}").into(),
            cluster: "cluster-uid".into(),
        };
        let next = world.position + 1;
        Self {
            life,
            alive: true,
            paused: false,
            mailbox: Vec::new(),
            engine: Engine::new(identity, world),
            next,
            channels: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_names: BTreeSet::new(),
            creates: false,
            backups: BTreeSet::new(),
            writing: BTreeSet::new(),
            stopped: BTreeSet::new(),
            out: BTreeSet::new(),
            sent: BTreeSet::new(),
            wake: None,
            has_lease: false,
            witnessed: BTreeSet::new(),
            highest: None,
        }
    }

    /// A list begins anew: what was seen of its kind before is worth nothing.
    pub(crate) fn relists(&mut self, kind: ObjectKind) {
        match kind {
            ObjectKind::MedusaBackupJob => {
                self.jobs.clear();
                self.job_names.clear();
            }
            ObjectKind::MedusaBackup => self.backups.clear(),
            ObjectKind::MedusaTask => {}
            ObjectKind::MedusaBackupSchedule | ObjectKind::CassandraDatacenter | ObjectKind::Pod => {}
        }
    }

    /// What the publisher compares with.
    pub(crate) fn saw(&mut self, change: &Change) {
        match change {
            Change::Is(Body::Job(job, status)) => {
                self.job_names.insert(job.meta.name.clone());
                self.jobs.insert(job.meta.uid.clone(), (job.meta.resource_version.clone(), status.clone()));
            }
            Change::Is(Body::Task(task, status)) => {
                self.jobs.insert(task.meta.uid.clone(), (task.meta.resource_version.clone(), status.clone()));
            }
            Change::Is(Body::Backup(backup)) => {
                self.backups.insert(backup.meta.name.clone());
            }
            Change::Is(Body::Schedule(_) | Body::Datacenter(_) | Body::Pod(_)) => {}
            Change::Gone(gone) if gone.kind == ObjectKind::MedusaBackup => {
                self.backups.remove(&gone.name);
            }
            Change::Gone(gone) => {
                self.jobs.remove(&gone.uid);
            }
        }
    }
}
