//! An empty log on an API server that is full: what has ended stays as it is, what runs is followed and never commanded,
//! what nobody took up is a request like any other.

use crate::operator::ground::{self, Ground, Operator};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;

/// Jobs of another program that run.
const RUNNING: usize = 10;
/// Jobs that nobody took up, of a datacenter that is there.
const UNTOUCHED: usize = 3;

/// With [`RUNNING`] and what else there is, 2,000 objects and some.
const OLD: usize = 2_000;

/// Identity and versions of what is there: a changed one was written.
fn versions<K: kube::Resource>(objects: &[K]) -> BTreeMap<String, (Option<String>, Option<i64>)> {
    objects.iter().map(|object| (object.name_any(), (object.resource_version(), object.meta().generation))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_old_objects_are_adopted_without_a_call_or_a_write() {
    let plane = ground::control_plane().await;
    let mut ground = Ground::on(&plane, "adoption").await;
    ground.datacenter("dc1", 2, true).await;
    ground.datacenter("dc2", 1, false).await;
    let (theirs, ours) = ground.nodes.split_last().unwrap();
    let (theirs, ours): (Vec<_>, _) = (vec![theirs.sidecar.clone()], ours.iter().map(|node| node.sidecar.clone()));
    let ours: Vec<_> = ours.collect();
    theirs[0].script().status = Some(StatusType::InProgress);
    ours.iter().for_each(|sidecar| sidecar.phase(Phase::Finished));
    let begun = Instant::now();
    fill(&ground).await;
    println!("{OLD} old objects were created in {:.1?}", begun.elapsed());
    for name in names("running", RUNNING).chain(names("untouched", UNTOUCHED)) {
        ground.list(&name);
    }
    let (jobs, backups) = (ground.jobs(), ground.backups());
    let all = ListParams::default();
    let before = versions(&jobs.list(&all).await.unwrap().items);
    let backups_before = versions(&backups.list(&all).await.unwrap().items);

    let begun = Instant::now();
    let mut operator = ground.operator();
    operator.leads().await;
    for name in names("untouched", UNTOUCHED) {
        let job = ground.finished(&name).await.status.unwrap();
        assert_eq!(job.finished.len(), 2, "{name} runs: {job:?}");
    }
    let took = begun.elapsed();
    // One that waits for a datacenter that is not there says so.
    let lost = ground.job_once("lost", |job| job.status.is_some()).await.status.unwrap();
    assert_eq!(lost.conditions[0].reason, "DatacenterNotFound");
    assert_eq!(lost.conditions[0].message, "no CassandraDatacenter \"elsewhere\" in namespace adoption");
    // One that another program left long ago is given up.
    let stale = ground.finished("stale").await.status.unwrap();
    let said = stale.message.clone().unwrap_or_default();
    assert!(said.contains("not finished after 24 hours"), "{stale:?}");
    // What runs is asked about by name.
    ground::until("all that run are followed", || {
        names("running", RUNNING).all(|name| theirs[0].calls().contains(&format!("BackupStatus {name}")))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let peak = peak(&operator);
    println!(
        "the operator had it all after {took:.1?}, with {peak} MiB at most (debug build: {})",
        cfg!(debug_assertions)
    );

    // Nothing was commanded but what nobody had taken up.
    let commanded: Vec<String> = ours
        .iter()
        .chain(&theirs)
        .flat_map(|sidecar| sidecar.calls())
        .filter(|call| call.starts_with("StartBackup") || call.starts_with("AsyncBackup"))
        .map(|call| call.split(' ').nth(1).unwrap().to_owned())
        .collect();
    let mut expected: Vec<String> = names("untouched", UNTOUCHED).flat_map(|name| [name.clone(), name]).collect();
    expected.sort();
    assert_eq!(sorted(commanded), expected);
    let named = |call: &String| call.contains("finished-");
    assert!(!ours.iter().chain(&theirs).any(|sidecar| sidecar.calls().iter().any(named)), "ended is ended");
    // Nothing was written: no spec at all, and no status of what has ended or runs elsewhere.
    let after = versions(&jobs.list(&all).await.unwrap().items);
    assert_eq!(after.len(), before.len());
    for (name, (version, generation)) in &before {
        assert_eq!(after[name].1, *generation, "the spec of {name} was written");
        if name.starts_with("finished-") || name.starts_with("running-") {
            assert_eq!(after[name].0, *version, "{name} was written");
        }
    }
    let backups_after = versions(&backups.list(&all).await.unwrap().items);
    assert!(backups_before.iter().all(|(name, versions)| backups_after[name] == *versions), "a backup was written");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(peak < 96, "{peak} MiB");

    // What another program started ends when its sidecar says so, and is shown then.
    theirs[0].script().status = Some(StatusType::Success);
    for name in names("running", RUNNING) {
        let status = ground.finished(&name).await.status.unwrap();
        assert_eq!(
            (status.finished.len(), status.failed.len(), status.in_progress.len()),
            (1, 0, 0),
            "{name}: {status:?}"
        );
    }
    assert_eq!(operator.stop().await, Some(0));
}

fn names(kind: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |number| format!("{kind}-{number}"))
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// The most memory that the process had, in MiB.
fn peak(operator: &Operator) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// A namespace as another program leaves it.
async fn fill(ground: &Ground) {
    let ago = |minutes: i64| {
        (chrono::Utc::now() - chrono::TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let object = |kind: &str, name: &str, dc: &str, status: Value| {
        let mut object = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1",
            "kind": kind,
            "metadata": { "name": name },
            "spec": { "cassandraDatacenter": dc },
        });
        if !status.is_null() {
            object["status"] = status;
        }
        object
    };
    let theirs = "shop-dc2-r1-sts-0";
    let mut objects = Vec::new();
    for name in names("finished", OLD / 2) {
        let (started, finished) = (ago(1_000), ago(990));
        let pods = ["shop-dc1-r1-sts-0", "shop-dc1-r1-sts-1"];
        let status = json!({ "startTime": started, "finishTime": finished, "finished": pods });
        objects.push(object("MedusaBackupJob", &name, "dc1", status));
        let nodes = pods.map(|pod| json!({ "host": pod, "tokens": [-1, 1], "datacenter": "dc1", "rack": "r1" }));
        let status = json!({
            "startTime": started, "finishTime": finished, "totalNodes": 2, "finishedNodes": 2, "nodes": nodes,
            "totalFiles": 120, "totalSize": "127.67 KB", "status": "SUCCESS",
        });
        objects.push(object("MedusaBackup", &name, "dc1", status));
    }
    for name in names("running", RUNNING) {
        let status = json!({ "startTime": ago(60), "inProgress": [theirs] });
        objects.push(object("MedusaBackupJob", &name, "dc2", status));
    }
    let status = json!({ "startTime": ago(3 * 24 * 60), "inProgress": [theirs] });
    objects.push(object("MedusaBackupJob", "stale", "dc2", status));
    for name in names("untouched", UNTOUCHED) {
        objects.push(object("MedusaBackupJob", &name, "dc1", Value::Null));
    }
    objects.push(object("MedusaBackupJob", "lost", "elsewhere", Value::Null));
    let created = futures::stream::iter(objects).map(|object| ground.create(object)).buffer_unordered(32);
    created.for_each(|_| std::future::ready(())).await;
}
