//! `up`: a process that holds the ground is started, then datacenters are made in it, one after the other.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use stheno_local::apply::apply_yaml;
use stheno_local::control_plane::client;
use stheno_local::grounds::{self, Ground};
use stheno_local::process::tail;
use stheno_local::progress::{Step, seconds};
use stheno_local::{provision, room};
use tokio::time::{Instant, sleep};

use super::HoldOptions;

const LOOK: Duration = Duration::from_millis(200);
/// Cassandra's heap in MiB: small, for several nodes on one machine.
const HEAP: &str = "384M";

/// What is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    hold: HoldOptions,
    /// Cassandra nodes of each datacenter
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=20))]
    nodes: u32,
    /// Racks of each datacenter
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    racks: u32,
    /// Datacenters of the cluster, named dc1, dc2 and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    datacenters: u32,
    /// The Cassandra cluster's name
    #[arg(long, default_value = "shop")]
    cluster: String,
}

/// A holder that was started and is not ready; it ends with this value.
struct Pending(Option<Child>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// Returns when all datacenters are ready. Dropping the future before ends everything.
pub(crate) async fn up(options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let name = options.hold.name.clone();
    anyhow::ensure!(!grounds::is_held(&name), grounds::Error::InUse(name));
    let log = grounds::log(&name)?;
    room::check(options.nodes * options.datacenters, &std::env::temp_dir())?;
    provision::ensure(&options.hold.cluster().parts()).await?;

    let step = Step::begin("starting etcd, API server, controllers, kubelet and cass-operator", "usually 10 seconds");
    let mut pending = Pending(Some(start_holder(&options.hold, &log)?));
    let ground = until_known(&mut pending, &name, &log).await?;
    step.done();
    let client = client(&ground.kubeconfig).await?;
    for number in 1..=options.datacenters {
        if options.nodes > 0 {
            datacenter(&client, &options, number).await?;
        }
    }
    println!("\nThe ground `{name}` is up after {}.", seconds(began.elapsed()));
    look_around(&ground, &name, &options);
    // From here on it goes on by itself.
    pending.0 = None;
    Ok(())
}

fn start_holder(options: &HoldOptions, log: &std::path::Path) -> anyhow::Result<Child> {
    let output = std::fs::File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("this program is not to be found")?);
    command.args(["hold", "--name", &options.name, "--server", &named(&options.server)]);
    command.args(["--isolation", &named(&options.isolation)]);
    if options.hurried {
        command.arg("--hurried");
    }
    // A group of its own: Ctrl-C in this terminal later on is not meant for it.
    command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().context("the process that holds the ground could not be started")
}

/// A value as the command line says it.
fn named(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn until_known(pending: &mut Pending, name: &str, log: &std::path::Path) -> anyhow::Result<Ground> {
    loop {
        if let Ok(ground) = grounds::find(name) {
            return Ok(ground);
        }
        if let Some(child) = &mut pending.0
            && let Some(status) = child.try_wait()?
        {
            pending.0 = None;
            let said = tail(log, 20);
            anyhow::bail!(
                "the ground ended while it was made ({status}):\n{}",
                said.trim_start_matches("stheno-local: ")
            );
        }
        sleep(LOOK).await;
    }
}

async fn datacenter(client: &kube::Client, options: &Options, number: u32) -> anyhow::Result<()> {
    let name = format!("dc{number}");
    let racks: Vec<Value> =
        (1..=options.racks.min(options.nodes)).map(|rack| json!({"name": format!("r{rack}")})).collect();
    let manifest = json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter", "metadata": {"name": name},
        "spec": {
            "clusterName": options.cluster, "serverType": "cassandra", "serverVersion": options.hold.server.version(),
            "managementApiAuth": {"insecure": {}}, "size": options.nodes, "racks": racks,
            "allowMultipleNodesPerWorker": true,
            "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
            "storageConfig": {"cassandraDataVolumeClaimSpec": {
                "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }},
            "config": {
                "cassandra-yaml": {
                    "num_tokens": 4, "authenticator": "PasswordAuthenticator", "authorizer": "CassandraAuthorizer",
                    "role_manager": "CassandraRoleManager",
                },
                "jvm-server-options": {"initial_heap_size": HEAP, "max_heap_size": HEAP},
            },
        },
    });
    let usually = match options.hold.hurried {
        true => format!("usually {} seconds", 10 + 20 * options.nodes),
        false => format!("usually {} seconds; much of it is cass-operator's own waiting", 20 + 35 * options.nodes),
    };
    let step = Step::begin(format!("{name}: {} Cassandra nodes", options.nodes), &usually);
    apply_yaml(client, &manifest.to_string()).await?;
    let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind));
    loop {
        let now = api.get(&name).await?;
        let conditions = now.data.pointer("/status/conditions").and_then(Value::as_array);
        let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        if conditions.into_iter().flatten().any(ready) && now.data["status"]["cassandraOperatorProgress"] == "Ready" {
            break;
        }
        let nodes = now.data.pointer("/status/nodeStatuses").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        step.detail(&format!("{nodes} of {} nodes have joined", options.nodes));
        sleep(LOOK).await;
    }
    step.done();
    Ok(())
}

fn look_around(ground: &Ground, name: &str, options: &Options) {
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
}
