//! A datacenter in the making, and the clock: what scenarios of the backup process are told with.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses what it needs")]

use chrono::{TimeDelta, TimeZone, Utc};
use std::collections::BTreeMap;
use stheno_decide::{Call as Called, Context, Effect, decide, due};
use stheno_events::backup::{self, Call, NodeFailed, NodeFinished, NodeStarted, SidecarKind};
use stheno_events::datacenter::Led;
use stheno_events::observed::{self, BackupJob, BackupType, JobRules, Meta, Pod, Sidecar};
use stheno_events::{DcKey, Epoch, Event, PodName, Time, Uid};
use stheno_projections::Datacenter;

pub fn at(seconds: i64) -> Time {
    Utc.with_ymd_and_hms(2026, 3, 1, 2, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub fn meta(uid: &str, name: &str) -> Meta {
    Meta {
        uid: uid.into(),
        name: name.into(),
        resource_version: "1".into(),
        generation: 1,
        created: at(0),
        deleting: None,
    }
}

pub fn datacenter(size: i32) -> observed::Datacenter {
    observed::Datacenter {
        meta: meta("dc-1", "dc1"),
        cluster: "Test Cluster".into(),
        datacenter_name: None,
        size,
        racks: Vec::new(),
        stopped: false,
        observed_generation: 1,
        progress: Some("Ready".into()),
        conditions: BTreeMap::new(),
    }
}

pub fn pod(index: usize) -> Pod {
    Pod {
        meta: meta(&format!("pod-{index}"), &format!("sts-{index}")),
        cluster: "TestCluster".into(),
        ip: Some(format!("10.0.0.{index}").into()),
        sidecar: Some(Sidecar { port: 50051, ready: true }),
    }
}

pub fn job(uid: &str, name: &str) -> BackupJob {
    BackupJob {
        meta: meta(uid, name),
        dc: "dc1".into(),
        backup_type: BackupType::Differential,
        owned: false,
        schedule: None,
        rules: JobRules::default(),
        annotations: BTreeMap::new(),
    }
}

/// A datacenter in the making, and the clock.
pub struct Scenario {
    pub dc: Datacenter,
    pub key: DcKey,
    pub epoch: Epoch,
    pub now: Time,
}

impl Scenario {
    pub fn given(events: impl IntoIterator<Item = Event>) -> Self {
        let mut scenario =
            Self { dc: Datacenter::default(), key: DcKey::new("prod", "dc1"), epoch: Epoch(1), now: at(0) };
        scenario.and(Led { epoch: Epoch(1), quiet_until: None });
        events.into_iter().for_each(|event| scenario.and(event));
        scenario
    }

    /// Three nodes with sidecars, one job.
    pub fn ready() -> Self {
        let pods = (0..3).map(|index| pod(index).into());
        Self::given(std::iter::once(datacenter(3).into()).chain(pods).chain([job("job-1", "nightly").into()]))
    }

    /// Three nodes with sidecars, one job with these rules.
    pub fn ruled(rules: JobRules) -> Self {
        let pods = (0..3).map(|index| pod(index).into());
        let job = BackupJob { rules, ..job("job-1", "nightly") };
        Self::given(std::iter::once(datacenter(3).into()).chain(pods).chain([job.into()]))
    }

    /// The job is edited.
    pub fn edit(&mut self, change: impl FnOnce(&mut BackupJob)) {
        let mut request = self.dc.operation(&"job-1".into()).unwrap().request.clone();
        request.meta.generation += 1;
        change(&mut request);
        self.and(request);
    }

    pub fn and(&mut self, event: impl Into<Event>) {
        self.dc.fold(&event.into(), self.now);
    }

    pub fn when(&mut self, seconds: i64) -> &mut Self {
        self.now = at(seconds);
        self
    }

    pub fn context(&self) -> Context<'_> {
        Context { key: &self.key, now: self.now, epoch: self.epoch }
    }

    /// Decides until nothing follows, folding; the names of what was decided, with what matters of each.
    pub fn then(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..10 {
            let events = decide(&self.dc, self.context());
            if events.is_empty() {
                break;
            }
            for event in events {
                said.push(describe(&event));
                self.and(event);
            }
        }
        said
    }

    pub fn effects(&self) -> Vec<String> {
        let call = |effect: &Effect| match &effect.key.call {
            Called::Backup(call) => format!("{call:?}"),
            Called::Task(call) => format!("{call:?}"),
        };
        due(&self.dc, self.context()).iter().map(call).collect()
    }

    pub fn claimed(&mut self, pod: &str) {
        let call = Call::Start(pod.into());
        self.and(backup::EffectClaimed { job: "job-1".into(), call, attempt: 1, serial: 1, epoch: Epoch(1) });
    }

    pub fn started(&mut self, pod: &str, sidecar: SidecarKind) {
        self.and(NodeStarted { job: "job-1".into(), pod: pod.into(), attempt: 1, sidecar });
    }

    /// All nodes of three finish, and the bucket says so.
    pub fn completes(&mut self) {
        for pod in ["sts-0", "sts-1", "sts-2"] {
            self.finished(pod);
        }
        self.then();
        self.and(backup::Summarised {
            job: "job-1".into(),
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

    pub fn failed(&mut self, pod: &str, attempt: u32, retryable: bool) {
        let reason = "disk full".into();
        self.and(NodeFailed { job: "job-1".into(), pod: pod.into(), attempt, reason, retryable });
    }

    /// The sidecar of a pod is ready, or is not.
    pub fn ready_is(&mut self, index: usize, ready: bool) {
        self.and(Pod { sidecar: Some(Sidecar { port: 50051, ready }), ..pod(index) });
    }

    pub fn finished(&mut self, pod: &str) {
        let (job, pod) = (Uid::from("job-1"), PodName::from(pod));
        self.and(NodeFinished { job, pod, attempt: 1, bytes: Some(10), files: Some(1), reused: None });
    }
}

// What matters of an event is told; of the others the name is enough.
#[allow(clippy::wildcard_enum_match_arm)]
pub fn describe(event: &Event) -> String {
    let name = event.kind().name;
    match event {
        Event::Backup(backup::Event::Queued(e)) => format!("{name} {:?}: {}", e.reason, e.message),
        Event::Backup(backup::Event::EffectClaimed(e)) => {
            format!("{name} {:?} attempt {} serial {} epoch {}", e.call, e.attempt, e.serial, e.epoch)
        }
        Event::Backup(backup::Event::NodeLost(e)) => format!("{name} {}: {}", e.pod, e.reason),
        Event::Backup(backup::Event::OutcomeDecided(e)) => format!("{name} {:?}: {}", e.outcome, e.message),
        Event::Backup(backup::Event::Completed(e)) => format!("{name}: {}", e.message),
        Event::Backup(backup::Event::Failed(e)) => format!("{name} {:?}: {}", e.outcome, e.message),
        _ => name.to_owned(),
    }
}
