//! An API server that cannot write one object writes the others as soon as ever.

use super::fixture::{Ground, job, until};
use super::operator::{Operator, ended};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, PostParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn one_object_that_cannot_be_written_holds_up_no_other() {
    let ground = Ground::new("troubled").await;
    ground.datacenter("dc1", 1).await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(ground.admin.clone());
    // Nobody answers there, and without an answer nothing of such a job is written: 500.
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "troubled" },
        "webhooks": [{
            "name": "nobody.stheno.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "objectSelector": { "matchLabels": { "stheno.io/troubled": "yes" } },
            "rules": [{
                "apiGroups": ["medusa.k8ssandra.io"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["medusabackupjobs/status"],
            }],
        }],
    });
    let mut operator = Operator::start(&ground).await;
    let mut bad = job("bad", json!({ "cassandraDatacenter": "dc1" }));
    bad["metadata"]["labels"] = json!({ "stheno.io/troubled": "yes" });
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    ground.create(bad).await;
    operator.until("it has ended", ended("bad")).await;
    let tries = |operator: &Operator| {
        operator.requests.writes().iter().filter(|request| request.ends_with("jobs/bad/status")).count()
    };
    // Its waits have grown: 1, 2, 4 s, and the next is 8 s away.
    until("tried four times", async || {
        operator.settle(Duration::from_millis(50)).await;
        (tries(&operator) >= 4).then_some(())
    })
    .await;
    operator.settle(Duration::from_millis(500)).await;
    assert_eq!(ground.jobs().get("bad").await.unwrap().status, None, "it cannot be written");

    let created = Instant::now();
    ground.job("good").await;
    until("the other one's end is shown", async || {
        operator.settle(Duration::from_millis(50)).await;
        ground.jobs().get("good").await.unwrap().status.and_then(|status| status.finish_time)
    })
    .await;
    assert!(created.elapsed() < Duration::from_secs(4), "{:?}", created.elapsed());
    assert_eq!(tries(&operator), 4, "the wait is its own");

    // When it can be written again, it is.
    hooks.delete("troubled", &Default::default()).await.unwrap();
    until("its end is shown", async || {
        operator.settle(Duration::from_millis(100)).await;
        ground.jobs().get("bad").await.unwrap().status.and_then(|status| status.finish_time)
    })
    .await;
}
