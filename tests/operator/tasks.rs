//! Tasks from `kubectl create` to their status and what they leave: purges, the syncs that follow them, preparations.

use super::ground::{Ground, until};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use stheno_crds::{Condition, MedusaTask, MedusaTaskStatus};
use stheno_rpc::medusa::PurgeBackupsResponse;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::{Instant, sleep};

fn tasks(ground: &Ground) -> Api<MedusaTask> {
    Api::namespaced(ground.admin.clone(), &ground.namespace)
}

async fn task(ground: &Ground, name: &str, operation: &str, more: Value) {
    let mut spec = json!({ "cassandraDatacenter": "dc1", "operation": operation });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaTask",
        "metadata": { "name": name, "labels": { "team": "storage" } },
        "spec": spec,
    });
    ground.create(object).await;
}

/// A MedusaBackup as another program left it: begun, as far as it says.
async fn stale(ground: &Ground, name: &str) {
    let object = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackup",
        "metadata": { "name": name },
        "spec": { "cassandraDatacenter": "dc1" },
        "status": { "status": "IN_PROGRESS", "startTime": "2026-01-01T00:00:00Z", "totalNodes": 2, "finishedNodes": 1 },
    });
    ground.create(object).await;
}

async fn once(ground: &Ground, name: &str, wanted: impl Fn(&MedusaTaskStatus) -> bool) -> MedusaTaskStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let task = tasks(ground).get_opt(name).await.unwrap();
        let status = task.and_then(|task| task.status);
        if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
            return status.clone();
        }
        assert!(Instant::now() < deadline, "{name} never got there: {status:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn finished(ground: &Ground, name: &str) -> MedusaTaskStatus {
    once(ground, name, |status| status.finish_time.is_some()).await
}

fn condition<'a>(status: &'a MedusaTaskStatus, type_: &str) -> &'a Condition {
    let mut all = status.conditions.iter();
    all.find(|condition| condition.type_ == type_).unwrap_or_else(|| panic!("no {type_}: {status:#?}"))
}

async fn backups(ground: &Ground) -> BTreeSet<String> {
    let all = ground.backups().list(&Default::default()).await.unwrap();
    all.items.iter().map(kube::ResourceExt::name_any).collect()
}

async fn backups_once(ground: &Ground, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = backups(ground).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} are there, not {wanted:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Contract, section 5, 5 and 7: purges ran one pod after the other, in memory; a sync corrected nothing, and its objects
/// lacked files and size.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_counted_pod_by_pod_and_followed_by_a_sync() {
    let mut ground = Ground::new("task-purge").await;
    ground.datacenter("dc1", 3, true).await;
    for name in ["begun", "lost"] {
        stale(&ground, name).await;
    }
    for name in ["begun", "new"] {
        ground.list(name);
    }
    for (number, node) in (1..).zip(&ground.nodes) {
        let mut script = node.sidecar.script();
        script.purged = PurgeBackupsResponse {
            nb_backups_purged: 1,
            nb_objects_purged: 10 * number,
            total_purged_size: 3_000_000_000,
            total_objects_within_gc_grace: 4,
        };
        if number == 3 {
            script.hangs.insert("PurgeBackups");
        }
    }
    let mut operator = ground.operator();
    operator.leads().await;
    task(&ground, "weekly", "purge", json!({})).await;

    // One hangs: what the others did is there.
    let status = once(&ground, "weekly", |status| status.finished.len() == 2).await;
    assert_eq!(status.in_progress, [ground.nodes[2].pod.clone()]);
    let first = &status.finished[0];
    assert_eq!((first.nb_backups_purged, first.nb_objects_purged), (Some(1), Some(10)), "{status:#?}");
    assert_eq!((first.total_purged_size, first.total_objects_within_gc_grace), (Some(3_000_000_000), Some(4)));
    assert_eq!(condition(&status, "Progressing").observed_generation, Some(1));
    assert!(ground.nodes.iter().all(|node| node.sidecar.count("PurgeBackups") == 1), "all at once");

    // A backup waits for it, and says so.
    ground.job("nightly").await;
    let waits = ground.job_once("nightly", |job| job.status.as_ref().is_some_and(|status| status.message.is_some()));
    let message = waits.await.status.unwrap().message;
    assert_eq!(message.as_deref(), Some("waits for purge weekly of the same datacenter"));

    // The operator dies with the call of the third on its way; its successor asks once more.
    operator.signal(nix::sys::signal::Signal::SIGKILL);
    operator.child.wait().unwrap();
    ground.nodes[2].sidecar.script().hangs.clear();
    let mut operator = ground.operator();
    operator.leads().await;
    let status = finished(&ground, "weekly").await;
    assert_eq!((status.finished.len(), status.failed.len(), status.in_progress.len()), (3, 0, 0), "{status:#?}");
    assert_eq!(condition(&status, "Complete").status, "True");
    let calls: Vec<usize> = ground.nodes.iter().map(|node| node.sidecar.count("PurgeBackups")).collect();
    assert_eq!(calls, [1, 1, 2], "who had answered is not asked again");

    // The sync follows by itself, under its name, with the labels of the purge.
    let status = finished(&ground, "weekly-sync").await;
    assert_eq!(condition(&status, "Complete").reason, "SyncComplete", "{status:#?}");
    let sync = tasks(&ground).get("weekly-sync").await.unwrap();
    assert_eq!(sync.labels().get("team").map(String::as_str), Some("storage"));
    backups_once(&ground, &["begun", "new"]).await;
    for name in ["begun", "new"] {
        let complete = |status: &stheno_crds::MedusaBackupStatus| status.status.as_deref() == Some("SUCCESS");
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            let status = ground.backup_status(name).await;
            if complete(&status) {
                break status;
            }
            assert!(Instant::now() < deadline, "{name}: {status:#?}");
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((status.total_nodes, status.finished_nodes), (Some(3), Some(3)), "{status:#?}");
        assert_eq!((status.total_files, status.total_size.as_deref()), (Some(30), Some("2.93 KB")));
        assert!(status.start_time.is_some() && status.finish_time.is_some());
    }
    // Then it was the backup's turn.
    until("the backup begins", || ground.nodes.iter().all(|node| node.sidecar.count("StartBackup") == 1)).await;
    ground.list("nightly");
    ground.nodes.iter().for_each(|node| node.sidecar.phase(Phase::Finished));
    ground.finished("nightly").await;
    backups_once(&ground, &["begun", "new", "nightly"]).await;
    // Tasks go with their datacenter.
    let owner = tasks(&ground).get("weekly").await.unwrap().owner_references().first().map(|owner| owner.kind.clone());
    assert_eq!(owner.as_deref(), Some("CassandraDatacenter"));

    // Nothing differs any more: a second sync writes nothing.
    task(&ground, "again", "sync", json!({})).await;
    let status = finished(&ground, "again").await;
    assert_eq!(status.progress.as_deref(), Some("0 created, 0 corrected, 0 removed"), "{status:#?}");
    assert_eq!(status.finished.len(), 1, "the pod that was asked");
    ground.verified();
}

/// Contract, section 5, 6: an empty listing deleted 5 of 5 MedusaBackups in 30 ms.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_with_an_empty_listing_waits_for_a_person() {
    let mut ground = Ground::new("task-approval").await;
    ground.datacenter("dc1", 1, true).await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        stale(&ground, name).await;
    }
    let mut operator = ground.operator();
    operator.leads().await;
    task(&ground, "look", "sync", json!({})).await;
    let status = once(&ground, "look", |status| status.conditions.iter().any(|it| it.type_ == "NeedsApproval")).await;
    let needs = condition(&status, "NeedsApproval");
    assert!(names.iter().all(|name| needs.message.contains(name)), "{needs:#?}");
    assert!(ground.event_once("NeedsApproval").await.contains("5 of 5 known backups"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(backups(&ground).await.len(), 5);

    // Somebody else's consent is none.
    let approve = async |token: &str| {
        let patch = json!({ "metadata": { "annotations": { "stheno.io/approve": token } } });
        tasks(&ground).patch("look", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    approve("yes").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backups(&ground).await.len(), 5);
    let (_, rest) = needs.message.split_once("stheno.io/approve=").unwrap();
    let (token, _) = rest.split_once('.').unwrap();
    approve(token).await;
    let status = finished(&ground, "look").await;
    assert_eq!(condition(&status, "Complete").status, "True");
    backups_once(&ground, &[]).await;
    ground.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_prepared_on_every_pod_and_what_is_missing_is_said() {
    let mut ground = Ground::new("task-prepare").await;
    ground.datacenter("dc1", 2, false).await;
    let mut operator = ground.operator();
    operator.leads().await;
    task(&ground, "without", "prepare_restore", json!({ "backupName": "nightly" })).await;
    let status = finished(&ground, "without").await;
    assert!(status.message.as_deref().unwrap().starts_with("spec.restoreKey is missing"), "{status:#?}");
    let failed = tonic::Status::failed_precondition("backup nightly is not complete");
    ground.nodes[1].sidecar.script().errors.entry("PrepareRestore").or_default().push_back(failed);
    let key = "11111111-2222-4333-8444-555555555555";
    task(&ground, "prepare", "prepare_restore", json!({ "backupName": "nightly", "restoreKey": key })).await;
    let status = finished(&ground, "prepare").await;
    assert_eq!(status.failed, [ground.nodes[1].pod.clone()]);
    assert_eq!(status.finished[0].pod_name.as_ref(), Some(&ground.nodes[0].pod));
    assert_eq!(condition(&status, "Failed").reason, "SomeNodesFailed");
    let calls = ground.nodes[0].sidecar.calls();
    assert!(calls.contains(&format!("PrepareRestore nightly dc1 {key}")), "{calls:?}");
    assert_eq!(ground.nodes[1].sidecar.count("PrepareRestore"), 1, "what is refused for good is not tried again");
    ground.verified();
}
