//! Calls that are stopped, or cannot be made, and sidecars that hold up nobody else.

use super::fixture::{effect, facts, kinds, pace, runner, start, unanswered, until};
use crate::support::sidecar::FalseSidecar;
use stheno::effects::Report;
use stheno_decide::{Effect, EffectKey};
use stheno_events::backup::Call;
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;

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

#[tokio::test]
async fn a_hung_sidecar_delays_nobody_else() {
    let (hung, good) = (FalseSidecar::new(), FalseSidecar::new());
    hung.script().hangs.insert("Capabilities");
    good.phase(Phase::Finished);
    let (one, two) = (hung.serve_ours(), good.serve_ours());
    let mut runner = runner();
    runner.start(effect(start(), &one));
    runner.start(Effect {
        key: EffectKey { call: Call::Start("dc1-r1-sts-1".into()).into(), ..effect(start(), &two).key },
        ..effect(start(), &two)
    });
    let begun = tokio::time::Instant::now();
    let Report::Facts { key, .. } = runner.next().await else { panic!("an end before a fact") };
    assert_eq!(key.call.pod().as_str(), "dc1-r1-sts-1");
    assert!(begun.elapsed() < pace().unary);
}
