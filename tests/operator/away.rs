//! Parts that go away and come back: nothing is lost, nothing needs a hand.

use super::ground::{Ground, Operator, until};
use std::time::Duration;
use stheno_rpc::sidecar::node_state::Phase;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_goes_away_in_the_middle_and_comes_back() {
    let mut ground = Ground::new("nats-away").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;

    ground.nats.kill();
    let said = operator.says(|status, _| status == 503).await;
    assert!(said.starts_with("LogConnected: The NATS server is away"), "{said}");
    // What happens meanwhile is not lost.
    ground.list("nightly");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    idle(&operator, "while the log is away").await;
    ground.nats.start().await.unwrap();
    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!(status.finished.len(), 2, "{status:#?}");
    assert_eq!(ground.nodes.iter().map(|node| node.sidecar.count("StartBackup")).sum::<usize>(), 2);
    operator.leads().await;
    assert_eq!(operator.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_goes_away_in_the_middle_and_comes_back() {
    let mut plane = super::ground::control_plane().await;
    let mut ground = Ground::on(&plane, "api-away").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;

    plane.kill_api_server();
    ground.list("nightly");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    // Long enough for the Lease to be lost.
    tokio::time::sleep(Duration::from_secs(13)).await;
    assert!(operator.child.try_wait().unwrap().is_none());
    plane.start_api_server().await.unwrap();
    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!(status.finished.len(), 2, "{status:#?}");
    assert_eq!(operator.stop().await, Some(0));
}

/// Waiting costs next to nothing: there is no loop that spins or polls.
async fn idle(operator: &Operator, when: &str) {
    let (before, _) = operator.cost();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (after, resident) = operator.cost();
    let used = after - before;
    println!("{when}: {used:?} of processor time in 3 s, {} MiB resident (debug build)", resident / 1024);
    assert!(used <= Duration::from_millis(150), "{used:?} of processor time in 3 s {when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_operator_sleeps() {
    let mut ground = Ground::new("idle").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    idle(&operator, "with nothing to do").await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    idle(&operator, "while a backup runs").await;
}
