//! What is wrong with the schedules of the operator that people use today: one test for each, by its number in the
//! list of its users' complaints.

use crate::clockwork::{Clockwork, asked, at};
use stheno_projections::operator::Operator;
use stheno_projections::status::schedule_status;

/// 8: "the schedule's status moves on before the job is created: a failed create loses the slot".
#[test]
fn defect_8_a_failed_create_loses_no_slot() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.creating = false;
    clockwork.when(at(60));
    clockwork.when(at(60 * 24));
    assert!(clockwork.wanted().contains(&"nightly-1772326800"), "it is wanted until it is there");
}

/// 8: "`disabled` still moves lastExecution".
#[test]
fn defect_8_a_disabled_schedule_shows_no_execution() {
    let mut request = asked("0 * * * *");
    request.suspended = true;
    let mut clockwork = Clockwork::of(request);
    clockwork.when(at(600));
    let status = schedule_status(clockwork.schedule(), &clockwork.dc, &Operator::default()).unwrap();
    assert_eq!((status.last_execution, status.next_schedule), (None, None));
    assert_eq!(status.counts.unwrap().skipped, 10);
    assert!(status.message.unwrap().contains("suspend"));
}

/// 8: "`Forbid` can postpone for ever without a trace".
#[test]
fn defect_8_forbid_ends_and_leaves_a_trace() {
    let mut clockwork = Clockwork::of(asked("0 * * * *"));
    clockwork.when(at(60));
    clockwork.when(at(120));
    let status = schedule_status(clockwork.schedule(), &clockwork.dc, &Operator::default()).unwrap();
    let queued = status.conditions.iter().find(|condition| condition.type_ == "Queued").unwrap();
    assert_eq!(queued.message, "waits for backup nightly-1772326800 of the same datacenter");
    for hour in 3..100 {
        clockwork.when(at(60 * hour));
    }
    let counts = clockwork.schedule().counts;
    assert_eq!(
        (counts.ran, counts.skipped, counts.total()),
        (1, 97, 98),
        "each hour has its outcome but the one that waits"
    );
}

/// 8: "a misspelt policy means Allow".
#[test]
fn defect_8_a_misspelt_policy_starts_nothing_and_says_so() {
    let mut request = asked("0 * * * *");
    request.concurrency = Some("forbid".into());
    let mut clockwork = Clockwork::of(request);
    let sentence = "spec.concurrencyPolicy \"forbid\" is not known: write Allow, Forbid or Replace";
    assert_eq!(clockwork.when(at(600)), [format!("rejected: {sentence}")]);
    let status = schedule_status(clockwork.schedule(), &clockwork.dc, &Operator::default()).unwrap();
    let ready = &status.conditions[0];
    assert_eq!((&*ready.type_, &*ready.status, &*ready.reason), ("Ready", "False", "InvalidSpec"));
    assert_eq!((ready.observed_generation, status.message.as_deref()), (Some(1), Some(sentence)));
}

/// 18: "a cron that never fires backs up at creation and at each restart".
#[test]
fn defect_18_what_never_comes_never_runs() {
    let mut clockwork = Clockwork::of(asked("0 0 30 2 *"));
    assert_eq!(clockwork.when(at(1)), ["accepted, next none"]);
    assert_eq!(clockwork.when(at(60 * 24 * 400)), [""; 0]);
    let status = schedule_status(clockwork.schedule(), &clockwork.dc, &Operator::default()).unwrap();
    assert_eq!(status.conditions[0].reason, "NeverComes");
}

/// 24: "lastExecution shows the creation time before any run".
#[test]
fn defect_24_before_the_first_run_there_is_no_execution() {
    let mut clockwork = Clockwork::of(asked("30 1 * * *"));
    clockwork.when(at(1));
    let status = schedule_status(clockwork.schedule(), &clockwork.dc, &Operator::default()).unwrap();
    assert_eq!(status.last_execution, None);
    // Recorded of today's operator: without a zone the times are those of UTC.
    assert_eq!(status.next_schedule.unwrap().0.to_string(), "2026-03-01T01:30:00Z");
}
