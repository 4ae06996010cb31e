//! A log of engines without edges: what one appends is delivered to all.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::Observation;
use stheno_decide::engine::{Append, Appended, Command, Engine, Identity, WATCHED};
use stheno_events::observed::{BackupJob, BackupType, Gone, JobRules, Meta, ObjectKind};
use stheno_events::{Digest, Envelope, EventId, Time};
use stheno_projections::World;

pub fn engine(name: &str) -> Engine {
    let identity = Identity { name: name.into(), by: name.into(), cluster: "cluster".into() };
    let mut engine = Engine::new(identity, World::default());
    engine.caught_up();
    engine
}

pub fn job(number: u64) -> BackupJob {
    BackupJob {
        meta: Meta {
            uid: format!("job-{number}").into(),
            name: format!("job-{number}").into(),
            resource_version: (1_000 + number).to_string().into(),
            generation: 1,
            created: Time::UNIX_EPOCH + TimeDelta::seconds(i64::try_from(number).unwrap()),
            deleting: None,
        },
        dc: "dc1".into(),
        backup_type: BackupType::Full,
        owned: false,
        schedule: None,
        rules: JobRules::default(),
        annotations: BTreeMap::new(),
    }
}

pub fn gone(number: u64) -> Observation {
    let (uid, name) = (format!("job-{number}").into(), format!("job-{number}").into());
    Observation::Gone(Gone { kind: ObjectKind::MedusaBackupJob, uid, name, inferred: false })
}

/// A log of engines: what one appends is delivered to all.
pub struct Stream {
    pub engines: Vec<Engine>,
    pub sequence: u64,
    pub ids: u64,
    pub now: u64,
    pub log: Vec<Envelope>,
    /// How far the wall clock is ahead of the machine's, in milliseconds.
    pub ahead: i64,
    /// The witness is written at once.
    pub witnessing: bool,
    /// How long a message is on its way, in milliseconds.
    pub slow_ms: u64,
}

impl Stream {
    pub fn of(names: &[&str]) -> Self {
        Self {
            engines: names.iter().map(|name| engine(name)).collect(),
            sequence: 0,
            ids: 0,
            now: 0,
            log: Vec::new(),
            ahead: 0,
            witnessing: true,
            slow_ms: 0,
        }
    }

    pub fn all(&mut self, act: impl Fn(&mut Engine)) {
        self.engines.iter_mut().for_each(act);
    }

    /// Polls until nothing more is appended; returns the other commands of the first engine.
    pub fn settle(&mut self) -> Vec<Command> {
        let mut others = Vec::new();
        while self.once(&mut others) {}
        others
    }

    /// Polls once, and delivers what was appended.
    pub fn settle_once(&mut self) -> bool {
        self.once(&mut Vec::new())
    }

    fn once(&mut self, others: &mut Vec<Command>) -> bool {
        let appends = self.poll(others);
        if appends.is_empty() {
            return false;
        }
        self.now += self.slow_ms;
        self.deliver(appends);
        true
    }

    /// Polls all engines once: what they append, and the other commands of the first one.
    pub fn poll(&mut self, others: &mut Vec<Command>) -> Vec<(usize, Append)> {
        let mut appends = Vec::new();
        self.now += 100;
        for (index, engine) in self.engines.iter_mut().enumerate() {
            let now = Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(self.now).unwrap() + self.ahead);
            let ids = &mut self.ids;
            let commands = engine.poll(now, self.now, &mut || {
                *ids += 1;
                EventId::from(format!("id-{ids}"))
            });
            for command in commands {
                match command {
                    Command::Append(append) => appends.push((index, append)),
                    Command::Witness { epoch, .. } => {
                        if self.witnessing {
                            engine.witnessed(epoch);
                        }
                    }
                    Command::Start(_)
                    | Command::Stop(_)
                    | Command::Publish { .. }
                    | Command::PublishAll
                    | Command::Objects(_)
                    | Command::Withhold
                    | Command::Released => {
                        if index == 0 {
                            others.push(command);
                        }
                    }
                }
            }
        }
        appends
    }

    /// The log takes what was appended, and all engines read it.
    pub fn deliver(&mut self, appends: Vec<(usize, Append)>) {
        assert!(self.log.len() < 20_000, "messages without end");
        for (index, append) in appends {
            let head = self.engines[0].world().head(&append.aggregate).sequence;
            if head != append.expected {
                let result = Appended::NotIn { last: head };
                self.engines[index].appended(&append.aggregate, &append.envelope.id, result);
                continue;
            }
            self.sequence += 1;
            let (sequence, digest) = (self.sequence, Digest::of(append.envelope.id.as_str().as_bytes()));
            self.all(|engine| engine.delivered(sequence, &append.aggregate, digest, Ok(&append.envelope)));
            self.log.push(append.envelope);
        }
    }

    pub fn lead(&mut self, index: usize) {
        self.all(|engine| WATCHED.into_iter().for_each(|kind| engine.listed(kind, None, &BTreeSet::new())));
        self.lead_without_lists(index);
    }

    pub fn lead_without_lists(&mut self, index: usize) {
        self.engines[index].lease(true);
        self.settle();
        assert!(self.engines[index].leads());
    }

    pub fn names(&self) -> Vec<String> {
        self.log.iter().flat_map(|envelope| &envelope.events).map(|fact| fact.name().to_owned()).collect()
    }
}

pub fn prod() -> Arc<str> {
    "prod".into()
}
