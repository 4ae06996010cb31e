//! Jobs that cannot start: each says in one sentence what it waits for, where people look, and starts when that is mended.

use super::ground::{Ground, until};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::json;
use stheno_rpc::sidecar::node_state::Phase;

async fn job(ground: &Ground, name: &str, datacenter: &str) {
    ground
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1",
            "kind": "MedusaBackupJob",
            "metadata": { "name": name },
            "spec": { "cassandraDatacenter": datacenter },
        }))
        .await;
}

/// Reason and message of the condition Queued, once it is there; the message is what `kubectl get` prints too.
async fn waits_for(ground: &Ground, name: &str) -> (String, String) {
    let queued = |job: &stheno_crds::MedusaBackupJob| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.clone());
        conditions.into_iter().find(|condition| condition.type_ == "Queued" && condition.status == "True")
    };
    let job = ground.job_once(name, |job| queued(job).is_some()).await;
    let condition = queued(&job).unwrap();
    assert_eq!(job.status.and_then(|status| status.message).as_ref(), Some(&condition.message));
    (condition.reason, condition.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_what_it_waits_for_and_starts_when_that_is_mended() {
    let mut ground = Ground::new("waiting").await;
    ground.datacenter("dc1", 1, true).await;
    let datacenters: Api<DynamicObject> = Api::namespaced_with(
        ground.admin.clone(),
        &ground.namespace,
        &ApiResource::from_gvk(&GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter")),
    );
    let stop = async |stopped: bool| {
        let patch = Patch::Merge(json!({ "spec": { "stopped": stopped } }));
        datacenters.patch("dc1", &PatchParams::default(), &patch).await.unwrap();
    };
    stop(true).await;
    // A datacenter whose pods have no sidecar, and one whose sidecar is not ready.
    ground.datacenter_with("bare", |pod| drop(pod["spec"]["containers"].as_array_mut().unwrap().pop())).await;
    ground.datacenter_with("unready", |pod| pod["status"]["containerStatuses"][0]["ready"] = json!(false)).await;
    let mut operator = ground.operator();
    operator.leads().await;
    for (name, datacenter) in
        [("stopped", "dc1"), ("missing", "elsewhere"), ("odd", "> *"), ("bare", "bare"), ("unready", "unready")]
    {
        job(&ground, name, datacenter).await;
    }
    let said = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
    assert_eq!(
        waits_for(&ground, "stopped").await,
        said("DatacenterStopped", "datacenter dc1 is stopped (spec.stopped): start it")
    );
    assert_eq!(
        waits_for(&ground, "missing").await,
        said("DatacenterNotFound", "no CassandraDatacenter \"elsewhere\" in namespace waiting")
    );
    assert_eq!(
        waits_for(&ground, "odd").await,
        said("DatacenterNotFound", "no CassandraDatacenter \"> *\" in namespace waiting")
    );
    assert_eq!(
        waits_for(&ground, "bare").await,
        said(
            "SidecarMissing",
            "pod shop-bare-r1-sts-0 has no container \"medusa\": add the medusa section to the cluster"
        )
    );
    assert_eq!(
        waits_for(&ground, "unready").await,
        said(
            "SidecarNotReady",
            "the sidecar of pod shop-unready-r1-sts-0 is not ready: see the logs of its container medusa"
        )
    );
    assert_eq!(ground.nodes[0].sidecar.calls(), Vec::<String>::new());

    ground.list("stopped");
    ground.nodes[0].sidecar.phase(Phase::Finished);
    stop(false).await;
    let status = ground.finished("stopped").await.status.unwrap();
    assert_eq!((status.finished.len(), status.message), (1, None));
    until("called once", || ground.nodes[0].sidecar.count("StartBackup") == 1).await;
    // The others wait on.
    assert_eq!(waits_for(&ground, "missing").await.0, "DatacenterNotFound");
    assert_eq!(operator.stop().await, Some(0));
}
