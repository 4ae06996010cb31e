//! What both stand on: a Cassandra node, a store, a server process, and what is between a server and S3.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stheno_local::cassandra::Cassandra;
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::run::Run;
use stheno_local::s3::S3;
use stheno_local::testing;
use stheno_rpc::medusa::medusa_client::MedusaClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

use crate::files::{self, Shape};
use crate::processes::{self, Cost, Who};

const PATIENCE: Duration = Duration::from_secs(60);
/// GetBackups of many backups is some kilobytes, but nobody knows how many.
const ANSWER: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Local,
    S3,
}

/// For all rounds.
pub(crate) struct Ground {
    cassandra: Cassandra,
    s3: S3,
    s3_run: Arc<Run>,
    folder: tempfile::TempDir,
    nodes: AtomicU32,
}

/// One contender with a store of its own, which goes with it.
pub(crate) struct Node<'a> {
    ground: &'a Ground,
    who: Who,
    place: Place,
    folder: PathBuf,
    bucket: String,
    process: Option<Process>,
    run: Run,
    port: Port,
}

impl Ground {
    pub(crate) async fn new(base: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("stheno-bench-").tempdir_in(base).unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        let s3_run = Arc::new(Run::temporary().unwrap());
        let s3 = S3::launch(Arc::clone(&s3_run)).await.unwrap();
        Self { cassandra: testing::cassandra().await.unwrap(), s3, s3_run, folder, nodes: AtomicU32::new(0) }
    }

    /// Where the tables are that are backed up.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A server over an empty store.
    pub(crate) async fn node(&self, who: Who, place: Place, storage: &str) -> Node<'_> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(format!("node-{number}"));
        let bucket = format!("bucket-{number}");
        if place == Place::S3 {
            self.s3.create_bucket(&bucket).unwrap();
        }
        self.begin(who, place, folder, bucket, storage).await
    }

    /// A server over a local store that is there.
    pub(crate) async fn node_over(&self, who: Who, store: &Path) -> Node<'_> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(format!("node-{number}"));
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(store, folder.join("store")).unwrap();
        self.begin(who, Place::Local, folder, "bucket".to_owned(), "").await
    }

    async fn begin(&self, who: Who, place: Place, folder: PathBuf, bucket: String, storage: &str) -> Node<'_> {
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        for name in ["volume", "out/data", "out/commitlog", "store"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut node = Node { ground: self, who, place, folder, bucket, process: None, run, port };
        node.start(storage, self.s3.address()).await;
        node
    }

    /// The node's cassandra.yaml with its data, or all of its directories, elsewhere.
    fn yaml(&self, data: &Path) -> String {
        let text = fs::read_to_string(self.cassandra.yaml()).unwrap();
        let own = self.cassandra.data_dir();
        assert!(text.contains(own.to_str().unwrap()));
        let home = own.parent().unwrap().to_str().unwrap();
        text.replace(home, data.parent().unwrap().to_str().unwrap())
    }

    /// A local store with the index of so many backups of three nodes with so many objects each.
    pub(crate) fn listed(&self, backups: usize, objects: usize) -> PathBuf {
        let store = self.folder.path().join("listed");
        let own = self.cassandra.ip().to_string();
        let nodes = [own.as_str(), "node-1", "node-2"];
        let ring: Vec<String> = nodes
            .iter()
            .map(|node| format!(r#""{node}": {{"tokens": [1, 2], "is_up": true, "rack": "r1", "dc": "dc1"}}"#))
            .collect();
        let ring = format!("{{{}}}", ring.join(", "));
        let put = |key: &str, content: &str| {
            let path = store.join("bucket").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for node in nodes {
            let object = |at: usize| {
                let table = at / 100;
                format!(
                    r#"{{"path": "{node}/data/shop/things-{table:032x}/nb-{at}-big-Data.db", "MD5": "{at:032x}", "size": {at}}}"#
                )
            };
            let list: Vec<String> = (0..objects).map(object).collect();
            let manifest =
                format!(r#"[{{"keyspace": "shop", "columnfamily": "things-0", "objects": [{}]}}]"#, list.join(", "));
            for backup in 0..backups {
                let name = format!("night-{backup:03}");
                let entry = |word: &str, ending: &str| format!("index/backup_index/{name}/{word}_{node}{ending}");
                let (start, end) = (1_700_000_000 + backup, 1_700_000_100 + backup);
                put(&format!("{node}/{name}/meta/schema.cql"), "-");
                put(&format!("{node}/{name}/meta/tokenmap.json"), &ring);
                put(&format!("{node}/{name}/meta/manifest.json"), &manifest);
                put(&entry("tokenmap", ".json"), &ring);
                put(&entry("schema", ".cql"), "-");
                put(&entry("manifest", ".json"), &manifest);
                put(&entry("started", &format!("_{start}.timestamp")), &start.to_string());
                put(&entry("finished", &format!("_{end}.timestamp")), &end.to_string());
            }
        }
        store
    }
}

/// What was written before is on the disk: nobody pays for others.
fn settle(folder: &Path) {
    assert!(Command::new("sync").arg("-f").arg(folder).status().unwrap().success());
}

impl Node<'_> {
    pub(crate) fn who(&self) -> Who {
        self.who
    }

    /// The process of the store, where it is one.
    fn store(&self) -> Option<u32> {
        self.ground.s3.id().filter(|_| self.place == Place::S3)
    }

    /// The configuration, which both read.
    fn ini(&self, yaml: &Path, storage: &str, s3: SocketAddr) -> String {
        let place = match self.place {
            Place::Local => format!("storage_provider = local\nbase_path = {}", self.folder.join("store").display()),
            Place::S3 => {
                let (id, secret) = (S3::ACCESS_KEY, S3::SECRET_KEY);
                let keys = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
                let keys = self.run.file("credentials", &keys).unwrap();
                format!(
                    "storage_provider = s3_compatible\nkey_file = {}\nhost = {}\nport = {}\nsecure = False\n\
                     region = {}\ns3_addressing_style = path",
                    keys.display(),
                    s3.ip(),
                    s3.port(),
                    S3::REGION
                )
            }
        };
        let script = format!(
            "#!/bin/sh\nexec '{}' {} '{}' \"$@\"\n",
            std::env::current_exe().unwrap().display(),
            files::NODETOOL,
            self.ground.data().display()
        );
        let nodetool = self.run.file("nodetool", &script).unwrap();
        fs::set_permissions(&nodetool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        format!(
            "[cassandra]\nconfig_file = {}\nnodetool_executable = {}\nresolve_ip_addresses = False\nuse_sudo = False\n\
             [storage]\n{place}\nbucket_name = {}\nfqdn = {}\nuse_sudo_for_restore = False\nconcurrent_transfers = 4\n\
             transfer_max_bandwidth = 100GB/s\n{storage}\n[grpc]\nenabled = 1\nport = {}\n[logging]\nlevel = WARNING\n\
             [checks]\n",
            yaml.display(),
            nodetool.display(),
            self.bucket,
            self.ground.cassandra.ip(),
            self.port.number()
        )
    }

    async fn start(&mut self, storage: &str, s3: SocketAddr) {
        let yaml = self.run.file("cassandra.yaml", &self.ground.yaml(&self.ground.data())).unwrap();
        let ini = self.run.file("medusa.ini", &self.ini(&yaml, storage, s3)).unwrap();
        let command = self.who.server(&ini, self.port.number(), &self.folder.join("volume"));
        let mut process = self.run.spawn("server", command).unwrap();
        let address = self.port.address();
        let probe = async || TcpStream::connect(address).await.is_ok();
        process.until("accepting connections", PATIENCE, probe).await.unwrap();
        self.process = Some(process);
    }

    /// SIGKILL: what it has done is done.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Somebody else goes on over the same bucket on S3, and the requests are counted.
    pub(crate) async fn becomes(&mut self, who: Who, storage: &str) -> Requests {
        let requests = Requests::before(self.ground.s3.address()).await;
        self.who = who;
        self.start(storage, requests.address).await;
        requests
    }

    pub(crate) async fn client(&self) -> MedusaClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.port.address())).unwrap().connect().await.unwrap();
        MedusaClient::new(channel).max_decoding_message_size(ANSWER)
    }

    pub(crate) async fn measured<T>(&self, work: impl Future<Output = T>) -> (T, Cost) {
        settle(self.ground.folder.path());
        processes::measured(self.process.as_ref().unwrap().id(), self.store(), work).await
    }

    /// Everything of a backup to a node that has nothing.
    pub(crate) async fn restore(&self, name: &str, shape: &Shape) -> Cost {
        let data = self.folder.join("out/data");
        let yaml = self.run.file("out.yaml", &self.ground.yaml(&data)).unwrap();
        let ini = self.ini(&yaml, "", self.ground.s3.address()) + "[kubernetes]\nenabled = True\n";
        let ini = self.run.file("out.ini", &ini).unwrap();
        let node = self.ground.cassandra.ip().to_string();
        let command = self.who.restorer(&ini, &self.folder.join("out"), &node, name);
        settle(self.ground.folder.path());
        let store = self.store();
        let cost = tokio::task::spawn_blocking(move || processes::run(command, store)).await.unwrap();
        let count = shape.tables * shape.files;
        assert_eq!(files::extent(&data), (count, (count * shape.bytes) as u64), "{:?}", self.who);
        cost
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.process = None;
        let objects = self.ground.s3.folder().join(&self.bucket);
        let tags = self.ground.s3_run.path().join("metadata-of-s3").join(&self.bucket);
        for folder in [&self.folder, &objects, &tags] {
            // What is not there need not go.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Counts the requests on their way to S3.
pub(crate) struct Requests {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Requests {
    async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let task = tokio::spawn({
            let count = Arc::clone(&count);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    // A connection that ends is none of ours.
                    tokio::spawn(forward(client, upstream, Arc::clone(&count)));
                }
            }
        });
        Self { address, count, task }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, upstream: SocketAddr, count: Arc<AtomicU64>) -> std::io::Result<()> {
    const LINE: &[u8] = b" HTTP/1.1\r\n";
    let store = TcpStream::connect(upstream).await?;
    let ((mut from_client, mut to_client), (mut from_store, mut to_store)) = (client.into_split(), store.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_store, &mut to_client).await });
    let (mut seen, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let length = from_client.read(&mut piece).await?;
        if length == 0 {
            break;
        }
        seen.extend_from_slice(&piece[..length]);
        let lines = seen.windows(LINE.len()).filter(|bytes| *bytes == LINE).count();
        count.fetch_add(lines as u64, Ordering::Relaxed);
        // The end may be the beginning of a line.
        seen.drain(..seen.len().saturating_sub(LINE.len() - 1));
        to_store.write_all(&piece[..length]).await?;
    }
    to_store.shutdown().await?;
    // It ends with the store's side.
    let _ = back.await;
    Ok(())
}
