//! What a backup costs the operator, as a process on a real API server with the rights of `deploy/rbac.yaml`, a real
//! nats-server and false sidecars: `cargo bench --bench operator`, or only a part: `-- idle`, `-- three`, `-- hundred`,
//! `-- thousand`, `-- two-thousand`, `-- long`; only when named: `-- ten-thousand`, which takes long.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a benchmark has no public interface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures, and stops at the first surprise"
)]

#[path = "operator/figures.rs"]
mod figures;
#[path = "../operator/ground.rs"]
mod ground;
#[path = "../support/sidecar.rs"]
mod sidecar;
/// Where the suites find it.
mod support {
    pub(crate) use super::sidecar;
}

use figures::{Ends, Footprint, Requests, spread};
use ground::{Ground, until};
use kube::ResourceExt as _;
use serde_json::json;
use std::time::Duration;
use stheno_local::control_plane::ControlPlane;
use stheno_rpc::medusa::{BackupNode, BackupSummary, StatusType};
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::Instant;

/// Until nothing of a start, or of a backup, is still being written.
const SETTLE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let plane = ground::control_plane().await;
    if wanted("idle") {
        idle(&plane).await;
    }
    if wanted("three") {
        latency(&plane, "three", 3, 200).await;
    }
    if wanted("hundred") {
        latency(&plane, "hundred", 100, 100).await;
    }
    if wanted("thousand") {
        many(&plane, "thousand", [10, 3, 100]).await;
    }
    if wanted("two-thousand") {
        many(&plane, "two-thousand", [20, 3, 100]).await;
    }
    if wanted("long") {
        long(&plane).await;
    }
    if parts.iter().any(|part| part == "ten-thousand") {
        many(&plane, "ten-thousand", [100, 10, 100]).await;
    }
}

/// Nothing to do: a datacenter of three nodes is watched, and no job is there.
async fn idle(plane: &ControlPlane) {
    let mut ground = Ground::on(plane, "idle").await;
    ground.datacenter("dc1", 3, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    tokio::time::sleep(SETTLE).await;
    let (cpu, before) = (operator.cost().0, Requests::read(&ground.admin).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let requests = Requests::read(&ground.admin).await.since(&before);
    println!("| idle: resident | {} |", Footprint::of(operator.child.id()));
    println!("| idle: processor time in a minute | {:?} |", operator.cost().0 - cpu);
    println!("| idle: requests in a minute, renewals of the Lease besides | {requests} |");
}

/// One backup after the other on one datacenter.
async fn latency(plane: &ControlPlane, namespace: &str, nodes: usize, jobs: usize) {
    let mut ground = Ground::on(plane, namespace).await;
    ground.datacenter("dc1", nodes, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    let mut ends = Ends::watch(ground.jobs()).await;
    // The first one warms what is made at first use.
    once(&ground, &mut ends, "warm").await;
    tokio::time::sleep(SETTLE).await;
    let (cpu, before) = (operator.cost().0, Requests::read(&ground.admin).await);
    let (mut first, mut all, mut end) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..jobs {
        let took = once(&ground, &mut ends, &format!("job-{number}")).await;
        first.push(took[0]);
        all.push(took[1]);
        end.push(took[2]);
        // Backups do not end in step with anything that happens every second.
        tokio::time::sleep(Duration::from_millis(100 + u64::try_from(number).unwrap() * 37 % 200)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = (operator.cost().0 - cpu) / u32::try_from(jobs).unwrap();
    let requests = Requests::read(&ground.admin).await.since(&before);
    println!("| {nodes} nodes: create to first RPC ({jobs} jobs) | {} |", spread(&mut first));
    println!("| {nodes} nodes: create to the last StartBackup | {} |", spread(&mut all));
    println!("| {nodes} nodes: last answer to finishTime | {} |", spread(&mut end));
    println!("| {nodes} nodes: processor time a job | {used:?} |");
    println!("| {nodes} nodes: API requests a job | {} |", requests.each(jobs));
    println!("| {nodes} nodes: resident afterwards | {} |", Footprint::of(operator.child.id()));
}

/// A backup: create to the first RPC, create to the last start, last answer to finishTime.
async fn once(ground: &Ground, ends: &mut Ends, name: &str) -> [Duration; 3] {
    for node in &ground.nodes {
        node.sidecar.report(|state| *state = Default::default());
        let mut script = node.sidecar.script();
        (script.calls, script.first, script.backups) = (Vec::new(), Default::default(), Vec::new());
        script.backups = vec![summary(name, &ground.nodes.iter().map(|node| &*node.pod).collect::<Vec<_>>())];
    }
    let created = Instant::now();
    ground.job(name).await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    let firsts = |method: Option<&'static str>| {
        ground.nodes.iter().flat_map(move |node| {
            let script = node.sidecar.script();
            let of = |wanted: &&str| method.is_none_or(|method| method == *wanted);
            script.first.iter().filter(|(name, _)| of(name)).map(|(_, at)| *at).min()
        })
    };
    let to_first = firsts(None).min().unwrap() - created;
    let to_all = firsts(Some("StartBackup")).max().unwrap() - created;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for node in &ground.nodes {
        node.sidecar.report(|state| {
            state.set_phase(Phase::Finished);
            (state.bytes_total, state.files_total) = (1_000, 10);
        });
    }
    let answered = Instant::now();
    let ended = ends.of(name).await;
    until("its backup is read", || ground.nodes.iter().any(|node| node.sidecar.count("GetBackup") == 1)).await;
    [to_first, to_all, ended.saturating_duration_since(answered)]
}

/// A backup of a hundred nodes that takes five minutes, each of which says every second how far it is.
async fn long(plane: &ControlPlane) {
    const NODES: usize = 100;
    let mut ground = Ground::on(plane, "long").await;
    ground.datacenter("dc1", NODES, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    let mut ends = Ends::watch(ground.jobs()).await;
    let idle = sockets(operator.child.id());
    for node in &ground.nodes {
        node.sidecar.script().backups = vec![summary("long", &[&*node.pod])];
    }
    let before = Requests::read(&ground.admin).await;
    ground.job("long").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;
    let (mut resident, mut most) = (Vec::new(), 0);
    for second in 1..=300_u64 {
        for node in &ground.nodes {
            node.sidecar.report(|state| {
                state.set_phase(Phase::Uploading);
                (state.bytes_done, state.bytes_total) = (second << 20, 300 << 20);
                (state.files_done, state.files_total) = (second, 300);
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(sockets(operator.child.id()).saturating_sub(idle));
        if second % 60 == 0 {
            resident.push(Footprint::of(operator.child.id()).resident());
        }
    }
    ground.nodes.iter().for_each(|node| node.sidecar.phase(Phase::Finished));
    ends.of("long").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let requests = Requests::read(&ground.admin).await.since(&before);
    println!("| 300 s, {NODES} nodes: resident after each minute | {resident:.1?} MiB |");
    println!("| 300 s, {NODES} nodes: connections to sidecars, at most | {most} |");
    println!("| 300 s, {NODES} nodes: processor time, all of the process | {:?} |", operator.cost().0);
    println!("| 300 s, {NODES} nodes: requests | {requests} |");
}

/// Open sockets of a process.
fn sockets(process: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let of = |file: &std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    files.filter(of).count()
}

/// Many backups in datacenters beside one another; then a process that finds them finished.
async fn many(plane: &ControlPlane, namespace: &str, [datacenters, nodes, each]: [usize; 3]) {
    let mut ground = Ground::on(plane, namespace).await;
    for dc in 0..datacenters {
        ground.datacenter(&format!("dc{dc}"), nodes, true).await;
    }
    for (dc, nodes) in ground.nodes.chunks(nodes).enumerate() {
        let pods: Vec<&str> = nodes.iter().map(|node| &*node.pod).collect();
        for node in nodes {
            // What is started has ended.
            node.sidecar.phase(Phase::Finished);
            let all = (0..each).map(|number| summary(&format!("job-{dc}-{number}"), &pods));
            node.sidecar.script().backups.extend(all);
        }
    }
    let mut operator = ground.operator();
    operator.leads().await;
    let mut ends = Ends::watch(ground.jobs()).await;
    let (cpu, begun) = (operator.cost().0, Instant::now());
    for number in 0..each {
        for dc in 0..datacenters {
            let job = ground.create(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1",
                "kind": "MedusaBackupJob",
                "metadata": { "name": format!("job-{dc}-{number}") },
                "spec": { "cassandraDatacenter": format!("dc{dc}") },
            }));
            assert!(job.await.uid().is_some());
        }
    }
    let jobs = datacenters * each;
    ends.all(jobs).await;
    let (took, used) = (begun.elapsed(), operator.cost().0 - cpu);
    println!(
        "| {jobs} backups in {datacenters} datacenters of {nodes} nodes | {took:.1?}, {used:?} of processor time |"
    );
    until_backups(&ground, jobs).await;
    tokio::time::sleep(SETTLE).await;
    println!(
        "| {jobs} finished backups: resident in the process that ran them | {} |",
        Footprint::of(operator.child.id())
    );
    assert_eq!(operator.stop().await, Some(0));

    let before = Requests::read(&ground.admin).await;
    let begun = Instant::now();
    let mut operator = ground.operator();
    operator.leads().await;
    let took = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let (used, requests) = (operator.cost().0, Requests::read(&ground.admin).await.since(&before));
    println!("| {jobs} finished backups: a new process leads | {took:.1?}, {used:?} of processor time |");
    let writes = requests.writes();
    println!("| {jobs} finished backups: writes of a new process, its witness besides | {writes} |");
    println!("| {jobs} finished backups: requests of a new process | {requests} |");
    println!("| {jobs} finished backups: resident in a new process | {} |", Footprint::of(operator.child.id()));
}

/// Waits until each has its MedusaBackup, with a status.
async fn until_backups(ground: &Ground, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let backups = ground.backups().list(&Default::default()).await.unwrap().items;
        if backups.iter().filter(|backup| backup.status.is_some()).count() == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{} of {wanted} backups", backups.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What a sidecar tells of a finished backup.
fn summary(name: &str, pods: &[&str]) -> BackupSummary {
    let count = i32::try_from(pods.len()).unwrap();
    // As a node of usual settings has them.
    let tokens: Vec<i64> = (1..=16).map(|token| token * 1_000_000_007).collect();
    let node = |pod: &&str| BackupNode {
        host: (*pod).into(),
        tokens: tokens.clone(),
        datacenter: "dc1".into(),
        rack: "r1".into(),
    };
    BackupSummary {
        backup_name: name.into(),
        start_time: 1_790_000_000,
        finish_time: 1_790_000_060,
        total_nodes: count,
        finished_nodes: count,
        nodes: pods.iter().map(node).collect(),
        status: StatusType::Success.into(),
        backup_type: "differential".into(),
        total_size: 3_000,
        total_objects: 30,
    }
}
