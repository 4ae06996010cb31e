//! The gRPC face: Medusa's service for stock clients, ours beside it, and the health service of the probes.

use std::net::SocketAddr;

use stheno_rpc::medusa::medusa_server::MedusaServer;
use stheno_rpc::sidecar::keeper_server::KeeperServer;
use stheno_rpc::sidecar::restorer_server::RestorerServer;
use stheno_rpc::sidecar::sidecar_server::SidecarServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::Server;

use crate::config::Grpc;
use crate::jobs::{Claim, Jobs, Refusal, sentence};
use crate::purge;
use crate::store;

mod keeper;
mod medusa;
mod restorer;
mod sidecar;
mod tls;

pub use restorer::beside;

/// Why the service cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, most often.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate that is not readable.
    #[error("cannot read {} of [grpc]", path.display())]
    Read {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate that is none, or does not fit its key.
    #[error("{} of [grpc] cannot be used", path.display())]
    Certificate {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// gRPC itself.
    #[error("the gRPC service ended")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until the jobs are cancelled.
pub async fn serve(jobs: Jobs, grpc: &Grpc, listener: TcpListener) -> Result<(), Error> {
    let face = Face { jobs: jobs.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let medusa = MedusaServer::new(face.clone())
        .max_encoding_message_size(grpc.max_send)
        .max_decoding_message_size(grpc.max_receive);
    let router = Server::builder()
        .add_service(health_service)
        .add_service(medusa)
        .add_service(SidecarServer::new(face.clone()))
        .add_service(RestorerServer::new(face.clone()))
        .add_service(KeeperServer::new(face));
    let stop = jobs.cancel().clone();
    match &grpc.tls {
        None => {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        }
        Some(files) => {
            let incoming = tls::incoming(listener, files.clone(), jobs.metrics().clone(), stop.clone())?;
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Face {
    jobs: Jobs,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = sentence(&refusal);
        match refusal {
            Refusal::Name(_) | Refusal::Claim => Self::invalid_argument(text),
            Refusal::Epoch { .. } | Refusal::Superseded { .. } | Refusal::Other { .. } => {
                Self::failed_precondition(text)
            }
            // "Try again later": neither a lost connection (UNAVAILABLE) nor a mistake of the caller.
            Refusal::Busy { .. } => Self::aborted(text),
            Refusal::Exists(_) => Self::already_exists(text),
            Refusal::Stopping => Self::unavailable(text),
            Refusal::State(_) => Self::internal(text),
        }
    }
}

fn store_trouble(error: &store::Error) -> Status {
    let text = sentence(error);
    if error.retryable() { Status::unavailable(text) } else { Status::failed_precondition(text) }
}

fn keeping_trouble(error: &purge::Error) -> Status {
    let text = sentence(error);
    match error {
        purge::Error::Store(error) => store_trouble(error),
        purge::Error::Name(_) => Status::invalid_argument(text),
        purge::Error::State(_) => Status::internal(text),
        purge::Error::Absent { .. } => Status::not_found(text),
        purge::Error::Running { .. } => Status::aborted(text),
        purge::Error::Pool { .. } | purge::Error::Manifest { .. } => Status::failed_precondition(text),
        purge::Error::Stopping => Status::unavailable(text),
    }
}

fn claimed(claim: Option<stheno_rpc::sidecar::Claim>) -> Claim {
    let claim = claim.unwrap_or_default();
    Claim { operation: claim.operation, attempt: claim.attempt, epoch: claim.epoch }
}
