//! The stage of the quickstart: control plane, a Cassandra node with its sidecar, and the operator, all real.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use stheno_local::cassandra::{self, Cassandra};
use stheno_local::control_plane::ControlPlane;
use stheno_local::http;
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::run::Run;
use tokio::net::TcpStream;

/// The pod of the node, named as cass-operator would.
pub(crate) const POD: &str = "shop-dc1-r1-sts-0";
const SIDECAR_PORT: u16 = 50051;
const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

/// Everything that runs. Fields end in their order: what writes before what is written to.
pub(crate) struct Stage {
    operator: Process,
    sidecar: Process,
    pub(crate) cassandra: Cassandra,
    pub(crate) control_plane: ControlPlane,
    pub(crate) data_dir: PathBuf,
    pub(crate) bucket: PathBuf,
    _http: Port,
}

/// Starts the control plane and the node side by side.
pub(crate) async fn ground(run: &Arc<Run>) -> anyhow::Result<(ControlPlane, Cassandra)> {
    let control_plane = async { anyhow::Ok(ControlPlane::launch(run.clone()).await?) };
    let options = cassandra::Options { cluster: "shop".to_owned(), ..cassandra::Options::default() };
    let cassandra = async { anyhow::Ok(Cassandra::launch(run.clone(), &options).await?) };
    tokio::try_join!(control_plane, cassandra)
}

/// Puts the sidecar beside the node, enters both in the API server, and starts the operator with its own rights.
pub(crate) async fn set(
    run: &Run,
    stheno: &Path,
    nats_server: &Path,
    (control_plane, cassandra): (ControlPlane, Cassandra),
) -> anyhow::Result<Stage> {
    let store = run.folder("store")?;
    let bucket = run.folder("store/backups")?;
    let sidecar = start_sidecar(run, stheno, &cassandra, &store).await?;

    let definitions = tokio::process::Command::new(stheno).arg("crds").kill_on_drop(true).output().await?;
    let definitions = String::from_utf8(definitions.stdout).context("`stheno crds` printed no text")?;
    control_plane.apply(&definitions).await.context("the output of `stheno crds`")?;
    control_plane.ensure_datacenter_kind().await?;
    control_plane.apply(include_str!("../../rbac.yaml")).await.context("deploy/rbac.yaml")?;
    enter(&control_plane, &cassandra).await?;

    let data_dir = run.folder("operator-data")?;
    let http = Port::take()?;
    let kubeconfig = control_plane.account_kubeconfig("stheno-system", "stheno").await?;
    let mut command = Command::new(stheno);
    command.arg("operator").arg("--kubeconfig").arg(kubeconfig).arg("--data-dir").arg(&data_dir);
    command.arg("--http").arg(http.address().to_string());
    command.env("STHENO_NATS_SERVER", nats_server).env_remove("KUBECONFIG");
    let mut operator = run.spawn("stheno-operator", command)?;
    let address = http.address();
    let ready = async || matches!(http::get(address, "/readyz").await, Some((200, _)));
    operator.until("ready", PATIENCE, ready).await?;
    Ok(Stage { operator, sidecar, cassandra, control_plane, data_dir, bucket, _http: http })
}

impl Stage {
    /// Lets each process finish what it is at, the operator first.
    pub(crate) async fn end(mut self) {
        self.operator.stop(GRACE).await;
        self.sidecar.stop(GRACE).await;
    }

    /// The last lines of the operator and the sidecar: where a failure is explained.
    pub(crate) fn last_words(&self) -> String {
        let of = |process: &Process| stheno_local::process::tail(process.log(), 10);
        format!("operator:\n{}\nsidecar:\n{}", of(&self.operator), of(&self.sidecar))
    }
}

async fn start_sidecar(run: &Run, stheno: &Path, cassandra: &Cassandra, store: &Path) -> anyhow::Result<Process> {
    let ini = include_str!("medusa.ini")
        .replace("@YAML@", &cassandra.yaml().display().to_string())
        .replace("@NODETOOL@", &cassandra.nodetool().display().to_string())
        .replace("@STORE@", &store.display().to_string())
        .replace("@POD@", POD);
    let ini = run.file("medusa.ini", &ini)?;
    let listen = SocketAddr::from((cassandra.ip(), SIDECAR_PORT));
    let mut command = Command::new(stheno);
    command.arg("agent").arg("--config").arg(ini).arg("--listen").arg(listen.to_string());
    command.env("POD_NAME", POD);
    let mut sidecar = run.spawn("stheno-agent", command)?;
    sidecar.until("listening", PATIENCE, async || TcpStream::connect(listen).await.is_ok()).await?;
    Ok(sidecar)
}

/// What cass-operator and a kubelet would say of the node.
async fn enter(control_plane: &ControlPlane, cassandra: &Cassandra) -> anyhow::Result<()> {
    control_plane.apply(include_str!("datacenter.yaml")).await?;
    let client = control_plane.client().await?;
    let (ip, now) = (cassandra.ip().to_string(), Time(Timestamp::now()));
    let container = |name: &str| {
        json!({
            "name": name, "ready": true, "started": true, "restartCount": 0, "image": name, "imageID": name,
            "state": {"running": {"startedAt": now}},
        })
    };
    let conditions = |kinds: &[&str]| -> Vec<Value> {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now})).collect()
    };
    let pod = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": ip, "hostIPs": [{"ip": ip}], "startTime": now,
        "conditions": conditions(&["PodScheduled", "Initialized", "ContainersReady", "Ready"]),
        "containerStatuses": [container("cassandra"), container("medusa")],
    }});
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let params = PatchParams::default();
    pods.patch_status(POD, &params, &Patch::Merge(&pod)).await.context("the pod's status")?;

    let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    let datacenters: Api<DynamicObject> = Api::default_namespaced_with(client, &ApiResource::from_gvk(&kind));
    let generation = datacenters.get("dc1").await?.metadata.generation;
    let datacenter: Value = json!({"status": {
        "observedGeneration": generation, "cassandraOperatorProgress": "Ready", "datacenterName": "dc1",
        "conditions": conditions(&["Initialized", "Healthy", "Valid", "Ready"]),
        "nodeStatuses": {POD: {"ip": ip, "rack": "r1"}},
    }});
    datacenters.patch_status("dc1", &params, &Patch::Merge(&datacenter)).await.context("the datacenter's status")?;
    Ok(())
}
