//! A real Cassandra node as a process: own loopback address, CQL, JMX, and a nodetool, from nothing but its jars.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Server;
use crate::ports::{Address, Port};
use crate::provision;
use crate::run::Run;
use crate::service::{self, Service};

/// The usual port of CQL: each node has its own address, so none needs another port.
pub const CQL_PORT: u16 = 9042;
const STORAGE_PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(30);

/// What Cassandra needs of Java 17: without one of these lines the node, nodetool, or a repair does not work.
const JAVA_17: [&str; 18] = [
    "--add-exports",
    "java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports",
    "java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-opens",
    "java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.io=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.util=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.lang=ALL-UNNAMED",
    "--add-opens",
    "java.base/java.nio=ALL-UNNAMED",
];

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not what every part needs, or did not start, or did not answer CQL.
    #[error(transparent)]
    Service(service::Error),
    /// A file of the node's could not be written.
    #[error("the node's file {} cannot be written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// nodetool said no.
    #[error("nodetool {arguments} failed: {said}")]
    Nodetool {
        /// What was asked.
        arguments: String,
        /// Its output.
        said: String,
    },
}

impl<E: Into<service::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// What a node is called and where it belongs.
#[derive(Debug, Clone)]
pub struct Options {
    /// `cluster_name`.
    pub cluster: String,
    /// The datacenter in `cassandra-rackdc.properties`.
    pub datacenter: String,
    /// The rack there.
    pub rack: String,
    /// `num_tokens`.
    pub tokens: u32,
    /// The Java heap, in MiB.
    pub heap: u32,
    /// The nodes to join; itself when empty.
    pub seeds: Vec<Ipv4Addr>,
    /// Lines for `cassandra.yaml`.
    pub extra: String,
    /// Which Cassandra.
    pub server: Server,
    /// More options of its virtual machine, such as agents.
    pub java: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster: "local".to_owned(),
            datacenter: "dc1".to_owned(),
            rack: "r1".to_owned(),
            tokens: 4,
            heap: 384,
            seeds: Vec::new(),
            extra: String::new(),
            server: Server::Cassandra41,
            java: Vec::new(),
        }
    }
}

/// One node. It keeps its address and data over [`Cassandra::stop`], [`Cassandra::kill`] and [`Cassandra::start`].
#[derive(Debug)]
pub struct Cassandra {
    service: Service,
    folder: PathBuf,
    jars: PathBuf,
    java: PathBuf,
    heap: u32,
    options: Vec<String>,
    jmx: Port,
    address: Address,
    run: Arc<Run>,
}

impl Cassandra {
    /// Starts a node and waits until it answers CQL (5 to 15 s).
    pub async fn launch(run: Arc<Run>, options: &Options) -> Result<Self, Error> {
        let [part, _] = options.server.parts();
        let jars = service::program(part).await?;
        let java = provision::java("Cassandra")?;
        let address = Address::take(&[CQL_PORT, STORAGE_PORT])?;
        let name = format!("cassandra-{}", address.ip());
        let folder = run.folder(&name)?;
        let jmx = Port::take()?;
        let service = Service::new(run.clone(), &name);
        let (heap, java_options) = (options.heap, options.java.clone());
        let mut node = Self { service, folder, jars, java, heap, options: java_options, jmx, address, run };
        node.write_files(options)?;
        node.start().await?;
        Ok(node)
    }

    /// The node's own loopback address.
    pub fn ip(&self) -> Ipv4Addr {
        self.address.ip()
    }

    /// Where it answers CQL.
    pub fn cql(&self) -> SocketAddr {
        SocketAddr::from((self.ip(), CQL_PORT))
    }

    /// The JMX port, on 127.0.0.1, without authentication.
    pub fn jmx_port(&self) -> u16 {
        self.jmx.number()
    }

    /// `cassandra.yaml`.
    pub fn yaml(&self) -> PathBuf {
        self.folder.join("conf/cassandra.yaml")
    }

    /// The one folder of `data_file_directories`.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A program that does what `nodetool` does, for this node. A `-D...` before the sub-command goes to its JVM.
    pub fn nodetool(&self) -> PathBuf {
        self.folder.join("nodetool")
    }

    /// The node's log.
    pub fn log(&self) -> PathBuf {
        self.run.path().join(format!("{}.log", self.service.name()))
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.service.id()
    }

    /// Runs nodetool (about a second each) and returns what it prints.
    pub async fn run_nodetool(&self, arguments: &[&str]) -> Result<String, Error> {
        let asked = tokio::process::Command::new(self.nodetool()).args(arguments).kill_on_drop(true).output().await;
        let failed = |said: String| Error::Nodetool { arguments: arguments.join(" "), said };
        let output = asked.map_err(|error| failed(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(failed(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned()))
    }

    /// Starts it (again) and waits until it answers CQL.
    pub async fn start(&mut self) -> Result<(), Error> {
        let folder = self.folder.display();
        let mut command = Command::new(&self.java);
        command.args([format!("-Xms{}m", self.heap / 2), format!("-Xmx{}m", self.heap)]);
        command.args(["-Xss512k", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"]);
        // A node for tests lives for seconds: the second compiler costs more than it brings.
        command.args(["-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.args(JAVA_17);
        // Cassandra measures objects with this agent, and refuses to start some features without it.
        command.arg(format!("-javaagent:{}", self.jamm()?.display()));
        command.args(&self.options);
        // Without it the log stops after the start.
        command.args(["-Dlogback.configurationFile=logback.xml", "-Dcassandra-foreground=yes"]);
        command.arg(format!("-Dcassandra.storagedir={folder}"));
        command.arg(format!("-Dcassandra.jmx.local.port={}", self.jmx.number()));
        // The waits for a gossip that a new ring of local processes does not need.
        command.args(["-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=2000"]);
        command.args(["-Dcassandra.shutdown_announce_in_ms=200"]);
        command.arg("-cp").arg(format!("{folder}/conf:{}/*", self.jars.display()));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        let cql = self.cql();
        let answers = async || service::accepts(cql).await;
        Ok(self.service.start(command, "answering CQL", PATIENCE, answers).await?)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        self.service.stop(GRACE).await;
    }

    /// Its version goes with that of Cassandra.
    fn jamm(&self) -> Result<PathBuf, Error> {
        let failed = |source| Error::File { path: self.jars.clone(), source };
        let jars = fs::read_dir(&self.jars).map_err(failed)?.filter_map(Result::ok).map(|entry| entry.path());
        let is_jamm = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("jamm-"))
        };
        jars.into_iter().find(is_jamm).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
    }

    fn write_files(&self, options: &Options) -> Result<(), Error> {
        let (folder, ip) = (self.folder.display(), self.ip());
        let seeds = match options.seeds.as_slice() {
            [] => ip.to_string(),
            seeds => seeds.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(","),
        };
        let Options { cluster, datacenter, rack, tokens, extra, .. } = options;
        let yaml = format!(
            "cluster_name: '{cluster}'\n\
             num_tokens: {tokens}\n\
             partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
             endpoint_snitch: GossipingPropertyFileSnitch\n\
             seed_provider:\n\
             \x20 - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
             \x20   parameters:\n\
             \x20     - seeds: \"{seeds}\"\n\
             listen_address: {ip}\n\
             rpc_address: {ip}\n\
             native_transport_port: {CQL_PORT}\n\
             storage_port: {STORAGE_PORT}\n\
             commitlog_sync: periodic\n\
             commitlog_sync_period: 10000ms\n\
             data_file_directories:\n\
             \x20 - {folder}/data\n\
             commitlog_directory: {folder}/commitlog\n\
             saved_caches_directory: {folder}/saved_caches\n\
             hints_directory: {folder}/hints\n\
             {extra}\n"
        );
        self.write("conf/cassandra.yaml", &yaml)?;
        self.write("conf/cassandra-rackdc.properties", &format!("dc={datacenter}\nrack={rack}\n"))?;
        self.write("conf/logback.xml", include_str!("parts/cassandra41/logback.xml"))?;
        self.write("conf/logback-tools.xml", include_str!("parts/cassandra41/logback-tools.xml"))?;
        self.write("nodetool", &self.nodetool_script())?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let path = self.nodetool();
        fs::set_permissions(&path, executable).map_err(|source| Error::File { path, source })
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, content)).map_err(|source| Error::File { path, source })
    }

    fn nodetool_script(&self) -> String {
        let mut script = String::from(
            "#!/bin/sh\n\
             # nodetool of this node. What begins with -D is for the Java that runs it, as in Cassandra's own script.\n\
             while :; do case \"$1\" in -D*) defines=\"$defines $1\"; shift ;; *) break ;; esac; done\n",
        );
        let (java, folder, jars) = (self.java.display(), self.folder.display(), self.jars.display());
        let _ = writeln!(
            script,
            "exec '{java}' -Xmx128M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 {} $defines -Duser.home='{folder}' \
             -Dlogback.configurationFile='{folder}/conf/logback-tools.xml' \
             -cp '{jars}/*' org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p {} \"$@\"",
            JAVA_17.join(" "),
            self.jmx.number(),
        );
        script
    }
}
