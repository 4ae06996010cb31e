//! `stheno agent`: its options.

use crate::runtime;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The sidecar.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stheno agent --config /etc/medusa/medusa.ini --listen 127.0.0.1:50051

With MEDUSA_MODE=GRPC and no command it is what runs: a drop-in for Medusa's image.")]
pub(super) struct Args {
    /// Medusa's configuration
    #[arg(long, value_name = "FILE", env = "STHENO_CONFIG", default_value = "/etc/medusa/medusa.ini")]
    config: PathBuf,
    /// Where gRPC is served; else the port in the configuration, on all addresses
    #[arg(long, value_name = "ADDRESS", env = "STHENO_LISTEN")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let config = stheno_agent::Config::load(&args.config, |key| std::env::var(key).ok())?;
    Ok(stheno_agent::run(config, args.listen, runtime::shutdown()?).await?)
}
