//! Watching when the API server refuses, lacks a kind, holds what an older schema let in, or goes back in time.

use super::fixture::{self, Ground, job, until};
use super::operator::Operator;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use stheno::observe::{Mirror, Options, Sight, highest, start};
use stheno_decide::Observation;
use stheno_events::observed::ObjectKind;
use stheno_local::control_plane::ControlPlane;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One control plane, broken in one way after the other.
#[tokio::test]
async fn watching_survives_what_api_servers_do() {
    let (mut plane, account) = fixture::control_plane().await;
    let ground = Ground::on(&plane, &account, "broken").await;
    refused_and_missing_kinds_are_told_until_they_work(&plane, &ground).await;
    an_unreadable_object_stalls_nobody(&ground).await;
    an_api_server_that_restarts_loses_nothing(&mut plane, &ground).await;
    a_store_that_was_put_back_is_noticed(&mut plane, &ground).await;
}

async fn told(seen: &mut mpsc::Receiver<Sight>, what: &str, wanted: impl Fn(&Sight) -> bool) -> Sight {
    let look = async {
        loop {
            let sight = seen.recv().await.unwrap();
            if wanted(&sight) {
                return sight;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap_or_else(|_| panic!("not within 60 s: {what}"))
}

async fn refused_and_missing_kinds_are_told_until_they_work(plane: &ControlPlane, ground: &Ground) {
    let roles: Api<ClusterRole> = Api::all(ground.admin.clone());
    let mut role = roles.get("stheno").await.unwrap();
    let rules = role.rules.as_mut().unwrap();
    rules.retain(|rule| !rule.resources.iter().flatten().any(|resource| resource == "pods"));
    role.metadata.resource_version = None;
    role.metadata.managed_fields = None;
    roles
        .replace(
            "stheno",
            &Default::default(),
            &ClusterRole { metadata: roles.get("stheno").await.unwrap().metadata, ..role },
        )
        .await
        .unwrap();
    let kinds: Api<CustomResourceDefinition> = Api::all(ground.admin.clone());
    kinds.delete("cassandradatacenters.cassandra.datastax.com", &Default::default()).await.unwrap();
    until("the kind is gone", async || {
        kinds.get_opt("cassandradatacenters.cassandra.datastax.com").await.unwrap().is_none().then_some(())
    })
    .await;
    // The API server forgets a kind some moments after its definition.
    let api = ground.any("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    until("it is no longer served", async || api.list(&Default::default()).await.is_err().then_some(())).await;

    let (sights, mut seen) = mpsc::channel(1024);
    let stop = CancellationToken::new();
    tokio::spawn(start(ground.operator().await.0, Options::default(), Mirror::default(), sights, stop.clone()));
    let mut reasons = Vec::new();
    while reasons.len() < 2 {
        let sight =
            told(&mut seen, "two kinds cannot be seen", |sight| matches!(sight, Sight::Unobservable { .. })).await;
        let Sight::Unobservable { kind, reason } = sight else { panic!() };
        reasons.push(format!("{}: {reason}", kind.as_str()));
    }
    reasons.sort();
    insta::assert_yaml_snapshot!("unobservable", reasons);

    plane.apply(fixture::RBAC).await.unwrap();
    plane.ensure_datacenter_kind().await.unwrap();
    let mut missing = vec![ObjectKind::Pod, ObjectKind::CassandraDatacenter];
    while !missing.is_empty() {
        let sight = told(&mut seen, "both are listed in the end", |sight| matches!(sight, Sight::Listed { .. })).await;
        let Sight::Listed { kind, .. } = sight else { panic!() };
        missing.retain(|missing| *missing != kind);
    }
    stop.cancel();
}

async fn an_unreadable_object_stalls_nobody(ground: &Ground) {
    let kinds: Api<CustomResourceDefinition> = Api::all(ground.admin.clone());
    let name = "medusabackupjobs.medusa.k8ssandra.io";
    let strict = kinds.get(name).await.unwrap();
    // As an older schema may have been: anything goes.
    let mut loose = strict.clone();
    for version in &mut loose.spec.versions {
        version.schema = serde_json::from_value(json!({
            "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        }))
        .unwrap();
    }
    kinds.replace(name, &Default::default(), &loose).await.unwrap();
    let bad = until("the older schema is in force", async || {
        let api = ground.any("medusa.k8ssandra.io", "v1alpha1", "MedusaBackupJob");
        let mut object = job("bad", json!({ "cassandraDatacenter": 5 }));
        object["metadata"]["namespace"] = json!(ground.namespace);
        api.create(&Default::default(), &serde_json::from_value(object).unwrap()).await.ok()
    })
    .await;
    ground.create(job("weekly", json!({ "cassandraDatacenter": "dc1", "backupType": "weekly" }))).await;
    let mut status = job("when", json!({ "cassandraDatacenter": "dc1" }));
    status["status"] = json!({ "startTime": "yesterday" });
    ground.create(status).await;
    ground.job("good").await;
    let mut back = kinds.get(name).await.unwrap();
    back.spec = strict.spec;
    kinds.replace(name, &Default::default(), &back).await.unwrap();

    let mut operator = Operator::start(ground).await;
    operator
        .until("all are known", |world| {
            let malformed: usize = world.datacenters.values().map(|dc| dc.malformed.len()).sum();
            malformed == 3 && super::operator::operation(world, "good", |_| true)
        })
        .await;
    let mut reasons: Vec<String> = operator
        .engine
        .world()
        .datacenters
        .values()
        .flat_map(|dc| dc.malformed.values())
        .map(|malformed| malformed.reason.to_string())
        .collect();
    reasons.sort();
    insta::assert_yaml_snapshot!("malformed", reasons);
    // The user sees it where he looks.
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    until("it is announced", async || {
        operator.settle(Duration::from_millis(100)).await;
        let events = events.list(&Default::default()).await.unwrap().items;
        events.into_iter().find(|event| {
            event.reason.as_deref() == Some("Malformed")
                && event.regarding.as_ref().and_then(|object| object.uid.clone()) == bad.uid()
        })
    })
    .await;
    // Once it is put right it is a request like any other.
    let right = json!({ "spec": { "cassandraDatacenter": "dc1" } });
    ground.jobs().patch("bad", &PatchParams::default(), &Patch::Merge(right)).await.unwrap();
    operator.until("it is read", |world| super::operator::operation(world, "bad", |_| true)).await;
    operator.crash();
}

async fn an_api_server_that_restarts_loses_nothing(plane: &mut ControlPlane, ground: &Ground) {
    let mut operator = Operator::start(ground).await;
    operator.until("it watches", |world| super::operator::operation(world, "good", |_| true)).await;
    operator.settle(Duration::from_millis(500)).await;
    plane.kill_api_server();
    operator.settle(Duration::from_secs(1)).await;
    plane.start_api_server().await.unwrap();
    ground.job("after").await;
    operator.until("the new job is seen", |world| super::operator::operation(world, "after", |_| true)).await;
    assert!(operator.engine.world().operator.api_backwards.is_none());
    operator.crash();
}

async fn a_store_that_was_put_back_is_noticed(plane: &mut ControlPlane, ground: &Ground) {
    // A copy of the store as it is.
    plane.stop_api_server().await;
    plane.stop_etcd().await;
    let copy = plane.etcd_dir().with_extension("copy");
    copied(&plane.etcd_dir(), &copy);
    plane.start_etcd().await.unwrap();
    plane.start_api_server().await.unwrap();

    let mut operator = Operator::start(ground).await;
    operator.until("it watches", |world| super::operator::operation(world, "after", |_| true)).await;
    for number in 0..5 {
        ground.job(&format!("lost-{number}")).await;
    }
    operator.until("the last one is known", |world| super::operator::operation(world, "lost-4", |_| true)).await;
    operator.settle(Duration::from_secs(1)).await;

    plane.stop_api_server().await;
    plane.stop_etcd().await;
    std::fs::remove_dir_all(plane.etcd_dir()).unwrap();
    copied(&copy, &plane.etcd_dir());
    plane.start_etcd().await.unwrap();
    plane.start_api_server().await.unwrap();
    // The process that watched on notices,
    operator.until("it is noticed", |world| world.operator.api_backwards.is_some()).await;
    let before = operator.engine.world().clone();
    let mut former = before.clone();
    former.operator.api_backwards = None;
    operator.crash();
    // and so does one that has only its log to compare with.
    let (sights, mut seen) = mpsc::channel(1024);
    let options = Options { namespaces: None, highest: highest(&former) };
    let stop = CancellationToken::new();
    tokio::spawn(start(ground.operator().await.0, options, Mirror::default(), sights, stop.clone()));
    let sight =
        told(&mut seen, "the log knows better", |sight| matches!(sight, Sight::Gap(gap) if gap.backwards)).await;
    let Sight::Gap(gap) = sight else { panic!() };
    let number = |version: &str| version.parse::<u64>().unwrap();
    assert!(number(&gap.from) > number(&gap.to), "{gap:?}");
    told(&mut seen, "what is there is seen all the same", |sight| {
        matches!(sight, Sight::Object { observation: Observation::BackupJob(job, _), .. } if &*job.meta.name == "after")
    })
    .await;
    stop.cancel();
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
