//! The whole path on real parts: a person creates a MedusaBackupJob on a real API server; the operator, its log on a real
//! nats-server, and the sidecar beside a real Cassandra node do the rest; the backup lies in the bucket.

use crate::drills::house;
use crate::operator::ground::Ground;
use crate::support::agent::Agent;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use stheno_crds::{MedusaTask, MedusaTaskStatus};
use stheno_local::provision::{self, Part};
use tokio::time::{Instant, sleep};

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

async fn task(ground: &Ground, name: &str) -> MedusaTaskStatus {
    let tasks: Api<MedusaTask> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let status = tasks.get_opt(name).await.unwrap().and_then(|task| task.status);
        match status {
            Some(status) if status.finish_time.is_some() => return status,
            status => assert!(Instant::now() < deadline, "{name} never ended: {status:#?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A person consents to what a task asks for; what it asked.
async fn approved(ground: &Ground, name: &str) -> String {
    let tasks: Api<MedusaTask> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let status = tasks.get_opt(name).await.unwrap().and_then(|task| task.status).unwrap_or_default();
        if let Some(needs) = status.conditions.iter().find(|condition| condition.type_ == "NeedsApproval") {
            let (_, rest) = needs.message.split_once("stheno.io/approve=").unwrap();
            let token = rest.split_once('.').unwrap().0;
            let patch = json!({ "metadata": { "annotations": { "stheno.io/approve": token } } });
            tasks.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            return needs.message.clone();
        }
        assert!(Instant::now() < deadline, "{name} never asked: {status:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What retention lets go leaves the bucket by a purge, and the API server by the sync that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_from_kubectl_to_the_bucket_and_back_by_a_sync() {
    let cassandra = house::cassandra().await;
    let agent = Agent::launch_with(cassandra, "max_backup_count = 1").await;
    let ground = Ground::new("the-purge").await;
    ground.datacenter_at("dc1", &[agent.port.number()]).await;
    let mut operator = ground.operator();
    operator.leads().await;
    let names = ["first", "second", "third", "fourth", "fifth"];
    for name in names {
        ground.job(name).await;
        let job = ground.finished(name).await.status.unwrap();
        assert_eq!(job.finished.len(), 1, "{job:#?}");
        ground.backup_status(name).await;
    }
    let manifests = || names.map(|name| agent.backup(name).join("meta/manifest.json").exists());
    let purge = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaTask",
        "metadata": { "name": "clean" },
        "spec": { "cassandraDatacenter": "dc1", "operation": "purge" },
    });
    ground.create(purge).await;
    // Four of five would go: the sidecar says so before anything does.
    let asked = approved(&ground, "clean").await;
    assert!(asked.contains("this purge would remove 4 of 5 known backups") && asked.contains("fourth"), "{asked}");
    let status = task(&ground, "clean").await;
    let done = &status.finished[0];
    assert_eq!(done.nb_backups_purged, Some(4), "{status:#?}");
    assert!(done.nb_objects_purged > Some(0), "{status:#?}");
    assert_eq!(manifests(), [false, false, false, false, true], "they left the bucket");

    approved(&ground, "clean-sync").await;
    let status = task(&ground, "clean-sync").await;
    let complete = status.conditions.iter().find(|condition| condition.type_ == "Complete").unwrap();
    assert_eq!(complete.status, "True", "{status:#?}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while ground.backups().get_opt("first").await.unwrap().is_some()
        || ground.jobs().get_opt("first").await.unwrap().is_some()
    {
        assert!(Instant::now() < deadline, "what the bucket lost is still there: {status:#?}");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(ground.backups().get_opt("fifth").await.unwrap().is_some());
    assert!(ground.jobs().get_opt("fifth").await.unwrap().is_some());
    ground.verified();
    assert_eq!(operator.stop().await, Some(0));
}
