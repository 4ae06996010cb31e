//! The rules of a job, in the words of the Kubernetes Job API, from its spec to what people see.

use super::ground::{Ground, until};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use stheno_crds::MedusaBackupJob;
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn one_node_after_the_other_and_what_each_of_them_did() {
    let mut ground = Ground::new("one-by-one").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job_with("nightly", json!({ "parallelism": 1, "backoffLimit": 1 })).await;
    let (first, second) = (&ground.nodes[0].sidecar, &ground.nodes[1].sidecar);
    until("the first is watched", || first.count("Watch") == 1).await;
    let job = ground.job_once("nightly", |job| job.status.as_ref().is_some_and(|status| status.nodes.len() == 2));
    assert_eq!(job.await.status.unwrap().in_progress, [ground.nodes[0].pod.clone()]);
    assert_eq!(second.count("StartBackup"), 0, "it is not its turn");

    // While the first rests after a failure, the second takes its place.
    let at_work = first.clone();
    first.script().meanwhile.insert("StartBackup", Box::new(move || at_work.phase(Phase::Uploading)));
    first.report(|state| {
        state.set_phase(Phase::Failed);
        (state.reason, state.retryable) = ("the bucket answers 503".into(), true);
    });
    until("the second is watched", || second.count("Watch") == 1).await;
    assert_eq!(first.count("StartBackup"), 1, "one at a time");
    second.report(|state| {
        state.set_phase(Phase::Finished);
        (state.bytes_total, state.files_total) = (2_048, 20);
    });
    until("the first is tried again", || first.count("StartBackup") == 2).await;
    until("and watched", || first.count("Watch") == 2).await;
    ground.list("nightly");
    first.report(|state| {
        state.set_phase(Phase::Finished);
        (state.bytes_total, state.files_total) = (1_024, 10);
    });

    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!((status.progress.as_deref(), status.message), (Some("2/2 nodes, 3.0 KB"), None));
    let told: Vec<_> = status
        .nodes
        .iter()
        .map(|node| (node.state.as_deref(), node.attempts, node.bytes, node.files, node.duration_seconds.is_some()))
        .collect();
    let expected = [
        (Some("Finished"), Some(2), Some(1_024), Some(10), true),
        (Some("Finished"), Some(1), Some(2_048), Some(20), true),
    ];
    assert_eq!(told, expected, "{:#?}", status.nodes);
    ground.verified();
}

/// Reason and message of a condition that is true.
fn condition(job: &MedusaBackupJob, type_: &str) -> Option<(String, String)> {
    let mut conditions = job.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.find(|condition| condition.type_ == type_ && condition.status == "True");
    found.map(|condition| (condition.reason.clone(), condition.message.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_too_long_is_broken_off() {
    let mut ground = Ground::new("too-long").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job_with("nightly", json!({ "activeDeadlineSeconds": 2 })).await;
    until("both are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    ground.nodes[0].sidecar.phase(Phase::Finished);
    let job = ground.finished("nightly").await;
    let failed = condition(&job, "Failed").unwrap();
    let message = "not finished within 2 s (activeDeadlineSeconds); 1 of 2 nodes are complete";
    assert_eq!(failed, ("DeadlineExceeded".to_owned(), message.to_owned()), "{job:#?}");
    let status = job.status.unwrap();
    assert_eq!((status.finished.len(), status.failed.len()), (1, 1));
    assert_eq!(status.nodes[1].reason.as_deref(), Some("the backup was cancelled"));
    assert_eq!(ground.nodes[0].sidecar.count("Cancel"), 0, "it had ended");
    assert_eq!(ground.nodes[1].sidecar.count("Cancel"), 1);
    assert!(ground.backups().get_opt("nightly").await.unwrap().is_none(), "what is not complete is no backup");
    ground.verified();
}

/// Stock Medusa cannot break off: the job will fail, says so, and holds the datacenter until its node has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_on_stock_sidecars_holds_its_place_until_they_end() {
    let mut ground = Ground::new("cancelled-stock").await;
    ground.datacenter("dc1", 1, false).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    let medusa = ground.nodes[0].sidecar.clone();
    until("asked", || medusa.count("AsyncBackup") == 1).await;
    medusa.script().status = Some(StatusType::InProgress);
    let annotate = json!({ "metadata": { "annotations": { "stheno.io/cancel": "wrong bucket" } } });
    ground.jobs().patch("nightly", &PatchParams::default(), &Patch::Merge(annotate)).await.unwrap();
    let job = ground.job_once("nightly", |job| condition(job, "FailureTarget").is_some()).await;
    assert_eq!(
        condition(&job, "FailureTarget").unwrap(),
        ("Cancelled".to_owned(), "cancelled: wrong bucket".to_owned())
    );
    let message = "cancelled: wrong bucket; the end of one node is waited for";
    let status = job.status.unwrap();
    assert_eq!((status.message.as_deref(), status.finish_time), (Some(message), None));

    ground.list("next");
    ground.job("next").await;
    ground
        .job_once("next", |job| condition(job, "Queued").is_some_and(|(reason, _)| reason == "OperationRunning"))
        .await;
    assert_eq!(medusa.count("AsyncBackup"), 1);
    medusa.script().status = Some(StatusType::Success);
    let job = ground.finished("nightly").await;
    assert_eq!(condition(&job, "Failed").unwrap().0, "Cancelled");
    until("the next one starts", || medusa.count("AsyncBackup") == 2).await;
    ground.finished("next").await;
    ground.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_job_breaks_it_off() {
    let mut ground = Ground::new("deleted").await;
    ground.datacenter("dc1", 1, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.job("nightly").await;
    let sidecar = ground.nodes[0].sidecar.clone();
    until("watched", || sidecar.count("Watch") == 1).await;
    ground.jobs().delete("nightly", &DeleteParams::default()).await.unwrap();
    until("broken off", || sidecar.count("Cancel") == 1).await;
    // The datacenter is free again.
    let begun = sidecar.clone();
    sidecar.script().meanwhile.insert("StartBackup", Box::new(move || begun.phase(Phase::Starting)));
    ground.list("next");
    ground.job("next").await;
    until("the next one is watched", || sidecar.count("Watch") == 2).await;
    sidecar.phase(Phase::Finished);
    assert_eq!(condition(&ground.finished("next").await, "Complete").unwrap().0, "BackupComplete");
    ground.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_when_its_time_is_over_and_its_backup_stays() {
    let mut ground = Ground::new("time-to-live").await;
    ground.datacenter("dc1", 1, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    ground.list("nightly");
    ground.nodes[0].sidecar.phase(Phase::Finished);
    ground.job_with("nightly", json!({ "ttlSecondsAfterFinished": 3 })).await;
    let ended = ground.finished("nightly").await;
    assert_eq!(condition(&ended, "Complete").unwrap().0, "BackupComplete");
    let deadline = Instant::now() + Duration::from_secs(30);
    while ground.jobs().get_opt("nightly").await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "it outlives its time");
        sleep(Duration::from_millis(50)).await;
    }
    let finished = ended.status.and_then(|status| status.finish_time).unwrap().0;
    let lived = k8s_openapi::jiff::Timestamp::now().duration_since(finished);
    assert!(lived.as_secs() >= 3, "it went after {lived:?}");
    assert_eq!(ground.backup_status("nightly").await.total_nodes, Some(1), "the backup stays");
    ground.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_waits_until_it_may_start() {
    let mut ground = Ground::new("suspended-job").await;
    ground.datacenter("dc1", 2, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    let suspend = async |suspend: bool| {
        let patch = Patch::Merge(json!({ "spec": { "suspend": suspend } }));
        ground.jobs().patch("nightly", &PatchParams::default(), &patch).await.unwrap();
    };
    ground.job_with("nightly", json!({ "suspend": true, "parallelism": 1 })).await;
    let held = ground.job_once("nightly", |job| condition(job, "Suspended").is_some()).await;
    let message = "suspended (spec.suspend): it starts when that is false";
    assert_eq!(condition(&held, "Suspended").unwrap(), ("JobSuspended".to_owned(), message.to_owned()));
    assert_eq!(held.status.unwrap().message.as_deref(), Some(message));
    let (first, second) = (&ground.nodes[0].sidecar, &ground.nodes[1].sidecar);
    assert_eq!(first.count("StartBackup"), 0);

    suspend(false).await;
    until("the first is watched", || first.count("Watch") == 1).await;
    suspend(true).await;
    let both = |job: &MedusaBackupJob| condition(job, "Suspended").is_some() && condition(job, "Progressing").is_some();
    let held = ground.job_once("nightly", both).await;
    assert_eq!(held.status.unwrap().in_progress, [ground.nodes[0].pod.clone()]);
    first.phase(Phase::Finished);
    ground.job_once("nightly", |job| job.status.as_ref().is_some_and(|status| status.finished.len() == 1)).await;
    assert_eq!(second.count("StartBackup"), 0, "no further node is started");
    ground.list("nightly");
    second.phase(Phase::Finished);
    suspend(false).await;
    let job = ground.finished("nightly").await;
    assert_eq!(condition(&job, "Complete").unwrap().0, "BackupComplete");
    ground.verified();
}
