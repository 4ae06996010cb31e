//! Stock Medusa: started once, polled, never commanded twice.

use super::fixture::{effect, facts, kinds, next, pace, resume, runner, start, unanswered, until};
use crate::support::sidecar::FalseSidecar;
use stheno_decide::Effect;
use stheno_events::backup::{self, SidecarKind};
use stheno_events::observed::BackupType;
use stheno_rpc::medusa::StatusType;
use tonic::{Code, Status};

#[tokio::test]
async fn stock_is_started_once_and_polled_through_not_found() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(Effect { backup_type: BackupType::Full, ..effect(start(), &serving) });
    match next(&mut runner).await {
        Some(backup::Event::NodeStarted(started)) => assert_eq!(started.sidecar, SidecarKind::Medusa),
        other => panic!("{other:?}"),
    }
    until("polled while nothing is visible", || fake.count("BackupStatus") >= 3).await;
    fake.script().status = Some(StatusType::InProgress);
    let polls = fake.count("BackupStatus");
    until("polled while it runs", || fake.count("BackupStatus") >= polls + 3).await;
    assert_eq!(runner.running(), 1);
    fake.script().status = Some(StatusType::Success);
    match &facts(&mut runner).await[..] {
        [backup::Event::NodeFinished(done)] => assert_eq!((done.bytes, done.files, done.reused), (None, None, None)),
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.calls()[0], "AsyncBackup nightly FULL");
    assert_eq!(fake.count("AsyncBackup"), 1);
}

#[tokio::test]
async fn stock_that_never_shows_the_backup_is_given_back_after_a_while() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_stock();
    let mut runner = runner();
    let begun = tokio::time::Instant::now();
    runner.start(effect(start(), &serving));
    let facts = facts(&mut runner).await;
    assert_eq!(kinds(&facts), ["node_started", "node_unanswered"]);
    assert!(unanswered(&facts).not_found && unanswered(&facts).in_doubt);
    assert!(begun.elapsed() >= pace().visible);
    // Polls grow apart: at 10 ms all the time it would be 60.
    assert!(fake.count("BackupStatus") < 40, "{}", fake.count("BackupStatus"));
}

#[tokio::test]
async fn stock_that_fails_or_knows_nothing_has_failed_for_good() {
    for status in [StatusType::Failed, StatusType::Unknown] {
        let fake = FalseSidecar::new();
        fake.script().status = Some(status);
        let serving = fake.serve_stock();
        let mut runner = runner();
        runner.start(effect(start(), &serving));
        match &facts(&mut runner).await[..] {
            [backup::Event::NodeStarted(_), backup::Event::NodeFailed(failed)] => assert!(!failed.retryable),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hung_asyncbackup_is_in_doubt_and_never_repeated() {
    let fake = FalseSidecar::new();
    fake.script().hangs.insert("AsyncBackup");
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    let first = facts(&mut runner).await;
    assert!(unanswered(&first).in_doubt && !unanswered(&first).not_found);
    assert_eq!(&*unanswered(&first).error, "AsyncBackup was not answered within 0.7 s");

    // Resumed: only asked about. Not there means so at once; the decision waits.
    runner.start(effect(resume(), &serving));
    let second = facts(&mut runner).await;
    assert_eq!(kinds(&second), ["node_unanswered"]);
    assert!(unanswered(&second).not_found && unanswered(&second).heard.is_none());
    // There after all: followed to its end.
    fake.script().status = Some(StatusType::Success);
    runner.start(effect(resume(), &serving));
    assert_eq!(kinds(&facts(&mut runner).await), ["node_started", "node_finished"]);
    assert_eq!(fake.count("AsyncBackup"), 1);
}

#[tokio::test]
async fn stock_that_breaks_between_polls_is_in_doubt() {
    let fake = FalseSidecar::new();
    fake.script().status = Some(StatusType::InProgress);
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    until("polled", || fake.count("BackupStatus") >= 2).await;
    fake.script().errors.entry("BackupStatus").or_default().push_back(Status::unavailable("Server shutdown"));
    let facts = facts(&mut runner).await;
    assert_eq!(kinds(&facts), ["node_started", "node_unanswered"]);
    let doubt = unanswered(&facts);
    assert!(doubt.in_doubt && doubt.heard.is_some());
    assert_eq!(&*doubt.error, "BackupStatus failed: Server shutdown");
}

#[tokio::test]
async fn another_programs_backup_and_stock_ones_are_asked_about_never_joined() {
    let fake = FalseSidecar::new();
    fake.script().status = Some(StatusType::Success);
    let serving = fake.serve_ours();
    let foreign = Effect { foreign: true, ..effect(resume(), &serving) };
    let stocks = Effect { sidecar: Some(SidecarKind::Medusa), accepted: true, ..effect(resume(), &serving) };
    for effect in [foreign, stocks] {
        let mut runner = runner();
        runner.start(effect);
        assert_eq!(kinds(&facts(&mut runner).await).last(), Some(&"node_finished"));
    }
    assert_eq!(fake.count("StartBackup"), 0);
    assert_eq!(fake.count("AsyncBackup"), 0);
}

#[tokio::test]
async fn a_server_that_is_no_sidecar_is_refused() {
    let fake = FalseSidecar::new();
    let refusal = Status::new(Code::Unimplemented, "Method not found!");
    fake.script().errors.entry("AsyncBackup").or_default().push_back(refusal);
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    match &facts(&mut runner).await[..] {
        [backup::Event::NodeFailed(failed)] => assert!(!failed.retryable),
        other => panic!("{other:?}"),
    }
}
