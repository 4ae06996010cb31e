//! A datacenter of three nodes, tasks that people ask for, and a clock that a test sets.

use chrono::{TimeDelta, TimeZone, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_decide::{Call, Context, Effect, decide, due};
use stheno_events::datacenter::Led;
use stheno_events::observed::{self, BackupJob, BackupType, JobRules, Meta, Pod, Sidecar, TaskOperation};
use stheno_events::task::{self, NodeFailed, NodeFinished, NodeUnanswered, Purged};
use stheno_events::{DcKey, Digest, Epoch, Event, Time, Uid, backup};
use stheno_projections::Datacenter;
use stheno_projections::operator::Operator;
use stheno_projections::status::task_status;
use stheno_projections::task::Task;

pub(crate) fn at(seconds: i64) -> Time {
    Utc.with_ymd_and_hms(2026, 3, 1, 2, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

fn meta(uid: &str, name: &str, created: Time) -> Meta {
    Meta { uid: uid.into(), name: name.into(), resource_version: "1".into(), generation: 1, created, deleting: None }
}

pub(crate) fn pod(index: usize) -> Pod {
    Pod {
        meta: meta(&format!("pod-{index}"), &format!("shop-dc1-r1-sts-{index}"), at(0)),
        cluster: "Shop".into(),
        ip: Some(format!("10.0.0.{index}").into()),
        sidecar: Some(Sidecar { port: 50051, ready: true }),
    }
}

pub(crate) struct Scenario {
    pub(crate) dc: Datacenter,
    pub(crate) key: DcKey,
    pub(crate) epoch: Epoch,
    pub(crate) now: Time,
    /// What a purge would remove, as sidecars say when they are asked; none when they do not answer.
    pub(crate) plan: Option<Vec<&'static str>>,
}

impl Scenario {
    /// Three nodes with sidecars.
    pub(crate) fn ready() -> Self {
        let mut scenario = Self {
            dc: Datacenter::default(),
            key: DcKey::new("prod", "dc1"),
            epoch: Epoch(1),
            now: at(0),
            plan: Some(Vec::new()),
        };
        scenario.and(Led { epoch: Epoch(1), quiet_until: None });
        scenario.and(observed::Datacenter {
            meta: meta("dc-1", "dc1", at(0)),
            cluster: "Shop".into(),
            datacenter_name: None,
            size: 3,
            racks: Vec::new(),
            stopped: false,
            observed_generation: 1,
            progress: Some("Ready".into()),
            conditions: BTreeMap::new(),
        });
        scenario
    }

    pub(crate) fn and(&mut self, event: impl Into<Event>) {
        self.dc.fold(&event.into(), self.now);
    }

    pub(crate) fn when(&mut self, seconds: i64) -> &mut Self {
        self.now = at(seconds);
        self
    }

    /// A person asks for it, and the pods are seen.
    pub(crate) fn asks(&mut self, name: &str, operation: TaskOperation) -> observed::Task {
        let task = observed::Task {
            meta: meta(&format!("uid-{name}"), name, self.now),
            dc: "dc1".into(),
            operation,
            backup: None,
            restore_key: None,
            owned: false,
            labels: BTreeMap::from([("team".into(), "storage".into())]),
            annotations: BTreeMap::new(),
        };
        self.and(task.clone());
        self.pods();
        task
    }

    pub(crate) fn pods(&mut self) {
        (0..3).for_each(|index| self.and(pod(index)));
    }

    /// A person annotates it.
    pub(crate) fn approves(&mut self, task: &observed::Task, token: &str) {
        let mut task = task.clone();
        task.annotations.insert("stheno.io/approve".into(), token.into());
        self.and(task);
    }

    /// A MedusaBackup that another program made, and that says nothing that the log trusts.
    pub(crate) fn foreign(&mut self, name: &str) {
        let meta = meta(&format!("object-{name}"), name, at(-1_000));
        self.and(observed::Backup { meta, dc: "dc1".into(), backup_type: BackupType::Full, operation: None });
    }

    pub(crate) fn job(&mut self, name: &str) {
        self.and(BackupJob {
            meta: meta(&format!("uid-{name}"), name, self.now),
            dc: "dc1".into(),
            backup_type: BackupType::Differential,
            owned: false,
            schedule: None,
            rules: JobRules::default(),
            annotations: BTreeMap::new(),
        });
        self.pods();
    }

    /// Every node of a backup that runs ends, and its summary is read.
    pub(crate) fn job_ends(&mut self, name: &str) {
        let job = Uid::from(format!("uid-{name}"));
        for index in 0..3 {
            let pod = pod(index).name();
            self.and(backup::NodeFinished {
                job: job.clone(),
                pod,
                attempt: 1,
                bytes: None,
                files: None,
                reused: None,
            });
        }
        self.then();
        self.and(backup::Summarised {
            job,
            started: None,
            finished: None,
            total_nodes: 3,
            finished_nodes: 3,
            nodes: Vec::new(),
            files: 3,
            bytes: 30,
            complete: true,
        });
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context { key: &self.key, now: self.now, epoch: self.epoch }
    }

    /// Decides until nothing follows, folding; what was decided, in words.
    pub(crate) fn then(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..50 {
            let events = decide(&self.dc, self.context());
            if events.is_empty() {
                assert_eq!(self.dc.illegal, 0, "an event broke a law of the log");
                if !self.plans() {
                    return said;
                }
            }
            for event in events {
                said.push(words(&event));
                self.and(event);
            }
        }
        panic!("decisions without end: {said:?}");
    }

    /// Sidecars that are asked what a purge would remove say so; whether one was.
    fn plans(&mut self) -> bool {
        let plan = |effect: &Effect| matches!(effect.key.call, Call::Task(task::Call::Plan(_)));
        let asked = self.effects().into_iter().find(plan);
        let (Some(effect), Some(names)) = (asked, self.plan.clone()) else { return false };
        let pod = effect.key.call.pod().clone();
        let backups: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let digest = Digest::of(format!("{backups:?}").as_bytes());
        let (task, serial, epoch) = (effect.key.job, effect.key.serial, effect.key.epoch);
        self.and(task::Planned { task, pod, serial, epoch, digest, backups: Some(backups) });
        true
    }

    pub(crate) fn effects(&self) -> Vec<Effect> {
        due(&self.dc, self.context())
    }

    /// The pods that are called now.
    pub(crate) fn called(&self) -> Vec<String> {
        self.effects().iter().map(|effect| effect.key.call.pod().to_string()).collect()
    }

    pub(crate) fn task(&self, name: &str) -> &Task {
        self.dc.task_of(&format!("uid-{name}").into()).unwrap()
    }

    /// The status as people see it.
    pub(crate) fn status(&self, name: &str) -> serde_json::Value {
        let status = task_status(self.task(name), &self.dc, &Operator::default());
        serde_json::to_value(status).unwrap()
    }

    pub(crate) fn purged(&mut self, name: &str, index: usize) {
        let purged = Some(Purged { backups: 1, objects: 40, bytes: 2_048, within_grace: 3 });
        let (task, pod) = (format!("uid-{name}").into(), pod(index).name());
        self.and(NodeFinished { task, pod, attempt: 1, purged });
    }

    pub(crate) fn fails(&mut self, name: &str, index: usize, retryable: bool) {
        let (task, pod, attempt) = (format!("uid-{name}").into(), pod(index).name(), 1);
        self.and(NodeFailed { task, pod, attempt, reason: "the bucket answers 403".into(), retryable });
    }

    /// The call of a pod that is out ends without an answer.
    pub(crate) fn breaks(&mut self, index: usize, in_doubt: bool, sidecar: Option<backup::SidecarKind>) {
        let pod = pod(index).name();
        let effects = self.effects().into_iter();
        let effect = effects.filter(|effect| *effect.key.call.pod() == pod).last().expect("a call is out");
        let Call::Task(call) = effect.key.call else { panic!("{:?}", effect.key) };
        let (task, attempt, serial, epoch) = (effect.key.job, effect.key.attempt, effect.key.serial, effect.key.epoch);
        let error = "the connection was closed".into();
        self.and(NodeUnanswered { task, call, attempt, serial, epoch, in_doubt, sidecar, error });
    }
}

pub(crate) fn words(event: &Event) -> String {
    let name = event.kind().name;
    match event {
        Event::Task(task::Event::Queued(e)) => format!("{name} {:?}: {}", e.reason, e.message),
        Event::Task(task::Event::ApprovalNeeded(e)) => format!("{name} {}: {}", e.token, e.message),
        Event::Task(task::Event::Started(e)) => format!("{name} on {}", e.nodes.len()),
        Event::Task(task::Event::EffectClaimed(e)) => {
            format!("{name} {:?} attempt {} serial {} epoch {}", e.call, e.attempt, e.serial, e.epoch)
        }
        Event::Task(task::Event::NodeLost(e)) => format!("{name} {}: {}", e.pod, e.reason),
        Event::Task(task::Event::Reconciled(e)) => {
            format!("{name} created {:?} corrected {:?} removed {:?}", e.created, e.corrected, e.removed)
        }
        Event::Task(task::Event::SyncRequested(e)) => format!("{name} {}", e.name),
        Event::Task(task::Event::Completed(e)) => format!("{name}: {}", e.message),
        Event::Task(task::Event::Failed(e)) => format!("{name} {:?}: {}", e.outcome, e.message),
        Event::Backup(backup::Event::Queued(e)) => format!("{name} {:?}: {}", e.reason, e.message),
        _ => name.to_owned(),
    }
}
