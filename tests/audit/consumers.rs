//! Consumers in other languages, as they stand in `docs/examples`: what they print, and that they go on where they stopped.

use crate::nats::{append, written};
use crate::registries::{self, run};
use crate::story::{Story, two_backups};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use stheno_events::Envelope;
use stheno_local::testing::nats;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name)
}

/// Python with what the example says it needs, in an environment of its own.
fn python() -> PathBuf {
    let text = std::fs::read_to_string(example("python/finished_backups.py")).unwrap();
    let needs = text.lines().find_map(|line| line.trim().strip_prefix("pip install ")).expect("it says what it needs");
    registries::python(&format!("python-{}", needs.replace(['=', ' '], "-")), needs.split(' ')).join("python")
}

/// A consumer that runs; killed when it is dropped.
struct Consumer {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Consumer {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(30)).expect("a line")
    }

    fn quiet(&self) {
        let more = self.lines.recv_timeout(Duration::from_secs(1));
        assert!(more.is_err(), "{more:?}");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The story up to the end of its first backup.
fn first_half() -> Story {
    let mut story = two_backups();
    let ends = |payload: &[u8]| {
        let envelope = Envelope::decode(payload).unwrap();
        envelope.events.iter().any(|fact| matches!(fact.name(), "backup.completed" | "backup.failed"))
    };
    let end = story.messages.iter().position(|(_, _, payload)| ends(payload)).unwrap();
    story.messages.truncate(end + 1);
    story
}

/// Runs a consumer on the first half, kills it, and runs it again on the whole.
async fn goes_on(mut command: impl FnMut(&str) -> Command, [first, second]: [&str; 2]) {
    let server = nats().await.unwrap();
    let half = first_half();
    let log = written(&server.url(), &half).await;
    let consumer = Consumer::start(&mut command(&server.url()));
    let line = consumer.line();
    assert!(line.contains(first), "{line}");
    consumer.quiet();
    drop(consumer);
    append(&log, &two_backups(), half.messages.len()).await;
    let consumer = Consumer::start(&mut command(&server.url()));
    let line = consumer.line();
    assert!(line.contains(second), "{line}");
    consumer.quiet();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_python() {
    let lines = std::fs::read_to_string(example("python/finished_backups.py")).unwrap().lines().count();
    assert!(lines < 60, "{lines} lines");
    let (python, folder) = (python(), tempfile::tempdir().unwrap());
    let command = |url: &str| {
        let mut command = Command::new(&python);
        command.arg(example("python/finished_backups.py")).arg(url).arg(folder.path().join("finished.json"));
        command
    };
    goes_on(command, ["prod/nightly-1 complete: ", "prod/nightly-2 failed: "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_go() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("finished");
    run(Command::new("go").current_dir(example("go")).args(["build", "-o"]).arg(&program).arg("."));
    let command = |url: &str| {
        let mut command = Command::new(&program);
        command.args([url, "example"]);
        command
    };
    goes_on(command, [" complete: ", " failed: "]).await;
}
