//! `stheno-local`: the ground from the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to people")]

mod ground;
mod program;
mod quickstart;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use stheno_local::provision::{self, Part};
use stheno_local::{grounds, run};
use tokio::signal::unix::{SignalKind, signal};

/// Real parts of a cluster as processes of this machine, without containers.
#[derive(Debug, Parser)]
#[command(name = "stheno-local", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows one backup: from kubectl through the log to the bucket, and back to kubectl
    Quickstart(quickstart::Options),
    /// Makes a cluster with cass-operator and Cassandra that goes on in the background
    Up(ground::UpOptions),
    /// Makes another datacenter in a ground, of a new cluster or of one that is there
    Add(ground::AddOptions),
    /// Ends the ground of that name; without one all that go on in the background, also what `quickstart --keep` left
    Down {
        /// The ground's name
        name: Option<String>,
    },
    /// Shows what runs, and how much memory it takes
    Status {
        /// The ground's name
        name: Option<String>,
    },
    /// Prints the log of a part or of a pod's container
    Logs(ground::LogsOptions),
    /// Runs kubectl with a ground's kubeconfig
    Kubectl(ground::KubectlOptions),
    /// Holds a ground, in the process that `up` starts
    #[command(hide = true)]
    Hold(ground::HoldOptions),
    /// Builds parts into the cache folder (STHENO_CACHE, else stheno in the user's cache folder) and prints where they are
    Provision {
        /// Which parts; all when none is named
        parts: Vec<Part>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("stheno-local: no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        // Listened to before anything is started: a signal in between would end this process alone.
        let interrupted = interrupted();
        // Dropping the command's future ends the processes that it has started.
        tokio::select! {
            done = dispatch(cli.command) => match done {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("stheno-local: {error:#}");
                    ExitCode::FAILURE
                }
            },
            number = interrupted => {
                eprintln!("stheno-local: stopped; nothing is left running");
                ExitCode::from(number)
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Quickstart(options) => quickstart::run(options).await,
        Command::Up(options) => ground::up(options).await,
        Command::Add(options) => ground::add(options).await,
        Command::Down { name } => down(name.as_deref()),
        Command::Status { name } => ground::status(name.as_deref()).await,
        Command::Logs(options) => ground::logs(&options),
        Command::Kubectl(options) => ground::kubectl(&options).await,
        Command::Hold(options) => ground::hold(options).await,
        Command::Provision { parts } => provision(if parts.is_empty() { &Part::ALL } else { &parts }).await,
    }
}

async fn provision(parts: &[Part]) -> anyhow::Result<()> {
    let found = provision::ensure(parts).await?;
    for part in parts {
        println!("{}", found.path(*part)?.display());
    }
    Ok(())
}

fn down(name: Option<&str>) -> anyhow::Result<()> {
    let grounds = match name {
        Some(name) => vec![grounds::find(name)?],
        None => grounds::all(),
    };
    for ground in &grounds {
        grounds::end(ground);
        println!("ended the ground {}", ground.name);
    }
    if grounds.is_empty() {
        println!("nothing was left running");
    }
    run::sweep_all();
    Ok(())
}

/// The exit code of the first signal that asks us to end: 128 and its number, as shells say it. Signals are listened to from
/// the call on, not only when the answer is first waited for.
fn interrupted() -> impl Future<Output = u8> {
    let listen = |kind: SignalKind| {
        let signals = signal(kind);
        async move {
            match signals {
                Ok(mut signals) => {
                    signals.recv().await;
                    u8::try_from(128 + kind.as_raw_value()).unwrap_or(1)
                }
                Err(_) => std::future::pending().await,
            }
        }
    };
    let (interrupt, terminate, hangup) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    async move {
        tokio::select! {
            code = interrupt => code,
            code = terminate => code,
            code = hangup => code,
        }
    }
}
