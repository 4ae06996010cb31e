//! How a restore goes, told by the init container while it works and by the sidecar after it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use stheno_rpc::sidecar::restore_state::Phase;
use stheno_rpc::sidecar::restorer_server::{Restorer, RestorerServer};
use stheno_rpc::sidecar::{RestoreState, WatchRestoreRequest};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{Error, Face, tls};
use crate::metrics::Metrics;
use crate::{Config, restore};

/// How long a watcher may take to hear of the end, before the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

type States = Pin<Box<dyn Stream<Item = Result<RestoreState, Status>> + Send>>;

fn ended(state: &RestoreState) -> bool {
    match state.phase() {
        Phase::Restored | Phase::Failed | Phase::Skipped => true,
        // Not begun yet, or another one than the one that is asked for.
        Phase::Unspecified | Phase::NotFound | Phase::Fetching | Phase::Switching => false,
    }
}

/// The state under the key that was asked for.
fn asked(state: RestoreState, key: &str) -> RestoreState {
    if key.is_empty() || state.key == key {
        return state;
    }
    RestoreState { phase: Phase::NotFound.into(), key: key.to_owned(), ..RestoreState::default() }
}

#[tonic::async_trait]
impl Restorer for Face {
    type WatchRestoreStream = States;

    async fn watch_restore(&self, request: Request<WatchRestoreRequest>) -> Result<Response<States>, Status> {
        let (jobs, key) = (self.jobs.clone(), request.into_inner().key);
        let asked_for = key.clone();
        let read = tokio::task::spawn_blocking(move || restore::remembered(&jobs.tools().config, &asked_for));
        let nothing = RestoreState { phase: Phase::NotFound.into(), ..RestoreState::default() };
        let state = read.await.ok().flatten().unwrap_or(nothing);
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(asked(state, &key))))))
    }
}

/// The init container's.
struct Init(watch::Receiver<RestoreState>);

#[tonic::async_trait]
impl Restorer for Init {
    type WatchRestoreStream = States;

    async fn watch_restore(&self, request: Request<WatchRestoreRequest>) -> Result<Response<States>, Status> {
        let key = request.into_inner().key;
        let mut states = self.0.clone();
        states.mark_changed();
        let states = futures::stream::unfold(Some((states, key)), async |left| {
            let (mut states, key) = left?;
            states.changed().await.ok()?;
            let state = asked(states.borrow_and_update().clone(), &key);
            let left = (!ended(&state)).then_some((states, key));
            Some((Ok(state), left))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

/// Serves while `work` goes on. That nobody can be told is no reason not to restore.
pub async fn beside<T>(
    config: &Config,
    listen: Option<SocketAddr>,
    states: watch::Receiver<RestoreState>,
    work: impl Future<Output = T>,
) -> T {
    let stop = CancellationToken::new();
    let served = serve(config, listen, states, stop.clone());
    tokio::pin!(served, work);
    let done = tokio::select! {
        outcome = &mut served => {
            if let Err(error) = outcome {
                tracing::warn!(error = crate::jobs::sentence(&error), "nobody can watch this restore");
            }
            return work.await;
        }
        done = &mut work => done,
    };
    stop.cancel();
    // Who watches hears of the end, but does not hold it up.
    let _ = tokio::time::timeout(FAREWELL, served).await;
    done
}

async fn serve(
    config: &Config,
    listen: Option<SocketAddr>,
    states: watch::Receiver<RestoreState>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = crate::bind(listen, config.grpc.port).await?;
    let router = Server::builder().add_service(RestorerServer::new(Init(states)));
    match &config.grpc.tls {
        None => {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        }
        Some(files) => {
            let incoming = tls::incoming(listener, files.clone(), Metrics::default(), stop.clone())?;
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        }
    }
    Ok(())
}
