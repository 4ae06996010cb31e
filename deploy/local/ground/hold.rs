//! The process that holds a ground: it starts everything, says where it is, and ends it with itself.

use std::sync::Arc;

use anyhow::Context as _;
use stheno_local::cluster::{self, Cluster, Operator, Server};
use stheno_local::grounds::{Claim, Ground};
use stheno_local::kubelet::{Isolation, Pace};
use stheno_local::run::Run;

/// What the ground is like; `up` hands these on.
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
}

impl Options {
    pub(crate) fn cluster(&self) -> cluster::Options {
        cluster::Options {
            operator: if self.hurried { Operator::Hurried } else { Operator::AsReleased },
            pace: if self.hurried { Pace::Hurried } else { Pace::AsSpecified },
            servers: vec![self.server],
            isolation: self.isolation,
            ..cluster::Options::default()
        }
    }
}

/// Never ends by itself; dropping the future ends the ground.
pub(crate) async fn hold(options: Options) -> anyhow::Result<()> {
    let claim = Claim::take(&options.name)?;
    let run = Arc::new(Run::temporary()?);
    let cluster = Cluster::launch(run.clone(), &options.cluster()).await?;
    let processes = cluster.processes().into_iter().map(|(name, id)| (name.to_owned(), id));
    let ground = Ground {
        name: options.name.clone(),
        holder: std::process::id().cast_signed(),
        run: run.path().to_owned(),
        kubeconfig: cluster.kubeconfig().to_owned(),
        pod_logs: cluster.kubelet().logs().to_owned(),
        processes: processes.collect(),
    };
    claim.publish(&ground).context("the ground cannot be made known")?;
    std::future::pending::<()>().await;
    drop(cluster);
    Ok(())
}
