//! A CassandraDatacenter for tests: made, watched and changed as a user or an operator of backups would.
//!
//! What cass-operator 1.31 does, and tests hold:
//! T1 Stopped=True comes before anything is stopped. T2 A changed template restarts running pods at once, and Ready stays
//! True. T3 A change that meets the end of a reconcile is lost. T4 Templates reach StatefulSets one rack after the other.
//! T5 All pods come back with other addresses, and the status keeps old ones. T6 The order of init containers. T7 A failing
//! init container shows in no condition. T8 Passwords are those of the tables until Ready, then those of the secret. T9 The
//! generation is 2 at once. T10 A pod ends with a drain; a deleted datacenter takes its volumes along. T11 Racks are filled
//! evenly, and names follow from them. T12 A ConfigMap reaches init containers without any change of the datacenter.
#![allow(dead_code, reason = "two test programs share it, and neither uses all")]

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use stheno_local::cluster::{Cluster, Server};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(360);
const LOOK: Duration = Duration::from_millis(50);

/// One datacenter `dc1` of the cluster `test`, in the namespace `default`.
pub(crate) struct Datacenter {
    pub(crate) api: Api<DynamicObject>,
    pub(crate) pods: Api<Pod>,
    pub(crate) sets: Api<StatefulSet>,
    pub(crate) client: Client,
    name: String,
    began: Instant,
}

impl Datacenter {
    pub(crate) async fn create(cluster: &Cluster, size: i32, racks: &[&str]) -> Self {
        Self::create_as(cluster, "dc1", Server::Cassandra41, size, racks, &json!({})).await
    }

    /// `spec` is merged into the usual one.
    pub(crate) async fn create_as(
        cluster: &Cluster,
        name: &str,
        server: Server,
        size: i32,
        racks: &[&str],
        spec: &Value,
    ) -> Self {
        let racks: Vec<Value> = racks.iter().map(|name| json!({"name": name})).collect();
        let mut datacenter = json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "clusterName": "test", "serverType": "cassandra", "serverVersion": server.version(),
                "managementApiAuth": {"insecure": {}}, "size": size, "racks": racks,
                "allowMultipleNodesPerWorker": true,
                "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
                "storageConfig": {"cassandraDataVolumeClaimSpec": {
                    "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                }},
                "config": {
                    "cassandra-yaml": {
                        "num_tokens": 4, "authenticator": "PasswordAuthenticator",
                        "authorizer": "CassandraAuthorizer", "role_manager": "CassandraRoleManager",
                    },
                    "jvm-server-options": {"initial_heap_size": "256M", "max_heap_size": "320M"},
                },
            },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            datacenter["spec"][key] = value.clone();
        }
        cluster.control_plane().apply(&datacenter.to_string()).await.unwrap();
        let client = cluster.client().await.unwrap();
        let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
        Self {
            api: Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind)),
            pods: Api::default_namespaced(client.clone()),
            sets: Api::default_namespaced(client.clone()),
            client,
            name: name.to_owned(),
            began: Instant::now(),
        }
    }

    pub(crate) async fn now(&self) -> DynamicObject {
        self.api.get(&self.name).await.unwrap()
    }

    pub(crate) async fn patch(&self, patch: &Value) {
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn stop(&self) {
        self.patch(&json!({"spec": {"stopped": true}})).await;
    }

    pub(crate) async fn start(&self) {
        self.patch(&json!({"spec": {"stopped": false}})).await;
    }

    /// The superuser's password in the secret.
    pub(crate) async fn password(&self) -> String {
        let secrets: Api<Secret> = Api::default_namespaced(self.client.clone());
        let data = secrets.get("test-superuser").await.unwrap().data.unwrap();
        String::from_utf8(data["password"].0.clone()).unwrap()
    }

    /// The superuser's session with the first pod.
    pub(crate) async fn session(&self, password: &str) -> Option<Session> {
        let address = self.addresses().await.into_iter().next()?;
        let builder = SessionBuilder::new().known_node(format!("{address}:9042")).user("test-superuser", password);
        builder.build().await.ok()
    }

    pub(crate) async fn login(&self, password: &str) -> bool {
        self.session(password).await.is_some()
    }

    /// The addresses of the pods that have one.
    pub(crate) async fn addresses(&self) -> Vec<String> {
        self.pods().await.into_iter().filter_map(|pod| pod.status?.pod_ip).collect()
    }

    /// What a container of a pod has printed.
    pub(crate) fn log(&self, cluster: &Cluster, pod: &str, container: &str) -> String {
        let folder = cluster.kubelet().logs().join(format!("default_{pod}"));
        std::fs::read_to_string(folder.join(format!("{container}.0.log"))).unwrap()
    }

    /// The folder behind a pod's data volume.
    pub(crate) async fn claim_folder(&self, pod: &str) -> PathBuf {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let claim = claims.get(&format!("server-data-{pod}")).await.unwrap();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes.get(&claim.spec.unwrap().volume_name.unwrap()).await.unwrap();
        volume.spec.unwrap().host_path.unwrap().path.into()
    }

    fn selector(&self) -> ListParams {
        ListParams::default().labels(&format!("cassandra.datastax.com/datacenter={}", self.name))
    }

    /// The pods, by name.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let mut pods = self.pods.list(&self.selector()).await.unwrap().items;
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }

    pub(crate) async fn sets(&self) -> Vec<StatefulSet> {
        let mut sets = self.sets.list(&self.selector()).await.unwrap().items;
        sets.sort_by_key(|set| set.name_any());
        sets
    }

    /// Polls until the probe says yes.
    pub(crate) async fn until(&self, what: &str, mut probe: impl AsyncFnMut() -> bool) -> Duration {
        let began = Instant::now();
        while !probe().await {
            if began.elapsed() > PATIENCE {
                let pods: Vec<Value> =
                    self.pods().await.iter().map(|pod| json!([pod.name_any(), pod.status])).collect();
                let status = self.now().await.data["status"].clone();
                panic!("not {what} after {} s\n{status:#}\n{:#}", PATIENCE.as_secs(), json!(pods));
            }
            tokio::time::sleep(LOOK).await;
        }
        // On stderr, whose lines the test harness shows on request: the phases are measured with it.
        eprintln!(
            "{:7.1} {}: {what} after {:.1} s",
            self.began.elapsed().as_secs_f64(),
            self.name,
            began.elapsed().as_secs_f64()
        );
        began.elapsed()
    }

    pub(crate) async fn until_ready(&self) -> Duration {
        let ready = async || {
            let now = self.now().await;
            condition(&now, "Ready") == "True" && settled(&now)
        };
        self.until("Ready and settled", ready).await
    }

    /// The rule of T1.
    pub(crate) async fn until_stopped(&self) -> Duration {
        let stopped = async || {
            let now = self.now().await;
            condition(&now, "Stopped") == "True" && settled(&now) && self.pods().await.is_empty()
        };
        self.until("stopped", stopped).await
    }
}

/// The status of a condition, or nothing.
pub(crate) fn condition(datacenter: &DynamicObject, kind: &str) -> String {
    let conditions = datacenter.data.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

/// cass-operator has nothing to do and has seen the newest spec.
pub(crate) fn settled(datacenter: &DynamicObject) -> bool {
    let status = &datacenter.data["status"];
    status["cassandraOperatorProgress"] == "Ready"
        && status["observedGeneration"].as_i64() == datacenter.metadata.generation
}

/// A pod template with `medusa-restore`, which runs the script with what a ConfigMap `restore` says.
pub(crate) fn restore_template(script: &str) -> Value {
    let from = |key: &str| json!({"name": key, "valueFrom": {"configMapKeyRef": {"name": "restore", "key": key, "optional": true}}});
    json!({"spec": {
        "containers": [],
        "initContainers": [
            {"name": "server-config-init"},
            {
                "name": "medusa-restore", "image": "local/restore", "command": ["sh", "-ec", script],
                "env": [from("BACKUP_NAME"), from("RESTORE_KEY")],
                "volumeMounts": [
                    {"name": "server-config", "mountPath": "/etc/cassandra"},
                    {"name": "server-data", "mountPath": "/var/lib/cassandra"},
                ],
            },
        ],
    }})
}
