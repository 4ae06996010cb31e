//! `kubectl port-forward`: connections to a pod's ports, each a pair of SPDY streams inside of a WebSocket.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Answer, text};
use super::socket::{self, FromClient, ToClient};
use super::spdy::{self, Decoder, Frame};
use super::{Shared, lock};

const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
const PIECE: usize = 32 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces on their way to a connection before the client has to wait.
const WAITING: usize = 64;

/// Where a pod's ports are.
#[derive(Clone, Copy)]
struct Target {
    ip: Ipv4Addr,
    /// The process whose network namespace is the pod's.
    holder: Option<u32>,
}

/// Begins to forward; which ports are wanted is said with each connection.
pub(super) fn answer(shared: &Shared, mut request: Request<Incoming>, uid: &str) -> Answer {
    let place = lock(&shared.places).get(uid).cloned();
    let Some(place) = place else { return text(StatusCode::NOT_FOUND, "the pod has no network yet") };
    let target = Target { ip: place.network.ip(), holder: place.network.holder() };
    let (answer, upgraded) = socket::accept(&mut request, &[PROTOCOL]);
    if let Some(upgraded) = upgraded {
        tokio::task::spawn_local(socket::converse(upgraded, async move |from_client, messages| {
            if let Err(error) = Session::new(target, messages).run(from_client).await {
                tracing::debug!("ports of {} are forwarded no more: {error}", target.ip);
            }
            None
        }));
    }
    answer
}

/// The two streams of one connection, which come one after the other.
#[derive(Default)]
struct Pair {
    error: Option<u32>,
    data: Option<u32>,
}

struct Session {
    target: Target,
    messages: ToClient,
    pairs: BTreeMap<String, Pair>,
    /// To the connection of each data stream. Dropped: the client has said all.
    inlets: BTreeMap<u32, mpsc::Sender<Bytes>>,
    /// Ends with the session.
    connections: JoinSet<()>,
    replied: bool,
}

impl Session {
    fn new(target: Target, messages: ToClient) -> Self {
        let (pairs, inlets) = (BTreeMap::new(), BTreeMap::new());
        Self { target, messages, pairs, inlets, connections: JoinSet::new(), replied: false }
    }

    async fn run(mut self, mut from_client: FromClient) -> Result<(), spdy::Error> {
        let mut decoder = Decoder::new();
        while let Some(piece) = socket::heard(&mut from_client, &self.messages).await {
            decoder.push(&piece);
            while let Some(frame) = decoder.next()? {
                match frame {
                    Frame::Open { stream, headers } => self.open(stream, &headers).await,
                    Frame::Data { stream, content, last } => {
                        if let Some(inlet) = self.inlets.get(&stream).filter(|_| !content.is_empty()) {
                            // A connection that is closed takes nothing more.
                            let _ = inlet.send(content).await;
                        }
                        if last {
                            self.inlets.remove(&stream);
                        }
                    }
                    Frame::Reset { stream } => {
                        self.inlets.remove(&stream);
                    }
                    Frame::Ping { id } => send(&self.messages, spdy::ping(id)).await,
                    Frame::GoAway => return Ok(()),
                }
            }
            while self.connections.try_join_next().is_some() {}
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)]) {
        send(&self.messages, spdy::reply(stream, !self.replied)).await;
        self.replied = true;
        let header =
            |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str());
        // Old clients number no requests: theirs are told apart by the port alone.
        let key = format!("{} {}", header("requestid"), header("port"));
        let pair = self.pairs.entry(key.clone()).or_default();
        match header("streamtype") {
            "error" => pair.error = Some(stream),
            "data" => pair.data = Some(stream),
            other => return tracing::debug!("a stream of the kind `{other}` is no part of port-forward"),
        }
        let (Some(error), Some(data)) = (pair.error, pair.data) else { return };
        self.pairs.remove(&key);
        let (inlet, outlet) = mpsc::channel(WAITING);
        self.inlets.insert(data, inlet);
        let (target, messages, port) = (self.target, self.messages.clone(), header("port").parse().ok());
        self.connections.spawn_local(async move {
            if let Err(why) = connection(target, port, data, outlet, &messages).await {
                send(&messages, spdy::data(error, why.as_bytes(), false)).await;
            }
            send(&messages, spdy::data(data, &[], true)).await;
            send(&messages, spdy::data(error, &[], true)).await;
        });
    }
}

async fn send(messages: &ToClient, frame: Vec<u8>) {
    // The session ends with its client.
    let _ = messages.send(Message::Binary(frame.into())).await;
}

/// One connection, until the pod has closed it; why not, for people.
async fn connection(
    target: Target,
    port: Option<u16>,
    stream: u32,
    mut outlet: mpsc::Receiver<Bytes>,
    messages: &ToClient,
) -> Result<(), String> {
    let port = port.ok_or("no port is named")?;
    let there = connect(target, port).await.map_err(|error| format!("nothing answers at port {port}: {error}"))?;
    let (mut from_pod, mut to_pod) = there.into_split();
    let telling = async {
        while let Some(content) = outlet.recv().await {
            if to_pod.write_all(&content).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let hearing = async {
        let mut piece = vec![0; PIECE];
        loop {
            let read = from_pod.read(&mut piece).await;
            let Some(content) = read.ok().and_then(|read| piece.get(..read)).filter(|read| !read.is_empty()) else {
                return;
            };
            send(messages, spdy::data(stream, content, false)).await;
        }
    };
    // What the pod has still to say comes after the client has said all; the other way round nobody would hear it.
    tokio::select! {
        () = hearing => {}
        () = async { telling.await; std::future::pending().await } => {}
    }
    Ok(())
}

/// A kubelet connects to the loopback address inside of the pod. What listens at the pod's address alone is found, too.
async fn connect(target: Target, port: u16) -> std::io::Result<TcpStream> {
    let inside = match target.holder {
        Some(holder) => connect_inside(holder, port).await,
        None => Err(std::io::Error::other("the pod has no network of its own")),
    };
    match inside {
        Ok(stream) => Ok(stream),
        Err(_) => {
            let address = SocketAddr::from((target.ip, port));
            tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await?
        }
    }
}

/// A thread of its own enters the pod's network: which one a thread is in lasts as long as the thread.
async fn connect_inside(holder: u32, port: u16) -> std::io::Result<TcpStream> {
    let (sender, connected) = oneshot::channel();
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        let connect = || {
            let namespace = std::fs::File::open(format!("/proc/{holder}/ns/net"))?;
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let stream = std::net::TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), PATIENCE)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let _ = sender.send(connect());
    })?;
    let stream: std::io::Result<std::net::TcpStream> =
        connected.await.unwrap_or_else(|_| Err(std::io::Error::other("the thread ended early")));
    TcpStream::from_std(stream?)
}
