//! The engine by itself: what it remembers, and when it may lead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod stream;

use std::collections::BTreeSet;
use stheno_decide::Observation;
use stheno_decide::engine::{Command, Engine, Identity, Role};
use stheno_events::observed::{BackupJob, BackupType, Gap, JobRules, Meta, ObjectKind};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Fact, Time};
use stheno_projections::World;
use stream::{Stream, gone, job, prod};

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

/// The Lease is lost a moment later than the log says who leads: in between a former leader must not ask for a term, which
/// would end that of its successor.
#[test]
fn who_was_followed_by_another_asks_for_no_term_before_the_lease_is_won_anew() {
    let mut stream = Stream::of(&["first", "second"]);
    stream.lead(0);
    stream.lead(1);
    assert!(!stream.engines[0].leads());
    assert_eq!(stream.engines[1].world().operator.epoch, Epoch(2), "{:?}", stream.names());
    stream.engines[0].lease(false);
    stream.settle();
    assert!(stream.engines[1].leads());
    stream.engines[1].lease(false);
    stream.lead(0);
    assert_eq!(stream.engines[1].world().operator.epoch, Epoch(3));
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

#[test]
fn an_acceptance_is_of_all_kinds_that_were_not_listed_since_and_of_no_later_step_back() {
    let mut stream = Stream::of(&["leader", "follower"]);
    stream.lead(0);
    let back = |kind, from: &str, to: &str| Gap { kind, from: from.into(), to: to.into(), backwards: true };
    let (jobs, pods) = (ObjectKind::MedusaBackupJob, ObjectKind::Pod);
    let told = |stream: &Stream| stream.names().iter().filter(|event| *event == "observed.gap").count();
    stream.engines[0].gap(back(jobs, "2000", "900"));
    stream.engines[0].listed(jobs, None, &BTreeSet::new());
    stream.settle();
    let accept = |stream: &mut Stream| {
        let message = stream.engines[0].world().operator.api_backwards.clone().unwrap().message;
        stream.engines[0].accept_api(message);
        stream.settle();
        stream.all(|engine| assert!(engine.world().operator.api_backwards.is_none()));
    };
    accept(&mut stream);
    // The API server was away from this kind's watch for longer, in two namespaces.
    stream.engines[0].gap(back(pods, "1990", "905"));
    stream.engines[0].gap(back(pods, "1995", "907"));
    stream.settle();
    assert_eq!(told(&stream), 1, "what was accepted is not asked again");
    stream.engines[0].listed(pods, None, &BTreeSet::new());
    // The standby's watches come later still, and it leads by then.
    for kind in [jobs, pods] {
        stream.engines[1].gap(back(kind, "2000", "908"));
        stream.engines[1].listed(kind, None, &BTreeSet::new());
    }
    stream.lead(1);
    assert_eq!(told(&stream), 1, "nor by another process");

    stream.engines[1].gap(back(pods, "950", "400"));
    stream.settle();
    assert_eq!(told(&stream), 2, "it went back once more");
}

fn schedule(uid: &str) -> stheno_events::observed::Schedule {
    let mut request = stheno_events::observed::Schedule {
        meta: job(1).meta,
        dc: "dc1".into(),
        backup_type: BackupType::Full,
        cron: "0 * * * *".into(),
        time_zone: None,
        suspended: false,
        operation: stheno_events::observed::ScheduledOperation::Backup,
        concurrency: None,
        catch_up: stheno_events::observed::CatchUp::Latest,
        starting_deadline: None,
        rules: JobRules::default(),
        keep_complete: None,
        keep_failed: None,
        owned: false,
    };
    (request.meta.uid, request.meta.name) = (uid.into(), "nightly".into());
    request
}

/// What the accepted store lacks does not come back with the next leader, who has not listed anew.
#[test]
fn who_leads_after_an_acceptance_knows_what_the_store_lacks() {
    let mut stream = Stream::of(&["leader", "follower"]);
    stream.lead(0);
    stream.all(|engine| engine.observe(&prod(), None, Observation::Schedule(schedule("x"), None)));
    stream.settle();
    let kind = ObjectKind::MedusaBackupSchedule;
    stream.all(|engine| {
        engine.gap(Gap { kind, from: "2000".into(), to: "900".into(), backwards: true });
        engine.listed(kind, None, &BTreeSet::new());
    });
    stream.settle();
    let message = stream.engines[0].world().operator.api_backwards.clone().unwrap().message;
    stream.engines[0].accept_api(message);
    stream.settle();
    stream.lead_without_lists(1);
    stream.settle();
    let seen = stream.names().iter().filter(|event| *event == "observed.schedule").count();
    assert_eq!(seen, 1, "a schedule that is not there was recorded once more");
    assert!(stream.engines[1].world().datacenters.values().all(|dc| dc.schedules.is_empty()));
}

/// Two sights of one name are compared with the log once each.
#[test]
fn a_schedule_that_took_the_name_of_another_is_recorded_once() {
    let mut stream = Stream::of(&["leader", "follower"]);
    stream.lead(0);
    for uid in ["x", "y"] {
        stream.all(|engine| engine.observe(&prod(), None, Observation::Schedule(schedule(uid), None)));
        stream.settle();
    }
    stream.lead_without_lists(1);
    stream.settle();
    let seen = stream.names().iter().filter(|event| *event == "observed.schedule").count();
    assert_eq!(seen, 2);
}

/// Watches notice a step back within minutes: what is told an hour after an acceptance is another one.
#[test]
fn an_acceptance_covers_nothing_that_is_told_much_later() {
    let mut stream = Stream::of(&["leader", "follower"]);
    stream.lead(0);
    let back = |kind, from: &str, to: &str| Gap { kind, from: from.into(), to: to.into(), backwards: true };
    stream.engines[0].gap(back(ObjectKind::MedusaBackupJob, "2000", "900"));
    stream.engines[0].listed(ObjectKind::MedusaBackupJob, None, &BTreeSet::new());
    stream.settle();
    let message = stream.engines[0].world().operator.api_backwards.clone().unwrap().message;
    stream.engines[0].accept_api(message);
    stream.settle();
    stream.now += 3_600_000;
    stream.settle();
    stream.lead_without_lists(1);
    stream.engines[1].gap(back(ObjectKind::Pod, "3000", "1000"));
    stream.settle();
    assert_eq!(stream.names().iter().filter(|event| *event == "observed.gap").count(), 2);
}

/// What was due before the log began was somebody else's.
#[test]
fn a_schedule_from_before_the_log_counts_from_its_first_sight() {
    let mut stream = Stream::of(&["leader"]);
    // Ten hours of slots.
    stream.now = 10 * 3_600_000;
    stream.lead(0);
    let genesis = stream.engines[0].world().operator.genesis.as_ref().unwrap().at;
    for (uid, created) in [("old", Time::UNIX_EPOCH), ("new", genesis)] {
        let mut request = schedule(uid);
        (request.meta.name, request.meta.created) = (uid.into(), created);
        stream.all(|engine| engine.observe(&prod(), None, Observation::Schedule(request.clone(), None)));
    }
    stream.settle();
    let adopted = stream.names().iter().filter(|event| *event == "observed.adopted").count();
    assert_eq!(adopted, 1, "{:?}", stream.names());
    let world = stream.engines[0].world();
    let schedules = &world.datacenters.values().next().unwrap().schedules;
    assert_eq!(schedules.len(), 2);
    for schedule in schedules.values() {
        let counts = schedule.counts;
        assert_eq!((counts.ran, counts.ran_late, counts.missed), (0, 0, 0), "{}", schedule.request.meta.name);
        assert!(schedule.cursor >= genesis);
    }
}
