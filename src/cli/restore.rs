//! `stheno restore`: its options.

use crate::runtime;
use std::path::PathBuf;
use stheno_agent::restore::{self, Outcome};

/// The init container.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  BACKUP_NAME=night-1 RESTORE_KEY=4711 stheno restore --config /etc/medusa/medusa.ini

What is restored comes from the environment, as an operator sets it: BACKUP_NAME, RESTORE_KEY, RESTORE_MAPPING, POD_NAME,
and for a part of the data RESTORE_KEYSPACES (a,b) and RESTORE_TABLES (a.t,b.u). With MEDUSA_MODE=RESTORE and no command it
is what runs: a drop-in for Medusa's image. Without BACKUP_NAME there is nothing to do.")]
pub(super) struct Args {
    /// Medusa's configuration
    #[arg(long, value_name = "FILE", env = "STHENO_CONFIG", default_value = "/etc/medusa/medusa.ini")]
    config: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let env = |key: &str| std::env::var(key).ok();
    let config = stheno_agent::Config::load(&args.config, env)?;
    match restore::run(&config, env, &runtime::shutdown()?).await? {
        Outcome::Skipped(reason) => tracing::info!(reason, "nothing is restored"),
        Outcome::Restored(sums) => {
            tracing::info!(files = sums.files, bytes = sums.bytes, kept = sums.kept, resumed = sums.resumed, "restored")
        }
    }
    Ok(())
}
