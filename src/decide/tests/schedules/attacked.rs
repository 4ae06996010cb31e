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
