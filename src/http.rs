//! Health, readiness and metrics over HTTP: what a kubelet, a person and a Prometheus ask.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether the process can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It can; a sentence for people.
    Yes(String),
    /// It cannot, for this reason.
    No(String),
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("the address {address} for health and metrics cannot be used: choose another with --http")]
pub struct Error {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

#[derive(Clone)]
struct Shown {
    ready: watch::Receiver<Ready>,
    metrics: Arc<Registry>,
}

/// Listens on `address` and answers until `stop`. Returns the address that was bound.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    ready: watch::Receiver<Ready>,
    metrics: Arc<Registry>,
    stop: CancellationToken,
) -> Result<SocketAddr, Error> {
    let failed = |source| Error { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(exposition))
        .with_state(Shown { ready, metrics });
    tokio::spawn(async move {
        // Requests are short; connections that stay open must not hold up the end of the process.
        tokio::select! {
            () = stop.cancelled() => {}
            served = axum::serve(listener, router).into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "health and metrics are served no more");
                }
            }
        }
    });
    Ok(bound)
}

async fn readiness(State(shown): State<Shown>) -> impl IntoResponse {
    match &*shown.ready.borrow() {
        Ready::Yes(sentence) => (StatusCode::OK, format!("{sentence}\n")),
        Ready::No(sentence) => (StatusCode::SERVICE_UNAVAILABLE, format!("{sentence}\n")),
    }
}

async fn exposition(State(shown): State<Shown>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.metrics) {
        Ok(()) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, form)], text)
        }
        Err(_) => {
            let form = "text/plain; charset=utf-8";
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, form)], "metrics cannot be written\n".into())
        }
    }
}
