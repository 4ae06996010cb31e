//! A Kubernetes control plane of two processes: etcd and kube-apiserver, with RBAC, admission and CRDs as in a cluster.
//!
//! There are no controllers: nothing creates default service accounts (so the ServiceAccount admission plugin is off),
//! collects garbage, or finishes the deletion of a namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::json;

use crate::apply::{self, apply_yaml};
use crate::pki::Pki;
use crate::ports::Port;
use crate::provision::{self, Part};
use crate::run::{self, Run};
use crate::service::{self, Service};

const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
/// Life of the tokens of [`ControlPlane::account_kubeconfig`], in seconds.
const TOKEN_LIFE: i64 = 24 * 3600;

/// Why there is no control plane, or why it did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not what every part needs, or did not start.
    #[error(transparent)]
    Service(service::Error),
    /// A manifest was not applied.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// Keys and certificates could not be made.
    #[error("keys and certificates of the API server could not be made")]
    Pki(#[from] rcgen::Error),
    /// A kubeconfig could not be written or read.
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// No client could be made of a kubeconfig.
    #[error("no client for the API server")]
    Client(#[source] kube::Error),
    /// The API server gave no token for a service account.
    #[error("no token for the service account {account}: create it first")]
    Token {
        /// Namespace and name.
        account: String,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
}

impl<E: Into<service::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// etcd and an API server. Both keep their ports and data when they are killed and started again.
#[derive(Debug)]
pub struct ControlPlane {
    api_server: Service,
    etcd: Service,
    etcd_program: PathBuf,
    api_server_program: PathBuf,
    etcd_client: Port,
    etcd_peer: Port,
    port: Port,
    kubeconfig: PathBuf,
    run: Arc<Run>,
}

impl ControlPlane {
    /// Starts both and waits until the API server is ready.
    pub async fn launch(run: Arc<Run>) -> Result<Self, Error> {
        let parts = provision::ensure(&[Part::Etcd, Part::ApiServer]).await?;
        let mut control_plane = Self {
            api_server: Service::new(run.clone(), "kube-apiserver"),
            etcd: Service::new(run.clone(), "etcd"),
            etcd_program: parts.path(Part::Etcd)?.to_owned(),
            api_server_program: parts.path(Part::ApiServer)?.to_owned(),
            etcd_client: Port::take()?,
            etcd_peer: Port::take()?,
            port: Port::take()?,
            kubeconfig: run.path().join("kubeconfig"),
            run,
        };
        control_plane.write_secrets()?;
        control_plane.start_etcd().await?;
        control_plane.start_api_server().await?;
        Ok(control_plane)
    }

    /// Where the API server listens.
    pub fn url(&self) -> String {
        format!("https://{}", self.port.address())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with the administrator's rights, bound to the runtime that calls.
    pub async fn client(&self) -> Result<Client, Error> {
        client(&self.kubeconfig).await
    }

    /// Writes a kubeconfig with a token of an existing service account, as its pod would have it.
    pub async fn account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_LIFE), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let answer = api.create_token_request(name, &PostParams::default(), &request).await;
        let account = format!("{namespace}/{name}");
        let answer = answer.map_err(|source| Error::Token { account, source })?;
        let token = answer.status.and_then(|status| status.token).unwrap_or_default();
        Ok(self.write_kubeconfig(&format!("kubeconfig-{namespace}-{name}"), namespace, &token)?)
    }

    /// Applies manifests as the administrator; see [`apply_yaml`].
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        Ok(apply_yaml(&self.client().await?, yaml).await?)
    }

    /// Sees to it that the API server has CassandraDatacenters: a stand-in without a schema, where cass-operator has
    /// not brought the real kind.
    pub async fn ensure_datacenter_kind(&self) -> Result<(), Error> {
        let client = self.client().await?;
        let there = kube::core::GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
        if kube::discovery::pinned_kind(&client, &there).await.is_err() {
            apply_yaml(&client, include_str!("parts/cassandradatacenter-crd.yaml")).await?;
        }
        Ok(())
    }

    /// Starts etcd (again) and waits until it accepts connections.
    pub async fn start_etcd(&mut self) -> Result<(), Error> {
        let (client, peer) = (self.etcd_client.address(), self.etcd_peer.address());
        let mut command = Command::new(&self.etcd_program);
        command.arg("--data-dir").arg(self.etcd_dir());
        command.args(["--name", "etcd", "--log-level", "warn"]);
        // What it holds is thrown away with the run folder; a kill of the process alone loses nothing.
        command.arg("--unsafe-no-fsync");
        command.arg(format!("--listen-client-urls=http://{client}"));
        command.arg(format!("--advertise-client-urls=http://{client}"));
        command.arg(format!("--listen-peer-urls=http://{peer}"));
        command.arg(format!("--initial-advertise-peer-urls=http://{peer}"));
        command.arg(format!("--initial-cluster=etcd=http://{peer}"));
        let accepts = async || service::accepts(client).await;
        Ok(self.etcd.start(command, "accepting connections", PATIENCE, accepts).await?)
    }

    /// Starts the API server (again) and waits until it is ready.
    pub async fn start_api_server(&mut self) -> Result<(), Error> {
        let file = |name: &str| self.run.path().join(name).display().to_string();
        let mut command = Command::new(&self.api_server_program);
        command.arg(format!("--etcd-servers=http://{}", self.etcd_client.address()));
        command.arg(format!("--secure-port={}", self.port.number()));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
        command.arg(format!("--tls-cert-file={}", file("server.crt")));
        command.arg(format!("--tls-private-key-file={}", file("server.key")));
        command.arg(format!("--cert-dir={}", file("certs")));
        command.arg(format!("--token-auth-file={}", file("tokens.csv")));
        command.arg(format!("--service-account-key-file={}", file("accounts.pub")));
        command.arg(format!("--service-account-signing-key-file={}", file("accounts.key")));
        command.arg("--service-account-issuer=https://kubernetes.default.svc");
        // A kubelet of ours serves on 127.0.0.1 and says so with its external address.
        command.arg(format!("--kubelet-certificate-authority={}", file("ca.crt")));
        command.arg(format!("--kubelet-client-certificate={}", file("kubelet-client.crt")));
        command.arg(format!("--kubelet-client-key={}", file("kubelet-client.key")));
        command.arg("--kubelet-preferred-address-types=ExternalIP");
        command.args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]);
        command.args(["--allow-privileged=true", "--service-cluster-ip-range=10.0.0.0/24"]);
        // Left out: what serves many clients, other servers, or profiling. Nothing here changes an answer.
        command.args(["--endpoint-reconciler-type=none", "--enable-priority-and-fairness=false", "--profiling=false"]);
        let client = self.client().await?;
        let ready = async || match http::Request::get("/readyz").body(Vec::new()) {
            Ok(request) => client.request_text(request).await.is_ok(),
            Err(_) => false,
        };
        Ok(self.api_server.start(command, "ready", PATIENCE, ready).await?)
    }

    /// SIGKILL for the API server.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// SIGTERM for the API server, and waits for its end.
    pub async fn stop_api_server(&mut self) {
        self.api_server.stop(GRACE).await;
    }

    /// SIGTERM for etcd, and waits for its end: then [`ControlPlane::etcd_dir`] may be copied or put back.
    pub async fn stop_etcd(&mut self) {
        self.etcd.stop(GRACE).await;
    }

    /// The folder with all that the API server knows.
    pub fn etcd_dir(&self) -> PathBuf {
        self.run.path().join("etcd")
    }

    /// Process ids of etcd and the API server, of those that run.
    pub fn ids(&self) -> Vec<u32> {
        self.etcd.id().into_iter().chain(self.api_server.id()).collect()
    }

    fn write_secrets(&self) -> Result<(), Error> {
        let pki = Pki::generate()?;
        self.run.file("ca.crt", &pki.authority)?;
        self.run.file("server.crt", &pki.server_certificate)?;
        self.run.file("server.key", &pki.server_key)?;
        self.run.file("kubelet-client.crt", &pki.client_certificate)?;
        self.run.file("kubelet-client.key", &pki.client_key)?;
        self.run.file("accounts.key", &pki.accounts_key)?;
        self.run.file("accounts.pub", &pki.accounts_public_key)?;
        // The run folder is private to the user, and its random name is the only secret that the token needs.
        let token = format!("admin-{}", self.run.path().file_name().unwrap_or_default().display());
        self.run.file("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?;
        self.write_kubeconfig("kubeconfig", "default", &token)?;
        Ok(())
    }

    fn write_kubeconfig(&self, file: &str, namespace: &str, token: &str) -> Result<PathBuf, run::Error> {
        let authority = self.run.path().join("ca.crt");
        // JSON is YAML, and this way no value needs quoting.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {"server": self.url(), "certificate-authority": authority}}],
            "users": [{"name": "local", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": namespace}}],
            "current-context": "local",
        });
        self.run.file(file, &format!("{config:#}\n"))
    }
}

/// A client for a kubeconfig file, bound to the runtime that calls.
pub async fn client(kubeconfig: &Path) -> Result<Client, Error> {
    let error = |source| Error::Kubeconfig { path: kubeconfig.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(kubeconfig).map_err(error)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(error)?;
    // A build of the whole workspace holds two providers of cryptography; a process names its own, once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).map_err(Error::Client)
}
