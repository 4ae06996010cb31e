//! The sidecar: Medusa's gRPC contract and object layout, in Rust, beside one Cassandra node.

pub mod backup;
pub mod catalogue;
mod clock;
pub mod config;
pub mod cql;
mod digests;
mod hash;
#[cfg(test)]
mod hostile;
pub mod ini;
pub mod jobs;
mod known;
pub mod layout;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod prepare;
pub mod presence;
pub mod purge;
pub mod restore;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod store;
mod throttle;
pub mod tls;
pub mod upload;
pub mod verify;
pub mod yaml;

pub use config::Config;
pub use metrics::Metrics;

use std::net::{Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::backup::Tools;
use crate::jobs::Jobs;
use crate::layout::Layout;
use crate::snapshot::Service;
use crate::state::StateDir;
use crate::store::{Patience, Store};
use crate::upload::Uploader;

/// Why the sidecar does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it was told.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The volume.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The management API's certificates.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The gRPC service.
    #[error(transparent)]
    Server(#[from] server::Error),
}

/// Runs the sidecar until `cancel`: serves gRPC on `listen` (else on the configured port of all addresses), continues what
/// was stopped, and at the end leaves what runs at a point where the next start goes on.
pub async fn run(
    config: Config,
    listen: Option<SocketAddr>,
    metrics: Metrics,
    cancel: CancellationToken,
) -> Result<(), Error> {
    // Two providers are linked in (others' features ask for both), and then rustls wants to be told; an error says that the
    // process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = StateDir::open(&config.state_dir)?;
    let store = Store::open(&config.storage, Patience::Long)?;
    let brisk = Store::open(&config.storage, Patience::Short)?;
    let snapshots = Service::new(&config.snapshots)?;
    let uploader = Uploader::new(store.clone(), &config.storage);
    let layout = Layout::new(config.storage.prefix.as_deref(), config.node.clone());
    let grpc = config.grpc.clone();
    let listener = bind(listen, grpc.port).await?;
    tracing::info!(node = %config.node, address = ?listener.local_addr().ok(), "the sidecar serves");

    let tools = Tools { config, layout, store, uploader, snapshots, dir };
    let stop = cancel.child_token();
    let jobs = Jobs::open(tools, brisk, metrics, stop.clone()).await?;
    let served = server::serve(jobs.clone(), &grpc, listener).await;
    stop.cancel();
    jobs.stopped().await;
    Ok(served?)
}

/// All addresses, of both families where the machine has both.
pub(crate) async fn bind(listen: Option<SocketAddr>, port: u16) -> Result<TcpListener, server::Error> {
    let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let address = listen.unwrap_or(every);
    let failed = |source| server::Error::Listen { address, source };
    match TcpListener::bind(address).await {
        // No IPv6 here.
        Err(_) if listen.is_none() => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await.map_err(failed),
        bound => bound.map_err(failed),
    }
}
