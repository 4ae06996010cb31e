//! `quickstart`: one backup on real parts, from kubectl through the log to the bucket, and back to kubectl.
#![allow(clippy::print_stdout, reason = "the story that the command tells")]

mod follow;
mod program;
mod report;
mod rows;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use stheno_local::progress::{Step, seconds};
use stheno_local::provision::{self, Part};
use stheno_local::run::Run;
use tokio::process::Command;
use tokio::time::Instant;

use self::stage::Stage;

const JOB: &str = "first-backup";

/// How the quickstart is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leaves everything running, and says how to look around; `stheno-local down` ends it
    #[arg(long)]
    keep: bool,
    /// The stheno program to show, instead of building the one of this repository
    #[arg(long, env = "STHENO_PROGRAM", value_name = "PROGRAM")]
    stheno: Option<PathBuf>,
}

/// The programs that are shown and used.
struct Programs {
    stheno: PathBuf,
    kubectl: PathBuf,
    nats_server: PathBuf,
}

/// Tells the whole story. Dropping the future ends everything that it has started.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let needed = [Part::NatsServer, Part::Etcd, Part::Cassandra41, Part::Kubectl, Part::ApiServer];
    let parts = provision::ensure(&needed).await?;
    let programs = Programs {
        stheno: program::find(options.stheno).await?,
        kubectl: parts.path(Part::Kubectl)?.to_owned(),
        nats_server: parts.path(Part::NatsServer)?.to_owned(),
    };
    let built = Instant::now();
    let run = Arc::new(if options.keep { Run::lasting()? } else { Run::temporary()? });

    let step = Step::begin("starting etcd, API server and Cassandra", "usually 10 seconds");
    let ground = stage::ground(&run).await?;
    step.done();
    let step = Step::begin("starting the sidecar and the operator", "usually 3 seconds");
    let stage = stage::set(&run, &programs.stheno, &programs.nats_server, ground).await?;
    step.done();

    if let Err(error) = story(&programs, &stage).await {
        return Err(
            error.context(format!("the quickstart did not come to its end; the last words of\n{}", stage.last_words()))
        );
    }
    println!("\nDone in {}, of which building took {}.", seconds(began.elapsed()), seconds(built - began));
    if options.keep {
        look_around(&run, &programs, &stage);
        run.keep();
    } else {
        println!("All of it ends now; `cargo quickstart --keep` leaves it running to look around.");
        stage.end().await;
    }
    Ok(())
}

async fn story(programs: &Programs, stage: &Stage) -> anyhow::Result<()> {
    let step = Step::begin(format!("writing {} rows by CQL", rows::ROWS), "usually 2 seconds");
    rows::write(&stage.cassandra).await?;
    step.done();

    let backup = include_str!("quickstart/backup.yaml");
    println!("\n{backup}");
    let mut apply = kubectl(programs, stage);
    report::show("kubectl apply -f -", apply.args(["apply", "-f", "-"]), backup).await?;
    follow::job(stage.control_plane.client().await?, JOB).await?;

    let mut get = kubectl(programs, stage);
    get.args(["get", "medusabackupjob,medusabackup"]);
    report::show("kubectl get medusabackupjob,medusabackup", &mut get, "").await?;
    report::bucket(&stage.bucket)?;
    let mut audit = Command::new(&programs.stheno);
    audit.args(["audit", "log", "--data-dir"]).arg(&stage.data_dir).env("STHENO_NATS_SERVER", &programs.nats_server);
    report::show("stheno audit log", &mut audit, "").await.context("the log could not be shown")
}

fn kubectl(programs: &Programs, stage: &Stage) -> Command {
    let mut command = Command::new(&programs.kubectl);
    command.env("KUBECONFIG", stage.control_plane.kubeconfig());
    command
}

fn look_around(run: &Run, programs: &Programs, stage: &Stage) {
    let shown = |path: &Path| path.display().to_string();
    println!(
        "It goes on running. To look around:\n\n\
         export KUBECONFIG={}\n\
         export STHENO_DATA_DIR={} STHENO_NATS_SERVER={}\n\
         {kubectl} get medusabackup {JOB} -o yaml\n\
         {stheno} audit show medusabackupjob default/{JOB}\n\
         {stheno} events -f\n\
         {} status\n\n\
         The bucket is {}, the logs are {}/*.log.\n\
         `stheno-local down` ends it: cargo run --package stheno-local --bin stheno-local -- down",
        shown(stage.control_plane.kubeconfig()),
        shown(&stage.data_dir),
        shown(&programs.nats_server),
        shown(&stage.cassandra.nodetool()),
        shown(&stage.bucket),
        shown(run.path()),
        kubectl = shown(&programs.kubectl),
        stheno = shown(&programs.stheno),
    );
}
