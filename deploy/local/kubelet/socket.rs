//! The WebSockets in which the API server has commands, attached streams and forwarded ports.
//!
//! The protocols of streams are Kubernetes' `v5.channel.k8s.io` and `v4.channel.k8s.io`: the first byte of a message says
//! which stream it belongs to; only v5 can close one.

use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::server::{Answer, text};

/// The protocols of streams, the better first.
pub(super) const CHANNELS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
pub(super) const RESIZE: u8 = 4;
pub(super) const CLOSE: u8 = 255;
/// Messages on their way to the client before the sender has to wait.
const WAITING: usize = 16;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;
pub(super) type FromClient = futures::stream::SplitStream<Socket>;
pub(super) type ToClient = mpsc::Sender<Message>;

/// Agrees to a WebSocket with the first of `protocols` that the client offers; otherwise the answer says what is missing.
pub(super) fn accept(request: &mut Request<Incoming>, protocols: &[&'static str]) -> (Answer, Option<OnUpgrade>) {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let offered: Vec<&str> =
        header(SEC_WEBSOCKET_PROTOCOL).into_iter().flat_map(|all| all.split(',').map(str::trim)).collect();
    let protocol = protocols.iter().find(|protocol| offered.contains(protocol));
    let (Some(protocol), Some(key)) = (protocol, header(SEC_WEBSOCKET_KEY)) else {
        let why = format!("this needs a WebSocket with {}; SPDY without one is not supported", protocols.join(" or "));
        return (text(StatusCode::BAD_REQUEST, &why), None);
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
    (answer, Some(hyper::upgrade::on(request)))
}

/// Runs the conversation; the outcome that it comes to is told to the client. It is nothing when the client has gone.
pub(super) async fn converse(upgraded: OnUpgrade, talk: impl AsyncFnOnce(FromClient, ToClient) -> Option<Value>) {
    let socket: Socket = match upgraded.await {
        Ok(upgraded) => WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await,
        Err(error) => {
            tracing::debug!("a connection of the API server did not become a WebSocket: {error}");
            return;
        }
    };
    let (to_client, from_client) = socket.split();
    let (messages, outbox) = mpsc::channel(WAITING);
    let said = async {
        if let Some(outcome) = talk(from_client, messages.clone()).await {
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

/// The next message with content; pings are answered. Nothing when the client has gone.
pub(super) async fn heard(from_client: &mut FromClient, messages: &ToClient) -> Option<bytes::Bytes> {
    loop {
        match from_client.next().await?.ok()? {
            Message::Binary(content) => return Some(content),
            Message::Text(content) => return Some(content.into()),
            Message::Ping(content) => {
                let _ = messages.send(Message::Pong(content)).await;
            }
            Message::Close(_) => return None,
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// A piece of a stream.
pub(super) fn framed(channel: u8, content: &[u8]) -> Message {
    let mut message = Vec::with_capacity(content.len() + 1);
    message.push(channel);
    message.extend_from_slice(content);
    Message::Binary(message.into())
}

/// The outcome of what went well.
pub(super) fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// The outcome of what did not; with the exit code of a command.
pub(super) fn failure(reason: &str, message: &str, exit: Option<i32>) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": 500,
    });
    if let Some(exit) = exit {
        status["details"] = json!({"causes": [{"reason": "ExitCode", "message": exit.to_string()}]});
    }
    status
}
