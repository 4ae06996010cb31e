//! From a job to its status and its backup, and what a second process finds left to do: nothing.

use super::fixture::{Ground, until};
use super::operator::{Operator, ended, operation};
use k8s_openapi::api::events::v1::Event as KubeEvent;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use stheno_crds::MedusaBackup;
use stheno_events::backup::Event as BackupEvent;
use stheno_events::{Event, Uid};
use stheno_projections::World;
use stheno_projections::datacenter::Object;

fn object_of<'a>(world: &'a World, name: &str) -> Option<&'a Object> {
    world.datacenters.values().find_map(|dc| dc.backups.get(name)).map(|backup| &backup.object)
}

#[tokio::test]
async fn a_backup_is_shown_in_few_requests_and_a_restart_writes_nothing() {
    let ground = Ground::new("arrows").await;
    ground.datacenter("dc1", 3).await;
    let mut operator = Operator::start(&ground).await;
    operator.settle(Duration::from_millis(300)).await;
    ground.job("nightly").await;
    operator.until("the job has ended", ended("nightly")).await;
    operator
        .until("the backup has its object", |world| matches!(object_of(world, "nightly"), Some(Object::Ours { .. })))
        .await;
    operator.settle(Duration::from_secs(2)).await;

    let job = ground.jobs().get("nightly").await.unwrap();
    let status = job.status.clone().unwrap();
    assert!(status.start_time.is_some() && status.finish_time.is_some());
    assert_eq!(status.finished.len(), 3, "{status:?}");
    assert_eq!((status.in_progress.len(), status.failed.len()), (0, 0));
    assert_eq!(status.progress.as_deref(), Some("3/3 nodes, 2.9 KB"));
    // What `kubectl wait --for=condition=Complete` looks at.
    let condition = |name: &str| status.conditions.iter().find(|condition| condition.type_ == name).cloned();
    assert_eq!(condition("Complete").unwrap().status, "True");
    assert_eq!(condition("Progressing").unwrap().status, "False");
    let owner = &job.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.controller), ("CassandraDatacenter", "dc1", None));

    let backup = ground.backups().get("nightly").await.unwrap();
    assert!(backup.owner_references().is_empty(), "it outlives the datacenter");
    assert_eq!(backup.labels().get("stheno.io/operation"), job.uid().as_ref());
    let shown = backup.status.unwrap();
    assert_eq!((shown.status.as_deref(), shown.total_size.as_deref()), (Some("SUCCESS"), Some("2.93 KB")));
    assert_eq!((shown.total_nodes, shown.nodes.len(), shown.total_files), (Some(3), 1, Some(9)));

    let events: Api<KubeEvent> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let mut reasons: Vec<_> = events.iter().map(|event| event.reason.clone().unwrap_or_default()).collect();
    reasons.sort();
    assert_eq!(reasons, ["Completed", "Started"]);
    assert!(events.iter().all(|event| event.regarding.as_ref().and_then(|object| object.uid.clone()) == job.uid()));

    let writes = operator.requests.writes();
    assert!(writes.len() <= 9, "{} writes: {writes:#?}", writes.len());
    let creates = writes.iter().filter(|request| request.starts_with("POST") && request.ends_with("/medusabackups"));
    assert_eq!(creates.count(), 1, "what was created is not created again: {writes:#?}");

    // Another process with the same log: it looks, and finds all as it should be.
    let mut next = Operator::resume(&ground, operator.crash()).await;
    next.until("it leads", |world| world.operator.epoch.0 == 2).await;
    next.settle(Duration::from_secs(2)).await;
    assert_eq!(next.requests.writes(), Vec::<String>::new());

    // What somebody overwrites is put right.
    let spoiled = json!({ "status": { "message": "nonsense", "progress": null } });
    ground.jobs().patch_status("nightly", &PatchParams::default(), &Patch::Merge(spoiled)).await.unwrap();
    next.settle(Duration::from_secs(1)).await;
    let healed = ground.jobs().get("nightly").await.unwrap().status.unwrap();
    assert_eq!((healed.message, healed.progress.as_deref()), (None, Some("3/3 nodes, 2.9 KB")));
    let writes = next.requests.writes();
    assert_eq!(writes.len(), 1, "all of it at once, and what the other one left taken out: {writes:?}");

    // A deleted backup is the user's wish.
    ground.backups().delete("nightly", &Default::default()).await.unwrap();
    next.until("the backup is gone", |world| object_of(world, "nightly").is_none()).await;
    next.settle(Duration::from_millis(500)).await;
    assert_eq!(ground.backups().get_opt("nightly").await.unwrap(), None);
    assert_eq!(next.requests.writes(), writes);
}

#[tokio::test]
async fn old_objects_of_another_program_are_left_alone() {
    let ground = Ground::new("adopted").await;
    ground.datacenter("dc1", 1).await;
    let mut old = super::fixture::job("old", json!({ "cassandraDatacenter": "dc1" }));
    old["status"] = json!({
        "startTime": "2026-01-01T00:00:00Z",
        "finishTime": "2026-01-01T00:05:00Z",
        "finished": ["shop-dc1-r1-sts-0"],
    });
    let before = ground.create(old).await;
    let mut operator = Operator::start(&ground).await;
    operator.until("it is known", ended("old")).await;
    operator.settle(Duration::from_secs(1)).await;
    let after = ground.jobs().get("old").await.unwrap();
    assert_eq!(after.resource_version(), before.resource_version());
    assert_eq!(operator.requests.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_of_that_name_that_is_ours_is_taken() {
    let ground = Ground::new("ours").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    operator.held = Some(Vec::new());
    let job = ground.job("nightly").await;
    operator.until("it runs", |world| operation(world, "nightly", |operation| operation.active())).await;
    // As a former leader left it: created, and crashed before it could say so.
    operator.blind();
    let theirs = existing(&ground, Some(&job.uid().unwrap())).await;
    finish(&mut operator).await;
    operator
        .until("the log knows", |world| {
            *object_of(world, "nightly").unwrap() == Object::Ours { uid: Uid::from(theirs.uid().unwrap()) }
        })
        .await;
    assert!(operator.names().contains(&"backup.object_created"));
    until("its status is written", async || {
        ground.backups().get("nightly").await.unwrap().status.filter(|status| status.status.is_some())
    })
    .await;
}

#[tokio::test]
async fn a_backup_of_that_name_that_is_not_ours_stays_as_it_is() {
    let ground = Ground::new("theirs").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    operator.held = Some(Vec::new());
    ground.job("nightly").await;
    operator.until("it runs", |world| operation(world, "nightly", |operation| operation.active())).await;
    operator.blind();
    let theirs = existing(&ground, None).await;
    finish(&mut operator).await;
    operator
        .until("the log knows", |world| {
            *object_of(world, "nightly").unwrap() == Object::Foreign { uid: Uid::from(theirs.uid().unwrap()) }
        })
        .await;
    let foreign = operator
        .log
        .iter()
        .any(|event| matches!(event, Event::Backup(BackupEvent::ObjectCreated(created)) if created.foreign));
    assert!(foreign, "{:?}", operator.names());
    operator.settle(Duration::from_millis(500)).await;
    let after = ground.backups().get("nightly").await.unwrap();
    assert_eq!(after.resource_version(), theirs.resource_version());
}

async fn existing(ground: &Ground, operation: Option<&str>) -> MedusaBackup {
    let mut object = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackup",
        "metadata": { "name": "nightly" },
        "spec": { "cassandraDatacenter": "dc1" },
    });
    if let Some(operation) = operation {
        object["metadata"]["labels"] = json!({ "stheno.io/operation": operation });
    }
    ground.create(object).await;
    ground.backups().get("nightly").await.unwrap()
}

/// Every held call is answered, and what follows from it.
async fn finish(operator: &mut Operator) {
    operator.until("a call is out", |_| true).await;
    operator.settle(Duration::from_millis(200)).await;
    for effect in operator.held.take().unwrap_or_default() {
        operator.answer(&effect);
    }
    operator.until("the job has ended", ended("nightly")).await;
}
