//! `kubectl exec`: a command in a running container, with its streams in the channels of a WebSocket.
//!
//! The protocols are Kubernetes' `v5.channel.k8s.io` and `v4.channel.k8s.io`: the first byte of a message says which stream
//! it belongs to; only v5 can close one.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::container::Running;
use super::server::{Answer, query, text};
use super::{Shared, lock};

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const PIECE: usize = 32 * 1024;
/// Messages on their way to the client before the command has to wait.
const WAITING: usize = 16;

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Reader = Box<dyn AsyncRead + Unpin>;
type Writer = Box<dyn AsyncWrite + Unpin>;

#[derive(Debug, Default)]
struct Wanted {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn of(query: Vec<(String, String)>) -> Self {
        let mut wanted = Self::default();
        for (name, value) in query {
            let yes = value == "1" || value == "true";
            match name.as_str() {
                "command" => wanted.command.push(value),
                "input" | "stdin" => wanted.stdin = yes,
                "output" | "stdout" => wanted.stdout = yes,
                "error" | "stderr" => wanted.stderr = yes,
                "tty" => wanted.tty = yes,
                _ => {}
            }
        }
        wanted
    }
}

/// Begins the command; what it says comes when the connection has become a WebSocket.
pub(super) fn answer(shared: &Shared, mut request: Request<Incoming>, uid: String, container: &str) -> Answer {
    let Some(running) = lock(&shared.running).get(&(uid, container.to_owned())).cloned() else {
        return text(StatusCode::NOT_FOUND, &format!("the container {container} does not run"));
    };
    let wanted = Wanted::of(query(&request));
    if wanted.command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container");
    }
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let offered: Vec<&str> =
        header(SEC_WEBSOCKET_PROTOCOL).into_iter().flat_map(|all| all.split(',').map(str::trim)).collect();
    let protocol = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol));
    let (Some(protocol), Some(key)) = (protocol, header(SEC_WEBSOCKET_KEY)) else {
        return text(
            StatusCode::BAD_REQUEST,
            "exec needs a WebSocket with v5.channel.k8s.io or v4.channel.k8s.io; SPDY is not supported",
        );
    };
    let accepted = derive_accept_key(key.as_bytes());
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(converse(upgraded, running, wanted));
    answer
}

async fn converse(upgraded: OnUpgrade, running: Arc<Running>, wanted: Wanted) {
    let socket: Socket = match upgraded.await {
        Ok(upgraded) => WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await,
        Err(error) => {
            tracing::debug!("a connection for a command did not become a WebSocket: {error}");
            return;
        }
    };
    let (to_client, from_client) = socket.split();
    let (messages, outbox) = mpsc::channel(WAITING);
    let said = async {
        // What has been started ends with this future: when the client goes, too.
        let outcome = match Streams::start(&running, &wanted) {
            Ok(streams) => streams.run(from_client, messages.clone()).await,
            Err(error) => Some(failure("InternalError", 500, format!("{}: {error}", wanted.command.join(" ")), None)),
        };
        if let Some(outcome) = outcome {
            let _ = messages.send(framed(OUTCOME, outcome.to_string().as_bytes())).await;
            // Without a code kubectl takes the end for a broken connection.
            let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
            let _ = messages.send(Message::Close(Some(end))).await;
        }
        drop(messages);
    };
    tokio::join!(said, deliver(to_client, outbox));
}

async fn deliver(mut to_client: SplitSink<Socket, Message>, mut outbox: mpsc::Receiver<Message>) {
    while let Some(message) = outbox.recv().await {
        if to_client.send(message).await.is_err() {
            return;
        }
    }
    let _ = to_client.close().await;
}

fn framed(channel: u8, content: &[u8]) -> Message {
    let mut message = Vec::with_capacity(content.len() + 1);
    message.push(channel);
    message.extend_from_slice(content);
    Message::Binary(message.into())
}

/// A started command and the ends of its streams.
struct Streams {
    child: tokio::process::Child,
    stdin: Option<Writer>,
    outputs: Vec<(u8, Reader)>,
    terminal: Option<String>,
}

impl Streams {
    fn start(running: &Running, wanted: &Wanted) -> std::io::Result<Self> {
        if wanted.tty {
            return Self::start_on_terminal(running, wanted);
        }
        let mut command = running.command(&wanted.command);
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        command.stdin(piped(wanted.stdin)).stdout(piped(wanted.stdout)).stderr(piped(wanted.stderr));
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Writer);
        let stdout = child.stdout.take().map(|stdout| (STDOUT, Box::new(stdout) as Reader));
        let stderr = child.stderr.take().map(|stderr| (STDERR, Box::new(stderr) as Reader));
        Ok(Self { child, stdin, outputs: stdout.into_iter().chain(stderr).collect(), terminal: None })
    }

    fn start_on_terminal(running: &Running, wanted: &Wanted) -> std::io::Result<Self> {
        let pty = nix::pty::openpty(None, None)?;
        let terminal = nix::unistd::ttyname(&pty.slave)?.display().to_string();
        // A session of its own, which the terminal controls: for Ctrl-C and for shells.
        let mut words = vec!["setsid".to_owned(), "--ctty".to_owned(), "--wait".to_owned()];
        words.extend(wanted.command.iter().cloned());
        let mut command = running.command(&words);
        command.env("TERM", "xterm");
        let slave = File::from(pty.slave);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn()?;
        // It holds our copies of the terminal's end: without this the end of the command would not be seen.
        drop(command);
        let master = File::from(pty.master);
        let output = Box::new(tokio::fs::File::from_std(master.try_clone()?)) as Reader;
        let stdin = wanted.stdin.then(|| Box::new(tokio::fs::File::from_std(master)) as Writer);
        Ok(Self { child, stdin, outputs: vec![(STDOUT, output)], terminal: Some(terminal) })
    }

    /// The outcome, or nothing when the client has gone.
    async fn run(
        mut self,
        from_client: SplitStream<Socket>,
        messages: mpsc::Sender<Message>,
    ) -> Option<serde_json::Value> {
        let outputs = futures::future::join_all(
            self.outputs.drain(..).map(|(channel, reader)| forward(channel, reader, messages.clone())),
        );
        let listening = listen(from_client, self.stdin.take(), self.terminal.take(), messages.clone());
        let ended = async {
            let (exit, _) = tokio::join!(self.child.wait(), outputs);
            exit
        };
        tokio::select! {
            exit = ended => Some(outcome(exit)),
            () = listening => None,
        }
    }
}

/// What the command says, to the client.
async fn forward(channel: u8, mut reader: Reader, messages: mpsc::Sender<Message>) {
    let mut piece = vec![0; PIECE];
    // A terminal without users is an error, and an end like the other.
    while let Ok(read) = reader.read(&mut piece).await {
        if read == 0 || messages.send(framed(channel, piece.get(..read).unwrap_or_default())).await.is_err() {
            return;
        }
    }
}

/// What the client says, to the command; returns when the client goes.
async fn listen(
    mut from_client: SplitStream<Socket>,
    mut stdin: Option<Writer>,
    terminal: Option<String>,
    messages: mpsc::Sender<Message>,
) {
    while let Some(Ok(message)) = from_client.next().await {
        let content = match message {
            Message::Binary(content) => content,
            Message::Text(content) => content.into(),
            Message::Ping(content) => {
                let _ = messages.send(Message::Pong(content)).await;
                continue;
            }
            Message::Close(_) => return,
            Message::Pong(_) | Message::Frame(_) => continue,
        };
        match content.split_first() {
            Some((&STDIN, typed)) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(typed).await.is_err() || writer.flush().await.is_err())
                {
                    // The command reads no more; it may still have much to say.
                    stdin = None;
                }
            }
            Some((&CLOSE, [STDIN, ..])) => stdin = None,
            Some((&RESIZE, size)) => {
                if let Some(terminal) = &terminal {
                    resize(terminal, size).await;
                }
            }
            Some(_) | None => {}
        }
    }
}

async fn resize(terminal: &str, size: &[u8]) {
    let size: serde_json::Value = serde_json::from_slice(size).unwrap_or_default();
    let (Some(columns), Some(rows)) = (size["Width"].as_u64(), size["Height"].as_u64()) else { return };
    let mut stty = tokio::process::Command::new("stty");
    stty.args(["-F", terminal, "rows", &rows.to_string(), "columns", &columns.to_string()]);
    let _ = stty.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
}

fn outcome(exit: std::io::Result<ExitStatus>) -> serde_json::Value {
    match exit {
        Ok(exit) if exit.success() => json!({"metadata": {}, "status": "Success"}),
        Ok(exit) => {
            let code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            failure("NonZeroExitCode", 500, message, Some(code))
        }
        Err(error) => failure("InternalError", 500, error.to_string(), None),
    }
}

fn failure(reason: &str, code: u16, message: String, exit: Option<i32>) -> serde_json::Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code,
    });
    if let Some(exit) = exit {
        status["details"] = json!({"causes": [{"reason": "ExitCode", "message": exit.to_string()}]});
    }
    status
}
