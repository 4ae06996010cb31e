//! Logs that are not what they were: no effects until a person decides.

use crate::ground::Ground;
use stheno_rpc::sidecar::node_state::Phase;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_lost_stops_everything_until_a_person_decides() {
    let mut ground = Ground::new("log-lost").await;
    ground.datacenter("dc1", 1, true).await;
    ground.nodes[0].sidecar.phase(Phase::Finished);
    ground.list("nightly");
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    ground.finished("nightly").await;
    assert_eq!(operator.stop().await, Some(0));

    // Another server without the stream: as after a lost volume.
    ground.nats = stheno_local::testing::nats().await.unwrap();
    let mut operator = ground.operator();
    let said = operator.says(|status, text| status == 503 && text.starts_with("LogIntegrity")).await;
    assert!(said.contains("the log was lost"), "{said}");
    assert!(said.contains("delete ConfigMap stheno-log"), "{said}");
    ground.job("second").await;
    let lost = |conditions: &str| conditions.contains("the log was lost");
    let shown = ground.map_once("stheno-status", "conditions", lost).await;
    assert!(shown.contains("\"type\": \"LogIntegrity\""), "{shown}");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(ground.nodes[0].sidecar.count("StartBackup"), 1, "nothing is called");
    assert_eq!(operator.stop().await, Some(0));

    // The person accepts the new log.
    ground.maps().delete("stheno-log", &Default::default()).await.unwrap();
    let mut operator = ground.operator();
    operator.leads().await;
    ground.list("second");
    ground.finished("second").await;
    assert_eq!(ground.nodes[0].sidecar.count("StartBackup"), 2, "the old job is adopted, the new one runs");
}
