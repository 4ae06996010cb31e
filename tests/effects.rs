//! Effects against a sidecar that speaks real gRPC: ours and stock, well and badly behaved.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "support/sidecar.rs"]
mod sidecar;

use sidecar::{FalseSidecar, Serving};
use std::time::Duration;
use stheno::effects::{Pace, Report, Runner, Sidecars};
use stheno_decide::{Effect, EffectKey};
use stheno_events::backup::{self, Call, NodeUnanswered, SidecarKind};
use stheno_events::observed::BackupType;
use stheno_events::{DcKey, Epoch, Event};
use stheno_rpc::medusa::{BackupNode, BackupSummary, StatusType};
use stheno_rpc::sidecar::node_state::Phase;
use tonic::{Code, Status};

/// Short enough for a test, long enough for a busy machine.
fn pace() -> Pace {
    Pace {
        connect: Duration::from_secs(2),
        unary: Duration::from_millis(500),
        async_backup: Duration::from_millis(700),
        listing: Duration::from_millis(500),
        quiet: Duration::from_millis(300),
        progress: Duration::from_millis(200),
        first_poll: Duration::from_millis(10),
        longest_poll: Duration::from_millis(40),
        visible: Duration::from_millis(600),
    }
}

fn runner() -> Runner {
    Runner::new(Sidecars::new(pace()))
}

fn start() -> Call {
    Call::Start("dc1-r1-sts-0".into())
}

fn resume() -> Call {
    Call::Resume("dc1-r1-sts-0".into())
}

fn effect(call: Call, serving: &Serving) -> Effect {
    Effect {
        key: EffectKey { job: "job-uid".into(), call, attempt: 1, serial: 1, epoch: Epoch(7) },
        dc: DcKey::new("ns", "dc1"),
        backup: "nightly".into(),
        backup_type: BackupType::Differential,
        address: Some((serving.address.ip().to_string().into(), serving.address.port())),
        foreign: false,
        sidecar: None,
        accepted: false,
    }
}

async fn report(runner: &mut Runner) -> Option<Vec<backup::Event>> {
    match tokio::time::timeout(Duration::from_secs(10), runner.next()).await.expect("the effect hangs") {
        Report::Ended(_) => None,
        Report::Facts { events, .. } => {
            let fact = |event| match event {
                Event::Backup(event) => event,
                other @ (Event::Observed(_) | Event::Datacenter(_) | Event::Operator(_)) => panic!("{other:?}"),
            };
            Some(events.into_iter().map(fact).collect())
        }
    }
}

/// Facts, up to the effect's end.
async fn facts(runner: &mut Runner) -> Vec<backup::Event> {
    let mut facts = Vec::new();
    while let Some(events) = report(runner).await {
        facts.extend(events);
    }
    facts
}

/// The next fact, alone in its report; none at the effect's end.
async fn next(runner: &mut Runner) -> Option<backup::Event> {
    let events = report(runner).await?;
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next()
}

async fn next_kind(runner: &mut Runner) -> &'static str {
    next(runner).await.map_or("end", |event| event.kind().name)
}

fn kinds(facts: &[backup::Event]) -> Vec<&'static str> {
    facts.iter().map(|event| event.kind().name.trim_start_matches("backup.")).collect()
}

fn unanswered(facts: &[backup::Event]) -> &NodeUnanswered {
    match facts.last() {
        Some(backup::Event::NodeUnanswered(event)) => event,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

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
async fn nothing_listens_so_nothing_was_sent() {
    let serving = FalseSidecar::new().serve_ours();
    let effect = effect(start(), &serving);
    serving.end();
    let mut runner = runner();
    runner.start(effect);
    let facts = facts(&mut runner).await;
    let doubt = unanswered(&facts);
    assert!(!doubt.in_doubt && doubt.heard.is_none(), "{doubt:?}");
    let error = &*doubt.error;
    assert!(error.starts_with("no connection to the sidecar at http://127.0.0.1:"), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
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
async fn a_stopped_start_that_is_out_comes_back_first() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_ours();
    let mut runner = runner();
    let effect = effect(start(), &serving);
    let key = effect.key.clone();
    fake.script().hangs.insert("StartBackup");
    runner.start(effect);
    until("the start is out", || fake.count("StartBackup") == 1).await;
    runner.stop(&key);
    let facts = facts(&mut runner).await;
    assert!(unanswered(&facts).in_doubt, "what was sent may have had an effect");
}

#[tokio::test]
async fn a_start_that_was_not_sent_says_so_when_it_is_stopped() {
    let fake = FalseSidecar::new();
    fake.script().hangs.insert("Capabilities");
    let serving = fake.serve_ours();
    let mut runner = runner();
    let effect = effect(start(), &serving);
    let key = effect.key.clone();
    runner.start(effect);
    until("asked who is there", || fake.count("Capabilities") == 1).await;
    runner.stop(&key);
    let facts = facts(&mut runner).await;
    assert!(!unanswered(&facts).in_doubt);
    assert_eq!(fake.count("StartBackup"), 0);
}

#[tokio::test]
async fn following_stops_at_once_and_without_a_word() {
    for ours in [true, false] {
        let fake = FalseSidecar::new();
        fake.script().status = Some(StatusType::InProgress);
        let serving = if ours { fake.serve_ours() } else { fake.serve_stock() };
        let mut runner = runner();
        runner.start(effect(start(), &serving));
        until("followed", || fake.count(if ours { "Watch" } else { "BackupStatus" }) > 0).await;
        runner.stop_all();
        assert_eq!(kinds(&facts(&mut runner).await), ["node_started"]);
    }
}

#[tokio::test]
async fn a_pod_without_an_address_is_not_called() {
    let serving = FalseSidecar::new().serve_ours();
    let mut runner = runner();
    runner.start(Effect { address: None, ..effect(start(), &serving) });
    let first = facts(&mut runner).await;
    assert!(!unanswered(&first).in_doubt);
    assert_eq!(&*unanswered(&first).error, "pod dc1-r1-sts-0 has no address");
    runner.start(Effect { address: None, ..effect(Call::Summary("dc1-r1-sts-0".into()), &serving) });
    assert_eq!(kinds(&facts(&mut runner).await), ["summary_failed"]);
}

fn summary(name: &str) -> BackupSummary {
    BackupSummary {
        backup_name: name.into(),
        start_time: 1_800_000_000,
        finish_time: 1_800_000_060,
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![BackupNode { host: "h".into(), tokens: vec![-1], datacenter: "dc1".into(), rack: "r1".into() }],
        status: StatusType::Success.into(),
        total_size: 99,
        total_objects: 9,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_summary_comes_from_either_call() {
    for first_fails in [false, true] {
        let fake = FalseSidecar::new();
        fake.script().backups = vec![summary("other"), summary("nightly")];
        if first_fails {
            fake.script().errors.entry("GetBackup").or_default().push_back(Status::internal("bad index"));
        }
        let serving = fake.serve_stock();
        let mut runner = runner();
        runner.start(effect(Call::Summary("dc1-r1-sts-0".into()), &serving));
        match &facts(&mut runner).await[..] {
            [backup::Event::Summarised(told)] => {
                assert!(told.complete);
                assert_eq!((told.bytes, told.files, told.total_nodes), (99, 9, 1));
                assert_eq!(told.finished.map(|time| time.timestamp()), Some(1_800_000_060));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fake.count("GetBackups"), usize::from(first_fails));
    }
}

#[tokio::test]
async fn a_summary_that_cannot_be_read_keeps_the_first_reason() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(effect(Call::Summary("dc1-r1-sts-0".into()), &serving));
    match &facts(&mut runner).await[..] {
        [backup::Event::SummaryFailed(failed)] => {
            assert!(failed.error.contains("The backup nightly does not exist"), "{}", failed.error);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hung_sidecar_delays_nobody_else() {
    let (hung, good) = (FalseSidecar::new(), FalseSidecar::new());
    hung.script().hangs.insert("Capabilities");
    good.phase(Phase::Finished);
    let (one, two) = (hung.serve_ours(), good.serve_ours());
    let mut runner = runner();
    runner.start(effect(start(), &one));
    runner.start(Effect {
        key: EffectKey { call: Call::Start("dc1-r1-sts-1".into()), ..effect(start(), &two).key },
        ..effect(start(), &two)
    });
    let begun = tokio::time::Instant::now();
    let Report::Facts { key, .. } = runner.next().await else { panic!("an end before a fact") };
    assert_eq!(key.call.pod().as_str(), "dc1-r1-sts-1");
    assert!(begun.elapsed() < pace().unary);
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
