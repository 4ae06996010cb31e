//! `stheno operator`: its options.

use crate::log::{Credentials, Endpoint};
use crate::operator::Settings;
use crate::runtime;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The orchestrator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  In a pod, all namespaces, an external NATS:
    stheno operator --nats-url nats://nats.nats:4222
  On a workstation, with a private nats-server:
    stheno operator --kubeconfig ~/.kube/config --leader-elect=false --http 127.0.0.1:8080")]
pub(super) struct Args {
    /// The kubeconfig file; else KUBECONFIG, else the pod's service account
    #[arg(long, value_name = "FILE", env = "STHENO_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Watch this namespace only; may be given several times
    #[arg(long, value_name = "NAMESPACE", env = "STHENO_NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
    /// Where the Lease and the ConfigMaps stheno-log and stheno-status lie; else the pod's or the kubeconfig's namespace
    #[arg(long, value_name = "NAMESPACE", env = "STHENO_OWN_NAMESPACE")]
    own_namespace: Option<String>,
    /// The NATS server that holds the log; without it a private one is started
    #[arg(long, value_name = "URL", env = "STHENO_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// Credentials file for the NATS server
    #[arg(long, value_name = "FILE", env = "STHENO_NATS_CREDS", requires = "nats_url")]
    nats_creds: Option<PathBuf>,
    /// The stream that holds the log
    #[arg(long, value_name = "NAME", env = "STHENO_STREAM", default_value = "STHENO")]
    stream: String,
    /// Where the private nats-server keeps its store; the user's state folder by default
    #[arg(long, value_name = "DIR", env = "STHENO_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Health (/healthz), readiness (/readyz) and metrics (/metrics)
    #[arg(long, value_name = "ADDRESS", env = "STHENO_HTTP", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Stand for election by a Lease, so that several operators may run
    #[arg(
        long,
        value_name = "BOOL",
        env = "STHENO_LEADER_ELECT",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    leader_elect: bool,
    /// Accept a log that may lose what it has acknowledged
    #[arg(long, env = "STHENO_ALLOW_RELAXED_LOG", value_parser = clap::builder::FalseyValueParser::new())]
    allow_relaxed_log: bool,
    /// File with the Ed25519 key that signs checkpoints: 32 bytes as 64 hexadecimal digits
    #[arg(long, value_name = "FILE", env = "STHENO_CHECKPOINT_KEY")]
    checkpoint_key: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let log = match args.nats_url {
        Some(url) => {
            Endpoint::External { url, credentials: args.nats_creds.map_or(Credentials::None, Credentials::File) }
        }
        None => {
            let usual = || {
                runtime::data_dir().ok_or_else(|| {
                    anyhow::anyhow!("neither HOME nor XDG_STATE_HOME is set: give --data-dir, or --nats-url")
                })
            };
            let data_dir = args.data_dir.map_or_else(usual, Ok)?;
            Endpoint::Embedded { data_dir, program: None }
        }
    };
    let settings = Settings {
        kubeconfig: args.kubeconfig,
        namespaces: args.namespace.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
        own_namespace: args.own_namespace,
        log,
        stream: args.stream,
        allow_relaxed_log: args.allow_relaxed_log,
        http: args.http,
        leader_elect: args.leader_elect,
        checkpoint_key: args.checkpoint_key,
    };
    Ok(crate::operator::run(settings, runtime::shutdown()?).await?)
}
