//! A backup from `kubectl create` to its status, well and badly.

use super::ground::{Ground, until};
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_from_create_to_status() {
    let mut ground = Ground::new("three-nodes").await;
    ground.datacenter("dc1", 3, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    assert!(ground.holder().await.is_some_and(|holder| !holder.is_empty()));
    assert_eq!(ground.map_once("stheno-log", "epoch", |epoch| epoch == "1").await, "1");

    let created = Instant::now();
    ground.job("nightly").await;
    until("a start arrives", || ground.nodes.iter().any(|node| node.sidecar.count("StartBackup") > 0)).await;
    let to_first_call = created.elapsed();
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    let running =
        ground.job_once("nightly", |job| job.status.as_ref().is_some_and(|status| status.in_progress.len() == 3));
    assert!(running.await.status.unwrap().start_time.is_some());

    ground.list("nightly");
    let last = Instant::now();
    for node in &ground.nodes {
        node.sidecar.report(|state| {
            state.set_phase(Phase::Finished);
            (state.bytes_total, state.files_total) = (1_000, 10);
        });
    }
    let job = ground.finished("nightly").await;
    let to_finish = last.elapsed();
    println!("create to first call {to_first_call:?}, last answer to finishTime {to_finish:?}");
    let status = job.status.unwrap();
    assert_eq!((status.finished.len(), status.failed.len(), status.in_progress.len()), (3, 0, 0), "{status:#?}");
    let status = ground.backup_status("nightly").await;
    assert_eq!((status.total_nodes, status.finished_nodes), (Some(3), Some(3)), "{status:#?}");
    for node in &ground.nodes {
        assert_eq!(node.sidecar.count("StartBackup"), 1);
    }

    let (code, metrics) = operator.page("/metrics").await.unwrap();
    assert_eq!(code, 200);
    for line in ["stheno_leading 1", "stheno_effects_total{call=\"start\"} 3", "stheno_effects_running 0"] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert_eq!(operator.stop().await, Some(0));
    assert_eq!(ground.holder().await.as_deref(), Some(""), "the Lease is given back");
    // A term that ended in order leaves nothing to wait for.
    let again = Instant::now();
    let mut next = ground.operator();
    next.leads().await;
    assert!(again.elapsed().as_secs() < 8, "{:?}", again.elapsed());
    ground.job("second").await;
    until("started at once", || ground.nodes.iter().all(|node| node.sidecar.count("StartBackup") == 2)).await;
    assert!(again.elapsed().as_secs() < 10, "no quiet time: {:?}", again.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_sidecars_and_a_node_that_fails() {
    let mut ground = Ground::new("stock-fails").await;
    ground.datacenter("dc1", 2, false).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    until("both are asked", || ground.nodes.iter().all(|node| node.sidecar.count("AsyncBackup") == 1)).await;
    ground.nodes[0].sidecar.script().status = Some(StatusType::Success);
    ground.nodes[1].sidecar.script().status = Some(StatusType::Failed);
    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!(status.finished, [ground.nodes[0].pod.clone()]);
    assert_eq!(status.failed, [ground.nodes[1].pod.clone()]);
    assert!(ground.backups().get_opt("nightly").await.unwrap().is_none(), "what is not complete is no backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_is_followed_by_one_that_finishes() {
    let mut ground = Ground::new("killed").await;
    ground.datacenter("dc1", 3, true).await;
    let mut first = ground.operator();
    first.leads().await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.child.wait().unwrap();
    ground.list("nightly");
    ground.nodes[0].sidecar.phase(Phase::Finished);
    let mut second = ground.operator();
    second.leads().await;
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!(status.finished.len(), 3, "{status:#?}");
    for node in &ground.nodes {
        // Joined by the same operation and attempt in the next term, or found finished.
        let starts: Vec<_> = node.sidecar.calls().into_iter().filter(|call| call.starts_with("StartBackup")).collect();
        assert!(starts.iter().all(|call| call.contains(" 1 ")), "{starts:?}");
        assert!(starts[0].ends_with(" 1 1") && starts.last().unwrap().ends_with(" 1 2"), "{starts:?}");
    }
}
