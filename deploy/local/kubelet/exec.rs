//! `kubectl exec`: a command in a running container, with its streams in the channels of a WebSocket.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::container::Running;
use super::server::{Answer, query, text};
use super::socket::{self, CLOSE, FromClient, RESIZE, STDERR, STDIN, STDOUT, ToClient, failure, framed, success};
use super::{Shared, lock};

const PIECE: usize = 32 * 1024;

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
    let (answer, upgraded) = socket::accept(&mut request, &socket::CHANNELS);
    if let Some(upgraded) = upgraded {
        tokio::task::spawn_local(socket::converse(upgraded, async move |from_client, messages| {
            // What has been started ends with this future: when the client goes, too.
            match Streams::start(&running, &wanted) {
                Ok(streams) => streams.run(from_client, messages).await,
                Err(error) => Some(failure("InternalError", &format!("{}: {error}", wanted.command.join(" ")), None)),
            }
        }));
    }
    answer
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
    async fn run(mut self, from_client: FromClient, messages: ToClient) -> Option<Value> {
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
async fn forward(channel: u8, mut reader: Reader, messages: ToClient) {
    let mut piece = vec![0; PIECE];
    // A terminal without users is an error, and an end like the other.
    while let Ok(read) = reader.read(&mut piece).await {
        if read == 0 || messages.send(framed(channel, piece.get(..read).unwrap_or_default())).await.is_err() {
            return;
        }
    }
}

/// What the client says, to the command; returns when the client goes.
async fn listen(mut from_client: FromClient, mut stdin: Option<Writer>, terminal: Option<String>, messages: ToClient) {
    while let Some(content) = socket::heard(&mut from_client, &messages).await {
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

fn outcome(exit: std::io::Result<ExitStatus>) -> Value {
    match exit {
        Ok(exit) if exit.success() => success(),
        Ok(exit) => {
            let code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            failure("NonZeroExitCode", &message, Some(code))
        }
        Err(error) => failure("InternalError", &error.to_string(), None),
    }
}
