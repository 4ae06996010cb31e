//! One control plane for all tests that do not break it, and objects as people and cass-operator write them.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stheno_crds::{MedusaBackup, MedusaBackupJob};
use stheno_local::control_plane::ControlPlane;
use stheno_local::testing;
use tokio::sync::OnceCell;
use tonic::codegen::http::Request;

pub const RBAC: &str = include_str!("../../deploy/rbac.yaml");

static SHARED: OnceCell<(ControlPlane, PathBuf)> = OnceCell::const_new();

/// A control plane with our kinds and the operator's account, whose kubeconfig comes with it.
pub async fn control_plane() -> (ControlPlane, PathBuf) {
    // An error says that another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plane = testing::control_plane().await.unwrap();
    plane.apply(&stheno_crds::all_crds_yaml().unwrap()).await.unwrap();
    plane.apply(RBAC).await.unwrap();
    let account = plane.account_kubeconfig("stheno-system", "stheno").await.unwrap();
    (plane, account)
}

/// A namespace of a test's own on the shared control plane.
pub struct Ground {
    pub admin: Client,
    pub namespace: String,
    account: PathBuf,
}

impl Ground {
    pub async fn new(namespace: &str) -> Self {
        let (plane, account) = SHARED.get_or_init(control_plane).await;
        Self::on(plane, account, namespace).await
    }

    pub async fn on(plane: &ControlPlane, account: &Path, namespace: &str) -> Self {
        plane.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}")).await.unwrap();
        let admin = plane.client().await.unwrap();
        Self { admin, namespace: namespace.to_owned(), account: account.to_owned() }
    }

    /// The operator's client, and what it asked for: method and path of every request but watches and lists.
    pub async fn operator(&self) -> (Client, Requests) {
        counted(&self.account).await
    }

    pub fn jobs(&self) -> Api<MedusaBackupJob> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn backups(&self) -> Api<MedusaBackup> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn any(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.admin.clone(), &self.namespace, &resource)
    }

    /// Creates an object and gives it its status.
    pub async fn create(&self, mut object: Value) -> DynamicObject {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let status = object.as_object_mut().unwrap().remove("status");
        object["metadata"]["namespace"] = json!(self.namespace);
        let api = self.any(group, version, &kind);
        let created = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        match status {
            None => created,
            Some(status) => {
                let patch = Patch::Merge(json!({ "status": status }));
                api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap()
            }
        }
    }

    pub async fn job(&self, name: &str) -> DynamicObject {
        self.create(job(name, json!({ "cassandraDatacenter": "dc1" }))).await
    }

    /// A datacenter with as many ready pods.
    pub async fn datacenter(&self, name: &str, pods: usize) {
        self.create(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1",
            "kind": "CassandraDatacenter",
            "metadata": { "name": name },
            "spec": { "clusterName": "Shop Cluster", "size": pods, "serverType": "cassandra", "serverVersion": "4.1.5" },
            "status": {
                "cassandraOperatorProgress": "Ready",
                "observedGeneration": 1,
                "conditions": [{ "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": null }],
            },
        }))
        .await;
        for number in 0..pods {
            self.pod(name, number).await;
        }
    }

    pub async fn pod(&self, datacenter: &str, number: usize) -> DynamicObject {
        self.create(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("shop-{datacenter}-r1-sts-{number}"),
                "labels": {
                    "cassandra.datastax.com/cluster": "ShopCluster",
                    "cassandra.datastax.com/datacenter": datacenter,
                },
                "annotations": { "elsewhere.io/token": "planted-annotation" },
            },
            "spec": { "containers": [
                { "name": "cassandra", "image": "cassandra", "env": [{ "name": "PASSWORD", "value": "planted-env" }] },
                { "name": "medusa", "image": "medusa", "ports": [{ "name": "grpc", "containerPort": 55051 }] },
            ] },
            "status": {
                "podIP": format!("10.1.0.{number}"),
                "podIPs": [{ "ip": format!("10.1.0.{number}") }],
                "containerStatuses": [
                    { "name": "medusa", "ready": true, "image": "medusa", "imageID": "", "restartCount": 0 },
                ],
            },
        }))
        .await
    }
}

pub fn job(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackupJob",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// Requests that passed, as `METHOD path`.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    /// Requests but reads.
    pub fn writes(&self) -> Vec<String> {
        self.all().into_iter().filter(|request| !request.starts_with("GET")).collect()
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A client that keeps what it asked for.
pub async fn counted(kubeconfig: &Path) -> (Client, Requests) {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let requests = Requests::default();
    let kept = requests.clone();
    let layer = tower::util::MapRequestLayer::new(move |request: Request<Body>| {
        kept.0.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        request
    });
    (ClientBuilder::try_from(config).unwrap().with_layer(&layer).build(), requests)
}

/// Waits until it is so.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}
