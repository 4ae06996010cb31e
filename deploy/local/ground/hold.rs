//! The process that holds a ground: it starts everything, says where it is, and ends it with itself.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use stheno_local::cluster::{self, Cluster, Operator, Server};
use stheno_local::grounds::{Claim, Ground, SthenoPlaces};
use stheno_local::kubelet::{Images, Isolation, Pace};
use stheno_local::run::Run;
use stheno_local::stheno::{self, Sidecar, Stheno};

use super::holder::GO_ON;

/// What the ground is like; those who start a holder hand these on.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ground")]
pub(crate) struct Options {
    /// The ground's name
    #[arg(long, default_value = super::NAME)]
    pub(crate) name: String,
    /// The version of Cassandra
    #[arg(long, default_value = "4.1")]
    pub(crate) server: Server,
    /// cass-operator with its fixed waits cut to a second, and quick probes: for those in a hurry
    #[arg(long)]
    pub(crate) hurried: bool,
    /// How pods are kept apart
    #[arg(long, default_value = "best")]
    pub(crate) isolation: Isolation,
    /// This stheno program runs there, too: the operator, and a sidecar in each pod of Cassandra
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) stheno: Option<PathBuf>,
}

impl Options {
    pub(crate) fn cluster(&self) -> cluster::Options {
        let images = match &self.stheno {
            Some(program) => stheno::images(Images::default(), program),
            None => Images::default(),
        };
        cluster::Options {
            operator: if self.hurried { Operator::Hurried } else { Operator::AsReleased },
            pace: if self.hurried { Pace::Hurried } else { Pace::AsSpecified },
            servers: vec![self.server],
            isolation: self.isolation,
            images,
        }
    }
}

/// Never ends by itself, unless the one that started it does; dropping the future ends the ground.
pub(crate) async fn hold(options: Options) -> anyhow::Result<()> {
    let claim = Claim::take(&options.name)?;
    tokio::select! {
        held = hold_claimed(&options, &claim) => held,
        () = orphaned() => anyhow::bail!("the command that made this ground is gone"),
    }
}

async fn hold_claimed(options: &Options, claim: &Claim) -> anyhow::Result<()> {
    let run = Arc::new(Run::temporary()?);
    let cluster = Cluster::launch(run.clone(), &options.cluster()).await?;
    let (mut stheno, mut places) = (None, None);
    if let Some(program) = &options.stheno {
        let operator = Stheno::launch(&run, &cluster, program).await?;
        let sidecar = Sidecar::of(&run, &cluster)?;
        places = Some(SthenoPlaces { data_dir: operator.data_dir().to_owned(), sidecar });
        stheno = Some(operator);
    }
    let ours = stheno.iter().map(|operator| ("stheno", operator.id()));
    let processes = cluster.processes().into_iter().chain(ours).map(|(name, id)| (name.to_owned(), id));
    let ground = Ground {
        name: options.name.clone(),
        holder: std::process::id().cast_signed(),
        run: run.path().to_owned(),
        kubeconfig: cluster.kubeconfig().to_owned(),
        pod_logs: cluster.kubelet().logs().to_owned(),
        processes: processes.collect(),
        server: options.server,
        hurried: options.hurried,
        stheno: places,
    };
    claim.publish(&ground).context("the ground cannot be made known")?;
    std::future::pending::<()>().await;
    drop((stheno, cluster));
    Ok(())
}

/// Returns when whoever started us is gone without having told us to go on: the kernel closes our input then.
async fn orphaned() {
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    // A thread, for a blocked read of tokio's would hold up the end of the runtime.
    let reader = std::thread::Builder::new().name("orphaned".to_owned()).spawn(move || {
        let mut line = String::new();
        let told = std::io::stdin().read_line(&mut line).is_ok() && line.trim_end() == GO_ON;
        if !told {
            let _ = gone.send(());
        }
    });
    if reader.is_err() || is_gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
