//! A whole cluster: control plane, controllers, a process kubelet and cass-operator, so that a CassandraDatacenter becomes
//! real Cassandra processes.

mod definitions;
mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use crate::control_plane::{self, ControlPlane};
use crate::http;
use crate::kubelet::{self, Images, Isolation, Kubelet, Pace};
use crate::ports::Port;
use crate::process::Process;
use crate::provision::{self, Part};
use crate::run::Run;
use crate::service;

pub use self::servers::Server;

const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
/// Where cass-operator lives and finds its configuration.
const OPERATOR_NAMESPACE: &str = "cass-operator";

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not what every part needs, or did not start.
    #[error(transparent)]
    Service(service::Error),
    /// etcd or the API server did not start, or refused something.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// The kubelet did not start.
    #[error(transparent)]
    Kubelet(#[from] kubelet::Error),
    /// cass-operator's CustomResourceDefinitions cannot be used.
    #[error(transparent)]
    Definitions(#[from] definitions::Error),
    /// cass-operator needs a mount namespace of its own.
    #[error(
        "cass-operator needs a mount namespace of its own, and this system allows none ({0}): run as root, or allow user \
         namespaces (`sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu)"
    )]
    NoMountNamespace(String),
}

impl<E: Into<service::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// Which cass-operator runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Operator {
    /// As it is released.
    #[default]
    AsReleased,
    /// With its fixed waits cut to a second.
    Hurried,
}

/// What the cluster is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which cass-operator runs.
    pub operator: Operator,
    /// The versions of Cassandra that datacenters may have.
    pub servers: Vec<Server>,
    /// How pods are kept apart.
    pub isolation: Isolation,
    /// How fast probes are.
    pub pace: Pace,
    /// What further containers run; those of cass-operator's pods are known.
    pub images: Images,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            operator: Operator::default(),
            servers: vec![Server::Cassandra41],
            isolation: Isolation::default(),
            pace: Pace::default(),
            images: Images::default(),
        }
    }
}

impl Options {
    /// The fast one: shortened waits, quick probes. For tests that are not about order and races.
    pub fn hurried() -> Self {
        Self { operator: Operator::Hurried, pace: Pace::Hurried, ..Self::default() }
    }

    /// The parts that such a cluster is made of.
    pub fn parts(&self) -> Vec<Part> {
        let operator = match self.operator {
            Operator::AsReleased => Part::CassOperator,
            Operator::Hurried => Part::HurriedCassOperator,
        };
        let servers = self.servers.iter().flat_map(|server| server.parts());
        [Part::Etcd, Part::ApiServer, Part::ControllerManager, operator].into_iter().chain(servers).collect()
    }
}

/// Whether this machine lets a cluster run: asked before parts are built, which takes minutes.
pub async fn check(isolation: Isolation) -> Result<(), Error> {
    allowed(isolation).await.map(|_| ())
}

/// The same; the arguments of `unshare` that start cass-operator here.
async fn allowed(isolation: Isolation) -> Result<&'static [&'static str], Error> {
    kubelet::check(isolation)?;
    Port::take()?;
    launcher().await
}

/// A running cluster. Fields end in their order: who writes before what is written to.
#[derive(Debug)]
pub struct Cluster {
    operator: Process,
    kubelet: Kubelet,
    controllers: Process,
    control_plane: ControlPlane,
    _health: Port,
}

impl Cluster {
    /// Starts everything and returns when cass-operator is ready for datacenters.
    pub async fn launch(run: Arc<Run>, options: &Options) -> Result<Self, Error> {
        // What this machine forbids is said before anything is built or started.
        let launcher = allowed(options.isolation).await?;
        let parts = provision::ensure(&options.parts()).await?;
        let images = servers::images(options.images.clone(), &options.servers, &parts)?;
        let control_plane = ControlPlane::launch(run.clone()).await?;
        let kubeconfig = control_plane.kubeconfig().to_owned();
        let controllers = start_controllers(&run, parts.path(Part::ControllerManager)?, &kubeconfig)?;
        let pods = kubelet::Options {
            kubeconfig: kubeconfig.clone(),
            images,
            isolation: options.isolation,
            pace: options.pace,
        };
        let kubelet = Kubelet::launch(run.clone(), pods).await?;

        let program = parts.path(match options.operator {
            Operator::AsReleased => Part::CassOperator,
            Operator::Hurried => Part::HurriedCassOperator,
        })?;
        control_plane.apply(&definitions::of(&program.with_file_name("crd"))?).await?;
        control_plane.apply(include_str!("cluster/cass-operator.yaml")).await?;
        let health = Port::take()?;
        let mut operator = start_operator(&run, launcher, program, &kubeconfig, &health)?;
        let address = health.address();
        let ready = async || matches!(http::get(address, "/readyz").await, Some((200, _)));
        operator.until("ready", PATIENCE, ready).await?;
        Ok(Self { operator, kubelet, controllers, control_plane, _health: health })
    }

    /// etcd and the API server.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The kubelet.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// A client with the administrator's rights, bound to the runtime that calls.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(self.control_plane.client().await?)
    }

    /// The log of cass-operator.
    pub fn operator_log(&self) -> &Path {
        self.operator.log()
    }

    /// Names and process ids of what runs beside the pods.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let mut processes =
            vec![("cass-operator", self.operator.id()), ("kube-controller-manager", self.controllers.id())];
        processes.extend(["etcd", "kube-apiserver"].into_iter().zip(self.control_plane.ids()));
        processes
    }

    /// Lets cass-operator and the controllers finish what they are at; the rest ends with this value.
    pub async fn end(mut self) {
        self.operator.stop(GRACE).await;
        self.controllers.stop(GRACE).await;
    }
}

fn start_controllers(run: &Run, program: &Path, kubeconfig: &Path) -> Result<Process, Error> {
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig);
    command.arg("--service-account-private-key-file").arg(run.path().join("accounts.key"));
    command.arg("--root-ca-file").arg(run.path().join("ca.crt"));
    // It serves nothing that is needed here, and its usual port may be in use.
    command.args(["--secure-port=0", "--leader-elect=false", "--use-service-account-credentials=false"]);
    command.args(["--controllers=*,-bootstrap-signer-controller,-token-cleaner-controller", "--profiling=false"]);
    Ok(run.spawn("kube-controller-manager", command)?)
}

/// cass-operator reads its namespace from its service account's file and nowhere else: it gets one in a mount namespace.
fn start_operator(
    run: &Run,
    launcher: &[&str],
    program: &Path,
    kubeconfig: &Path,
    health: &Port,
) -> Result<Process, Error> {
    let script = format!(
        "set -e\n\
         mount -t tmpfs tmpfs /run\n\
         folder=/run/secrets/kubernetes.io/serviceaccount\n\
         mkdir -p $folder\n\
         printf {OPERATOR_NAMESPACE} > $folder/namespace\n\
         exec \"$@\"\n"
    );
    let script: PathBuf = run.file("cass-operator.sh", &script)?;
    let mut command = Command::new("unshare");
    command.args(launcher).arg("sh").arg(script).arg(program);
    command.arg("-kubeconfig").arg(kubeconfig);
    command.arg("-health-probe-bind-address").arg(health.address().to_string());
    command.env("WATCH_NAMESPACE", "").env_remove("KUBECONFIG");
    Ok(run.spawn("cass-operator", command)?)
}

/// The arguments of `unshare` that this system allows.
async fn launcher() -> Result<&'static [&'static str], Error> {
    const AS_ROOT: &[&str] = &["--mount"];
    const AS_USER: &[&str] = &["--user", "--map-root-user", "--mount"];
    let mut refusal = String::new();
    for arguments in [AS_ROOT, AS_USER] {
        let mut command = tokio::process::Command::new("unshare");
        match command.args(arguments).args(["mount", "-t", "tmpfs", "tmpfs", "/run"]).output().await {
            Ok(output) if output.status.success() => return Ok(arguments),
            Ok(output) => refusal = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => refusal = format!("`unshare` of util-linux does not start: {error}"),
        }
    }
    Err(Error::NoMountNamespace(refusal))
}
