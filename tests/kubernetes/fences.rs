//! Writes rest on what was seen: a changed object is read again, another object of that name is never touched.

use super::fixture::{Ground, until};
use super::operator::{Operator, operation};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

/// The operator saw the job, and sees nothing more.
async fn blind_before_the_job_ends(ground: &Ground) -> Operator {
    ground.datacenter("dc1", 1).await;
    let mut operator = Operator::start(ground).await;
    operator.held = Some(Vec::new());
    ground.job("nightly").await;
    operator.until("it runs", |world| operation(world, "nightly", |operation| operation.active())).await;
    until("its status says so", async || {
        operator.settle(Duration::from_millis(100)).await;
        ground.jobs().get("nightly").await.unwrap().status.and_then(|status| status.start_time)
    })
    .await;
    operator.settle(Duration::from_millis(500)).await;
    operator.blind();
    operator.settle(Duration::from_millis(100)).await;
    operator
}

async fn end(operator: &mut Operator) {
    for effect in operator.held.take().unwrap_or_default() {
        operator.answer(&effect);
    }
    operator.until("the job has ended", super::operator::ended("nightly")).await;
}

#[tokio::test]
async fn a_conflict_is_read_up_and_then_written() {
    let ground = Ground::new("conflict").await;
    let mut operator = blind_before_the_job_ends(&ground).await;
    let touch = json!({ "metadata": { "annotations": { "elsewhere.io/touched": "yes" } } });
    ground.jobs().patch("nightly", &PatchParams::default(), &Patch::Merge(touch)).await.unwrap();
    end(&mut operator).await;
    // No sight explains the conflict: the object is read after a while, and what was wanted is written.
    until("the end is shown", async || {
        operator.settle(Duration::from_millis(100)).await;
        ground.jobs().get("nightly").await.unwrap().status.and_then(|status| status.finish_time)
    })
    .await;
    let patches = operator.requests.writes().into_iter().filter(|request| request.contains("jobs/nightly/status"));
    assert!(patches.count() <= 4, "a conflict is not hammered: {:#?}", operator.requests.writes());
    assert!(ground.jobs().get("nightly").await.unwrap().annotations().contains_key("elsewhere.io/touched"));
}

#[tokio::test]
async fn a_job_that_was_deleted_and_created_anew_is_another_one() {
    let ground = Ground::new("another").await;
    let mut operator = blind_before_the_job_ends(&ground).await;
    ground.jobs().delete("nightly", &Default::default()).await.unwrap();
    until("it is gone", async || ground.jobs().get_opt("nightly").await.unwrap().is_none().then_some(())).await;
    let other = ground.job("nightly").await;
    end(&mut operator).await;
    operator.settle(Duration::from_secs(12)).await;
    let found = ground.jobs().get("nightly").await.unwrap();
    assert_eq!(found.uid(), other.uid());
    assert_eq!(found.resource_version(), other.resource_version(), "not touched: {:?}", found.status);
    let writes = operator.requests.writes().len();
    operator.settle(Duration::from_secs(2)).await;
    assert_eq!(operator.requests.writes().len(), writes, "the former job is given up");
}

#[tokio::test]
async fn a_job_that_is_gone_is_not_created_by_its_status() {
    let ground = Ground::new("gone").await;
    let mut operator = blind_before_the_job_ends(&ground).await;
    ground.jobs().delete("nightly", &Default::default()).await.unwrap();
    end(&mut operator).await;
    operator.settle(Duration::from_secs(2)).await;
    assert_eq!(ground.jobs().get_opt("nightly").await.unwrap(), None);
}
