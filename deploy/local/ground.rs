//! `up`, `down`, `status`, `logs`, `kubectl`: a cluster with Cassandra that goes on in the background.
#![allow(clippy::print_stdout, reason = "commands speak to people")]

mod hold;
mod holder;
mod show;
mod up;

use std::path::PathBuf;

use anyhow::Context as _;
use stheno_local::grounds::{self, Ground};
use stheno_local::provision::{self, Part};

pub(crate) use self::hold::{Options as HoldOptions, hold};
pub(crate) use self::show::status;
pub(crate) use self::up::{AddOptions, Options as UpOptions, add, check, datacenter, make, up};

/// The name of a ground for which none is given.
pub(crate) const NAME: &str = "local";

/// Which log is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct LogsOptions {
    /// The ground; else that of KUBECONFIG, else `local`
    #[arg(long)]
    name: Option<String>,
    /// A part (etcd, kube-apiserver, kube-controller-manager, cass-operator, stheno) or a pod, as [namespace/]name
    of: String,
    /// The pod's container
    #[arg(short, long, default_value = "cassandra")]
    container: String,
}

/// What kubectl is told.
#[derive(Debug, clap::Args)]
pub(crate) struct KubectlOptions {
    /// The ground; else that of KUBECONFIG, else `local`
    #[arg(long)]
    name: Option<String>,
    /// Arguments of kubectl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The ground of that name; without one the ground whose kubeconfig KUBECONFIG names, as `up` suggests to set it. Another
/// cluster's is left alone: pods that are processes need a control plane of their own.
pub(crate) fn chosen(name: Option<&str>) -> Result<Ground, grounds::Error> {
    let set = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
    let ours = |path| grounds::all().into_iter().find(|ground| ground.kubeconfig.as_os_str() == path);
    match (name, set.and_then(ours)) {
        (Some(name), _) => grounds::find(name),
        (None, Some(ground)) => Ok(ground),
        (None, None) => grounds::find(NAME),
    }
}

/// Prints a whole log; of a container that was restarted, the newest.
pub(crate) fn logs(options: &LogsOptions) -> anyhow::Result<()> {
    let ground = chosen(options.name.as_deref())?;
    let path = match ground.processes.iter().any(|(name, _)| *name == options.of) {
        true => ground.run.join(format!("{}.log", options.of)),
        false => container_log(&ground, &options.of, &options.container)?,
    };
    let mut log = std::fs::File::open(&path).with_context(|| format!("the log {} cannot be read", path.display()))?;
    std::io::copy(&mut log, &mut std::io::stdout()).context("the log cannot be printed")?;
    Ok(())
}

fn container_log(ground: &Ground, pod: &str, container: &str) -> anyhow::Result<PathBuf> {
    let (namespace, pod) = pod.split_once('/').unwrap_or(("default", pod));
    let folder = ground.pod_logs.join(format!("{namespace}_{pod}"));
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let logs: Vec<(String, u32)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (container, number) = name.strip_suffix(".log")?.rsplit_once('.')?;
            Some((container.to_owned(), number.parse().ok()?))
        })
        .collect();
    let newest = logs.iter().filter(|(name, _)| name == container).map(|(_, number)| *number).max();
    if let Some(number) = newest {
        return Ok(folder.join(format!("{container}.{number}.log")));
    }
    let mut known: Vec<&str> = logs.iter().map(|(name, _)| name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    anyhow::ensure!(
        !known.is_empty(),
        "nothing of the name {pod} has run in {namespace}: `stheno-local status` lists what does"
    );
    anyhow::bail!("the pod {pod} has no log of a container {container}: it has {}", known.join(", "))
}

/// Becomes kubectl, with the ground's kubeconfig.
pub(crate) async fn kubectl(options: &KubectlOptions) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let ground = chosen(options.name.as_deref())?;
    let parts = provision::ensure(&[Part::Kubectl]).await?;
    let mut command = std::process::Command::new(parts.path(Part::Kubectl)?);
    let error = command.args(&options.arguments).env("KUBECONFIG", &ground.kubeconfig).exec();
    Err(error).context("kubectl could not be started")
}
