//! `kubectl attach`: what a container says from now on, stdout and stderr apart, and what it is told if it listens.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::broadcast::error::RecvError;

use super::container::Running;
use super::server::{Answer, query, text};
use super::socket::{self, CLOSE, FromClient, STDERR, STDIN, STDOUT, ToClient, framed, success};
use super::{Shared, lock};

/// Joins the streams of a running container.
pub(super) fn answer(shared: &Shared, mut request: Request<Incoming>, uid: String, container: &str) -> Answer {
    let Some(running) = lock(&shared.running).get(&(uid, container.to_owned())).cloned() else {
        return text(StatusCode::NOT_FOUND, &format!("the container {container} does not run"));
    };
    let asked = query(&request);
    let wants = |names: [&str; 2]| {
        asked.iter().any(|(name, value)| names.contains(&name.as_str()) && (value == "1" || value == "true"))
    };
    let channels: Vec<u8> = [(STDOUT, ["output", "stdout"]), (STDERR, ["error", "stderr"])]
        .into_iter()
        .filter_map(|(channel, names)| wants(names).then_some(channel))
        .collect();
    let telling = wants(["input", "stdin"]);
    if telling && running.stdin.is_none() {
        let why = format!("the container {container} listens to nobody: set stdin in its spec, or attach without it");
        return text(StatusCode::BAD_REQUEST, &why);
    }
    let (answer, upgraded) = socket::accept(&mut request, &socket::CHANNELS);
    if let Some(upgraded) = upgraded {
        // From this moment on, and not from when the client is ready: it may be waited for.
        let said = running.output.listen();
        tokio::task::spawn_local(socket::converse(upgraded, async move |from_client, messages| {
            let Some(mut said) = said else { return Some(success()) };
            let hearing = async {
                loop {
                    match said.recv().await {
                        Ok((channel, content)) if channels.contains(&channel) => {
                            if messages.send(framed(channel, &content)).await.is_err() {
                                return None;
                            }
                        }
                        // Of another stream; or so much that the client could not follow.
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return Some(success()),
                    }
                }
            };
            tokio::select! {
                outcome = hearing => outcome,
                () = tell(from_client, &running, telling, &messages) => None,
            }
        }));
    }
    answer
}

/// What the client types; returns when it goes.
async fn tell(mut from_client: FromClient, running: &Running, telling: bool, messages: &ToClient) {
    while let Some(content) = socket::heard(&mut from_client, messages).await {
        match content.split_first() {
            Some((&STDIN, typed)) if telling => {
                if let Some(stdin) = &running.stdin
                    && let Some(pipe) = stdin.pipe.lock().await.as_mut()
                {
                    // A container that reads no more may still have much to say.
                    let _ = pipe.write_all(typed).await;
                }
            }
            Some((&CLOSE, [STDIN, ..])) if telling => over(running).await,
            Some(_) | None => {}
        }
    }
    if telling {
        over(running).await;
    }
}

/// The first who tells a container something may be the only one: `stdinOnce`.
async fn over(running: &Running) {
    if let Some(stdin) = running.stdin.as_ref().filter(|stdin| stdin.once) {
        stdin.pipe.lock().await.take();
    }
}
