//! Two operators on one log, one of them suspended: the former leader does nothing when it wakes.

use super::ground::{Ground, until};
use crate::support::proxy::Proxy;
use nix::sys::signal::Signal;
use std::time::Duration;
use stheno_rpc::sidecar::node_state::Phase;

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_leader_is_succeeded_and_does_nothing_when_it_wakes() {
    let mut ground = Ground::new("suspended").await;
    ground.datacenter("dc1", 2, true).await;
    let mut first = ground.operator();
    first.leads().await;
    let mut second = ground.operator();
    second.says(|status, text| status == 200 && text.starts_with("following")).await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;

    first.signal(Signal::SIGSTOP);
    second.leads().await;
    ground.job("second").await;
    until("joined by the successor", || {
        ground.nodes.iter().all(|node| node.sidecar.calls().iter().any(|call| call.ends_with(" 1 2")))
    })
    .await;
    first.signal(Signal::SIGCONT);
    first.says(|status, text| status == 200 && text.starts_with("following")).await;
    ground.list("nightly");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    ground.list("second");
    ground.finished("nightly").await;
    ground.finished("second").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for node in &ground.nodes {
        let epochs: Vec<_> = node
            .sidecar
            .calls()
            .iter()
            .filter(|call| call.starts_with("StartBackup"))
            .filter_map(|call| call.rsplit(' ').next()?.parse::<u64>().ok())
            .collect();
        assert!(epochs.is_sorted(), "a call of the former leader after one of its successor: {epochs:?}");
    }
    // A graceful end hands over at once.
    assert_eq!(second.stop().await, Some(0));
    first.leads().await;
}

/// The leader alone has lost the log: nothing can be written by it, and the Lease is worth more to the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_lost_the_log_gives_the_lease_to_one_that_reaches_it() {
    let mut ground = Ground::new("apart").await;
    ground.datacenter("dc1", 1, true).await;
    let proxy = Proxy::to(ground.nats.address()).await;
    let url = proxy.url();
    let mut first = ground.start(|command| command.args(["--nats-url", &url]));
    first.leads().await;
    let mut second = ground.operator();
    second.says(|status, text| status == 200 && text.starts_with("following")).await;
    proxy.cut();
    drop(proxy);
    first.says(|status, text| status == 503 && text.starts_with("LogConnected")).await;
    tokio::time::sleep(Duration::from_secs(32)).await;
    second.leads().await;
    ground.list("nightly");
    ground.job("nightly").await;
    until("it is backed up", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    ground.finished("nightly").await;
}

/// Two of three servers are gone: the connection to the third one stands, and nothing that is asked there is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gets_no_answer_from_the_log_gives_the_lease_back() {
    let mut ground = Ground::new("minority").await;
    ground.datacenter("dc1", 1, true).await;
    let mut cluster = stheno_local::testing::nats_cluster().await.unwrap();
    let url = cluster.servers()[0].url();
    let mut operator = ground.start(|command| command.args(["--nats-url", &url]));
    operator.leads().await;
    let [_, second, third] = cluster.servers();
    second.kill();
    third.kill();
    ground.list("nightly");
    ground.job("nightly").await;
    operator.says(|status, text| status == 503 && text.contains("does not say whether it has stored a message")).await;
    while ground.holder().await.is_some_and(|holder| !holder.is_empty()) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let [_, second, third] = cluster.servers();
    second.start().await.unwrap();
    third.start().await.unwrap();
    until("it is backed up", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    ground.nodes[0].sidecar.phase(Phase::Finished);
    ground.finished("nightly").await;
    operator.says(|status, _| status == 200).await;
}
