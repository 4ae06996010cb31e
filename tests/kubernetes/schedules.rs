//! Schedules on a real API server: their statuses, the objects of their slots, and what is in the way of these.

use super::fixture::{Ground, until};
use super::operator::Operator;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use stheno_crds::{MedusaBackupSchedule, MedusaBackupScheduleStatus, MedusaTask};
use stheno_events::Uid;
use stheno_events::observed::ObjectKind;
use stheno_projections::World;
use stheno_projections::schedule::{Plan, Schedule};

fn schedule(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackupSchedule",
        "metadata": { "name": name },
        "spec": spec,
    })
}

fn api(ground: &Ground) -> Api<MedusaBackupSchedule> {
    Api::namespaced(ground.admin.clone(), &ground.namespace)
}

async fn status(ground: &Ground, name: &str) -> MedusaBackupScheduleStatus {
    until("it has a status", async || api(ground).get(name).await.unwrap().status).await
}

fn known<'a>(world: &'a World, name: &str) -> Option<&'a Schedule> {
    let schedules = world.datacenters.values().flat_map(|dc| dc.schedules.values());
    schedules.map(AsRef::as_ref).find(|schedule| &*schedule.request.meta.name == name)
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_condition_and_stalls_nobody() {
    let ground = Ground::new("schedules-bad").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    let dc = json!({ "cassandraDatacenter": "dc1" });
    let spec = |cron: &str, more: Value| {
        let mut spec = json!({ "cronSchedule": cron, "backupSpec": dc });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    ground.create(schedule("field", spec("61 * * * *", json!({})))).await;
    ground.create(schedule("zone", spec("@daily", json!({ "timeZone": "Europe/Berlim" })))).await;
    ground.create(schedule("policy", spec("@daily", json!({ "concurrencyPolicy": "forbid" })))).await;
    ground.create(schedule("never", spec("0 0 30 2 *", json!({})))).await;
    ground.create(schedule("good", spec("@every 2s", json!({})))).await;
    operator.until("the good one runs", |world| known(world, "good").is_some_and(|it| it.counts.ran > 0)).await;
    operator.settle(Duration::from_secs(1)).await;
    let mut said = Vec::new();
    for name in ["field", "zone", "policy", "never"] {
        let status = status(&ground, name).await;
        let ready = &status.conditions[0];
        said.push(format!("{name}: {}={} {}: {}", ready.type_, ready.status, ready.reason, ready.message));
        assert_eq!((status.observed_generation, status.last_execution), (Some(1), None), "{name}");
        assert_eq!(status.message.as_ref(), Some(&ready.message));
    }
    insta::assert_yaml_snapshot!("schedules_that_cannot_be_followed", said);

    // Mended, it is followed.
    let mend = json!({ "spec": { "cronSchedule": "1 * * * *" } });
    api(&ground).patch("field", &PatchParams::default(), &Patch::Merge(mend)).await.unwrap();
    operator
        .until("it is followed", |world| known(world, "field").is_some_and(|it| matches!(it.plan, Plan::Times { .. })))
        .await;
    until("it says so", async || {
        operator.settle(Duration::from_millis(100)).await;
        let status = status(&ground, "field").await;
        (status.observed_generation == Some(2) && status.next_schedule.is_some() && status.message.is_none())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn jobs_beyond_the_limit_are_deleted_and_their_backups_stay() {
    let ground = Ground::new("schedules-history").await;
    ground.datacenter("dc1", 3).await;
    let mut operator = Operator::start(&ground).await;
    let spec = json!({
        "cronSchedule": "@every 2s",
        "backupSpec": { "cassandraDatacenter": "dc1" },
        "successfulJobsHistoryLimit": 1,
    });
    ground.create(schedule("often", spec)).await;
    operator.until("three have run", |world| known(world, "often").is_some_and(|it| it.counts.ran >= 3)).await;
    let seldom = json!({ "spec": { "cronSchedule": "0 0 1 1 *" } });
    api(&ground).patch("often", &PatchParams::default(), &Patch::Merge(seldom)).await.unwrap();
    until("one job is left", async || {
        operator.settle(Duration::from_millis(200)).await;
        let jobs = ground.jobs().list(&Default::default()).await.unwrap().items;
        (jobs.len() == 1 && operator.engine.world().datacenters.values().all(|dc| dc.open.is_empty())).then_some(())
    })
    .await;
    let backups = ground.backups().list(&Default::default()).await.unwrap().items;
    let ran = known(operator.engine.world(), "often").unwrap().counts.ran;
    assert_eq!(backups.len() as u64, ran);
    // Another process finds nothing left to do.
    let mut next = Operator::resume(&ground, operator.crash()).await;
    next.until("it leads", |world| world.operator.epoch.0 == 2).await;
    next.settle(Duration::from_secs(2)).await;
    assert_eq!(next.requests.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_purge_is_a_task_and_a_name_that_is_taken_stays_as_it_is() {
    let ground = Ground::new("schedules-purge").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    let dc = json!({ "cassandraDatacenter": "dc1" });
    let spec = json!({ "cronSchedule": "@every 2s", "operationType": "purge", "backupSpec": dc });
    let made = ground.create(schedule("clean", spec)).await;
    let tasks: Api<MedusaTask> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    operator.until("two have run", |world| known(world, "clean").is_some_and(|it| it.counts.ran >= 2)).await;
    operator.until("the log knows", |world| world.datacenters.values().all(|dc| dc.scheduled.is_empty())).await;
    let all = tasks.list(&Default::default()).await.unwrap().items;
    assert!(all.len() >= 2, "{all:?}");
    assert_eq!(all[0].labels().get("stheno.io/schedule"), made.uid().as_ref());
    assert_eq!(all[0].labels().get("cassandra.datastax.com/cluster").map(String::as_str), Some("ShopCluster"));
    assert_eq!(all[0].spec.operation, stheno_crds::task::Operation::Purge);

    // The name of a slot to come is taken by a job that somebody made by hand: nothing is seen before both are there.
    let spec = json!({ "cronSchedule": "@every 2s", "catchUp": "All", "concurrencyPolicy": "Allow", "backupSpec": dc });
    let taken = ground.create(schedule("taken", spec)).await;
    let slot = taken.creation_timestamp().unwrap().0.as_second() + 2;
    let name = format!("taken-{slot}");
    let by_hand = ground.job(&name).await;
    operator.until("it has run", |world| known(world, "taken").is_some_and(|it| it.counts.ran >= 2)).await;
    let found = |event: &stheno_events::Event| matches!(event, stheno_events::Event::Schedule(stheno_events::schedule::Event::ObjectCreated(e)) if e.foreign && *e.name == *name);
    until("the log knows", async || {
        operator.settle(Duration::from_millis(100)).await;
        operator.log.iter().any(found).then_some(())
    })
    .await;
    let there = ground.jobs().get(&name).await.unwrap();
    assert_eq!((there.uid(), there.labels().get("stheno.io/schedule")), (by_hand.uid(), None));
}

/// What could not be created is not created later, when nobody wants it any more.
#[tokio::test]
async fn what_nobody_wants_any_more_is_not_created() {
    let ground = Ground::new("schedules-unwanted").await;
    ground.datacenter("dc1", 1).await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(ground.admin.clone());
    // Nobody answers there: no job is created in this namespace.
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "unwanted" },
        "webhooks": [{
            "name": "nobody.stheno.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ground.namespace } },
            "rules": [{
                "apiGroups": ["medusa.k8ssandra.io"], "apiVersions": ["*"],
                "operations": ["CREATE"], "resources": ["medusabackupjobs"],
            }],
        }],
    });
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut operator = Operator::start(&ground).await;
    let spec = json!({ "cronSchedule": "@every 2s", "backupSpec": { "cassandraDatacenter": "dc1" } });
    ground.create(schedule("often", spec)).await;
    operator.until("a slot runs", |world| known(world, "often").is_some_and(|it| it.counts.ran > 0)).await;
    let tries = |operator: &Operator| {
        operator.requests.writes().iter().filter(|it| it.starts_with("POST") && it.contains("backupjobs")).count()
    };
    operator.settle(Duration::from_secs(1)).await;
    assert!(tries(&operator) > 0, "{:?}", operator.requests.writes());

    // Nor while nothing may be decided, whoever wants it.
    operator.engine.unobservable(ObjectKind::Pod, "pods cannot be listed".into());
    operator.until("the log says so", |world| !world.operator.unobservable.is_empty()).await;
    operator.settle(Duration::from_millis(200)).await;
    let before = tries(&operator);
    operator.settle(Duration::from_secs(5)).await;
    assert_eq!(tries(&operator), before);
    operator.engine.listed(ObjectKind::Pod, None, &BTreeSet::<Uid>::new());
    operator.until("and that it can be", |world| world.operator.unobservable.is_empty()).await;
    operator.settle(Duration::from_secs(1)).await;
    assert!(tries(&operator) > before);

    api(&ground).delete("often", &Default::default()).await.unwrap();
    operator.until("it is gone", |world| known(world, "often").is_none()).await;
    operator.settle(Duration::from_millis(200)).await;
    hooks.delete("unwanted", &Default::default()).await.unwrap();
    operator.settle(Duration::from_secs(5)).await;
    assert_eq!(ground.jobs().list(&Default::default()).await.unwrap().items.len(), 0);
}

/// A task was created, and the process did not lead when it heard so: it says so when it leads again.
#[tokio::test]
async fn what_was_created_without_a_word_is_told_of_later() {
    let ground = Ground::new("schedules-deaf").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    operator.deaf = true;
    // The purge goes on, so that no sync follows it here.
    operator.held = Some(Vec::new());
    let dc = json!({ "cassandraDatacenter": "dc1" });
    let spec = json!({ "cronSchedule": "@every 2s", "operationType": "purge", "backupSpec": dc });
    ground.create(schedule("clean", spec)).await;
    let tasks: Api<MedusaTask> = Api::namespaced(ground.admin.clone(), &ground.namespace);
    until("it is created", async || {
        operator.settle(Duration::from_millis(100)).await;
        tasks.list(&Default::default()).await.unwrap().items.first().cloned()
    })
    .await;
    operator.publisher.suspend();
    operator.deaf = false;
    let key = operator.engine.world().datacenters.keys().next().unwrap().clone();
    operator.publisher.objects(operator.engine.world(), &key);
    operator.until("the log knows", |world| world.datacenters.values().all(|dc| dc.scheduled.is_empty())).await;
    let posts = operator.requests.writes().iter().filter(|it| it.starts_with("POST") && it.contains("tasks")).count();
    let ran = known(operator.engine.world(), "clean").unwrap().counts.ran;
    assert!(posts as u64 <= ran, "{posts} created for {ran} slots");
}

#[tokio::test]
async fn a_schedule_goes_on_where_its_spec_says() {
    let ground = Ground::new("schedules-move").await;
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(&ground).await;
    let spec = json!({ "cronSchedule": "@every 2s", "backupSpec": { "cassandraDatacenter": "dc1" } });
    ground.create(schedule("moves", spec)).await;
    operator.until("it runs", |world| known(world, "moves").is_some_and(|it| it.counts.ran > 0)).await;
    let other = json!({ "spec": { "backupSpec": { "cassandraDatacenter": "dc2" } } });
    api(&ground).patch("moves", &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    operator
        .until("it runs there", |world| {
            world
                .datacenters
                .iter()
                .any(|(key, dc)| &*key.name == "dc2" && dc.schedules.values().any(|schedule| schedule.counts.ran > 0))
        })
        .await;
    let world = operator.engine.world();
    assert_eq!(world.datacenters.values().map(|dc| dc.schedules.len()).sum::<usize>(), 1, "in one place only");
    let slots: Vec<_> = operator.log.iter().filter_map(ran).collect();
    let distinct: BTreeSet<_> = slots.iter().collect();
    assert_eq!(distinct.len(), slots.len(), "no slot twice: {slots:?}");
}

/// The slot that ran, in time or late.
fn ran(event: &stheno_events::Event) -> Option<stheno_events::Time> {
    match event {
        stheno_events::Event::Schedule(stheno_events::schedule::Event::Ran(ran)) => Some(ran.slot),
        stheno_events::Event::Schedule(stheno_events::schedule::Event::RanLate(ran)) => Some(ran.slot),
        _ => None,
    }
}
