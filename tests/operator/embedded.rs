//! The private nats-server: started with the operator, ended with it, found again after a crash.

use super::ground::{Ground, until};
use nix::sys::signal::Signal;
use stheno_local::provision::{self, Part};
use stheno_rpc::sidecar::node_state::Phase;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_private_log_that_outlives_a_crash() {
    let mut ground = Ground::new("embedded").await;
    ground.datacenter("dc1", 1, true).await;
    let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
    let program = parts.path(Part::NatsServer).unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let mut first = ground.embedded(folder.path(), &program);
    first.leads().await;
    ground.job("nightly").await;
    until("watched", || ground.nodes[0].sidecar.count("Watch") == 1).await;
    first.signal(Signal::SIGKILL);
    first.child.wait().unwrap();
    ground.list("nightly");
    ground.nodes[0].sidecar.phase(Phase::Finished);
    let mut second = ground.embedded(folder.path(), &program);
    second.leads().await;
    ground.finished("nightly").await;
    assert_eq!(second.stop().await, Some(0));
}
