//! mTLS of our own service: connections are accepted with the certificates that the files hold now, so that a renewed one
//! needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config::GrpcTls;
use crate::jobs::sentence;
use crate::metrics::Metrics;

/// How often the files are looked at: a kubelet renews them in minutes.
const LOOK: Duration = Duration::from_secs(5);
/// How long a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that are accepted and not served yet.
const WAITING: usize = 16;

/// Connections of clients with a good certificate.
pub(super) type Incoming = ReceiverStream<io::Result<TlsStream<TcpStream>>>;

/// Accepts until `cancel`. The first certificates must be good; later ones that are not leave the former in use.
pub(super) fn incoming(
    listener: TcpListener,
    files: GrpcTls,
    metrics: Metrics,
    cancel: CancellationToken,
) -> Result<Incoming, Error> {
    let (mut pem, config) = Pem::read(&files).and_then(|pem| Ok((pem.clone(), pem.config(&files)?)))?;
    let mut acceptor = TlsAcceptor::from(config);
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = look.tick() => {
                    // The three files are not replaced at one moment: what does not fit together may fit in a while.
                    match Pem::read(&files).and_then(|now| if now == pem { Ok(None) } else { Ok(Some((now.config(&files)?, now))) }) {
                        Ok(None) => {}
                        Ok(Some((config, now))) => {
                            tracing::info!(certificate = %files.certificate.display(), "the certificates have changed");
                            metrics.certificates.inc();
                            (acceptor, pem) = (TlsAcceptor::from(config), now);
                        }
                        Err(error) => {
                            tracing::warn!(error = sentence(&error), "the former certificates stay in use");
                        }
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        let (acceptor, sender) = (acceptor.clone(), sender.clone());
                        tokio::spawn(async move {
                            // gRPC's small messages must not wait for one another; without it they only come later.
                            let _ = stream.set_nodelay(true);
                            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                                // Nobody receives it when the service ends.
                                Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                                Ok(Err(error)) => tracing::debug!(%client, %error, "a client stays outside"),
                                Err(_) => tracing::debug!(%client, "a client shows nothing"),
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        // Too many open files, most often: at once it would be the same again.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// The content of the three files.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Vec<u8>,
}

impl Pem {
    fn read(files: &GrpcTls) -> Result<Self, Error> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?, clients: read(&files.clients)? })
    }

    fn config(&self, files: &GrpcTls) -> Result<Arc<ServerConfig>, Error> {
        let bad = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| Error::Certificate {
            path: path.to_owned(),
            source,
        };
        let all = |pem: &[u8], path: &Path| -> Result<Vec<CertificateDer<'static>>, Error> {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let all = all.map_err(|error| bad(path, error.into()))?;
            if all.is_empty() { Err(bad(path, "there is no certificate in it".into())) } else { Ok(all) }
        };
        let mut roots = RootCertStore::empty();
        for authority in all(&self.clients, &files.clients)? {
            roots.add(authority).map_err(|error| bad(&files.clients, error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let clients = clients.map_err(|error| bad(&files.clients, error.into()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| bad(&files.key, error.into()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(&files.certificate, error.into()))?
            .with_client_cert_verifier(clients)
            .with_single_cert(all(&self.certificate, &files.certificate)?, key)
            .map_err(|error| bad(&files.certificate, error.into()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
