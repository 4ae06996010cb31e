//! The operator's beginning and end: parts are made and joined here, and taken apart in the right order.

use super::acceptance::Acceptance;
use super::appends::Appends;
use super::health::Health;
use super::metrics::Metrics;
use super::obstacles::Obstacle;
use super::silence::Silence;
use super::snapshots::{self, Photographer};
use super::witness::{self, Keeper};
use super::{Operator, Watches, clocks};
use crate::effects::Runner;
use crate::lease::{self, Candidate};
use crate::log::checkpoint::Signer;
use crate::log::{Endpoint, Log, Patience};
use crate::{http, log, observe, publish, runtime};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stheno_decide::engine::{Engine, Identity};
use stheno_events::Uid;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Name of the Lease, in the operator's namespace.
const LEASE: &str = "stheno-operator";
/// One request at the start.
const PATIENCE: Duration = Duration::from_secs(15);
/// What is still to be written to the API server at the end.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// Sights that may wait for the loop; watches wait when it is full.
const SIGHTS: usize = 4_096;

/// What the operator needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A kubeconfig file; else KUBECONFIG, else the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces that are watched; all when none.
    pub namespaces: BTreeSet<String>,
    /// Where the Lease, the witness and the process's status lie; else the kubeconfig's or the pod's namespace.
    pub own_namespace: Option<String>,
    /// Where the log is.
    pub log: Endpoint,
    /// The stream's name.
    pub stream: String,
    /// What is refused by default is accepted of the log.
    pub allow_relaxed_log: bool,
    /// Health, readiness and metrics.
    pub http: SocketAddr,
    /// Whether several operators may run.
    pub leader_elect: bool,
    /// A file with the private key that signs checkpoints.
    pub checkpoint_key: Option<PathBuf>,
}

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig.
    #[error("the kubeconfig cannot be used: check --kubeconfig and KUBECONFIG")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// Neither a kubeconfig nor a pod's service account.
    #[error("no Kubernetes cluster is configured: give --kubeconfig, set KUBECONFIG, or run in a pod")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// No client.
    #[error("no client for the Kubernetes API server can be made")]
    Client(#[source] Box<kube::Error>),
    /// The API server.
    #[error("the Kubernetes API server at {url} does not say which cluster this is (namespace kube-system)")]
    Cluster {
        /// Where.
        url: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server is silent.
    #[error("the Kubernetes API server at {0} does not answer within 15 s")]
    Silent(String),
    /// The log.
    #[error(transparent)]
    Log(#[from] log::settings::Error),
    /// The witness.
    #[error("the log cannot be compared with its witness")]
    Witness(#[from] witness::Error),
    /// The file with the key.
    #[error("the checkpoint key {} cannot be read", .path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key.
    #[error(transparent)]
    Key(#[from] log::checkpoint::Error),
    /// A part ended that never ends.
    #[error("{0} ended by a defect of stheno, which its logs tell: starting again is safe")]
    Defect(&'static str),
    /// The address for health.
    #[error(transparent)]
    Http(#[from] http::Error),
}

/// Runs the operator until `shutdown`.
///
/// # Errors
/// When a part that it cannot do without is not there.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let parts = stop.clone().drop_guard();
    let identity: Arc<str> = runtime::identity().into();
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let (health, ready) = Health::new();
    let address = http::serve(settings.http, ready, Arc::new(registry), stop.clone()).await?;
    tracing::info!(%address, identity = &*identity, "health and metrics are served");

    let starting = assemble(settings, health, metrics, identity, &stop, shutdown.clone());
    let (mut operator, ends) = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        assembled = starting => assembled?,
    };
    operator.run().await;

    // What is being written to the API server is finished before the Lease goes; the log's connection goes last.
    let Operator { candidate, log, runner, appends, failed, .. } = operator;
    drop((runner, appends, parts));
    if tokio::time::timeout(LAST_WRITES, ends).await.is_err() {
        tracing::warn!("not all that was to be published was: the next leader publishes it");
    }
    candidate.resign(LAST_WRITES).await;
    log.close().await;
    match failed {
        Some(part) => Err(Error::Defect(part)),
        None => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// Makes all parts; returns the operator and what is to be waited for at its end.
async fn assemble(
    settings: Settings,
    health: Health,
    metrics: Arc<Metrics>,
    identity: Arc<str>,
    stop: &CancellationToken,
    shutdown: CancellationToken,
) -> Result<(Operator, impl Future<Output = ()> + use<>), Error> {
    let signer = settings.checkpoint_key.as_deref().map(signer).transpose()?;
    let config = kube_config(&settings).await?;
    let namespace = settings.own_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
    let cluster = cluster(client.clone(), &url).await?;

    let log = Log::open(log::Settings {
        endpoint: settings.log.clone(),
        stream: settings.stream.clone(),
        cluster: Some(cluster.clone()),
        allow_relaxed: settings.allow_relaxed_log,
        clock: Arc::new(runtime::wall),
        patience: Patience::default(),
    })
    .await?;
    tracing::info!(stream = log.stream_name(), cluster = cluster.as_str(), "the log is open");

    let judged = witness::judge(client.clone(), &namespace, &log).await?;
    let mut obstacles: BTreeMap<_, _> =
        judged.fault.map(|fault| (Obstacle::Integrity, fault.into())).into_iter().collect();
    let until = judged.expected.as_ref().map_or(judged.last_sequence, |witness| witness.last_sequence);
    let world = match obstacles.is_empty() {
        true => snapshots::load(&log, until).await,
        // A log that is not to be trusted is read from its beginning.
        false => stheno_projections::World::default(),
    };
    let mut expected = judged.expected;
    if let Some(witness) = expected.take_if(|witness| witness.last_sequence == world.position && world.position > 0)
        && witness.judge_root(&witness::root(&world)) != log::Integrity::Ok
    {
        let fault = witness::fault(log::Integrity::Rewritten { sequence: witness.last_sequence });
        obstacles.insert(Obstacle::Integrity, fault.into());
    }

    let silence = Silence::new(match &settings.log {
        Endpoint::Embedded { data_dir, .. } => Some(data_dir.clone()),
        Endpoint::External { .. } => None,
    });
    let by: Arc<str> = format!("stheno/{} {identity}", env!("CARGO_PKG_VERSION")).into();
    let photographer = Photographer::new(&log, world.position);
    let follow = log.follow(world.position + 1, stop.clone());
    let engine = Engine::new(Identity { name: identity.clone(), by: by.clone(), cluster }, world);

    health.show(client.clone(), &namespace, &identity, stop.clone());
    let candidate = if settings.leader_elect {
        let (namespace, name, identity) = (namespace.clone(), LEASE.to_owned(), identity.to_string());
        Candidate::stand(client.clone(), lease::Settings { namespace, name, identity })
    } else {
        Candidate::alone()
    };
    let mirror = observe::Mirror::default();
    let (facts, published) = mpsc::unbounded_channel();
    let (publisher, ends) = publish::start(client.clone(), mirror.clone(), identity.clone(), facts, stop.clone());
    let acceptance = Acceptance::new(client.clone(), &namespace, stop.clone());
    let keeper = Keeper::new(client.clone(), &namespace, stop.clone());
    let namespaces = (!settings.namespaces.is_empty())
        .then(|| settings.namespaces.iter().map(|namespace| namespace.as_str().into()).collect());
    let watching = stop.clone();
    let watches = Watches::Waiting(Box::new(move |highest| {
        let (sender, sights) = mpsc::channel(SIGHTS);
        let options = observe::Options { namespaces, highest };
        tokio::spawn(observe::start(client, options, mirror, sender, watching));
        sights
    }));
    let operator = Operator {
        engine,
        by,
        identity,
        health,
        appends: Appends::new(log.clone(), silence, metrics.clone(), stop.clone()),
        metrics,
        runner: Runner::default(),
        candidate,
        keeper,
        acceptance,
        namespace,
        photographer,
        signer,
        publisher,
        published,
        follow: Some(follow),
        watches,
        expected,
        link: log.link(),
        away: None,
        skew: clocks::measure(log.clone(), judged.skew, stop.clone()),
        obstacles,
        polled: tokio::time::Instant::now(),
        shutdown,
        ending: None,
        over: false,
        failed: None,
        log,
    };
    Ok((operator, ends))
}

fn signer(path: &Path) -> Result<Signer, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::KeyFile { path: path.to_owned(), source })?;
    let signer = Signer::from_hex(&text)?;
    tracing::info!(
        public_key = signer.public_hex(),
        "checkpoints are signed: `stheno audit verify --key` wants this key"
    );
    Ok(signer)
}

async fn kube_config(settings: &Settings) -> Result<Config, Error> {
    let Some(path) = &settings.kubeconfig else {
        return Config::infer().await.map_err(|error| Error::NoCluster(Box::new(error)));
    };
    let failed = |error| Error::Kubeconfig(Box::new(error));
    let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.map_err(failed)
}

/// UID of namespace kube-system: the cluster's identity.
async fn cluster(client: Client, url: &str) -> Result<Uid, Error> {
    let api: Api<Namespace> = Api::all(client);
    match tokio::time::timeout(PATIENCE, api.get("kube-system")).await {
        Ok(Ok(namespace)) => Ok(namespace.metadata.uid.unwrap_or_default().into()),
        Ok(Err(error)) => Err(Error::Cluster { url: url.to_owned(), source: Box::new(error) }),
        Err(_) => Err(Error::Silent(url.to_owned())),
    }
}
