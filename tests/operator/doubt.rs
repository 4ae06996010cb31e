//! Logs that are not what they were: no effects until a person decides.

use super::ground::Ground;
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
    let announced = ground.event_once("LogIntegrityDoubtful").await;
    assert!(announced.contains("the log was lost"), "{announced}");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_log_is_noticed() {
    let mut ground = Ground::new("older-copy").await;
    ground.datacenter("dc1", 1, true).await;
    ground.nodes[0].sidecar.phase(Phase::Finished);
    ground.list("nightly");
    ground.list("second");
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    ground.finished("nightly").await;
    assert_eq!(operator.stop().await, Some(0));

    // A copy of the store, a second backup, and the copy put back.
    ground.nats.stop().await;
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("store");
    copy_folder(ground.nats.store_dir(), &copied);
    ground.nats.start().await.unwrap();
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("second").await;
    ground.finished("second").await;
    assert_eq!(operator.stop().await, Some(0));
    ground.nats.stop().await;
    std::fs::remove_dir_all(ground.nats.store_dir()).unwrap();
    copy_folder(&copied, ground.nats.store_dir());
    ground.nats.start().await.unwrap();

    let mut operator = ground.operator();
    let said = operator.says(|status, text| status == 503 && text.starts_with("LogIntegrity")).await;
    assert!(said.contains("an older copy was put back"), "{said}");
    ground.job("third").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(ground.nodes[0].sidecar.count("StartBackup"), 2, "nothing is called");
    assert!(ground.jobs().get("third").await.unwrap().status.is_none(), "nothing is decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_of_a_message_that_is_not_there_is_no_comfort() {
    let ground = Ground::new("never-met").await;
    let mut operator = ground.operator();
    operator.leads().await;
    assert_eq!(operator.stop().await, Some(0));
    // The log is long enough, and where the witness points lies a message that is none of ours.
    let subject = ground.map_once("stheno-log", "clusterUid", |uid| !uid.is_empty()).await;
    let subject = format!("stheno.v1.{}.elsewhere", stheno_events::LogId::of_cluster(&subject).as_str());
    let client = async_nats::connect(ground.nats.url()).await.unwrap();
    let answer = client.request(subject, "whatever".into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    let data = serde_json::json!({ "data": { "lastSequence": answer["seq"].to_string() } });
    let patch = kube::api::Patch::Merge(data);
    ground.maps().patch("stheno-log", &Default::default(), &patch).await.unwrap();

    let mut operator = ground.operator();
    let said = operator.says(|status, text| status == 503 && text.starts_with("LogIntegrity")).await;
    assert!(said.contains("is not the one that was witnessed"), "{said}");
    assert_eq!(operator.stop().await, Some(0));
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
