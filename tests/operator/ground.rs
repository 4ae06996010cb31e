//! A namespace, an operator's account and a log of each test's own, on one API server.

use crate::support::sidecar::{FalseSidecar, Serving};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stheno_crds::{MedusaBackup, MedusaBackupJob, MedusaBackupStatus};
use stheno_local::control_plane::ControlPlane;
use stheno_local::testing;
use stheno_rpc::medusa::{BackupNode, BackupSummary, StatusType};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

const RBAC: &str = include_str!("../../deploy/rbac.yaml");

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// An API server with our kinds.
pub async fn control_plane() -> ControlPlane {
    stheno::runtime::crypto();
    let plane = testing::control_plane().await.unwrap();
    plane.apply(&stheno_crds::all_crds_yaml().unwrap()).await.unwrap();
    plane
}

pub struct Ground {
    pub admin: Client,
    pub namespace: String,
    pub account: PathBuf,
    pub nats: stheno_local::nats::Server,
    pub nodes: Vec<Node>,
}

/// A pod and the false sidecar in it.
pub struct Node {
    pub pod: String,
    pub sidecar: FalseSidecar,
    pub serving: Serving,
}

impl Ground {
    /// The namespace holds what an operator's own namespace does, and what it watches. The account has the rights of
    /// the real one.
    pub async fn new(namespace: &str) -> Self {
        Self::on(SHARED.get_or_init(control_plane).await, namespace).await
    }

    /// As [`Ground::new`], on an API server of the test's own.
    pub async fn on(plane: &ControlPlane, namespace: &str) -> Self {
        let rbac = RBAC.replace("name: stheno\n", &format!("name: {namespace}\n")).replace("stheno-system", namespace);
        plane.apply(&rbac).await.unwrap();
        let account = plane.account_kubeconfig(namespace, namespace).await.unwrap();
        let admin = plane.client().await.unwrap();
        let nats = testing::nats().await.unwrap();
        Self { admin, namespace: namespace.to_owned(), account, nats, nodes: Vec::new() }
    }

    /// A datacenter with as many pods, each with our false sidecar or a stock one.
    pub async fn datacenter(&mut self, name: &str, size: usize, ours: bool) {
        let sidecars: Vec<FalseSidecar> = (0..size).map(|_| FalseSidecar::new()).collect();
        let serve = |sidecar: &FalseSidecar| if ours { sidecar.serve_ours() } else { sidecar.serve_stock() };
        let serving: Vec<Serving> = sidecars.iter().map(serve).collect();
        let ports: Vec<u16> = serving.iter().map(|serving| serving.address.port()).collect();
        let pods = self.datacenter_at(name, &ports).await;
        let nodes = pods.into_iter().zip(sidecars).zip(serving);
        self.nodes.extend(nodes.map(|((pod, sidecar), serving)| Node { pod, sidecar, serving }));
    }

    /// A datacenter whose pods' sidecars listen on these ports here; the pods' names.
    pub async fn datacenter_at(&self, name: &str, ports: &[u16]) -> Vec<String> {
        self.datacenter_object(name, ports.len()).await;
        let mut pods = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let pod = pod(name, number, *port);
            self.create(pod.clone()).await;
            pods.extend(pod.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned));
        }
        pods
    }

    async fn datacenter_object(&self, name: &str, size: usize) {
        self.create(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1",
            "kind": "CassandraDatacenter",
            "metadata": { "name": name },
            "spec": { "clusterName": "Shop", "size": size, "serverType": "cassandra", "serverVersion": "4.1.9" },
            "status": { "cassandraOperatorProgress": "Ready" },
        }))
        .await;
    }

    /// A datacenter of one pod, which is otherwise than it should be.
    pub async fn datacenter_with(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.datacenter_object(name, 1).await;
        let mut pod = pod(name, 0, 50051);
        change(&mut pod);
        self.create(pod).await;
    }

    /// Creates an object and gives it its status.
    pub async fn create(&self, mut object: Value) -> DynamicObject {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let status = object.as_object_mut().unwrap().remove("status");
        object["metadata"]["namespace"] = json!(self.namespace);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.admin.clone(), &self.namespace, &resource);
        let created = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        match status {
            None => created,
            Some(status) => {
                let patch = Patch::Merge(json!({ "status": status }));
                api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap()
            }
        }
    }

    pub async fn job(&self, name: &str) -> String {
        self.job_with(name, json!({})).await
    }

    /// A job with these fields beside the datacenter; its UID.
    pub async fn job_with(&self, name: &str, rules: Value) -> String {
        let mut spec = rules;
        spec["cassandraDatacenter"] = json!("dc1");
        let job = self.create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1",
            "kind": "MedusaBackupJob",
            "metadata": { "name": name },
            "spec": spec,
        }));
        job.await.uid().unwrap()
    }

    pub fn jobs(&self) -> Api<MedusaBackupJob> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn backups(&self) -> Api<MedusaBackup> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// A value of a ConfigMap, once it is as wanted.
    pub async fn map_once(&self, name: &str, key: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let data = self.maps().get_opt(name).await.unwrap().and_then(|map| map.data).unwrap_or_default();
            match data.get(key) {
                Some(value) if wanted(value) => return value.clone(),
                Some(_) | None => {}
            }
            assert!(Instant::now() < deadline, "ConfigMap {name} never said it: {data:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The text of a Kubernetes Event of the operator about itself.
    pub async fn event_once(&self, reason: &str) -> String {
        let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.admin.clone(), &self.namespace);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let all = events.list(&Default::default()).await.unwrap();
            let found = all.items.into_iter().find(|event| event.reason.as_deref() == Some(reason));
            if let Some(note) = found.and_then(|event| event.note) {
                return note;
            }
            assert!(Instant::now() < deadline, "no Event {reason}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn holder(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), &self.namespace);
        let lease = leases.get_opt("stheno-operator").await.unwrap()?;
        lease.spec?.holder_identity
    }

    /// What all sidecars list of a backup from now on.
    pub fn list(&self, name: &str) {
        let nodes: Vec<BackupNode> = self
            .nodes
            .iter()
            .map(|node| BackupNode {
                host: node.pod.clone(),
                tokens: vec![1, 2],
                datacenter: "dc1".into(),
                rack: "r1".into(),
            })
            .collect();
        let count = i32::try_from(nodes.len()).unwrap();
        let summary = BackupSummary {
            backup_name: name.into(),
            start_time: 1_790_000_000,
            finish_time: 1_790_000_060,
            total_nodes: count,
            finished_nodes: count,
            nodes,
            status: StatusType::Success.into(),
            backup_type: "differential".into(),
            total_size: 3_000,
            total_objects: 30,
        };
        for node in &self.nodes {
            node.sidecar.script().backups.push(summary.clone());
        }
    }

    /// Starts an operator with the log on this ground's nats-server.
    pub fn operator(&self) -> Operator {
        self.start(|command| command.args(["--nats-url", &self.nats.url()]))
    }

    /// Starts an operator that is alone and has a private log.
    pub fn embedded(&self, data_dir: &Path, program: &Path) -> Operator {
        self.start(|command| {
            command.arg("--leader-elect=false").arg("--data-dir").arg(data_dir).env("STHENO_NATS_SERVER", program)
        })
    }

    /// Starts an operator with these options.
    pub fn start(&self, with: impl FnOnce(&mut Command) -> &mut Command) -> Operator {
        let http = stheno_local::ports::Port::take().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.arg("operator").arg("--kubeconfig").arg(&self.account);
        command.args(["--namespace", &self.namespace, "--own-namespace", &self.namespace]);
        command.args(["--http", &http.address().to_string()]);
        let child = with(&mut command).stdin(Stdio::null()).spawn().unwrap();
        Operator { child, http }
    }

    /// The job, once it is as wanted.
    pub async fn job_once(&self, name: &str, wanted: impl Fn(&MedusaBackupJob) -> bool) -> MedusaBackupJob {
        let jobs = self.jobs();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // The API server may be starting.
            let job = jobs.get(name).await.ok();
            if let Some(job) = job.as_ref().filter(|job| wanted(job)) {
                return job.clone();
            }
            assert!(Instant::now() < deadline, "{name} never got there: {:#?}", job.and_then(|job| job.status));
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The status of a MedusaBackup, once it has one.
    pub async fn backup_status(&self, name: &str) -> MedusaBackupStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let backup = self.backups().get_opt(name).await.unwrap();
            if let Some(status) = backup.and_then(|backup| backup.status) {
                return status;
            }
            assert!(Instant::now() < deadline, "no status on MedusaBackup {name}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The log is whole and lawful: `stheno audit verify` says so.
    pub fn verified(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        let output = command.args(["audit", "verify", "--nats-url", &self.nats.url()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub async fn finished(&self, name: &str) -> MedusaBackupJob {
        self.job_once(name, |job| job.status.as_ref().is_some_and(|status| status.finish_time.is_some())).await
    }
}

fn pod(datacenter: &str, number: usize, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("shop-{datacenter}-r1-sts-{number}"),
            "labels": {
                "cassandra.datastax.com/cluster": "Shop",
                "cassandra.datastax.com/datacenter": datacenter,
            },
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [
                { "name": "cassandra", "image": "cassandra" },
                { "name": "medusa", "image": "medusa", "ports": [{ "name": "grpc", "containerPort": port }] },
            ],
        },
        "status": {
            "podIP": "127.0.0.1",
            "podIPs": [{ "ip": "127.0.0.1" }],
            "phase": "Running",
            "containerStatuses": [{
                "name": "medusa", "ready": true, "image": "medusa", "imageID": "", "restartCount": 0,
            }],
        },
    })
}

/// An operator process; killed when it is dropped.
pub struct Operator {
    pub child: Child,
    pub http: stheno_local::ports::Port,
}

impl Operator {
    /// Status and text of a page.
    pub async fn page(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.http.address()).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.trim().to_owned()))
    }

    /// Waits until readiness says this.
    pub async fn says(&mut self, wanted: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let page = self.page("/readyz").await;
            if let Some((status, text)) = &page
                && wanted(*status, text)
            {
                return text.clone();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the operator ended");
            assert!(Instant::now() < deadline, "readiness never said it: {page:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn leads(&mut self) {
        self.says(|status, text| status == 200 && text.starts_with("leading")).await;
    }

    /// Processor time so far, and resident memory.
    pub fn cost(&self) -> (Duration, u64) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let stat = read("stat");
        // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths.
        let fields: Vec<u64> = stat.rsplit(')').next().unwrap().split(' ').map(|n| n.parse().unwrap_or(0)).collect();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        (Duration::from_millis((fields[12] + fields[13]) * 10), kib)
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    }

    /// SIGTERM; the exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the operator does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
