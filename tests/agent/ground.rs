//! What the tests stand on: one Cassandra node for all, a bucket and a sidecar process for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use scylla::client::session_builder::SessionBuilder;
use stheno_local::cassandra::{self, Cassandra};
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::run::Run;
use stheno_local::s3::S3;
use stheno_local::testing;
use stheno_rpc::medusa::medusa_client::MedusaClient;
use stheno_rpc::sidecar::keeper_client::KeeperClient;
use stheno_rpc::sidecar::sidecar_client::SidecarClient;
use stheno_rpc::sidecar::{Claim, NodeState, StartBackupRequest, WatchRequest, node_state};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::jolokia::{self, Jolokia};

const PATIENCE: Duration = Duration::from_secs(30);
/// A backup that is watched for so long hangs: the sidecar tries a node that is away for a minute.
const LONGEST: Duration = Duration::from_secs(120);

/// The node that Medusa's backups are of.
pub(crate) const ELSEWHERE: &str = "127.0.0.1";

static CASSANDRA: OnceCell<Cassandra> = OnceCell::const_new();

/// The node that all tests share: their backups have names of their own.
pub(crate) async fn cassandra() -> &'static Cassandra {
    let start = async || {
        let options = cassandra::Options { java: vec![jolokia::shared().option()], ..Default::default() };
        testing::cassandra_with(&options).await.unwrap()
    };
    CASSANDRA.get_or_init(start).await
}

/// Makes a table with an index, if need be, and writes `count` rows of it from `from` on; each brings `bytes` of noise.
pub(crate) async fn rows(table: &str, from: i32, count: i32, bytes: usize) {
    rows_on(cassandra().await, table, from, count, bytes).await;
}

/// The same on a node of its own.
pub(crate) async fn rows_on(node: &Cassandra, table: &str, from: i32, count: i32, bytes: usize) {
    let cql = SessionBuilder::new().known_node_addr(node.cql()).build().await.unwrap();
    for statement in [
        "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}"
            .to_owned(),
        format!("CREATE TABLE IF NOT EXISTS shop.{table} (id int PRIMARY KEY, colour text, noise blob)"),
        format!("CREATE INDEX IF NOT EXISTS {table}_colour ON shop.{table} (colour)"),
    ] {
        cql.query_unpaged(statement, ()).await.unwrap();
    }
    let insert = cql.prepare(format!("INSERT INTO shop.{table} (id, colour, noise) VALUES (?, ?, ?)")).await.unwrap();
    for id in from..from + count {
        let noise: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
        cql.execute_unpaged(&insert, (id, format!("c{}", id % 5), noise)).await.unwrap();
    }
}

/// A limit of bandwidth with which a full backup of the node, as it is now, takes at least `seconds`.
pub(crate) async fn slow(seconds: u64) -> String {
    let node = cassandra().await;
    // There is a keyspace then.
    rows("limits", 0, 1, 1).await;
    jolokia::shared().flush("shop").await;
    let live = files(&node.data_dir()).into_iter().filter(|file| !file.to_str().unwrap().contains("/snapshots/"));
    // Files come and go while they are counted.
    let bytes: u64 = live.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    format!("transfer_max_bandwidth = {}KB/s", bytes / 1000 / seconds)
}

/// Where a test's backups go.
pub(crate) enum Bucket {
    Local,
    S3(S3),
}

impl Bucket {
    pub(crate) async fn s3() -> Self {
        let server = testing::s3().await.unwrap();
        server.create_bucket("backups").unwrap();
        Self::S3(server)
    }
}

/// What a sidecar is told of its node.
pub(crate) struct Beside {
    pub(crate) yaml: PathBuf,
    pub(crate) nodetool: PathBuf,
    pub(crate) name: String,
    pub(crate) snapshots: Snapshots,
}

/// How a sidecar takes snapshots.
pub(crate) enum Snapshots {
    /// By Jolokia, which listens at this URL: nodetool starts a virtual machine for each of its calls. medusa.ini itself says
    /// nothing of it, for Medusa reads it, too.
    Jolokia(String),
    /// As medusa.ini says.
    AsConfigured,
}

/// A sidecar process with everything of its own.
pub(crate) struct Sidecar {
    process: Option<Process>,
    pub(crate) run: Run,
    pub(crate) bucket: Bucket,
    port: Port,
    pub(crate) ini: PathBuf,
    pub(crate) volume: PathBuf,
    pub(crate) beside: Beside,
    claims: std::sync::atomic::AtomicU32,
}

impl Sidecar {
    /// Starts one; `storage` are more lines of [storage].
    pub(crate) async fn launch(bucket: Bucket, storage: &str) -> Self {
        Self::launch_at(cassandra().await, Some(jolokia::shared()), bucket, storage, "").await
    }

    /// Starts one over a bucket that Medusa filled beside a Cassandra 4.1 of another machine: the differential backups b1
    /// and b2 and the full f1 of the node [`ELSEWHERE`]. `change` may do something to the bucket first.
    pub(crate) async fn over_medusas(storage: &str, change: impl FnOnce(&Path)) -> Self {
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        let (volume, store) = (run.folder("volume").unwrap(), run.folder("store").unwrap());
        unpack(&store);
        change(&store.join("backups"));
        let yaml = format!("data_file_directories: [{}]", run.folder("data").unwrap().display());
        let yaml = run.file("cassandra.yaml", &yaml).unwrap();
        let (nodetool, name) = (PathBuf::from("nodetool"), ELSEWHERE.to_owned());
        let beside = Beside { yaml, nodetool, name, snapshots: Snapshots::AsConfigured };
        let mut sidecar = Self {
            process: None,
            run,
            bucket: Bucket::Local,
            port,
            ini: PathBuf::new(),
            volume,
            beside,
            claims: Default::default(),
        };
        sidecar.configure(storage, "").await;
        sidecar.start().await;
        sidecar
    }

    /// Starts one beside a node of its own, which takes snapshots by nodetool; `sections` come after all others.
    pub(crate) async fn launch_beside(node: &Cassandra, bucket: Bucket, storage: &str, sections: &str) -> Self {
        Self::launch_at(node, None, bucket, storage, sections).await
    }

    /// Starts one beside a node of its own in which Jolokia listens.
    pub(crate) async fn launch_with_jolokia(node: &Cassandra, jolokia: &Jolokia, bucket: Bucket) -> Self {
        Self::launch_at(node, Some(jolokia), bucket, "", "").await
    }

    async fn launch_at(
        node: &Cassandra,
        jolokia: Option<&Jolokia>,
        bucket: Bucket,
        storage: &str,
        sections: &str,
    ) -> Self {
        let snapshots = jolokia.map_or(Snapshots::AsConfigured, |jolokia| Snapshots::Jolokia(jolokia.url()));
        let beside = Beside { yaml: node.yaml(), nodetool: node.nodetool(), name: node.ip().to_string(), snapshots };
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        let volume = run.folder("volume").unwrap();
        let mut sidecar =
            Self { process: None, run, bucket, port, ini: PathBuf::new(), volume, beside, claims: Default::default() };
        sidecar.configure(storage, sections).await;
        sidecar.start().await;
        sidecar
    }

    /// Writes medusa.ini anew; the next start reads it.
    pub(crate) async fn configure(&mut self, storage: &str, sections: &str) {
        let Beside { yaml, nodetool, name, .. } = &self.beside;
        let place = match &self.bucket {
            Bucket::Local => {
                let base = self.run.folder("store").unwrap();
                format!("storage_provider = local\nbase_path = {}\nbucket_name = backups", base.display())
            }
            Bucket::S3(server) => {
                let keys = format!(
                    "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                    S3::ACCESS_KEY,
                    S3::SECRET_KEY
                );
                let keys = self.run.file("credentials", &keys).unwrap();
                let (host, port) = (server.address().ip(), server.address().port());
                format!(
                    "storage_provider = s3_compatible\nbucket_name = backups\nkey_file = {}\nhost = {host}\nport = {port}\n\
                     secure = False\nregion = {}\ns3_addressing_style = path",
                    keys.display(),
                    S3::REGION
                )
            }
        };
        let ini = format!(
            "[cassandra]\nconfig_file = {}\nnodetool_executable = {}\nresolve_ip_addresses = False\nuse_sudo = False\n\n\
             [storage]\n{place}\nfqdn = {}\nuse_sudo_for_restore = False\n{storage}\n\n[grpc]\nenabled = 1\n\n{sections}\n",
            yaml.display(),
            nodetool.display(),
            name,
        );
        self.ini = self.run.file("medusa.ini", &ini).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts it (again) on the same volume and waits until it accepts connections.
    pub(crate) async fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.args(["agent", "--listen", &self.address().to_string(), "--config"]).arg(self.settings());
        command.env("MEDUSA_TMP_DIR", &self.volume);
        let mut process = self.run.spawn("sidecar", command).unwrap();
        let address = self.address();
        process
            .until("accepting connections", PATIENCE, async || TcpStream::connect(address).await.is_ok())
            .await
            .unwrap();
        self.process = Some(process);
    }

    /// Snapshots are taken by this program; [`Self::configure`] comes after it.
    pub(crate) fn by_nodetool(&mut self, program: PathBuf) {
        (self.beside.nodetool, self.beside.snapshots) = (program, Snapshots::AsConfigured);
    }

    /// What the sidecar reads: medusa.ini as it is now, and where Jolokia is.
    fn settings(&self) -> PathBuf {
        match &self.beside.snapshots {
            Snapshots::Jolokia(url) => {
                let ini = std::fs::read_to_string(&self.ini).unwrap();
                self.run.file("sidecar.ini", &format!("{ini}\n{}", jolokia::section(url))).unwrap()
            }
            Snapshots::AsConfigured => self.ini.clone(),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        let mut process = self.process.take().unwrap();
        process.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(Duration::from_secs(10), process.wait()).await.expect("no end within 10 s of SIGTERM")
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address())).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn medusa(&self) -> MedusaClient<Channel> {
        MedusaClient::new(self.channel().await)
    }

    pub(crate) async fn keeper(&self) -> KeeperClient<Channel> {
        KeeperClient::new(self.channel().await)
    }

    pub(crate) async fn ours(&self) -> SidecarClient<Channel> {
        SidecarClient::new(self.channel().await)
    }

    /// A claim of a new operation.
    pub(crate) fn claim(&self) -> Claim {
        let number = self.claims.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Claim { operation: format!("operation-{number}"), attempt: 1, epoch: 1 }
    }

    /// Runs a backup to its end as a new operation.
    pub(crate) async fn backup(&self, name: &str, full: bool) -> NodeState {
        let claim = self.claim();
        self.begin(&claim, name, full).await.unwrap();
        self.follow(&claim, name).await
    }

    pub(crate) async fn begin(&self, claim: &Claim, name: &str, full: bool) -> Result<NodeState, tonic::Status> {
        let request = StartBackupRequest { claim: Some(claim.clone()), name: name.to_owned(), full };
        Ok(self.ours().await.start_backup(request).await?.into_inner().state.unwrap())
    }

    /// Watches to the end: the last state.
    pub(crate) async fn follow(&self, claim: &Claim, name: &str) -> NodeState {
        self.states(claim, name, |_| false).await.pop().unwrap()
    }

    /// Watches until a state is enough, or to the end: all states.
    pub(crate) async fn states(
        &self,
        claim: &Claim,
        name: &str,
        enough: impl Fn(&NodeState) -> bool,
    ) -> Vec<NodeState> {
        let request = WatchRequest { claim: Some(claim.clone()), name: name.to_owned() };
        let mut stream = self.ours().await.watch(request).await.unwrap().into_inner();
        let mut states = Vec::new();
        let deadline = Instant::now() + LONGEST;
        loop {
            let next = tokio::time::timeout_at(deadline, stream.message()).await;
            let next = next.unwrap_or_else(|_| panic!("no end after {:?}\n{}", states.last(), self.log()));
            let Some(state) = next.unwrap() else { break };
            let last = enough(&state);
            states.push(state);
            if last {
                break;
            }
        }
        states
    }

    /// The folder that holds the objects.
    pub(crate) fn objects(&self) -> PathBuf {
        match &self.bucket {
            Bucket::Local => self.run.path().join("store/backups"),
            Bucket::S3(server) => server.folder().join("backups"),
        }
    }

    /// `stheno restore` with this sidecar's configuration and an environment.
    pub(crate) fn restore(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.args(["restore", "--config"]).arg(&self.ini);
        // Others restore beside it.
        command.env("STHENO_LISTEN", "127.0.0.1:0").envs(environment.iter().copied());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// All keys in the bucket.
    pub(crate) fn keys(&self) -> Vec<String> {
        let root = self.objects();
        let mut keys: Vec<String> =
            files(&root).iter().map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
        keys.sort();
        keys
    }

    /// An object's content.
    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.objects().join(key)).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// The objects of a manifest.
    pub(crate) fn manifest(&self, prefix: &str, name: &str, node: &str) -> Vec<stheno_agent::manifest::Object> {
        let json = self.object(&format!("{prefix}{node}/{name}/meta/manifest.json"));
        let sections: Vec<stheno_agent::manifest::Section> = serde_json::from_slice(&json).unwrap();
        sections.into_iter().flat_map(|section| section.objects).collect()
    }

    /// What the sidecar said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.run.path().join("sidecar.log")).unwrap()
    }
}

/// Puts Medusa's backups as `backups` into a folder: unpacked once, then copied with their times.
pub(crate) fn unpack(folder: &Path) {
    static UNPACKED: OnceLock<Run> = OnceLock::new();
    let unpacked = UNPACKED.get_or_init(|| {
        let run = Run::temporary().unwrap();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/medusa-backup.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("xzf").arg(archive).arg("-C").arg(run.path());
        tar.args(["--strip-components=1", "golden-medusa-backup/bucket"]);
        assert!(tar.status().unwrap().success());
        run
    });
    let copied = Command::new("cp").arg("-rp").args([unpacked.path().join("bucket"), folder.join("backups")]).status();
    assert!(copied.unwrap().success());
}

/// All files below a folder.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Snapshots on the node's volume, by tag.
pub(crate) async fn snapshots(tag: &str) -> Vec<PathBuf> {
    let ending = format!("/snapshots/{tag}/");
    files(&cassandra().await.data_dir()).into_iter().filter(|file| file.to_str().unwrap().contains(&ending)).collect()
}

pub(crate) fn phase(state: &NodeState) -> node_state::Phase {
    state.phase()
}
