//! The API server, for verbs that compare the log with it.

use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;

/// Which API server is asked.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ClusterArgs {
    /// The kubeconfig file; else KUBECONFIG, else the pod's service account.
    #[arg(long, value_name = "FILE", env = "STHENO_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Where the operator keeps its ConfigMaps; else the kubeconfig's or the pod's namespace.
    #[arg(long, value_name = "NAMESPACE", env = "STHENO_OWN_NAMESPACE")]
    own_namespace: Option<String>,
}

/// Why it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kubeconfig.
    #[error("the kubeconfig cannot be used: check --kubeconfig and KUBECONFIG")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// Neither a kubeconfig nor a pod's service account.
    #[error("no Kubernetes cluster is configured: give --kubeconfig, set KUBECONFIG, or run in a pod")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// No client.
    #[error("no client for the Kubernetes API server can be made")]
    Client(#[source] Box<kube::Error>),
}

impl ClusterArgs {
    /// A client, and the operator's namespace.
    pub(super) async fn client(&self) -> Result<(Client, String), Error> {
        let config = match &self.kubeconfig {
            None => Config::infer().await.map_err(|error| Error::NoCluster(Box::new(error)))?,
            Some(path) => {
                let failed = |error| Error::Kubeconfig(Box::new(error));
                let file = Kubeconfig::read_from(path).map_err(failed)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?
            }
        };
        let namespace = self.own_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
        Ok((client, namespace))
    }
}
