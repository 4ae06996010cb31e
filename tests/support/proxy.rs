//! A TCP proxy between client and server that loses or holds what passes in one direction.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// They vanish; the connection stays open.
    Drop,
    /// They wait until the flow is another one.
    Hold,
}

/// The proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    requests: watch::Sender<Flow>,
    answers: watch::Sender<Flow>,
    cut: watch::Sender<CancellationToken>,
    _stop: DropGuard,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, requests_flow) = watch::channel(Flow::Pass);
        let (answers, answers_flow) = watch::channel(Flow::Pass);
        let (cut, cut_now) = watch::channel(CancellationToken::new());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ended = cut_now.borrow().clone();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                for (from, to, flow) in
                    [(from_client, to_server, requests_flow.clone()), (from_server, to_client, answers_flow.clone())]
                {
                    let (ended, stopped) = (ended.clone(), stopped.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = ended.cancelled() => {}
                            () = stopped.cancelled() => {}
                            () = carry(from, to, flow) => {}
                        }
                    });
                }
            }
        });
        Self { address, requests, answers, cut, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub fn requests(&self, flow: Flow) {
        self.requests.send_replace(flow);
    }

    pub fn answers(&self, flow: Flow) {
        self.answers.send_replace(flow);
    }

    /// Ends all connections that stand now.
    pub fn cut(&self) {
        self.cut.send_replace(CancellationToken::new()).cancel();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if flow.wait_for(|flow| *flow != Flow::Hold).await.is_err() {
            return;
        }
        let drop = *flow.borrow() == Flow::Drop;
        if !drop && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
