//! What an attack on schedules found: each of these went wrong once.

use crate::clockwork::{Clockwork, asked, at};
use stheno_events::observed::{CatchUp, ObjectKind};
use stheno_events::schedule::ObjectCreated;

fn every_minute(change: impl FnOnce(&mut stheno_events::observed::Schedule)) -> Clockwork {
    let mut request = asked("* * * * *");
    request.concurrency = Some("Allow".into());
    change(&mut request);
    let mut clockwork = Clockwork::of(request);
    clockwork.then();
    clockwork
}

#[test]
fn a_round_number_of_slots_is_made_up_for_as_any_other() {
    for (minutes, catch_up, runs) in [
        (999, CatchUp::Latest, 1),
        (1_000, CatchUp::Latest, 1),
        (1_001, CatchUp::Latest, 1),
        (10_000, CatchUp::Latest, 1),
        (1_000, CatchUp::All, 100),
        (1_050, CatchUp::All, 100),
        (2_000, CatchUp::All, 100),
    ] {
        let mut clockwork = every_minute(|request| request.catch_up = catch_up);
        clockwork.when(at(minutes));
        let counts = &clockwork.schedule().counts;
        assert_eq!(counts.ran + counts.ran_late, runs, "{catch_up:?} after {minutes} slots");
        assert_eq!(counts.missed, u64::try_from(minutes).unwrap() - runs);
    }
}

#[test]
fn a_policy_that_is_mended_makes_up_for_nothing() {
    let mut clockwork = Clockwork::of({
        let mut request = asked("0 * * * *");
        request.concurrency = Some("Forbidd".into());
        request
    });
    assert!(clockwork.then()[0].starts_with("rejected"));
    assert_eq!(clockwork.when(at(630)), [""; 0]);
    clockwork.edit(|request| request.concurrency = None);
    assert_eq!(clockwork.then(), ["accepted, next 01.11:00"]);
    // Misspelt once more while a slot is due: that one still ends.
    clockwork.now = at(661);
    clockwork.edit(|request| request.concurrency = Some("Forbidd".into()));
    let said = clockwork.then();
    assert!(said[0].contains("01.11:00") && said.last().unwrap().starts_with("rejected"), "{said:?}");
    clockwork.now = at(900);
    clockwork.edit(|request| request.concurrency = None);
    assert_eq!(clockwork.then(), ["accepted, next 01.16:00"]);
}

#[test]
fn what_a_schedule_that_is_gone_still_wanted_holds_up_nobody() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.then();
    clockwork.creating = false;
    clockwork.when(at(60));
    assert_eq!(clockwork.wanted().len(), 1);
    clockwork.gone(ObjectKind::MedusaBackupSchedule, "schedule-1", "nightly");
    assert_eq!(clockwork.wanted(), [""; 0]);
}

#[test]
fn a_job_that_nobody_saw_is_not_waited_for_without_end() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.then();
    clockwork.creating = false;
    clockwork.when(at(60));
    let name: std::sync::Arc<str> = clockwork.wanted()[0].into();
    let (schedule, uid) = (clockwork.request.meta.uid.clone(), "deleted-at-once".into());
    clockwork.fold(ObjectCreated { schedule, name, uid, foreign: false });
    assert_eq!(clockwork.wake(), Some(at(61)), "it is looked at again");
    assert_eq!(clockwork.when(at(120)), ["ran 01.02:00, next 01.03:00"]);
}

/// `kubectl replace --force`: that the former one is gone may never be told apart from the new one's being there.
#[test]
fn what_a_replaced_schedule_still_wanted_holds_up_nobody_and_its_jobs_are_kept_as_before() {
    let mut clockwork = Clockwork::of({
        let mut request = asked("0 * * * *");
        request.keep_complete = Some(1);
        request
    });
    clockwork.then();
    clockwork.when(at(60));
    clockwork.end("nightly-1772326800", stheno_events::backup::Outcome::Complete);
    clockwork.creating = false;
    clockwork.when(at(120));
    assert_eq!(clockwork.wanted().len(), 1);
    clockwork.request.meta.uid = "schedule-2".into();
    clockwork.edit(|_| ());
    assert_eq!(clockwork.wanted(), [""; 0]);
    clockwork.then();
    // What the former one left counts for the limit of the new one.
    clockwork.creating = true;
    clockwork.when(at(180));
    clockwork.end("nightly-1772334000", stheno_events::backup::Outcome::Complete);
    assert_eq!(clockwork.then(), ["expired nightly-1772326800"]);
}

#[test]
fn a_deadline_of_no_seconds_leaves_the_second_in_which_a_slot_comes() {
    let mut clockwork = Clockwork::of({
        let mut request = asked("0 * * * *");
        request.starting_deadline = Some(0);
        request
    });
    clockwork.then();
    let late =
        |seconds: i64, millis: i64| chrono::TimeDelta::seconds(seconds) + chrono::TimeDelta::milliseconds(millis);
    assert_eq!(clockwork.when(at(60) + late(0, 999)), ["ran 01.01:00, next 01.02:00"]);
    clockwork.end("nightly-1772326800", stheno_events::backup::Outcome::Complete);
    assert_eq!(clockwork.when(at(120) + late(1, 1)), ["missed 01.02:00 DeadlinePassed"]);
}

/// While nothing is decided a schedule does not say that it is ready; one that was not even read says why.
#[test]
fn a_schedule_says_what_holds_it() {
    use stheno_events::observed::ObjectKind;
    use stheno_projections::operator::Operator;
    use stheno_projections::status::schedule_status;
    let said = |clockwork: &Clockwork, operator: &Operator| {
        let status = schedule_status(clockwork.schedule(), &clockwork.dc, operator)?;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").cloned()?;
        Some((ready.status, ready.reason, status.message))
    };
    let mut blind = Operator::default();
    blind.unobservable.insert(ObjectKind::Pod, "pods cannot be listed: allow it".into());
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    assert_eq!(said(&clockwork, &Operator::default()), None);
    let held = ("False".to_owned(), "Unobservable".to_owned(), Some("pods cannot be listed: allow it".to_owned()));
    assert_eq!(said(&clockwork, &blind), Some(held.clone()));
    clockwork.then();
    assert_eq!(said(&clockwork, &blind), Some(held));
    assert_eq!(said(&clockwork, &Operator::default()), Some(("True".into(), "Scheduled".into(), None)));
}

/// A leader that was paused at a create wakes when the job of that slot has run and is gone: the slot runs once.
#[test]
fn a_slot_that_has_run_is_not_run_again_by_a_job_that_comes_late() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.then();
    clockwork.when(at(60));
    let first = "nightly-1772326800";
    let decided = |clockwork: &Clockwork| {
        let key = stheno_events::DcKey::new("prod", "dc1");
        let context = stheno_decide::Context { key: &key, now: clockwork.now, epoch: stheno_events::Epoch(1) };
        stheno_decide::backup::decide(&clockwork.dc, context)
    };
    let kinds = |events: &[stheno_events::Event]| events.iter().map(|event| event.kind().name).collect::<Vec<_>>();
    assert_eq!(kinds(&decided(&clockwork)), ["backup.queued"], "it waits for its datacenter as any other job");
    clockwork.end(first, stheno_events::backup::Outcome::Complete);
    clockwork.gone(ObjectKind::MedusaBackupJob, &format!("uid-of-{first}"), first);
    let mut late = clockwork.job(first);
    late.meta.uid = "once-more".into();
    clockwork.fold(late);
    let events = decided(&clockwork);
    assert_eq!(kinds(&events), ["backup.outcome_decided"]);
    let stheno_events::Event::Backup(stheno_events::backup::Event::OutcomeDecided(refused)) = &events[0] else {
        return;
    };
    assert!(refused.message.contains("this time of schedule nightly has ended"), "{}", refused.message);
}
