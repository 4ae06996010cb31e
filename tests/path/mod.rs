//! The whole path on real parts: a person creates a MedusaBackupJob on a real API server; the operator, its log on a real
//! nats-server, and the sidecar beside a real Cassandra node do the rest; the backup lies in the bucket.

use crate::drills::house;
use crate::operator::ground::Ground;
use crate::support::agent::Agent;
use stheno_local::provision::{self, Part};

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_from_kubectl_through_the_log_to_the_bucket_and_back() {
    let cassandra = house::cassandra().await;
    let agent = Agent::launch(cassandra).await;
    let ground = Ground::new("the-path").await;
    ground.datacenter_at("dc1", &[agent.port.number()]).await;
    let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut operator = ground.embedded(data.path(), parts.path(Part::NatsServer).unwrap());
    operator.leads().await;

    ground.job("nightly").await;
    let job = ground.finished("nightly").await.status.unwrap();
    assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    let status = ground.backup_status("nightly").await;
    let objects = agent.objects();
    let manifest = objects.iter().find(|path| path.ends_with("nightly/meta/manifest.json")).expect("a manifest");
    let sections: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let listed: usize = sections.iter().map(|section| section["objects"].as_array().unwrap().len()).sum();
    assert!(listed > 0);
    assert_eq!((status.total_nodes, status.finished_nodes), (Some(1), Some(1)), "{status:#?}");
    assert_eq!(status.total_files, Some(i64::try_from(listed).unwrap()), "{status:#?}");
    let node = &status.nodes[0];
    assert!(!node.tokens.is_empty(), "{node:?}");

    // A second one finds everything there.
    ground.job("again").await;
    let again = ground.finished("again").await.status.unwrap();
    assert_eq!(again.finished.len(), 1, "{again:#?}");
    assert_eq!(operator.stop().await, Some(0));
}
