//! `quickstart`: one backup on real parts, from kubectl through the log to the bucket, and back to kubectl.
#![allow(clippy::print_stdout, reason = "the story that the command tells")]

mod follow;
mod report;
mod rows;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::Client;
use stheno_local::cluster::Server;
use stheno_local::control_plane::client;
use stheno_local::datacenter::Datacenter;
use stheno_local::grounds::{self, Ground, SthenoPlaces};
use stheno_local::kubelet::Isolation;
use stheno_local::process::tail;
use stheno_local::progress::{Step, seconds};
use stheno_local::provision::{self, Part};
use tokio::process::Command;
use tokio::time::Instant;

use crate::{ground, program};

const JOB: &str = "first-backup";
const CLUSTER: &str = "shop";
/// The ground that `--keep` leaves.
const KEPT: &str = "quickstart";
const RACKS: u32 = 2;

/// How the quickstart is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Cassandra nodes, in two racks
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
    /// Leaves everything running, and says how to look around; `stheno-local down` ends it
    #[arg(long)]
    keep: bool,
    /// How pods are kept apart
    #[arg(long, default_value = "best")]
    isolation: Isolation,
    /// The stheno program to show, instead of building the one of this repository
    #[arg(long, env = "STHENO_PROGRAM", value_name = "PROGRAM")]
    stheno: Option<PathBuf>,
}

/// What is shown, and with which programs.
struct Show {
    ground: Ground,
    places: SthenoPlaces,
    client: Client,
    stheno: PathBuf,
    kubectl: PathBuf,
    nats_server: PathBuf,
    nodes: u32,
}

/// Tells the whole story. Dropping the future ends everything that it has started.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let name = if options.keep { KEPT.to_owned() } else { format!("{KEPT}-{}", std::process::id()) };
    anyhow::ensure!(!grounds::is_held(&name), grounds::Error::InUse(name));
    let hold = |stheno| ground::HoldOptions {
        name,
        server: Server::Cassandra41,
        hurried: false,
        isolation: options.isolation,
        stheno,
    };
    // Before minutes of building, what forbids it.
    ground::check(options.nodes, options.isolation).await?;
    let tools = provision::ensure(&[Part::NatsServer, Part::Kubectl]).await?;
    let hold = hold(Some(program::find(options.stheno).await?));
    provision::ensure(&hold.cluster().parts()).await?;
    let built = Instant::now();

    let (holder, ground) = ground::make(&hold, options.nodes).await?;
    let places = ground.stheno.clone().context("the ground has no stheno")?;
    let show = Show {
        client: client(&ground.kubeconfig).await?,
        stheno: hold.stheno.unwrap_or_default(),
        kubectl: tools.path(Part::Kubectl)?.to_owned(),
        nats_server: tools.path(Part::NatsServer)?.to_owned(),
        nodes: options.nodes,
        places,
        ground,
    };
    let wanted = Datacenter {
        name: "dc1".to_owned(),
        cluster: CLUSTER.to_owned(),
        server: Server::Cassandra41,
        nodes: options.nodes,
        racks: RACKS,
        joins: false,
        sidecar: Some(show.places.sidecar.clone()),
    };
    let told = async {
        show.places.sidecar.configure(&show.client, CLUSTER).await?;
        ground::datacenter(&show.ground, &show.client, &wanted).await?;
        story(&show).await
    };
    if let Err(error) = told.await {
        let words = tail(&show.ground.run.join("stheno.log"), 10);
        return Err(
            error.context(format!("the quickstart did not come to its end; the last words of the operator:\n{words}"))
        );
    }
    println!("\nDone in {}, of which building took {}.", seconds(began.elapsed()), seconds(built - began));
    if options.keep {
        holder.release()?;
        look_around(&show);
    } else {
        println!("All of it ends now; `cargo quickstart --keep` leaves it running to look around.");
    }
    Ok(())
}

async fn story(show: &Show) -> anyhow::Result<()> {
    let step = Step::begin(format!("writing {} rows by CQL", rows::ROWS), "usually 3 seconds");
    rows::write(&show.client, CLUSTER, show.nodes).await?;
    step.done();

    let mut pods = kubectl(show);
    report::show("kubectl get pods", pods.args(["get", "pods"]), "").await?;
    let backup = include_str!("quickstart/backup.yaml");
    println!("\n{backup}");
    let mut apply = kubectl(show);
    report::show("kubectl apply -f -", apply.args(["apply", "-f", "-"]), backup).await?;
    follow::job(show.client.clone(), JOB).await?;

    let mut get = kubectl(show);
    get.args(["get", "medusabackupjob,medusabackup"]);
    report::show("kubectl get medusabackupjob,medusabackup", &mut get, "").await?;
    report::bucket(&show.places.sidecar.bucket())?;
    let mut audit = Command::new(&show.stheno);
    audit.args(["audit", "log", "--data-dir"]).arg(&show.places.data_dir).env("STHENO_NATS_SERVER", &show.nats_server);
    report::show("stheno audit log", &mut audit, "").await.context("the log could not be shown")
}

fn kubectl(show: &Show) -> Command {
    let mut command = Command::new(&show.kubectl);
    command.env("KUBECONFIG", &show.ground.kubeconfig);
    command
}

fn look_around(show: &Show) {
    let shown = |path: &Path| path.display().to_string();
    println!(
        "It goes on running. To look around:\n\n\
         export KUBECONFIG={}\n\
         export STHENO_DATA_DIR={} STHENO_NATS_SERVER={}\n\
         {kubectl} get medusabackup {JOB} -o yaml\n\
         {kubectl} get cassandradatacenters,statefulsets,pods\n\
         {stheno} audit show medusabackupjob default/{JOB}\n\
         {stheno} events -f\n\n\
         The bucket is {}, the logs are {}/*.log.\n\
         `stheno-local down` ends it: cargo run --package stheno-local --bin stheno-local -- down",
        shown(&show.ground.kubeconfig),
        shown(&show.places.data_dir),
        shown(&show.nats_server),
        shown(&show.places.sidecar.bucket()),
        shown(&show.ground.run),
        kubectl = shown(&show.kubectl),
        stheno = shown(&show.stheno),
    );
}
