//! `stheno agent`: its options.

use crate::http::{self, Ready};
use crate::runtime;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use stheno_agent::Metrics;
use tokio::sync::watch;

/// The sidecar.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stheno agent --config /etc/medusa/medusa.ini --listen 127.0.0.1:50051

With MEDUSA_MODE=GRPC and no command it is what runs: a drop-in for Medusa's image. A PEM file with the authority of the
store's certificate is named by AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE, as for Medusa's clients.")]
pub(super) struct Args {
    /// Medusa's configuration
    #[arg(long, value_name = "FILE", env = "STHENO_CONFIG", default_value = "/etc/medusa/medusa.ini")]
    config: PathBuf,
    /// Where gRPC is served; else the port in the configuration, on all addresses
    #[arg(long, value_name = "ADDRESS", env = "STHENO_LISTEN")]
    listen: Option<SocketAddr>,
    /// Health (/healthz), readiness (/readyz) and metrics (/metrics); none unless given
    #[arg(long, value_name = "ADDRESS", env = "STHENO_HTTP")]
    http: Option<SocketAddr>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let config = stheno_agent::Config::load(&args.config, |key| std::env::var(key).ok())?;
    let stop = runtime::shutdown()?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    // Held until the end: a receiver without its sender keeps the last word all the same.
    let (_ready, state) = watch::channel(Ready::Yes("the sidecar serves".to_owned()));
    if let Some(address) = args.http {
        http::serve(address, state, Arc::new(registry), stop.clone()).await?;
    }
    Ok(stheno_agent::run(config, args.listen, metrics, stop).await?)
}
