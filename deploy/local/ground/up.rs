//! `up`: a process that holds the ground is started, then a datacenter is made in it; `add` makes others.

use std::time::Duration;

use anyhow::Context as _;
use stheno_local::apply::apply_yaml;
use stheno_local::cluster;
use stheno_local::control_plane::client;
use stheno_local::datacenter::Datacenter;
use stheno_local::grounds::{self, Ground};
use stheno_local::kubelet::Isolation;
use stheno_local::process::tail;
use stheno_local::progress::{Step, seconds};
use stheno_local::provision::{self, Part};
use stheno_local::ring::Ring;
use stheno_local::room;
use tokio::time::{Instant, sleep};

use super::HoldOptions;
use super::holder::Holder;

const LOOK: Duration = Duration::from_millis(200);
/// How long a container may be in trouble before the whole thing is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    hold: HoldOptions,
    /// Cassandra nodes of the datacenter, dc1
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    nodes: u32,
    /// Its racks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    racks: u32,
    /// The Cassandra cluster's name
    #[arg(long, default_value = "shop")]
    cluster: String,
}

/// Returns when the datacenter is ready. Dropping the future before ends everything.
pub(crate) async fn up(mut options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    if let Some(program) = options.hold.stheno.take() {
        options.hold.stheno = Some(crate::program::given(&program)?);
    }
    let (holder, ground) = make(&options.hold, options.nodes).await?;
    let client = client(&ground.kubeconfig).await?;
    if let Some(stheno) = &ground.stheno {
        stheno.sidecar.configure(&client, &options.cluster).await?;
    }
    if options.nodes > 0 {
        let wanted = Datacenter {
            name: "dc1".to_owned(),
            cluster: options.cluster.clone(),
            server: options.hold.server,
            nodes: options.nodes,
            racks: options.racks,
            joins: false,
            sidecar: ground.stheno.as_ref().map(|stheno| stheno.sidecar.clone()),
        };
        datacenter(&ground, &client, &wanted).await?;
    }
    holder.release()?;
    println!("\nThe ground `{}` is up after {}.", ground.name, seconds(began.elapsed()));
    look_around(&ground, &options);
    Ok(())
}

/// A datacenter for a ground that is there.
#[derive(Debug, clap::Args)]
pub(crate) struct AddOptions {
    /// The ground; else that of KUBECONFIG, else `local`
    #[arg(long)]
    name: Option<String>,
    /// Its Cassandra nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    nodes: u32,
    /// Its racks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    racks: u32,
    /// The Cassandra cluster: a new one, or one that gets another datacenter
    #[arg(long)]
    cluster: String,
    /// The datacenter's name, which no other has
    datacenter: String,
}

/// Returns when the datacenter is ready; one that does not become so stays, to be looked at.
pub(crate) async fn add(options: AddOptions) -> anyhow::Result<()> {
    let ground = super::chosen(options.name.as_deref())?;
    room::check_more(options.nodes, &std::env::temp_dir())?;
    let client = client(&ground.kubeconfig).await?;
    let there = stheno_local::datacenter::api(&client).get_opt(&options.datacenter).await?;
    anyhow::ensure!(there.is_none(), "there is a datacenter {} already: choose another name", options.datacenter);
    let ring = Ring::of(&client, &options.cluster).await?;
    if let Some(stheno) = &ground.stheno {
        stheno.sidecar.configure(&client, &options.cluster).await?;
    }
    let wanted = Datacenter {
        name: options.datacenter,
        cluster: options.cluster,
        server: ground.server,
        nodes: options.nodes,
        racks: options.racks,
        joins: ring.is_some(),
        sidecar: ground.stheno.as_ref().map(|stheno| stheno.sidecar.clone()),
    };
    let Some(ring) = ring else { return datacenter(&ground, &client, &wanted).await };
    ring.prepare(&client).await?;
    datacenter(&ground, &client, &wanted).await?;
    let step = Step::begin(format!("{}: replicas of roles", wanted.name), "usually 15 seconds");
    ring.admit(&client, &wanted).await?;
    step.done();
    println!(
        "\n{name} holds none of your keyspaces yet: ALTER KEYSPACE ... WITH replication = {{..., '{name}': {}}},\n\
         then a CassandraTask with the command rebuild, like the one that `kubectl get cassandratasks` shows.",
        wanted.nodes.min(3),
        name = wanted.name
    );
    Ok(())
}

/// Whether this machine has room for a ground with that many nodes, and lets it run.
pub(crate) async fn check(nodes: u32, isolation: Isolation) -> anyhow::Result<()> {
    room::check(nodes, &std::env::temp_dir())?;
    Ok(cluster::check(isolation).await?)
}

/// Starts a ground with room for that many nodes.
pub(crate) async fn make(options: &HoldOptions, nodes: u32) -> anyhow::Result<(Holder, Ground)> {
    check(nodes, options.isolation).await?;
    let mut parts = options.cluster().parts();
    let mut names = "etcd, API server, controllers, kubelet and cass-operator".to_owned();
    if options.stheno.is_some() {
        parts.push(Part::NatsServer);
        names = names.replace(" and cass-operator", ", cass-operator and stheno");
    }
    let mut holder = Holder::start(options)?;
    provision::ensure(&parts).await?;
    let step = Step::begin(format!("starting {names}"), "usually 10 seconds");
    let ground = holder.ground().await?;
    step.done();
    Ok((holder, ground))
}

/// Makes a datacenter and returns when it is ready.
pub(crate) async fn datacenter(ground: &Ground, client: &kube::Client, wanted: &Datacenter) -> anyhow::Result<()> {
    let usually = match ground.hurried {
        true => format!("usually {} seconds", 10 + 20 * wanted.nodes),
        false => {
            format!("usually {} seconds, most of which cass-operator waits by its own rules", 20 + 40 * wanted.nodes)
        }
    };
    let nodes =
        if wanted.nodes == 1 { "1 Cassandra node".to_owned() } else { format!("{} Cassandra nodes", wanted.nodes) };
    let racks = if wanted.racks.min(wanted.nodes) == 1 {
        String::new()
    } else {
        format!(" in {} racks", wanted.racks.min(wanted.nodes))
    };
    let step = Step::begin(format!("{}: {nodes}{racks}", wanted.name), &usually);
    apply_yaml(client, &wanted.manifest()?.to_string()).await?;
    let mut well = Instant::now();
    loop {
        let progress = wanted.progress(client).await?;
        if progress.ready {
            break;
        }
        grounds::find(&ground.name).context("the ground ended before its datacenter was ready")?;
        match wanted.trouble(client).await? {
            None => {
                well = Instant::now();
                step.detail(&format!("{} of {} nodes have joined", progress.joined, wanted.nodes));
            }
            Some(trouble) => {
                let said = format!("{} of {}: {}", trouble.container, trouble.pod, trouble.reason);
                step.detail(&said);
                let log = super::container_log(ground, &trouble.pod, &trouble.container);
                let last = log.map(|log| tail(&log, 10)).unwrap_or_default();
                let message = &trouble.message;
                anyhow::ensure!(
                    well.elapsed() < PATIENCE,
                    "{} does not come up; {said}: {message}\n{last}",
                    wanted.name
                );
            }
        }
        sleep(LOOK).await;
    }
    step.done();
    Ok(())
}

fn look_around(ground: &Ground, options: &Options) {
    let name = &ground.name;
    let which = if name == super::NAME { String::new() } else { format!(" --name {name}") };
    let program = std::env::args().next().unwrap_or_else(|| "stheno-local".to_owned());
    println!(
        "\nexport KUBECONFIG={}\n\
         {program} kubectl{which} get cassandradatacenters,pods\n\
         {program} logs{which} cass-operator\n\
         {program} status\n\
         {program} down {name}",
        ground.kubeconfig.display()
    );
    if options.nodes > 0 {
        println!("\nThe superuser's name and password are in the secret {}-superuser.", options.cluster);
    }
    if let Some(stheno) = &ground.stheno {
        println!("The bucket is {}.", stheno.sidecar.bucket().display());
    }
}
