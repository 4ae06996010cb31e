//! `stheno-local`: the ground from the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stheno_local::provision::{self, Part};

/// Real parts of a cluster as processes of this machine, without containers.
#[derive(Debug, Parser)]
#[command(name = "stheno-local", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds all parts into the cache folder (STHENO_CACHE, else stheno in the user's cache folder)
    Provision,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Provision => provision_all().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "where a command explains its failure")]
            {
                eprintln!("stheno-local: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn provision_all() -> anyhow::Result<()> {
    let parts = [Part::NatsServer, Part::Etcd, Part::ApiServer, Part::Kubectl, Part::S3, Part::Cassandra41];
    provision::ensure(&parts).await?;
    Ok(())
}
