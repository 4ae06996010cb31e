//! The whole path on real parts: a person creates a MedusaBackupJob on a real API server; the operator, its log on a real
//! nats-server, and the sidecar beside a real Cassandra node do the rest; the backup lies in the bucket.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "operator/ground.rs"]
mod ground;
#[path = "support/sidecar.rs"]
mod sidecar;

use ground::Ground;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stheno_local::cassandra::Cassandra;
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::provision::{self, Part};
use stheno_local::run::Run;
use stheno_local::testing;
use tokio::net::TcpStream;

/// `stheno agent` beside a Cassandra node, with a bucket in a folder.
struct Agent {
    process: Process,
    port: Port,
    run: Run,
}

impl Agent {
    async fn launch(node: &Cassandra) -> Self {
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        let store = run.folder("store").unwrap();
        let ini = format!(
            "[cassandra]\nconfig_file = {}\nnodetool_executable = {}\nresolve_ip_addresses = False\nuse_sudo = False\n\n\
             [storage]\nstorage_provider = local\nbase_path = {}\nbucket_name = backups\nfqdn = {}\n\
             use_sudo_for_restore = False\n\n[grpc]\nenabled = 1\n",
            node.yaml().display(),
            node.nodetool().display(),
            store.display(),
            node.ip(),
        );
        let ini = run.file("medusa.ini", &ini).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.args(["agent", "--listen", &port.address().to_string(), "--config"]).arg(ini);
        command.env("MEDUSA_TMP_DIR", run.folder("volume").unwrap());
        let mut process = run.spawn("agent", command).unwrap();
        let listens = async || TcpStream::connect(port.address()).await.is_ok();
        process.until("accepting connections", Duration::from_secs(30), listens).await.unwrap();
        Self { process, port, run }
    }

    fn objects(&self) -> Vec<PathBuf> {
        files(&self.run.path().join("store"))
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_from_kubectl_through_the_log_to_the_bucket_and_back() {
    let cassandra = testing::cassandra().await.unwrap();
    let agent = Agent::launch(&cassandra).await;
    let ground = Ground::new("the-path").await;
    ground.datacenter_at("dc1", &[agent.port.number()]).await;
    let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut operator = ground.embedded(data.path(), parts.path(Part::NatsServer).unwrap());
    operator.leads().await;

    ground.job("nightly").await;
    let job = ground.finished("nightly").await.status.unwrap();
    assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    let status = ground.backup_status("nightly").await;
    let objects = agent.objects();
    let manifest = objects.iter().find(|path| path.ends_with("nightly/meta/manifest.json")).expect("a manifest");
    let sections: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let listed: usize = sections.iter().map(|section| section["objects"].as_array().unwrap().len()).sum();
    assert!(listed > 0);
    assert_eq!((status.total_nodes, status.finished_nodes), (Some(1), Some(1)), "{status:#?}");
    assert_eq!(status.total_files, Some(i64::try_from(listed).unwrap()), "{status:#?}");
    let node = &status.nodes[0];
    assert!(!node.tokens.is_empty(), "{node:?}");

    // A second one finds everything there.
    ground.job("again").await;
    let again = ground.finished("again").await.status.unwrap();
    assert_eq!(again.finished.len(), 1, "{again:#?}");
    assert_eq!(operator.stop().await, Some(0));
}
