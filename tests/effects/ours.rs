//! Our own sidecar: started, watched, joined again.

use super::fixture::{effect, facts, kinds, next, next_kind, pace, resume, runner, start, unanswered, until};
use crate::support::sidecar::FalseSidecar;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stheno::effects::{Report, Runner, Sidecars};
use stheno_decide::{Effect, EffectKey};
use stheno_events::Event;
use stheno_events::backup::{self, Call, SidecarKind};
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;
use tonic::Status;

#[tokio::test]
async fn ours_is_started_watched_and_ends() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    match next(&mut runner).await {
        Some(backup::Event::NodeStarted(started)) => assert_eq!(started.sidecar, SidecarKind::Stheno),
        other => panic!("{other:?}"),
    }
    until("watched", || fake.count("Watch") == 1).await;
    fake.report(|state| {
        state.set_phase(Phase::Uploading);
        (state.bytes_done, state.bytes_total, state.files_done, state.files_total) = (5, 50, 1, 10);
    });
    match next(&mut runner).await {
        Some(backup::Event::Progress(progress)) => {
            let node = &progress.nodes[0];
            assert_eq!((node.bytes, node.bytes_total, node.files, node.files_total), (5, 50, 1, 10));
        }
        other => panic!("{other:?}"),
    }
    fake.report(|state| {
        state.set_phase(Phase::Finished);
        (state.bytes_total, state.files_total, state.files_reused) = (50, 10, 3);
    });
    match next(&mut runner).await {
        Some(backup::Event::NodeFinished(done)) => {
            assert_eq!((done.bytes, done.files, done.reused), (Some(50), Some(10), Some(3)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(next_kind(&mut runner).await, "end");
    assert_eq!(fake.calls(), ["Capabilities", "StartBackup nightly job-uid 1 7", "Watch nightly"]);
    assert_eq!(runner.running(), 0);
}

/// How long the machine was suspended, in milliseconds.
static SUSPENDED: AtomicU64 = AtomicU64::new(0);

/// Suspended before the sidecar is asked who it is, or with its answer already there.
#[tokio::test]
async fn nothing_is_started_after_a_suspension() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let clock = || stheno::runtime::boot_ms() + SUSPENDED.load(Ordering::SeqCst);
    let mut runner = Runner::new(Sidecars::new(pace()).with_clock(clock));
    for asked in [false, true] {
        for call in [start(), resume()] {
            SUSPENDED.store(0, Ordering::SeqCst);
            let resumes = call == resume();
            let claimed = effect(call, &serving);
            let suspended = || SUSPENDED.store(60_000, Ordering::SeqCst);
            if asked {
                fake.script().meanwhile.insert("Capabilities", Box::new(suspended));
            } else {
                suspended();
            }
            runner.start(claimed);
            let facts = facts(&mut runner).await;
            assert_eq!(kinds(&facts), ["node_unanswered"]);
            assert_eq!(unanswered(&facts).in_doubt, resumes, "this call certainly was not sent");
        }
    }
    assert_eq!(fake.calls(), ["Capabilities"; 4]);

    // What is claimed anew is in time.
    SUSPENDED.store(0, Ordering::SeqCst);
    runner.start(effect(start(), &serving));
    assert_eq!(next_kind(&mut runner).await, "backup.node_started");
}

#[tokio::test]
async fn progress_is_handed_in_now_and_then_and_the_last_of_it_always() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    assert_eq!(next_kind(&mut runner).await, "backup.node_started");
    until("watched", || fake.count("Watch") == 1).await;
    for bytes in 1..=50 {
        fake.report(|state| {
            state.set_phase(Phase::Uploading);
            state.bytes_done = bytes;
        });
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&50) {
        match next(&mut runner).await {
            Some(backup::Event::Progress(progress)) => seen.push(progress.nodes[0].bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.len() < 10 && seen.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn ours_that_fails_says_why_and_whether_again() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    fake.report(|state| {
        state.set_phase(Phase::Failed);
        state.reason = "bucket backups does not exist".into();
        state.retryable = true;
    });
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    let report = runner.next().await;
    let Report::Facts { events, .. } = report else { panic!("{report:?}") };
    let [Event::Backup(backup::Event::NodeStarted(_)), Event::Backup(backup::Event::NodeFailed(failed))] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((&*failed.reason, failed.retryable), ("bucket backups does not exist", true));
    assert_eq!(next_kind(&mut runner).await, "end");
}

#[tokio::test]
async fn ours_that_dies_is_in_doubt_and_joined_again() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let address = serving.address;
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    assert_eq!(next_kind(&mut runner).await, "backup.node_started");
    until("watched", || fake.count("Watch") == 1).await;
    serving.end();
    let facts_ = facts(&mut runner).await;
    let doubt = unanswered(&facts_);
    assert!(doubt.in_doubt && !doubt.not_found && doubt.heard.is_some(), "{doubt:?}");

    // It comes back at the same address, and the same start joins what runs.
    let serving = fake.serve(true, address);
    let again = Effect { accepted: true, sidecar: Some(SidecarKind::Stheno), ..effect(resume(), &serving) };
    runner.start(again);
    until("joined", || fake.count("StartBackup") == 2).await;
    fake.phase(Phase::Finished);
    assert_eq!(kinds(&facts(&mut runner).await), ["node_finished"]);
    assert!(fake.calls().iter().filter(|call| *call == "StartBackup nightly job-uid 1 7").count() == 2);
}

#[tokio::test]
async fn a_silent_stream_of_a_living_sidecar_goes_on_and_of_a_hung_one_ends() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    assert_eq!(next_kind(&mut runner).await, "backup.node_started");
    until("asked whether it lives, twice", || fake.count("Capabilities") >= 3).await;
    assert_eq!(runner.running(), 1);
    fake.script().hangs.insert("Capabilities");
    let facts = facts(&mut runner).await;
    assert_eq!(&*unanswered(&facts).error, "Capabilities was not answered within 0.5 s");
    assert!(unanswered(&facts).in_doubt);
}

#[tokio::test]
async fn an_unanswered_question_is_no_doubt_and_an_unanswered_start_is() {
    for (hung, doubt) in [("Capabilities", false), ("StartBackup", true)] {
        let fake = FalseSidecar::new();
        fake.script().hangs.insert(hung);
        let serving = fake.serve_ours();
        let mut runner = runner();
        runner.start(effect(start(), &serving));
        let facts = facts(&mut runner).await;
        assert_eq!(unanswered(&facts).in_doubt, doubt, "{hung}");
        assert_eq!(&*unanswered(&facts).error, format!("{hung} was not answered within 0.5 s"));
    }
}

/// Addresses of pods are given out anew, and what is known of them may be old.
#[tokio::test]
async fn a_sidecar_of_another_pod_at_the_address_is_asked_for_nothing() {
    let fake = FalseSidecar::new();
    fake.phase(Phase::Finished);
    let serving = fake.serve_ours();
    let mut runner = runner();
    fake.script().pod = "dc2-r1-sts-0".into();
    for (call, doubt) in [(start(), false), (resume(), true)] {
        runner.start(effect(call, &serving));
        let facts = facts(&mut runner).await;
        assert_eq!(unanswered(&facts).in_doubt, doubt);
        let said = format!("at {} is pod dc2-r1-sts-0 now, not pod dc1-r1-sts-0", serving.address);
        assert_eq!(*unanswered(&facts).error, *said);
    }
    assert!(fake.calls().iter().all(|call| call.starts_with("Capabilities")), "{:?}", fake.calls());
    fake.script().pod = "dc1-r1-sts-0".into();
    runner.start(effect(start(), &serving));
    assert!(matches!(facts(&mut runner).await.last(), Some(backup::Event::NodeFinished(_))));
}

#[tokio::test]
async fn a_later_leader_is_told_apart() {
    let refusal = || Status::failed_precondition("epoch 7 is over: epoch 9 was here");
    let fake = FalseSidecar::new();
    fake.script().errors.entry("StartBackup").or_default().extend([refusal(), refusal()]);
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(effect(start(), &serving));
    match &facts(&mut runner).await[..] {
        [backup::Event::NodeFailed(failed)] => {
            assert_eq!(&*failed.reason, "StartBackup failed: epoch 7 is over: epoch 9 was here");
            assert!(failed.retryable, "nothing was started");
        }
        other => panic!("{other:?}"),
    }
    // What runs already may run on under the later leader.
    runner.start(effect(resume(), &serving));
    assert!(unanswered(&facts(&mut runner).await).in_doubt);
}

fn stop() -> Call {
    Call::Stop("dc1-r1-sts-0".into())
}

fn accepted(effect: Effect) -> Effect {
    Effect { accepted: true, sidecar: Some(SidecarKind::Stheno), ..effect }
}

#[tokio::test]
async fn ours_breaks_off_and_says_so_and_what_had_ended_stays_what_it_was() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(effect(stop(), &serving));
    let early = facts(&mut runner).await;
    assert_eq!(kinds(&early), ["node_unanswered"]);
    assert!(unanswered(&early).not_found && unanswered(&early).in_doubt, "a start may still be on its way");

    runner.start(effect(start(), &serving));
    assert_eq!(next_kind(&mut runner).await, "backup.node_started");
    let stopping = accepted(effect(stop(), &serving));
    runner.start(Effect { key: EffectKey { serial: 2, ..stopping.key.clone() }, ..stopping });
    let mut ends = facts(&mut runner).await;
    // The call that followed it hears of the end, too.
    ends.extend(facts(&mut runner).await);
    let failed = |event: &backup::Event| matches!(event, backup::Event::NodeFailed(e) if !e.retryable && &*e.reason == "the backup was cancelled");
    assert!(ends.len() == 2 && ends.iter().all(failed), "{ends:?}");
    assert_eq!(fake.calls().last().map(String::as_str), Some("Cancel nightly job-uid 1 7"));

    fake.phase(Phase::Finished);
    runner.start(accepted(effect(stop(), &serving)));
    assert_eq!(kinds(&facts(&mut runner).await), ["node_finished"]);
    assert_eq!(fake.count("StartBackup"), 1, "nothing was begun in order to end it");
}

/// An older version of our sidecar, and stock Medusa: both are followed to their end.
#[tokio::test]
async fn who_cannot_break_off_is_followed() {
    let fake = FalseSidecar::new();
    fake.script().errors.insert("Cancel", [Status::unimplemented("unknown service")].into());
    fake.script().status = Some(StatusType::Success);
    let serving = fake.serve_ours();
    let mut runner = runner();
    runner.start(accepted(effect(stop(), &serving)));
    assert_eq!(kinds(&facts(&mut runner).await), ["node_finished"]);
    assert_eq!(fake.calls(), ["Capabilities", "Cancel nightly job-uid 1 7", "BackupStatus nightly"]);

    let stock = FalseSidecar::new();
    stock.script().status = Some(StatusType::Failed);
    let serving = stock.serve_stock();
    runner.start(Effect { sidecar: Some(SidecarKind::Medusa), accepted: true, ..effect(stop(), &serving) });
    assert_eq!(kinds(&facts(&mut runner).await), ["node_failed"]);
    assert_eq!(stock.calls(), ["BackupStatus nightly"]);
}
