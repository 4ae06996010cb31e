//! What a slot asks for is created once, whatever crashes; and jobs beyond the history limits go.

use crate::clockwork::{Clockwork, asked, at};
use stheno_events::backup::Outcome;
use stheno_events::observed::{Adopted, JobRules, ObjectKind, ScheduledOperation};
use stheno_projections::datacenter::Object;

const FIRST: &str = "nightly-1772326800";

#[test]
fn what_was_requested_stays_wanted_until_it_is_there() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.creating = false;
    clockwork.when(at(60));
    assert_eq!(clockwork.wanted(), [FIRST]);
    // An hour of failing creates: the slot is not lost, and the one after it waits its turn.
    let said = clockwork.when(at(120));
    let waits = format!("postponed 01.02:00 until 01.03:00: waits for backup {FIRST}, which is being created");
    assert_eq!((said, clockwork.wanted()), (vec![waits], vec![FIRST]));
}

#[test]
fn a_job_that_a_leader_created_before_it_died_is_known_by_its_label() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.creating = false;
    clockwork.when(at(60));
    clockwork.seen(FIRST);
    assert_eq!(clockwork.wanted(), [""; 0]);
    assert_eq!(clockwork.dc.scheduled[FIRST].object, Object::Ours { uid: format!("uid-of-{FIRST}").into() });
    // A user's deletion is not undone.
    clockwork.gone(ObjectKind::MedusaBackupJob, &format!("uid-of-{FIRST}"), FIRST);
    assert!(clockwork.wanted().is_empty() && clockwork.dc.scheduled.is_empty());
}

#[test]
fn a_job_that_was_deleted_before_it_was_seen_holds_nobody_up() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.creating = false;
    clockwork.when(at(60));
    let schedule = clockwork.request.meta.uid.clone();
    let (uid, name) = ("uid-of-it".into(), FIRST.into());
    clockwork.now = at(120) - chrono::TimeDelta::seconds(30);
    clockwork.fold(stheno_events::schedule::ObjectCreated { schedule, name, uid, foreign: false });
    assert!(clockwork.when(at(120))[0].starts_with("postponed"));
    clockwork.gone(ObjectKind::MedusaBackupJob, "uid-of-it", FIRST);
    assert_eq!(clockwork.then(), ["ran 01.02:00, next 01.03:00"]);
}

#[test]
fn a_schedule_that_is_created_anew_repeats_no_slot() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.when(at(61));
    clockwork.end(FIRST, Outcome::Complete);
    clockwork.gone(ObjectKind::MedusaBackupSchedule, "schedule-1", "nightly");
    assert!(clockwork.dc.schedules.is_empty());
    // By an API server whose clock is behind, or told of before the other one's end.
    (clockwork.request.meta.uid, clockwork.request.meta.created) = ("schedule-2".into(), at(58));
    let request = clockwork.request.clone();
    clockwork.fold(request.clone());
    assert_eq!(clockwork.then(), ["accepted, next 01.02:00"]);
    clockwork.when(at(122));
    let mut third = request;
    third.meta.uid = "schedule-3".into();
    clockwork.fold(third);
    assert_eq!(clockwork.dc.schedules.keys().map(|uid| uid.as_str()).collect::<Vec<_>>(), ["schedule-3"]);
    assert_eq!(clockwork.then(), ["accepted, next 01.03:00"]);
}

#[test]
fn slots_before_a_schedule_of_another_program_was_met_are_not_made_again() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.now = at(90);
    clockwork.fold(Adopted {
        kind: ObjectKind::MedusaBackupSchedule,
        uid: "schedule-1".into(),
        started: Some(at(60)),
        finished: None,
        in_progress: Vec::new(),
        finished_pods: Vec::new(),
        failed_pods: Vec::new(),
    });
    assert_eq!(clockwork.then(), ["accepted, next 01.02:00"]);
}

#[test]
fn jobs_beyond_the_history_limits_go_the_oldest_first() {
    let mut request = asked("0 * * * *");
    (request.keep_complete, request.keep_failed) = (Some(2), Some(0));
    let mut clockwork = Clockwork::of(request);
    let mut said = Vec::new();
    for (hour, outcome) in (1..).zip([Outcome::Complete, Outcome::Partial, Outcome::Complete, Outcome::Complete]) {
        clockwork.when(at(60 * hour));
        let name = clockwork.open()[0].clone();
        clockwork.end(&name, outcome);
        said.extend(clockwork.then());
    }
    assert_eq!(said, ["expired nightly-1772330400", "expired nightly-1772326800"]);
    assert!(clockwork.dc.scheduled[FIRST].expired);
    clockwork.gone(ObjectKind::MedusaBackupJob, &format!("uid-of-{FIRST}"), FIRST);
    assert!(!clockwork.dc.scheduled.contains_key(FIRST));
    assert_eq!(clockwork.then(), [""; 0]);
}

/// Whatever a schedule says of its jobs they are created with.
#[test]
fn jobs_have_the_rules_of_their_schedule() {
    let mut request = asked("0 * * * *");
    request.rules = JobRules {
        parallelism: Some(2),
        backoff_limit: Some(0),
        active_deadline: Some(3_600),
        ttl: Some(86_400),
        suspended: true,
    };
    let mut clockwork = Clockwork::of(request);
    clockwork.creating = false;
    clockwork.when(at(60));
    let key = stheno_events::DcKey::new("prod", "dc1");
    let object = stheno_projections::status::scheduled_object(&clockwork.dc.scheduled[FIRST], &clockwork.dc, &key);
    let Some(stheno_projections::status::ScheduledObject::Job(job)) = object else { panic!("{object:?}") };
    insta::assert_json_snapshot!(job.spec);
}

#[test]
fn a_purge_is_requested_by_a_task_and_waits_for_no_backup() {
    let mut request = asked("0 * * * *");
    request.operation = ScheduledOperation::Purge;
    let mut clockwork = Clockwork::of(request);
    clockwork.creating = false;
    clockwork.when(at(60));
    let made = &clockwork.dc.scheduled[FIRST];
    let key = stheno_events::DcKey::new("prod", "dc1");
    let object = stheno_projections::status::scheduled_object(made, &clockwork.dc, &key).unwrap();
    let stheno_projections::status::ScheduledObject::Task(task) = object else { panic!("{object:?}") };
    insta::assert_json_snapshot!(task);
    let wanted = made.request.clone();
    clockwork.create(&wanted);
    assert!(clockwork.dc.scheduled.is_empty(), "what becomes of it is not followed here");
    assert_eq!(clockwork.when(at(120)), ["ran 01.02:00, next 01.03:00"]);
}
