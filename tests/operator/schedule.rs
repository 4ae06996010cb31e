//! A schedule from `kubectl create` to the backups of its slots, through the death of the operator.

use super::ground::{Ground, until};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use stheno_crds::{MedusaBackupJob, MedusaBackupSchedule, MedusaBackupScheduleStatus};
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::{Instant, sleep};

/// The jobs that a schedule made, by name.
async fn made(ground: &Ground, schedule: &str) -> Vec<MedusaBackupJob> {
    let labelled = ListParams::default().labels(&format!("stheno.io/schedule={schedule}"));
    ground.jobs().list(&labelled).await.unwrap().items
}

async fn made_once(ground: &Ground, schedule: &str, number: usize) -> Vec<MedusaBackupJob> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let jobs = made(ground, schedule).await;
        if jobs.len() >= number {
            return jobs;
        }
        assert!(Instant::now() < deadline, "{} of {number} jobs", jobs.len());
        sleep(Duration::from_millis(20)).await;
    }
}

fn schedules(ground: &Ground) -> Api<MedusaBackupSchedule> {
    Api::namespaced(ground.admin.clone(), &ground.namespace)
}

async fn status_once(
    ground: &Ground,
    name: &str,
    wanted: impl Fn(&MedusaBackupScheduleStatus) -> bool,
) -> MedusaBackupScheduleStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = schedules(ground).get(name).await.unwrap().status;
        if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
            return status.clone();
        }
        assert!(Instant::now() < deadline, "{name} never got there: {status:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_backs_up_and_goes_on_after_a_kill() {
    let mut ground = Ground::new("schedule-fires").await;
    ground.datacenter("dc1", 1, true).await;
    let mut first = ground.operator();
    first.leads().await;
    // One that was created in the second in which the log begins would be one that was there before.
    sleep(Duration::from_secs(1)).await;
    let schedule = ground.create(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackupSchedule",
        "metadata": { "name": "often" },
        "spec": {
            "cronSchedule": "@every 4s",
            "backupSpec": { "cassandraDatacenter": "dc1", "backupType": "full" },
        },
    }));
    let uid = schedule.await.uid().unwrap();

    // The name is the slot's, the spec that of the schedule, the labels the datacenter's.
    let job = made_once(&ground, &uid, 1).await.remove(0);
    let created = schedules(&ground).get("often").await.unwrap().creation_timestamp().unwrap().0.as_second();
    let slot: i64 = job.name_any().strip_prefix("often-").unwrap().parse().unwrap();
    assert_eq!((slot - created) % 4, 0, "{slot} is no slot of a schedule created at {created}");
    assert_eq!(job.spec.cassandra_datacenter, "dc1");
    assert_eq!(job.spec.backup_type, stheno_crds::BackupType::Full);
    let label = |name: &str| job.labels().get(&format!("cassandra.datastax.com/{name}")).cloned();
    assert_eq!((label("cluster").as_deref(), label("datacenter").as_deref()), (Some("Shop"), Some("dc1")));

    // While it runs the next slots wait, and then are skipped: not in silence.
    let waits = status_once(&ground, "often", |status| status.message.is_some()).await;
    assert!(waits.message.unwrap().starts_with("waits for backup often-"));
    let queued = waits.conditions.iter().find(|condition| condition.type_ == "Queued").unwrap();
    assert_eq!((queued.status.as_str(), queued.observed_generation), ("True", Some(1)));
    let skipped = |status: &MedusaBackupScheduleStatus| status.counts.as_ref().is_some_and(|counts| counts.skipped > 0);
    status_once(&ground, "often", skipped).await;
    assert!(ground.event_once("Skipped").await.contains("OperationRunning"));
    assert_eq!(made(&ground, &uid).await.len(), 1);

    // It completes; and what comes next, comes through the death of the operator.
    ground.list(&job.name_any());
    ground.nodes[0].sidecar.phase(Phase::Finished);
    let done = ground.finished(&job.name_any()).await;
    let complete = done.status.unwrap().conditions.into_iter().find(|condition| condition.type_ == "Complete").unwrap();
    assert_eq!(complete.status, "True");
    let owner = ground.job_once(&job.name_any(), |job| !job.owner_references().is_empty()).await;
    assert_eq!(owner.owner_references()[0].kind, "CassandraDatacenter");
    ground.backup_status(&job.name_any()).await;
    assert_eq!(schedules(&ground).get("often").await.unwrap().owner_references()[0].name, "dc1");

    ground.nodes[0].sidecar.phase(Phase::Starting);
    let jobs = made_once(&ground, &uid, 2).await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.child.wait().unwrap();
    sleep(Duration::from_secs(9)).await;
    for job in &jobs {
        ground.list(&job.name_any());
    }
    ground.nodes[0].sidecar.phase(Phase::Finished);
    let mut second = ground.operator();
    second.leads().await;
    let jobs = made_once(&ground, &uid, 3).await;
    for job in &jobs {
        ground.list(&job.name_any());
        ground.finished(&job.name_any()).await;
    }
    // Suspended, nothing more is made.
    let suspend = json!({ "spec": { "suspend": true } });
    schedules(&ground).patch("often", &PatchParams::default(), &Patch::Merge(suspend)).await.unwrap();
    let suspended = |status: &MedusaBackupScheduleStatus| status.observed_generation == Some(2);
    let status = status_once(&ground, "often", suspended).await;
    assert_eq!((status.next_schedule, status.conditions[0].status.as_str()), (None, "False"));
    let names: BTreeSet<String> = made(&ground, &uid).await.iter().map(ResourceExt::name_any).collect();
    let counts = status.counts.unwrap();
    assert_eq!(i64::try_from(names.len()).unwrap(), counts.ran + counts.ran_late, "one job for each slot that ran");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(made(&ground, &uid).await.len(), names.len());
    ground.verified();
    let starts = || -> BTreeSet<(String, String)> {
        let calls = ground.nodes[0].sidecar.calls();
        let starts = calls.iter().filter_map(|call| call.strip_prefix("StartBackup "));
        let words = starts.map(|start| start.split(' ').map(str::to_owned));
        words.filter_map(|mut words| Some((words.next()?, words.next()?))).collect()
    };
    until("all were started", || starts().len() >= names.len()).await;
    let starts = starts();
    let started: BTreeSet<&String> = starts.iter().map(|(name, _)| name).collect();
    assert_eq!(started.len(), starts.len(), "each by one operation: {starts:?}");
    assert_eq!(started, names.iter().collect(), "each that was made, and no other");
}
