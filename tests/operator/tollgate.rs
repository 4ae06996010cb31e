//! A gate between one operator and its nats-server that counts the claims on their way to the log, and can do something at
//! the very moment at which one passes: before the server has it.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The name of the event that claims an effect, as it stands in a message.
const CLAIM: &[u8] = b"backup.effect_claimed";

pub struct Tollgate {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Tollgate {
    /// Calls `passing` with the number of each message that holds claims, from 1, before it goes on.
    pub async fn to(server: SocketAddr, passing: impl Fn(usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let passing: Arc<dyn Fn(usize) + Send + Sync> = Arc::new(passing);
        let claims = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (passing, claims) = (passing.clone(), claims.clone());
                tokio::spawn(async move {
                    let mut from_client = BufReader::new(from_client);
                    while let Some(frame) = frame(&mut from_client).await {
                        if frame.windows(CLAIM.len()).any(|part| part == CLAIM) {
                            passing(claims.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1);
                        }
                        if to_server.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                });
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        }));
        Self { address, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

/// The client's next line, with what it announces behind it: `PUB subject [reply] bytes` and `HPUB … headers bytes`.
async fn frame(client: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    if client.read_until(b'\n', &mut frame).await.ok()? == 0 {
        return None;
    }
    let line = String::from_utf8_lossy(&frame).into_owned();
    if line.starts_with("PUB ") || line.starts_with("HPUB ") {
        let bytes: usize = line.split_whitespace().next_back()?.parse().ok()?;
        let begun = frame.len();
        frame.resize(begun + bytes + 2, 0);
        client.read_exact(&mut frame[begun..]).await.ok()?;
    }
    Some(frame)
}
