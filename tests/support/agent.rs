//! `stheno agent` beside a real Cassandra node, with a bucket in a folder; to be killed, suspended and started again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stheno_local::cassandra::Cassandra;
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::run::Run;
use tokio::net::TcpStream;

/// Keeps its port, its volume and its bucket over [`Agent::kill`] and [`Agent::start`].
pub struct Agent {
    process: Option<Process>,
    pub port: Port,
    ini: PathBuf,
    node: String,
    run: Run,
}

impl Agent {
    pub async fn launch(node: &Cassandra) -> Self {
        Self::launch_with(node, "").await
    }

    /// With these lines more in the section `[storage]`.
    pub async fn launch_with(node: &Cassandra, storage: &str) -> Self {
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        let store = run.folder("store").unwrap();
        let ini = format!(
            "[cassandra]\nconfig_file = {}\nnodetool_executable = {}\nresolve_ip_addresses = False\nuse_sudo = False\n\n\
             [storage]\nstorage_provider = local\nbase_path = {}\nbucket_name = backups\nfqdn = {}\n\
             use_sudo_for_restore = False\n{storage}\n\n[grpc]\nenabled = 1\n",
            node.yaml().display(),
            node.nodetool().display(),
            store.display(),
            node.ip(),
        );
        let ini = run.file("medusa.ini", &ini).unwrap();
        let mut agent = Self { process: None, port, ini, node: node.ip().to_string(), run };
        agent.start().await;
        agent
    }

    /// Starts it (again) and waits until it accepts connections.
    pub async fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.args(["agent", "--listen", &self.port.address().to_string(), "--config"]).arg(&self.ini);
        command.env("MEDUSA_TMP_DIR", self.run.folder("volume").unwrap());
        let mut process = self.run.spawn("agent", command).unwrap();
        let address = self.port.address();
        let listens = async || TcpStream::connect(address).await.is_ok();
        process.until("accepting connections", Duration::from_secs(30), listens).await.unwrap();
        self.process = Some(process);
    }

    /// SIGKILL, for it and what it has started; without effect on one that does not run.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Whether it runs, as far as nobody has killed it here.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// What it has said in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.run.path().join("agent.log")).unwrap_or_default()
    }

    /// The bucket.
    pub fn bucket(&self) -> PathBuf {
        self.run.path().join("store/backups")
    }

    /// All files of the store.
    pub fn objects(&self) -> Vec<PathBuf> {
        files(&self.run.path().join("store"))
    }

    /// The folder of the node's backup of this name: `meta` lies in it.
    pub fn backup(&self, name: &str) -> PathBuf {
        self.bucket().join(&self.node).join(name)
    }
}

/// All files below a folder.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
