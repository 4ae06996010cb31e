//! The commands as processes: exit codes, one sentence on stderr, and pipes whose reader has seen enough.

use crate::story::{Story, audit, two_backups};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stheno::log::Endpoint;
use stheno_local::provision::{Part, ensure};
use stheno_local::testing::nats;

fn stheno(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn exported(story: &Story, folder: &Path) -> PathBuf {
    let path = folder.join("log.stheno");
    audit(&story.source(), &["export", path.to_str().unwrap()]).await.unwrap();
    path
}

/// The exit code of a process that ends within a time.
fn ends(child: &mut Child) -> i32 {
    for _ in 0..500 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

#[tokio::test]
async fn exit_codes_and_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let good = exported(&two_backups(), folder.path()).await;
    let good = good.to_str().unwrap();
    let mut forged = two_backups();
    forged.messages.swap(7, 8);
    std::fs::create_dir(folder.path().join("forged")).unwrap();
    let forged = exported(&forged, &folder.path().join("forged")).await;
    for (arguments, code, said) in [
        (&["audit", "verify", "--file", good][..], 0, ""),
        (&["audit", "--file", good, "log", "-o", "yaml"], 0, ""),
        (&["audit", "verify", "--file", forged.to_str().unwrap()], 1, "stheno: the log is at fault at message 8: "),
        (&["audit", "log", "--file", "/nowhere"], 1, "stheno: /nowhere cannot be opened: No such file"),
        (&["audit", "log", "--nats-url", "nats://["], 1, "stheno: \"nats://[\" is no NATS address"),
        (&["audit", "log"], 1, "stheno: there is no log: neither HOME nor XDG_STATE_HOME is set"),
        (&["events", "--file", good, "-f"], 1, "stheno: an exported log does not grow"),
        (&["audit", "at", "yesterday", "--file", good], 2, "error: invalid value 'yesterday' for '<TIME|SEQ>'"),
        (&["audit"], 2, "The audit replay tool"),
    ] {
        let output = stheno(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.starts_with(said), "{arguments:?}: {error}");
        assert!(code != 1 || error.trim_end().lines().count() == 1, "{arguments:?}: {error}");
        assert!(code != 0 || (error.is_empty() && !output.stdout.is_empty()), "{arguments:?}: {error}");
        assert!(!output.stdout.contains(&0x1b), "a pipe gets no colours");
    }
}

/// `… | head -1`: the first line comes, then the command ends without a word.
async fn head(arguments: &[&str]) {
    let begun = tokio::time::Instant::now();
    let mut child = stheno(arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    let code = ends(&mut child);
    let mut error = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut error).unwrap();
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?} after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pipe_that_closes_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    // More than a pipe holds.
    let mut story = Story::new();
    story.opening();
    for job in 0..200 {
        story.asked(&format!("nightly-{job}"), 10_000 + job).started(10_000 + job).completed(10_000 + job);
    }
    let path = exported(&story, folder.path()).await;
    let file = path.to_str().unwrap();
    head(&["events", "--file", file, "-o", "json"]).await;
    head(&["events", "--file", file]).await;
    head(&["audit", "log", "--file", file, "-o", "json"]).await;
    head(&["audit", "at", "1000", "--file", file]).await;
}

/// Nothing more happens on the log, and still the command notices that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_reader_left_ends() {
    let server = nats().await.unwrap();
    let log = crate::nats::written(&server.url(), &two_backups()).await;
    head(&["events", "-f", "-o", "cloudevents", "--nats-url", &server.url()]).await;
    log.close().await;
}

/// The log of a private server: beside the command that runs it, and when nobody does.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_data_folder() {
    let program = ensure(&[Part::NatsServer]).await.unwrap().path(Part::NatsServer).unwrap().to_owned();
    let data = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = stheno(arguments).env("STHENO_NATS_SERVER", &program).env("STHENO_DATA_DIR", data.path()).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let whole = "The log is whole: 17 messages up to 17 with 38 events in 2 aggregates.\n";
    let (code, _, error) = run(&["audit", "verify"]);
    assert_eq!((code, error.as_str()), (Some(1), "stheno: stream STHENO does not exist on this NATS server\n"));

    let endpoint = Endpoint::Embedded { data_dir: data.path().to_owned(), program: Some(program.clone()) };
    let log = crate::nats::written_to(endpoint, &two_backups()).await;
    assert_eq!(run(&["audit", "verify"]), (Some(0), whole.to_owned(), String::new()));
    log.close().await;
    assert_eq!(run(&["audit", "verify"]), (Some(0), whole.to_owned(), String::new()));
    let lock = std::fs::File::open(data.path().join("nats/lock")).unwrap();
    lock.try_lock().expect("the last command has ended the private server");
}
