//! The node: registered, kept alive by status and lease, and bound to every pod that waits for a scheduler.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::Shared;
use crate::apply::MANAGER;

/// The name of the one node.
pub(crate) const NAME: &str = "local";
const BEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

pub(crate) async fn register(shared: &Shared) -> kube::Result<()> {
    let labels = [
        ("kubernetes.io/hostname", NAME),
        ("kubernetes.io/os", "linux"),
        ("topology.kubernetes.io/zone", NAME),
        ("topology.kubernetes.io/region", NAME),
    ];
    let node = Node {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let nodes: Api<Node> = Api::all(shared.client.clone());
    nodes.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&node)).await?;
    beat(shared, Timestamp::now()).await
}

/// Never ends.
pub(crate) async fn heartbeat(shared: &Shared) {
    let since = Timestamp::now();
    loop {
        if let Err(error) = beat(shared, since).await {
            tracing::debug!("the node's heartbeat was refused: {error}");
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn beat(shared: &Shared, since: Timestamp) -> kube::Result<()> {
    let now = Time(Timestamp::now());
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "ProcessKubelet", "message": "pods run as processes",
            "lastHeartbeatTime": now, "lastTransitionTime": Time(since),
        })
    };
    // Nothing here is a limit: what pods request is not reserved.
    let resources = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250"});
    let host = shared.network.host().to_string();
    let status = json!({"status": {
        "capacity": resources, "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": host}, {"type": "Hostname", "address": NAME},
            // Where the API server finds us, by its --kubelet-preferred-address-types.
            {"type": "ExternalIP", "address": "127.0.0.1"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": shared.port}},
        // The API server hands WebSockets on to us, instead of speaking SPDY, which we do not.
        "declaredFeatures": ["ExtendWebSocketsToKubelet"],
        "conditions": [
            condition("Ready", "True"), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False"),
        ],
    }});
    let nodes: Api<Node> = Api::all(shared.client.clone());
    nodes.patch_status(NAME, &PatchParams::default(), &Patch::Strategic(&status)).await?;

    let lease = Lease {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(NAME.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    let leases: Api<Lease> = Api::namespaced(shared.client.clone(), "kube-node-lease");
    match leases.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&lease)).await {
        // Its namespace comes a moment after the API server, from a controller.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Binds a pod that the default scheduler would.
pub(crate) async fn bind(shared: &Shared, pod: &Pod) {
    let spec = pod.spec.clone().unwrap_or_default();
    let ours = spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == "default-scheduler";
    let gated = spec.scheduling_gates.is_some_and(|gates| !gates.is_empty());
    if !ours || gated || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.name_any()),
            annotations: Some(BTreeMap::new()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(NAME.to_owned()),
            ..ObjectReference::default()
        },
    };
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let bound: kube::Result<serde_json::Value> =
        pods.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    if let Err(error) = bound {
        tracing::debug!("{} was not bound: {error}", pod.name_any());
    }
}
