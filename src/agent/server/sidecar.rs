//! Our extension of Medusa's service: fenced starts, and a stream of progress.

use std::pin::Pin;

use futures::Stream;
use stheno_rpc::sidecar::sidecar_server::Sidecar;
use stheno_rpc::sidecar::{
    CapabilitiesRequest, CapabilitiesResponse, NodeState, StartBackupRequest, StartBackupResponse, WatchRequest,
    node_state,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Face, claimed};
use crate::jobs::{Jobs, Refusal};

/// What a client may count on beside Medusa's contract.
const FEATURES: [&str; 10] =
    ["start", "watch", "resume", "delete", "purge", "plan-purge", "verify", "cancel", "list", "watch-restore"];

type States = Pin<Box<dyn Stream<Item = Result<NodeState, Status>> + Send>>;

#[tonic::async_trait]
impl Sidecar for Face {
    type WatchStream = States;

    async fn capabilities(&self, _: Request<CapabilitiesRequest>) -> Result<Response<CapabilitiesResponse>, Status> {
        let config = &self.jobs.tools().config;
        let host = config.storage.place.host();
        Ok(Response::new(CapabilitiesResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.node.to_string(),
            storage_provider: config.storage.provider.clone(),
            host,
            bucket: config.storage.bucket.clone(),
            prefix: config.storage.prefix.clone().unwrap_or_default(),
            features: FEATURES.map(str::to_owned).to_vec(),
            epoch: self.jobs.epoch().await,
            pod: config.pod.clone().unwrap_or_default(),
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
