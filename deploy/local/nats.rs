//! nats-server: one, or a cluster of three with replicated JetStream, to be killed, paused and restarted at will.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::ports::Port;
use crate::provision::Part;
use crate::run::Run;
use crate::service::{self, Service};

pub use crate::service::Error;

const PATIENCE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(10);

/// How a server is configured. The default has JetStream on a store folder inside the run folder.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `sync_interval: always`: each write is on the disk before it is acknowledged.
    pub sync_always: bool,
    /// The store, when it is to outlive the server's handle.
    pub store_dir: Option<PathBuf>,
    /// Lines for the configuration file, such as `max_payload: 65536`.
    pub extra: String,
}

/// One nats-server. It keeps its ports and its store over [`Server::kill`] and [`Server::start`].
#[derive(Debug)]
pub struct Server {
    service: Service,
    program: PathBuf,
    config: PathBuf,
    store: PathBuf,
    client: Port,
    monitor: Port,
}

impl Server {
    /// Starts a single server and waits until JetStream is ready.
    pub async fn launch(run: Arc<Run>, options: &Options) -> Result<Self, Error> {
        let mut server = Self::prepare(run, "nats", options, "").await?;
        server.start().await?;
        server.ready().await?;
        Ok(server)
    }

    async fn prepare(run: Arc<Run>, name: &str, options: &Options, cluster: &str) -> Result<Self, Error> {
        let program = service::program(Part::NatsServer).await?;
        let (client, monitor) = (Port::take()?, Port::take()?);
        let store = match &options.store_dir {
            Some(folder) => folder.join(name),
            None => run.folder(&format!("{name}-store"))?,
        };
        let sync = if options.sync_always { "sync_interval: always" } else { "" };
        let config = format!(
            "server_name: {name}\nlisten: \"{}\"\nhttp: \"{}\"\njetstream {{ store_dir: {:?}, {sync} }}\n{cluster}\n{}\n",
            client.address(),
            monitor.address(),
            store.display().to_string(),
            options.extra,
        );
        let config = run.file(&format!("{name}.conf"), &config)?;
        Ok(Self { service: Service::new(run, name), program, config, store, client, monitor })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://{}", self.client.address())
    }

    /// The address of [`Server::url`].
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// The name in the configuration, by which a cluster calls its leaders.
    pub fn name(&self) -> &str {
        self.service.name()
    }

    /// The folder that holds JetStream's files: copy it while the server is stopped to put a log back later.
    pub fn store_dir(&self) -> &Path {
        &self.store
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.service.id()
    }

    /// Starts it (again), and waits until it accepts connections. Nothing happens when it runs.
    pub async fn start(&mut self) -> Result<(), Error> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config);
        let address = self.client.address();
        self.service.start(command, "accepting connections", PATIENCE, async || service::accepts(address).await).await
    }

    /// Waits until it is healthy: JetStream recovered, in a cluster in touch with a leader and current.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let address = self.monitor.address();
        let healthy = async || matches!(http::get(address, "/healthz").await, Some((200, _)));
        self.service.running()?.until("healthy", PATIENCE, healthy).await?;
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        self.service.stop(GRACE).await;
    }

    /// SIGSTOP: it answers nothing and closes nothing.
    pub fn pause(&mut self) -> Result<(), Error> {
        Ok(self.service.running()?.pause()?)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<(), Error> {
        Ok(self.service.running()?.resume()?)
    }

    async fn monitor(&self, path: &str) -> Option<Value> {
        self.service.id()?;
        let asked = http::get(self.monitor.address(), path);
        let (_, body) = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()??;
        serde_json::from_str(&body).ok()
    }
}

/// Three servers, each with JetStream, that replicate streams among them.
#[derive(Debug)]
pub struct Cluster {
    servers: [Server; 3],
    /// Held as long as the servers: a killed one finds its own again.
    _routes: [Port; 3],
}

impl Cluster {
    /// Starts three servers and waits until they agree on a leader.
    pub async fn launch(run: Arc<Run>, options: &Options) -> Result<Self, Error> {
        let routes = [Port::take()?, Port::take()?, Port::take()?];
        let list = routes.each_ref().map(|route| format!("\"nats://{}\"", route.address())).join(", ");
        let section = |own: &Port| {
            let listen = own.address();
            format!("cluster {{ name: stheno, listen: \"{listen}\", no_advertise: true, routes: [{list}] }}")
        };
        let [first, second, third] = &routes;
        let mut servers = [
            Server::prepare(run.clone(), "nats-1", options, &section(first)).await?,
            Server::prepare(run.clone(), "nats-2", options, &section(second)).await?,
            Server::prepare(run, "nats-3", options, &section(third)).await?,
        ];
        for server in &mut servers {
            server.start().await?;
        }
        for server in &mut servers {
            server.ready().await?;
        }
        Ok(Self { servers, _routes: routes })
    }

    /// The servers. Index with what [`Cluster::leader_of`] says.
    pub fn servers(&mut self) -> &mut [Server; 3] {
        &mut self.servers
    }

    /// The addresses of all servers, separated by commas, as clients take them.
    pub fn url(&self) -> String {
        self.servers.each_ref().map(Server::url).join(",")
    }

    /// Which server leads a stream, as the first server that answers sees it.
    pub async fn leader_of(&self, stream: &str) -> Option<usize> {
        for server in &self.servers {
            let Some(seen) = server.monitor("/jsz?accounts=true&streams=true").await else {
                continue;
            };
            let accounts = seen["account_details"].as_array().into_iter().flatten();
            let mut streams = accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
            let found = streams.find(|detail| detail["name"] == stream);
            let leader = found.and_then(|detail| detail["cluster"]["leader"].as_str()).unwrap_or_default();
            if let Some(index) = self.servers.iter().position(|server| server.name() == leader) {
                return Some(index);
            }
        }
        None
    }
}
