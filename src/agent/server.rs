//! The gRPC face: Medusa's service for stock clients, ours beside it, and the health service of the probes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Local};
use futures::Stream;
use stheno_rpc::medusa::medusa_server::{Medusa, MedusaServer};
use stheno_rpc::medusa::{
    BackupRequest, BackupResponse, BackupStatusRequest, BackupStatusResponse, DeleteBackupRequest,
    DeleteBackupResponse, GetBackupRequest, GetBackupResponse, GetBackupsRequest, GetBackupsResponse,
    PrepareRestoreRequest, PrepareRestoreResponse, PurgeBackupsRequest, PurgeBackupsResponse, StatusType,
    backup_request,
};
use stheno_rpc::sidecar::sidecar_server::{Sidecar, SidecarServer};
use stheno_rpc::sidecar::{
    CapabilitiesRequest, CapabilitiesResponse, NodeState, StartBackupRequest, StartBackupResponse, WatchRequest,
    node_state,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::catalogue::{Catalogue, overall};
use crate::config::{Grpc, GrpcTls, Place};
use crate::jobs::{Claim, Jobs, Refusal, sentence};
use crate::layout::BackupName;
use crate::presence::{Presence, presence};
use crate::state::{Phase, Record};
use crate::store;

/// What a client may count on beside Medusa's contract.
const FEATURES: [&str; 3] = ["start", "watch", "resume"];

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
    /// gRPC itself.
    #[error("the gRPC service ended")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until the jobs are cancelled.
pub async fn serve(jobs: Jobs, grpc: &Grpc, listener: TcpListener) -> Result<(), Error> {
    let catalogue = Catalogue::new(jobs.brisk().clone(), jobs.tools().layout.clone());
    let face = Face { catalogue: Arc::new(catalogue), jobs: jobs.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut server = Server::builder();
    if let Some(tls) = &grpc.tls {
        server = server.tls_config(tls_config(tls)?)?;
    }
    let medusa = MedusaServer::new(face.clone())
        .max_encoding_message_size(grpc.max_send)
        .max_decoding_message_size(grpc.max_receive);
    server
        .add_service(health_service)
        .add_service(medusa)
        .add_service(SidecarServer::new(face))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), jobs.cancel().clone().cancelled_owned())
        .await?;
    Ok(())
}

fn tls_config(tls: &GrpcTls) -> Result<ServerTlsConfig, Error> {
    let read =
        |path: &std::path::PathBuf| std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
    let identity = Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read(&tls.clients)?)))
}

#[derive(Clone)]
struct Face {
    jobs: Jobs,
    catalogue: Arc<Catalogue>,
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

fn is_full(request: &BackupRequest) -> bool {
    request.mode() == backup_request::Mode::Full
}

/// Medusa's times: the server's zone, whole seconds.
fn local_time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

fn not_built(what: &str) -> Status {
    Status::unimplemented(format!("this version of the sidecar cannot {what} yet: use Medusa's"))
}

#[tonic::async_trait]
impl Medusa for Face {
    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        let request = request.into_inner();
        let before = self.jobs.record_of(&request.name).await;
        if before.is_some_and(|record| matches!(record.phase, Phase::Finished { .. }))
            && self.status_in_bucket(&request.name).await?.is_some()
        {
            return Err(Status::already_exists(format!("backup {} already exists: choose another name", request.name)));
        }
        let state = self.jobs.start_unclaimed(&request.name, is_full(&request)).await?;
        match self.jobs.ended(&state.operation).await.map(|record| record.phase) {
            Some(Phase::Finished { .. }) => {
                let status = StatusType::Success.into();
                Ok(Response::new(BackupResponse { backup_name: request.name, status }))
            }
            Some(Phase::Failed { reason, .. }) => {
                Err(Status::internal(format!("Failed to create sync backups: {reason}")))
            }
            Some(Phase::Starting { .. } | Phase::Uploading { .. }) | None => Err(Refusal::Stopping.into()),
        }
    }

    async fn async_backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        let request = request.into_inner();
        let state = self.jobs.start_unclaimed(&request.name, is_full(&request)).await?;
        let status = match state.phase() {
            node_state::Phase::Finished => StatusType::Success,
            node_state::Phase::Failed => StatusType::Failed,
            node_state::Phase::Unspecified
            | node_state::Phase::Starting
            | node_state::Phase::Uploading
            | node_state::Phase::NotFound => StatusType::InProgress,
        };
        Ok(Response::new(BackupResponse { backup_name: request.name, status: status.into() }))
    }

    async fn backup_status(
        &self,
        request: Request<BackupStatusRequest>,
    ) -> Result<Response<BackupStatusResponse>, Status> {
        let name = request.into_inner().backup_name;
        let of = |status: StatusType, started: i64, finished: Option<i64>| BackupStatusResponse {
            start_time: local_time(started),
            finish_time: finished.map(local_time).unwrap_or_default(),
            status: status.into(),
        };
        let answer = match self.jobs.record_of(&name).await {
            Some(Record { phase: phase @ (Phase::Starting { .. } | Phase::Uploading { .. }), accepted_ms, .. }) => {
                Some(of(StatusType::InProgress, phase.started_ms().unwrap_or(accepted_ms), None))
            }
            Some(Record { phase: Phase::Failed { started_ms, .. }, accepted_ms, .. }) => {
                Some(of(StatusType::Failed, started_ms.unwrap_or(accepted_ms), None))
            }
            // What was finished may have been deleted since: the bucket knows.
            Some(Record { phase: Phase::Finished { .. }, .. }) | None => {
                self.status_in_bucket(&name).await?.map(|(status, started, finished)| of(status, started, finished))
            }
        };
        answer.map(Response::new).ok_or_else(|| Status::not_found(format!("backup <{name}> does not exist")))
    }

    async fn delete_backup(&self, _: Request<DeleteBackupRequest>) -> Result<Response<DeleteBackupResponse>, Status> {
        Err(not_built("delete backups"))
    }

    async fn get_backup(&self, request: Request<GetBackupRequest>) -> Result<Response<GetBackupResponse>, Status> {
        let name = request.into_inner().backup_name;
        let failed = self.has_failed(&name).await;
        let found = self.catalogue.one(&name, failed).await.map_err(|error| store_trouble(&error))?;
        let backup = found.ok_or_else(|| Status::not_found(format!("backup <{name}> does not exist")))?;
        Ok(Response::new(GetBackupResponse { status: backup.status, backup: Some(backup) }))
    }

    async fn get_backups(&self, _: Request<GetBackupsRequest>) -> Result<Response<GetBackupsResponse>, Status> {
        let failed = self.jobs.failed_names().await;
        let backups = self.catalogue.all(|name| failed.contains(name)).await.map_err(|error| store_trouble(&error))?;
        let overall_status = overall(&backups).into();
        Ok(Response::new(GetBackupsResponse { backups, overall_status }))
    }

    async fn purge_backups(&self, _: Request<PurgeBackupsRequest>) -> Result<Response<PurgeBackupsResponse>, Status> {
        Err(not_built("purge"))
    }

    async fn prepare_restore(
        &self,
        _: Request<PrepareRestoreRequest>,
    ) -> Result<Response<PrepareRestoreResponse>, Status> {
        Err(not_built("prepare a restore"))
    }
}

impl Face {
    /// What the bucket says of this node's part of a backup: status, start and end in ms.
    async fn status_in_bucket(&self, name: &str) -> Result<Option<(StatusType, i64, Option<i64>)>, Status> {
        // Stock Medusa took names that we would refuse: they can still be asked for.
        let Ok(name) = BackupName::existing(name) else {
            return Ok(None);
        };
        let layout = &self.jobs.tools().layout;
        let found = presence(self.jobs.brisk(), layout, &name).await.map_err(|error| store_trouble(&error))?;
        Ok(match found {
            Presence::Absent => None,
            Presence::Complete { started_ms, finished_ms, .. } => {
                Some((StatusType::Success, started_ms, Some(finished_ms)))
            }
            // Nobody here runs it, so nobody will finish it.
            Presence::Begun { started_ms, .. } => started_ms.map(|started| (StatusType::Failed, started, None)),
        })
    }

    async fn has_failed(&self, name: &str) -> bool {
        self.jobs.record_of(name).await.is_some_and(|record| matches!(record.phase, Phase::Failed { .. }))
    }
}

type States = Pin<Box<dyn Stream<Item = Result<NodeState, Status>> + Send>>;

fn claimed(claim: Option<stheno_rpc::sidecar::Claim>) -> Claim {
    let claim = claim.unwrap_or_default();
    Claim { operation: claim.operation, attempt: claim.attempt, epoch: claim.epoch }
}

#[tonic::async_trait]
impl Sidecar for Face {
    type WatchStream = States;

    async fn capabilities(&self, _: Request<CapabilitiesRequest>) -> Result<Response<CapabilitiesResponse>, Status> {
        let config = &self.jobs.tools().config;
        let host = match &config.storage.place {
            Place::Local { base } => base.display().to_string(),
            Place::S3(s3) => s3.host.clone(),
        };
        Ok(Response::new(CapabilitiesResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.node.to_string(),
            storage_provider: config.storage.provider.clone(),
            host,
            bucket: config.storage.bucket.clone(),
            prefix: config.storage.prefix.clone().unwrap_or_default(),
            features: FEATURES.map(str::to_owned).to_vec(),
            epoch: self.jobs.epoch().await,
        }))
    }

    async fn start_backup(
        &self,
        request: Request<StartBackupRequest>,
    ) -> Result<Response<StartBackupResponse>, Status> {
        let request = request.into_inner();
        let claim = claimed(request.claim);
        let state = self.jobs.start(&claim, &request.name, request.full).await?;
        Ok(Response::new(StartBackupResponse { state: Some(state) }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<States>, Status> {
        let request = request.into_inner();
        let claim = claimed(request.claim);
        // A person may look without a claim; a leader that was replaced may not.
        if claim.epoch > 0 {
            self.jobs.fence(claim.epoch).await?;
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(follow(self.jobs.clone(), claim.operation, request.name, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Sends the state now and at each change, until it ends, the watcher goes, or the process ends.
async fn follow(jobs: Jobs, operation: String, name: String, sender: mpsc::Sender<Result<NodeState, Status>>) {
    let mut changes = jobs.changes();
    let mut last: Option<NodeState> = None;
    loop {
        changes.mark_unchanged();
        let state = jobs.state_of(&operation, &name).await.unwrap_or_else(|| NodeState {
            phase: node_state::Phase::NotFound.into(),
            name: name.clone(),
            operation: operation.clone(),
            ..NodeState::default()
        });
        let ended = match state.phase() {
            node_state::Phase::Finished | node_state::Phase::Failed | node_state::Phase::NotFound => true,
            node_state::Phase::Unspecified | node_state::Phase::Starting | node_state::Phase::Uploading => false,
        };
        if last.as_ref() != Some(&state) && sender.send(Ok(state.clone())).await.is_err() {
            return;
        }
        if ended {
            return;
        }
        last = Some(state);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = jobs.cancel().cancelled() => {
                // The watcher may be gone too; then nobody needs the sentence.
                let _ = sender.send(Err(Refusal::Stopping.into())).await;
                return;
            }
        }
    }
}
