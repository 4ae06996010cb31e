//! Stheno on a ground: its operator as a process with the rights of its service account, and its sidecar in pods.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::apply::{self, apply_yaml};
use crate::cluster::Cluster;
use crate::control_plane;
use crate::http;
use crate::kubelet::Images;
use crate::ports::Port;
use crate::process::Process;
use crate::provision::{self, Part};
use crate::run::Run;
use crate::service;

const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
/// The image that the program stands for.
const IMAGE: &str = "local/stheno";
const BUCKET: &str = "backups";

/// Why Stheno does not run on the ground.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not what every part needs, or did not start.
    #[error(transparent)]
    Service(service::Error),
    /// The API server cannot be reached, or gave no token.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// Definitions, rights or the sidecar's objects were refused.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The program printed no definitions.
    #[error("`{} crds` printed no definitions: is it stheno?", program.display())]
    Definitions {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file of the pods' template is broken.
    #[error("sidecar/pods.yaml is not a pod template")]
    Template(#[from] serde_yaml_ng::Error),
}

impl<E: Into<service::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// A running operator. Dropped: killed.
#[derive(Debug)]
pub struct Stheno {
    operator: Process,
    data_dir: PathBuf,
    http: Port,
}

/// Pods with the image `local/stheno` run the program.
#[must_use]
pub fn images(images: Images, program: &Path) -> Images {
    images.image(IMAGE, &["$(STHENO)"]).place("STHENO", program).visible(program)
}

impl Stheno {
    /// Applies definitions and rights, and returns when the operator is ready.
    pub async fn launch(run: &Run, cluster: &Cluster, program: &Path) -> Result<Self, Error> {
        let parts = provision::ensure(&[Part::NatsServer]).await?;
        let control_plane = cluster.control_plane();
        let told = |source| Error::Definitions { program: program.to_owned(), source };
        let printed = tokio::process::Command::new(program).arg("crds").kill_on_drop(true).output().await;
        let printed =
            String::from_utf8(printed.map_err(told)?.stdout).map_err(|error| told(std::io::Error::other(error)))?;
        control_plane.apply(&printed).await?;
        control_plane.apply(include_str!("../rbac.yaml")).await?;

        let data_dir = run.folder("operator-data")?;
        let http = Port::take()?;
        let kubeconfig = control_plane.account_kubeconfig("stheno-system", "stheno").await?;
        let mut command = Command::new(program);
        command.arg("operator").arg("--kubeconfig").arg(kubeconfig).arg("--data-dir").arg(&data_dir);
        command.arg("--http").arg(http.address().to_string());
        command.env("STHENO_NATS_SERVER", parts.path(Part::NatsServer)?).env_remove("KUBECONFIG");
        let mut operator = run.spawn("stheno", command)?;
        let address = http.address();
        let ready = async || matches!(http::get(address, "/readyz").await, Some((200, _)));
        operator.until("ready", PATIENCE, ready).await?;
        Ok(Self { operator, data_dir, http })
    }

    /// Where the operator keeps its log.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it answers for health and metrics.
    pub fn http(&self) -> std::net::SocketAddr {
        self.http.address()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.operator.id()
    }

    /// SIGTERM, and waits for its end.
    pub async fn end(mut self) {
        self.operator.stop(GRACE).await;
    }
}

/// The sidecar of a cluster's pods.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sidecar {
    /// The folder of this machine that holds the buckets.
    pub store: PathBuf,
    /// Whether pods have network namespaces, and with them hosts files that name the nodes.
    pub named: bool,
}

impl Sidecar {
    /// The sidecar for pods of this cluster, with a store in the run folder.
    pub fn of(run: &Run, cluster: &Cluster) -> Result<Self, Error> {
        run.folder(&format!("store/{BUCKET}"))?;
        Ok(Self { store: run.folder("store")?, named: !cluster.kubelet().node_ip().is_loopback() })
    }

    /// The folder of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.store.join(BUCKET)
    }

    /// Applies configuration and password for a Cassandra cluster. A datacenter lists the secret `<cluster>-medusa` in
    /// `spec.users`.
    pub async fn configure(&self, client: &Client, cluster: &str) -> Result<(), Error> {
        apply_yaml(client, &self.filled(include_str!("sidecar/objects.yaml"), cluster)).await?;
        Ok(())
    }

    /// `spec.podTemplateSpec` of a datacenter of that cluster.
    pub fn pod_template(&self, cluster: &str) -> Result<Value, Error> {
        Ok(serde_yaml_ng::from_str(&self.filled(include_str!("sidecar/pods.yaml"), cluster))?)
    }

    fn filled(&self, text: &str, cluster: &str) -> String {
        // Whoever reads the ground's files may read this, too: it keeps nobody out.
        let password = self.store.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        text.replace("@CLUSTER@", cluster)
            .replace("@BUCKET@", BUCKET)
            .replace("@STORE@", &self.store.display().to_string())
            .replace("@RESOLVE@", if self.named { "True" } else { "False" })
            .replace("@PASSWORD@", &password)
    }
}
