//! A kubelet that runs pods as processes of this machine: no container engine, no images.
//!
//! It has one node, binds pods to it, provides PersistentVolumes, and runs each container's command as its pod says. What
//! an image would bring is looked up in [`Images`]. As root, pods have network namespaces and containers private roots
//! ([`Isolation::Namespaces`]); otherwise a loopback address each, and their paths are replaced in what they are told.

mod attach;
mod container;
mod envfile;
mod environment;
mod exec;
mod files;
mod forward;
mod images;
mod logs;
mod names;
pub(crate) mod network;
mod node;
mod place;
mod pod;
mod probe;
mod root;
mod server;
mod socket;
mod spdy;
mod status;
mod storage;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, oneshot, watch};

pub use self::images::{Images, Program};
pub use self::network::Isolation;
use self::network::Network;
use crate::run::{self, Run};
use crate::{control_plane, process, remains};

/// How a variable says to which pod a process belongs; its value is the pod's UID.
pub(crate) const POD_MARK: &str = "STHENO_LOCAL_POD";

/// Why there is no kubelet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server cannot be reached.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// The run folder cannot be used.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The network of the pods cannot be made.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The node or the storage class was refused.
    #[error("the API server refused the kubelet's {0}")]
    Refused(&'static str, #[source] Box<kube::Error>),
    /// Its server for logs and commands did not start.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// A process that it needs did not start.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The thread that it runs in could not be started.
    #[error("the kubelet's thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// How fast a pod's probes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// As the pod says.
    #[default]
    AsSpecified,
    /// Without initial delay, and every second at least; a container with a liveness probe is called running only when
    /// that succeeds.
    Hurried,
}

/// How pods are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What containers without a command run.
    pub images: Images,
    /// How pods are kept apart.
    pub isolation: Isolation,
    /// How fast probes are.
    pub pace: Pace,
}

/// Whether this machine allows that isolation.
pub(crate) fn check(isolation: Isolation) -> Result<(), Error> {
    Ok(network::check(isolation)?)
}

/// What all rooms of one kubelet share.
pub(crate) struct Shared {
    client: Client,
    run: Arc<Run>,
    images: Images,
    network: Network,
    pace: Pace,
    folder: PathBuf,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    services: Mutex<BTreeMap<String, Service>>,
    places: Mutex<BTreeMap<String, Arc<place::Place>>>,
    names_changed: Notify,
    /// By the pod's UID and the container's name.
    running: Mutex<BTreeMap<(String, String), Arc<container::Running>>>,
    log_times: logs::Times,
    port: u16,
}

/// A running kubelet. Dropped: all its pods' processes are killed, and the network that it made is gone.
#[derive(Debug)]
pub struct Kubelet {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    node_ip: std::net::Ipv4Addr,
    logs: PathBuf,
}

impl Kubelet {
    /// Starts it in a thread of its own and returns when its node is ready. Ends the processes that a crashed
    /// predecessor of the same run left.
    pub async fn launch(run: Arc<Run>, options: Options) -> Result<Self, Error> {
        remains::end_marked(POD_MARK, run.path());
        let folder = run.folder("kubelet")?;
        let _ = std::fs::remove_dir_all(folder.join("pods"));
        let network = Network::set_up(options.isolation)?;
        let (node_ip, logs) = (network.host(), folder.join("logs"));
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(Error::Thread(error)));
                    return;
                }
            };
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, live(run, options, network, folder, ready, stopped));
        };
        let thread = std::thread::Builder::new().name("kubelet".to_owned()).spawn(body).map_err(Error::Thread)?;
        let kubelet = Self { stop: Some(stop), thread: Some(thread), node_ip, logs };
        match is_ready.await {
            Ok(Ok(())) => Ok(kubelet),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Thread(std::io::Error::other("it ended before it was ready"))),
        }
    }

    /// The address of the node: where pods find what listens on this machine.
    pub fn node_ip(&self) -> std::net::Ipv4Addr {
        self.node_ip
    }

    /// The folder with `<namespace>_<pod>/<container>.<restart>.log`.
    pub fn logs(&self) -> &std::path::Path {
        &self.logs
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn live(
    run: Arc<Run>,
    options: Options,
    network: Network,
    folder: PathBuf,
    ready: oneshot::Sender<Result<(), Error>>,
    stopped: oneshot::Receiver<()>,
) {
    let (shared, server) = match prepare(run, options, network, folder).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    // Dropping these futures, and with them the tasks of the pods, kills the processes that they hold.
    tokio::select! {
        _ = stopped => {}
        () = server.serve(&shared) => {}
        () = node::heartbeat(&shared) => {}
        () = storage::provide(&shared) => {}
        () = storage::reclaim(&shared) => {}
        () = names::publish(&shared) => {}
        () = follow_services(&shared) => {}
        () = follow_pods(&shared) => {}
    }
}

async fn prepare(
    run: Arc<Run>,
    options: Options,
    network: Network,
    folder: PathBuf,
) -> Result<(Arc<Shared>, server::Server), Error> {
    let server = server::Server::bind(run.path()).await?;
    let client = control_plane::client(&options.kubeconfig).await?;
    let shared = Arc::new(Shared {
        client,
        run,
        images: options.images,
        network,
        pace: options.pace,
        folder,
        pods: Mutex::default(),
        services: Mutex::default(),
        places: Mutex::default(),
        names_changed: Notify::new(),
        running: Mutex::default(),
        log_times: logs::Times::default(),
        port: server.port(),
    });
    node::register(&shared).await.map_err(|error| Error::Refused("node", Box::new(error)))?;
    storage::register(&shared).await.map_err(|error| Error::Refused("storage class", Box::new(error)))?;
    Ok((shared, server))
}

async fn follow_services(shared: &Shared) {
    let services: Api<Service> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(services, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(service) | watcher::Event::InitApply(service)) => {
                lock(&shared.services).insert(uid(&service), service);
            }
            Ok(watcher::Event::Delete(service)) => {
                lock(&shared.services).remove(&uid(&service));
            }
            Ok(watcher::Event::Init) => lock(&shared.services).clear(),
            Ok(watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!("the watch of services broke and is begun again: {error}"),
        }
        shared.names_changed.notify_one();
    }
}

/// Each pod of our node has a task; a pod that vanished from the API server stops at once.
async fn follow_pods(shared: &Arc<Shared>) {
    let mut tasks: BTreeMap<String, watch::Sender<Option<Arc<Pod>>>> = BTreeMap::new();
    let mut listed = BTreeMap::new();
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let applied = match event {
            Ok(watcher::Event::Apply(pod)) => Some(pod),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.insert(uid(&pod), ());
                Some(pod)
            }
            Ok(watcher::Event::Delete(pod)) => {
                lock(&shared.pods).remove(&uid(&pod));
                if let Some(updates) = tasks.remove(&uid(&pod)) {
                    let _ = updates.send(None);
                }
                None
            }
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitDone) => {
                for (uid, updates) in &tasks {
                    if !listed.contains_key(uid) {
                        lock(&shared.pods).remove(uid);
                        let _ = updates.send(None);
                    }
                }
                tasks.retain(|uid, _| listed.contains_key(uid));
                None
            }
            Err(error) => {
                tracing::debug!("the watch of pods broke and is begun again: {error}");
                None
            }
        };
        let Some(pod) = applied else {
            shared.names_changed.notify_one();
            continue;
        };
        let (uid, pod) = (uid(&pod), Arc::new(pod));
        lock(&shared.pods).insert(uid.clone(), pod.clone());
        shared.names_changed.notify_one();
        match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            None => node::bind(shared, &pod).await,
            Some(node::NAME) => match tasks.get(&uid) {
                Some(updates) => {
                    let _ = updates.send(Some(pod));
                }
                None => {
                    let (updates, receiver) = watch::channel(Some(pod.clone()));
                    tokio::task::spawn_local(pod::live(shared.clone(), pod, receiver));
                    tasks.insert(uid, updates);
                }
            },
            Some(_) => {}
        }
    }
}

fn uid(object: &impl kube::Resource) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// A panic elsewhere leaves these maps as usable as before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often slow things are looked at again.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
