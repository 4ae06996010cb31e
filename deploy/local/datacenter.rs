//! A CassandraDatacenter of small nodes for a ground: its manifest, and how far cass-operator is with it.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::cluster::Server;
use crate::stheno::{self, Sidecar};

/// Cassandra's heap: small, for several nodes on one machine.
const HEAP: &str = "384M";

/// What is asked of cass-operator.
#[derive(Debug, Clone)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
    /// The Cassandra cluster that it belongs to; its superuser is in the secret `<cluster>-superuser`.
    pub cluster: String,
    /// The version of Cassandra.
    pub server: Server,
    /// Nodes.
    pub nodes: u32,
    /// Racks, named r1, r2 and so on; never more than nodes.
    pub racks: u32,
    /// Whether its cluster has another datacenter, which made the users; see [`crate::ring`].
    pub joins: bool,
    /// Our sidecar in each pod; [`Sidecar::configure`] comes first.
    pub sidecar: Option<Sidecar>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that have joined the ring.
    pub joined: usize,
    /// Whether it is ready, and cass-operator has nothing left to do.
    pub ready: bool,
}

/// A container that does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// Why, in the kubelet's word.
    pub reason: String,
    /// And in its sentence.
    pub message: String,
}

impl Datacenter {
    /// The manifest.
    pub fn manifest(&self) -> Result<Value, stheno::Error> {
        let racks: Vec<Value> =
            (1..=self.racks.min(self.nodes)).map(|rack| json!({"name": format!("r{rack}")})).collect();
        let mut manifest = json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": self.name},
            "spec": {
                "clusterName": self.cluster, "serverType": "cassandra", "serverVersion": self.server.version(),
                "managementApiAuth": {"insecure": {}}, "size": self.nodes, "racks": racks,
                "allowMultipleNodesPerWorker": true,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"},
                },
                "storageConfig": {"cassandraDataVolumeClaimSpec": {
                    "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                }},
                "config": {
                    "cassandra-yaml": {
                        "num_tokens": 4, "authenticator": "PasswordAuthenticator",
                        "authorizer": "CassandraAuthorizer", "role_manager": "CassandraRoleManager",
                    },
                    "jvm-server-options": {"initial_heap_size": HEAP, "max_heap_size": HEAP},
                },
            },
        });
        if self.joins {
            manifest["metadata"]["annotations"] = json!({"cassandra.datastax.com/skip-user-creation": "true"});
        }
        if let Some(sidecar) = &self.sidecar {
            manifest["spec"]["podTemplateSpec"] = sidecar.pod_template(&self.cluster)?;
            manifest["spec"]["users"] = json!([{"secretName": format!("{}-medusa", self.cluster), "superuser": true}]);
        }
        Ok(manifest)
    }

    /// How far cass-operator is.
    pub async fn progress(&self, client: &Client) -> kube::Result<Progress> {
        let now = api(client).get(&self.name).await?;
        Ok(Progress {
            joined: now.data.pointer("/status/nodeStatuses").and_then(Value::as_object).map_or(0, serde_json::Map::len),
            ready: is_ready(&now),
        })
    }

    /// A container of its pods that waits for something else than its turn.
    pub async fn trouble(&self, client: &Client) -> kube::Result<Option<Trouble>> {
        let labels =
            format!("cassandra.datastax.com/cluster={},cassandra.datastax.com/datacenter={}", self.cluster, self.name);
        let pods = Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default().labels(&labels)).await?;
        Ok(pods.items.iter().find_map(|pod| {
            let status = pod.status.clone()?;
            let containers = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
            containers.into_iter().find_map(|container| {
                let waiting = container.state?.waiting?;
                let reason = waiting.reason?;
                let message = waiting.message.unwrap_or_default();
                let turn = reason == "PodInitializing" || (reason == "ContainerCreating" && message.is_empty());
                let name = container.name;
                (!turn).then(|| Trouble { pod: pod.name_any(), container: name, reason, message })
            })
        }))
    }
}

/// Whether a CassandraDatacenter is ready, and cass-operator has nothing left to do.
pub fn is_ready(datacenter: &DynamicObject) -> bool {
    let conditions = datacenter.data.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    conditions.into_iter().flatten().any(ready)
        && datacenter.data["status"]["cassandraOperatorProgress"] == "Ready"
        && datacenter.data["status"]["observedGeneration"].as_i64() == datacenter.metadata.generation
}

/// CassandraDatacenters of the namespace `default`.
pub fn api(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind))
}
