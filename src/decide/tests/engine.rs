//! The engine by itself: what it remembers, and when it may lead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::Observation;
use stheno_decide::engine::{Appended, Command, Engine, Identity, Role, WATCHED};
use stheno_events::observed::{BackupJob, BackupType, Gap, Gone, Meta, ObjectKind};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, EventId, Fact, Time};
use stheno_projections::World;

fn engine(name: &str) -> Engine {
    let identity = Identity { name: name.into(), by: name.into(), cluster: "cluster".into() };
    let mut engine = Engine::new(identity, World::default());
    engine.caught_up();
    engine
}

fn job(number: u64) -> BackupJob {
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
        annotations: BTreeMap::new(),
    }
}

fn gone(number: u64) -> Observation {
    let (uid, name) = (format!("job-{number}").into(), format!("job-{number}").into());
    Observation::Gone(Gone { kind: ObjectKind::MedusaBackupJob, uid, name, inferred: false })
}

/// A log of engines: what one appends is delivered to all.
struct Stream {
    engines: Vec<Engine>,
    sequence: u64,
    ids: u64,
    now: u64,
    log: Vec<Envelope>,
}

impl Stream {
    fn of(names: &[&str]) -> Self {
        Self { engines: names.iter().map(|name| engine(name)).collect(), sequence: 0, ids: 0, now: 0, log: Vec::new() }
    }

    fn all(&mut self, act: impl Fn(&mut Engine)) {
        self.engines.iter_mut().for_each(act);
    }

    /// Polls until nothing more is appended; returns the other commands of the first engine.
    fn settle(&mut self) -> Vec<Command> {
        let mut others = Vec::new();
        loop {
            let mut appends = Vec::new();
            self.now += 100;
            for (index, engine) in self.engines.iter_mut().enumerate() {
                let now = Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(self.now).unwrap());
                let ids = &mut self.ids;
                let commands = engine.poll(now, self.now, &mut || {
                    *ids += 1;
                    EventId::from(format!("id-{ids}"))
                });
                for command in commands {
                    match command {
                        Command::Append(append) => appends.push((index, append)),
                        Command::Witness { epoch, .. } => engine.witnessed(epoch),
                        Command::Start(_)
                        | Command::Stop(_)
                        | Command::Publish { .. }
                        | Command::PublishAll
                        | Command::Released => {
                            if index == 0 {
                                others.push(command);
                            }
                        }
                    }
                }
            }
            if appends.is_empty() {
                return others;
            }
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
    }

    fn lead(&mut self, index: usize) {
        self.all(|engine| WATCHED.into_iter().for_each(|kind| engine.listed(kind, None, &BTreeSet::new())));
        self.engines[index].lease(true);
        self.settle();
        assert!(self.engines[index].leads());
    }

    fn names(&self) -> Vec<String> {
        self.log.iter().flat_map(|envelope| &envelope.events).map(|fact| fact.name().to_owned()).collect()
    }
}

fn prod() -> Arc<str> {
    "prod".into()
}

#[test]
fn a_process_that_never_leads_remembers_what_is_there() {
    let mut stream = Stream::of(&["leader", "follower"]);
    stream.lead(0);
    for number in 0..3_000 {
        stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(number), None)));
        if number % 3 != 0 {
            // Recorded, refused in the end, and forgotten; every third comes and goes before it is.
            stream.settle();
        }
        stream.all(|engine| engine.observe(&prod(), None, gone(number)));
        stream.settle();
    }
    // What was gone before the log knew of it is kept for a while, and bounded.
    let unknown = 1_000;
    for (index, engine) in stream.engines.iter().enumerate() {
        assert!(engine.remembered() <= unknown, "engine {index} remembers {}", engine.remembered());
    }
    for number in 10_000..20_000 {
        stream.engines[1].observe(&prod(), None, Observation::BackupJob(job(number), None));
        stream.engines[1].observe(&prod(), None, gone(number));
    }
    assert!(stream.engines[1].remembered() <= 4_096, "{}", stream.engines[1].remembered());
}

#[test]
fn who_cannot_act_does_not_lead() {
    let mut stream = Stream::of(&["first", "second"]);
    stream.lead(0);
    assert!(stream.engines[0].fit());
    stream.engines[0].block(Some("the clock cannot be trusted".into()));
    assert!(!stream.engines[0].fit() && !stream.engines[0].leads());
    assert!(stream.settle().contains(&Command::Released), "the Lease goes back");
    stream.engines[0].lease(false);
    stream.engines[1].lease(true);
    stream.settle();
    assert!(stream.engines[1].leads(), "who can act gets it");
    stream.engines[0].block(None);
    assert!(stream.engines[0].fit());
    assert_eq!(*stream.engines[0].role(), Role::Following);
    let unread =
        Engine::new(Identity { name: "third".into(), by: "third".into(), cluster: "cluster".into() }, World::default());
    assert!(!unread.fit(), "the log was not read yet");
}

/// A former leader that was suspended writes what it saw, after another one has looked at what is there now.
#[test]
fn what_a_former_leader_writes_late_is_put_right() {
    let mut stream = Stream::of(&["new"]);
    stream.lead(0);
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(1), None)));
    stream.settle();
    let key = DcKey::new("prod", "dc1");
    let uid = stream.engines[0].world().datacenter(&key).unwrap().operations.keys().next().unwrap().clone();
    // The former leader's message: it saw the job gone, and does not know that it came back from an older store.
    let before = stream.log.last().unwrap().clone();
    let Observation::Gone(gone) = gone(1) else { panic!("gone") };
    let epoch = stheno_events::Epoch(0);
    let late = Envelope { id: "late".into(), epoch, events: vec![Fact::from(gone)], ..before };
    stream.sequence += 1;
    let aggregate = Aggregate::Datacenter(key.clone());
    stream.engines[0].delivered(stream.sequence, &aggregate, Digest::of(b"late"), Ok(&late));
    assert!(stream.engines[0].world().datacenter(&key).unwrap().operation(&uid).unwrap().gone);
    // It is there, in a version of which the log knows: that is no proof. A newer one is.
    let newer = Meta { resource_version: "9000".into(), ..job(1).meta };
    let back = BackupJob { meta: newer, ..job(1) };
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(back.clone(), None)));
    stream.settle();
    assert!(!stream.engines[0].world().datacenter(&key).unwrap().operation(&uid).unwrap().gone);
}

#[test]
fn nothing_is_concluded_from_a_store_that_went_back_until_a_person_accepts_it() {
    let mut stream = Stream::of(&["leader"]);
    stream.lead(0);
    let key = DcKey::new("prod", "dc1");
    for number in 1..=2 {
        stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(number), None)));
    }
    stream.settle();
    let gap = Gap { kind: ObjectKind::MedusaBackupJob, from: "2000".into(), to: "900".into(), backwards: true };
    let present = BTreeSet::from([job(2).meta.uid]);
    let older = Meta { resource_version: "800".into(), ..job(2).meta };
    let older = BackupJob { meta: older, backup_type: BackupType::Differential, ..job(2) };
    stream.all(|engine| {
        engine.gap(gap.clone());
        engine.observe(&prod(), None, Observation::BackupJob(older.clone(), None));
        engine.listed(ObjectKind::MedusaBackupJob, None, &present);
    });
    stream.settle();
    let count = |stream: &Stream, name: &str| stream.names().iter().filter(|event| *event == name).count();
    assert_eq!((count(&stream, "observed.gap"), count(&stream, "observed.gone")), (1, 0));
    let backwards = stream.engines[0].world().operator.api_backwards.clone().unwrap();
    stream.engines[0].accept_api(backwards.message - 1);
    stream.settle();
    assert_eq!(count(&stream, "operator.api_accepted"), 0, "the person knew of something else");
    // Said again while it is on its way: once is enough.
    stream.engines[0].accept_api(backwards.message);
    stream.engines[0].accept_api(backwards.message + 3);
    stream.settle();
    assert_eq!((count(&stream, "operator.api_accepted"), count(&stream, "observed.gone")), (1, 1));
    let dc = stream.engines[0].world().datacenter(&key).unwrap();
    assert!(dc.operation(&job(1).meta.uid).is_none_or(|operation| operation.gone));
    let kept = dc.operation(&job(2).meta.uid).unwrap();
    assert_eq!(kept.request.backup_type, BackupType::Differential, "an older version than was known counts now");
}
