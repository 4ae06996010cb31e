//! What the API server asks a kubelet for: logs and streams of containers, commands that run in them, and their ports.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::{Shared, attach, exec, forward, lock, logs};

/// Pieces of a body, of which there may be more for a long time.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>>>>;
pub(super) type Answer = Response<StreamBody<Pieces>>;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key of the control plane is not there.
    #[error("the certificate or key {} cannot be used: the kubelet needs those of its control plane", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No port is free.
    #[error("the kubelet can listen on no port of 127.0.0.1")]
    Listen(#[source] std::io::Error),
}

/// Listens, and speaks only with the API server: it must show its certificate.
pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    port: u16,
}

impl Server {
    /// With the certificates that the control plane left in the run folder.
    pub(crate) async fn bind(run: &Path) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Listen)?;
        let port = listener.local_addr().map_err(Error::Listen)?.port();
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls(run)?)), port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Never ends.
    pub(crate) async fn serve(&self, shared: &Arc<Shared>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(connection(shared.clone(), self.acceptor.clone(), stream));
                }
                Err(error) => {
                    tracing::debug!("the kubelet accepts no connection: {error}");
                    tokio::time::sleep(super::LOOK).await;
                }
            }
        }
    }
}

fn tls(run: &Path) -> Result<ServerConfig, Error> {
    fn at<E: Into<Box<dyn std::error::Error + Send + Sync>>>(path: &Path) -> impl Fn(E) -> Error {
        let path = path.to_owned();
        move |source| Error::Certificate { path: path.clone(), source: source.into() }
    }
    let read = |name: &str| {
        let path = run.join(name);
        fs::read(&path).map_err(at(&path)).map(|content| (path, content))
    };
    let certificates = |name: &str| {
        let (path, pem) = read(name)?;
        let all: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        all.map_err(at(&path)).map(|all| (path, all))
    };
    let (authority, trusted) = certificates("ca.crt")?;
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate).map_err(at(&authority))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let clients = clients.map_err(at(&authority))?;
    let (own, chain) = certificates("server.crt")?;
    let (path, key) = read("server.key")?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(at(&path))?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(at(&own))?.with_client_cert_verifier(clients);
    builder.with_single_cert(chain, key).map_err(at(&own))
}

async fn connection(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!("a connection to the kubelet was refused: {error}");
            return;
        }
    };
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!("a connection to the kubelet broke: {error}");
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match words.as_slice() {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["containerLogs", namespace, pod, container] => logs::answer(shared, &request, namespace, pod, container),
        ["exec" | "attach" | "portForward", namespace, pod, rest @ ..] => {
            let Some(uid) = uid(shared, namespace, pod) else {
                return text(StatusCode::NOT_FOUND, &format!("the pod {namespace}/{pod} does not run here"));
            };
            match (words.first().copied(), rest) {
                (Some("exec"), [container]) => exec::answer(shared, request, uid, container),
                (Some("attach"), [container]) => attach::answer(shared, request, uid, container),
                (Some("portForward"), []) => forward::answer(shared, request, &uid),
                _ => text(StatusCode::NOT_FOUND, &format!("{path} names no container of a pod")),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "this kubelet serves logs, exec, attach and port-forward, and nothing else"),
    }
}

fn uid(shared: &Shared, namespace: &str, pod: &str) -> Option<String> {
    let places = lock(&shared.places);
    places.values().find(|place| place.namespace == namespace && place.name == pod).map(|place| place.uid.clone())
}

/// The values of a query, by name.
pub(super) fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// A whole answer.
pub(super) fn text(status: StatusCode, text: &str) -> Answer {
    let piece = Ok(Frame::data(Bytes::from(text.to_owned())));
    pieces(status, Box::pin(stream::once(std::future::ready(piece))))
}

/// An answer in pieces.
pub(super) fn pieces(status: StatusCode, pieces: Pieces) -> Answer {
    let mut answer = Response::new(StreamBody::new(pieces));
    *answer.status_mut() = status;
    answer
}
