//! Given a schedule, when it is this time, then its slots end like this.

use crate::clockwork::{Clockwork, asked, at};
use chrono::TimeDelta;
use stheno_events::observed::CatchUp;
use stheno_projections::schedule::Counts;

const HOURLY: &str = "0 * * * *";

fn hourly(change: impl FnOnce(&mut stheno_events::observed::Schedule)) -> Clockwork {
    let mut request = asked(HOURLY);
    change(&mut request);
    let mut clockwork = Clockwork::of(request);
    assert_eq!(clockwork.then(), ["accepted, next 01.01:00"]);
    clockwork
}

#[test]
fn a_slot_runs_in_time_once_and_is_waited_for() {
    let mut clockwork = hourly(|_| {});
    assert_eq!(clockwork.wake(), Some(at(60)));
    assert_eq!(clockwork.when(at(60) - TimeDelta::milliseconds(1)), [""; 0]);
    assert_eq!(clockwork.when(at(60) + TimeDelta::seconds(59)), ["ran 01.01:00, next 01.02:00"]);
    assert_eq!(clockwork.then(), [""; 0]);
    assert_eq!(clockwork.open(), ["nightly-1772326800"], "named after the slot, not after the moment");
    assert_eq!(clockwork.schedule().last_execution, Some(at(60) + TimeDelta::seconds(59)));
    assert_eq!(clockwork.wake(), Some(at(120)));
}

#[test]
fn of_what_passed_in_an_outage_the_latest_is_made_up_for() {
    let mut clockwork = hourly(|_| {});
    let said = clockwork.when(at(5 * 60 + 30));
    assert_eq!(said, ["missed 01.01:00..01.04:00 (4) Superseded", "ran late 01.05:00, next 01.06:00"]);
    assert_eq!(clockwork.schedule().counts, Counts { ran: 0, ran_late: 1, skipped: 0, missed: 4 });
}

#[test]
fn or_none_or_each() {
    let mut none = hourly(|request| request.catch_up = CatchUp::None);
    let said = none.when(at(3 * 60 + 30));
    assert_eq!(said, ["missed 01.01:00..01.02:00 (2) Superseded", "missed 01.03:00 NotInTime"]);
    assert_eq!(none.when(at(4 * 60)), ["ran 01.04:00, next 01.05:00"]);

    let mut all = hourly(|request| (request.catch_up, request.concurrency) = (CatchUp::All, Some("Allow".into())));
    let said = all.when(at(3 * 60 + 30));
    assert_eq!(
        said,
        ["ran late 01.01:00, next 01.02:00", "ran late 01.02:00, next 01.03:00", "ran late 01.03:00, next 01.04:00"]
    );
    // Nobody wants a year's worth of backups at once.
    let said = all.when(at(3 * 60 + 120 * 60));
    assert_eq!(said[0], "missed 01.04:00..01.23:00 (20) TooMany");
    assert_eq!(all.schedule().counts, Counts { ran: 1, ran_late: 3 + 99, skipped: 0, missed: 20 });
}

#[test]
fn each_one_after_the_other_where_they_may_not_run_together() {
    let mut clockwork = hourly(|request| request.catch_up = CatchUp::All);
    let said = clockwork.when(at(2 * 60 + 30));
    let waits = "postponed 01.02:00 until 01.03:00: waits for backup nightly-1772326800 of the same datacenter";
    assert_eq!(said, ["ran late 01.01:00, next 01.02:00", waits]);
    clockwork.end("nightly-1772326800", stheno_events::backup::Outcome::Complete);
    assert_eq!(clockwork.then(), ["ran late 01.02:00, next 01.03:00"]);
}

#[test]
fn a_starting_deadline_ends_what_is_older() {
    let mut clockwork = hourly(|request| {
        (request.starting_deadline, request.catch_up) = (Some(1_800), CatchUp::All);
    });
    assert_eq!(clockwork.when(at(4 * 60 + 29))[0], "missed 01.01:00..01.03:00 (3) DeadlinePassed");
    assert_eq!(clockwork.schedule().counts.ran_late, 1);
    // A wait ends with it too.
    assert_eq!(clockwork.when(at(5 * 60)).len(), 1);
    assert_eq!(clockwork.wake(), Some(at(5 * 60 + 30)));
    assert_eq!(clockwork.when(at(5 * 60 + 30)), ["skipped 01.05:00 OperationRunning"]);
}

#[test]
fn forbid_waits_until_the_next_slot() {
    let mut clockwork = hourly(|_| {});
    clockwork.when(at(60));
    let waits = "postponed 01.02:00 until 01.03:00: waits for backup nightly-1772326800 of the same datacenter";
    assert_eq!(clockwork.when(at(120)), [waits]);
    assert_eq!(clockwork.when(at(150)), [""; 0], "it is said once");
    clockwork.end("nightly-1772326800", stheno_events::backup::Outcome::Failed);
    assert_eq!(clockwork.when(at(151)), ["ran late 01.02:00, next 01.03:00"]);

    assert_eq!(clockwork.when(at(180)).len(), 1);
    let said = clockwork.when(at(240));
    assert_eq!(said[0], "skipped 01.03:00 OperationRunning");
    assert!(said[1].starts_with("postponed 01.04:00 until 01.05:00"), "{said:?}");
}

#[test]
fn forbid_waits_for_other_schedules_but_not_for_jobs_made_by_hand() {
    let mut clockwork = hourly(|_| {});
    let other = clockwork.request.meta.uid.clone();
    clockwork.request.meta.uid = "another-schedule".into();
    clockwork.seen("other-1");
    clockwork.request.meta.uid = other;
    assert!(clockwork.when(at(60))[0].starts_with("postponed 01.01:00 until 01.02:00: waits for backup other-1"));
    clockwork.end("other-1", stheno_events::backup::Outcome::Complete);
    let mut by_hand = clockwork.dc.operations.values().next().unwrap().request.clone();
    (by_hand.meta.uid, by_hand.schedule) = ("by-hand".into(), None);
    clockwork.fold(by_hand);
    assert_eq!(clockwork.then(), ["ran 01.01:00, next 01.02:00"]);
}

#[test]
fn allow_does_not_wait() {
    let mut clockwork = hourly(|request| request.concurrency = Some("Allow".into()));
    clockwork.when(at(60));
    assert_eq!(clockwork.when(at(120)), ["ran 01.02:00, next 01.03:00"]);
    assert_eq!(clockwork.open().len(), 2);
}

#[test]
fn replace_takes_the_place_of_one_that_has_not_started_and_waits_for_one_that_has() {
    let mut clockwork = hourly(|request| request.concurrency = Some("Replace".into()));
    clockwork.when(at(60));
    assert_eq!(clockwork.when(at(120)), ["backup.outcome_decided", "ran 01.02:00, next 01.03:00"]);
    clockwork.end("nightly-1772326800", stheno_events::backup::Outcome::Refused);
    clockwork.start("nightly-1772330400");
    assert!(clockwork.when(at(180))[0].starts_with("postponed 01.03:00 until 01.04:00"));
}

#[test]
fn what_is_suspended_is_skipped_and_not_made_up_for() {
    let mut clockwork = hourly(|_| {});
    clockwork.edit(|request| request.suspended = true);
    assert_eq!(clockwork.then(), ["accepted, next 01.01:00"]);
    assert_eq!(clockwork.when(at(130)), ["skipped 01.01:00..01.02:00 (2) Suspended"]);
    // It passed while it was suspended, though nobody was there.
    clockwork.now = at(190);
    clockwork.edit(|request| request.suspended = false);
    assert_eq!(clockwork.then(), ["skipped 01.03:00 Suspended", "accepted, next 01.04:00"]);
    assert_eq!(clockwork.when(at(240)), ["ran 01.04:00, next 01.05:00"]);
}

#[test]
fn an_edit_counts_from_when_it_is_seen() {
    let mut clockwork = hourly(|_| {});
    // One slot of the former times has passed, and none of the new ones.
    clockwork.now = at(61);
    clockwork.edit(|request| request.cron = "30 * * * *".into());
    assert_eq!(clockwork.then(), ["ran 01.01:00, next 01.01:30", "accepted, next 01.01:30"]);
    // A slot that waits does not wait for what was taken out.
    clockwork.when(at(90));
    clockwork.now = at(100);
    clockwork.edit(|request| request.cron = "45 * * * *".into());
    assert_eq!(clockwork.then(), ["skipped 01.01:30 OperationRunning", "accepted, next 01.01:45"]);
    // Another policy is no other time.
    clockwork.when(at(105));
    clockwork.edit(|request| request.concurrency = Some("Allow".into()));
    assert_eq!(clockwork.then(), ["ran 01.01:45, next 01.02:45", "accepted, next 01.02:45"]);
}

#[test]
fn times_are_those_of_the_zone() {
    let mut request = asked("30 2 * * *");
    request.time_zone = Some("Europe/Berlin".into());
    let mut clockwork = Clockwork::of(request);
    assert_eq!(clockwork.then(), ["accepted, next 01.01:30"]);
    // The clock skips it on 29 March.
    clockwork.when(at(27 * 1_440));
    assert_eq!(
        clockwork.schedule().plan,
        stheno_projections::schedule::Plan::Times { next: Some(at(27 * 1_440 + 90)) }
    );
    clockwork.edit(|request| request.concurrency = Some("Allow".into()));
    let said = clockwork.when(at(27 * 1_440 + 90));
    assert!(said.contains(&"ran 28.01:30, next 30.00:30".to_owned()), "{said:?}");
}

#[test]
fn a_schedule_that_cannot_be_followed_says_why_and_has_no_slots() {
    let refused = |change: fn(&mut stheno_events::observed::Schedule)| {
        let mut request = asked(HOURLY);
        change(&mut request);
        let mut clockwork = Clockwork::of(request);
        let said = clockwork.when(at(600));
        assert_eq!((said.len(), clockwork.schedule().counts.total(), clockwork.wake()), (1, 0, None));
        said[0].clone()
    };
    insta::assert_yaml_snapshot!([
        refused(|request| request.cron = "61 * * * *".into()),
        refused(|request| request.cron = "0 0 2 * * *".into()),
        refused(|request| request.cron = "".into()),
        refused(|request| request.time_zone = Some("Europe/Berlim".into())),
        refused(|request| {
            (request.cron, request.time_zone) = ("CRON_TZ=UTC 0 * * * *".into(), Some("UTC".into()));
        }),
        refused(|request| request.meta.name = "n".repeat(243).into()),
    ]);
    // Once it is mended it is followed, from then on.
    let mut clockwork = Clockwork::of(asked("61 * * * *"));
    clockwork.when(at(600));
    clockwork.edit(|request| request.cron = HOURLY.into());
    assert_eq!(clockwork.then(), ["accepted, next 01.11:00"]);
}

#[test]
fn a_year_of_absence_is_not_walked_in_one_go() {
    let mut request = asked("* * * * *");
    request.catch_up = CatchUp::None;
    let mut clockwork = Clockwork::of(request);
    let said = clockwork.when(at(10_500));
    assert_eq!(said.len(), 13, "{said:?}");
    assert_eq!(clockwork.schedule().counts, Counts { ran: 1, ran_late: 0, skipped: 0, missed: 10_499 });
}
