//! `stheno restore`: its options.

use crate::runtime;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use stheno_agent::restore::{self, Outcome, Report};
use stheno_agent::server;

/// The init container.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  BACKUP_NAME=night-1 RESTORE_KEY=4711 stheno restore --config /etc/medusa/medusa.ini

What is restored comes from the environment, as an operator sets it: BACKUP_NAME, RESTORE_KEY, RESTORE_MAPPING, POD_NAME,
and for a part of the data RESTORE_KEYSPACES (a,b) and RESTORE_TABLES (a.t,b.u). With MEDUSA_MODE=RESTORE and no command it
is what runs: a drop-in for Medusa's image. Without BACKUP_NAME there is nothing to do.

While it works, WatchRestore of our gRPC service tells how far it is, on the port where the sidecar serves later. How it ended
is the container's termination message.")]
pub(super) struct Args {
    /// Medusa's configuration
    #[arg(long, value_name = "FILE", env = "STHENO_CONFIG", default_value = "/etc/medusa/medusa.ini")]
    config: PathBuf,
    /// Where the progress is served; else the port in the configuration, on all addresses
    #[arg(long, value_name = "ADDRESS", env = "STHENO_LISTEN")]
    listen: Option<SocketAddr>,
    /// The container's termination message, which is written if the file is there
    #[arg(long, value_name = "FILE", env = "STHENO_TERMINATION_LOG", default_value = "/dev/termination-log")]
    termination_log: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let outcome = restored(&args).await;
    let message = match &outcome {
        Ok(said) => said.clone(),
        Err(error) => super::sentence(error.as_ref()),
    };
    last_words(&args.termination_log, &message);
    outcome.map(drop)
}

/// A kubelet shows it with the container's end.
fn last_words(file: &Path, message: &str) {
    if file.exists()
        && let Err(error) = std::fs::write(file, message)
    {
        tracing::warn!(%error, file = %file.display(), "the termination message is not written");
    }
}

/// Restores; what there is to say of it.
async fn restored(args: &Args) -> anyhow::Result<String> {
    let env = |key: &str| std::env::var(key).ok();
    let config = stheno_agent::Config::load(&args.config, env)?;
    let (report, stop) = (Report::default(), runtime::shutdown()?);
    let work = restore::run(&config, env, &stop, &report);
    match server::beside(&config, args.listen, report.watch(), work).await? {
        Outcome::Skipped(reason) => {
            tracing::info!(reason, "nothing is restored");
            Ok(format!("nothing is restored: {reason}"))
        }
        Outcome::Restored(sums) => {
            tracing::info!(
                files = sums.files,
                bytes = sums.bytes,
                kept = sums.kept,
                resumed = sums.resumed,
                "restored"
            );
            Ok(format!("restored {} files, {} bytes; {} were there", sums.files, sums.bytes, sums.kept + sums.resumed))
        }
    }
}
