//! The private server: shared by commands, ended by the last, found again after a crash.

use super::fixture::{self, envelope, everything};
use crate::support::conformance::{PROCESS, dc};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stheno::log::embedded::Embedded;
use stheno::log::{Durability, Endpoint, Log, Outcome, Patience, Settings};
use stheno_local::provision::{Part, ensure};

async fn program() -> PathBuf {
    ensure(&[Part::NatsServer]).await.unwrap().path(Part::NatsServer).unwrap().to_owned()
}

fn settings(data: &Path, program: &Path) -> Settings {
    let endpoint = Endpoint::Embedded { data_dir: data.to_owned(), program: Some(program.to_owned()) };
    Settings { endpoint, ..fixture::settings("") }
}

fn is_alive(pid: i32) -> bool {
    // A process that nobody has reaped yet is dead all the same.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[allow(clippy::disallowed_methods, reason = "the tests' edge: a deadline")]
fn dies_within(pid: i32, patience: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if !is_alive(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn two_commands_share_one_server_and_the_last_one_ends_it() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let first = Embedded::start_or_find(data.path(), Some(program.clone()), PATIENCE).await.unwrap();
    let second = Embedded::start_or_find(data.path(), Some(program.clone()), PATIENCE).await.unwrap();
    assert_eq!((first.pid(), first.url(), first.token()), (second.pid(), second.url(), second.token()));
    let pid = first.pid();
    first.close().await;
    assert!(is_alive(pid), "the owner has left, a user is there");
    second.close().await;
    assert!(dies_within(pid, Duration::from_millis(200)), "the last user has left");
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_come_and_go_at_once_never_lose_the_server() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let mut users = Vec::new();
    for user in 0..8 {
        let (data, program) = (data.path().to_owned(), program.clone());
        users.push(tokio::spawn(async move {
            for round in 0..3 {
                let log = Log::open(settings(&data, &program)).await.unwrap();
                let aggregate = dc(&format!("u{user}"));
                let last = everything(&log).await;
                let last = last.iter().rev().find(|(_, subject, _)| subject.contains(&format!(".u{user}.")));
                let envelope = envelope(&aggregate, &format!("{user}-{round}"));
                let expected = last.map_or(0, |(sequence, _, _)| *sequence);
                let outcome = log.append(&aggregate, PROCESS, expected, &envelope).await.unwrap();
                assert!(matches!(outcome, Outcome::Committed(_)), "user {user} round {round}: {outcome:?}");
                log.close().await;
            }
        }));
    }
    for user in users {
        user.await.unwrap();
    }
    let log = Log::open(settings(data.path(), &program)).await.unwrap();
    assert_eq!(everything(&log).await.len(), 24);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_files_are_private_and_one_copy_of_it_is_safe() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let log = Log::open(settings(data.path(), &program)).await.unwrap();
    assert_eq!(*log.durability(), Durability::Safe);
    for file in ["server.json", "nats.conf"] {
        let mode = std::fs::metadata(data.path().join("nats").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let text = std::fs::read_to_string(data.path().join("nats/server.json")).unwrap();
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["pid", "port", "token"]);
    let port = fields["port"].as_u64().unwrap();
    let stranger = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
    assert!(stranger.is_err(), "nobody gets in without the token");
    log.close().await;
}

/// A process that opens the log of a data folder and then only waits: this test binary, called again.
fn user_process(data: &Path, program: &Path) -> (std::process::Child, i32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::embedded::waits_with_an_open_log", "--nocapture", "--ignored"])
        .env("STHENO_TEST_DATA", data)
        .env("STHENO_TEST_PROGRAM", program)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let pid = lines.find_map(|line| line.unwrap().split_once("SERVER ").map(|(_, pid)| pid.parse().unwrap())).unwrap();
    (child, pid)
}

/// Not a test by itself: what [`user_process`] runs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests run it as a process of its own"]
async fn waits_with_an_open_log() {
    let Some(data) = std::env::var_os("STHENO_TEST_DATA") else { return };
    let program = PathBuf::from(std::env::var_os("STHENO_TEST_PROGRAM").unwrap());
    let user = Embedded::start_or_find(Path::new(&data), Some(program), PATIENCE).await.unwrap();
    println!("\nSERVER {}", user.pid());
    std::io::stdout().flush().unwrap();
    // Until the other end of standard input is closed or this process is killed.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await.unwrap().unwrap();
    user.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_leaves_a_server_that_is_found_and_then_ended() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let (mut owner, pid) = user_process(data.path(), &program);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(is_alive(pid), "the server outlives its owner");
    let log = Log::open(settings(data.path(), &program)).await.unwrap();
    let found = Embedded::start_or_find(data.path(), Some(program), PATIENCE).await.unwrap();
    assert_eq!(found.pid(), pid, "and is used again");
    let aggregate = dc("a");
    assert_eq!(log.append(&aggregate, PROCESS, 0, &envelope(&aggregate, "1")).await.unwrap(), Outcome::Committed(1));
    found.close().await;
    log.close().await;
    assert!(dies_within(pid, Duration::from_secs(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_killed_does_not_keep_the_server() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let here = Embedded::start_or_find(data.path(), Some(program.clone()), PATIENCE).await.unwrap();
    let (mut other, pid) = user_process(data.path(), &program);
    assert_eq!(pid, here.pid());
    other.kill().unwrap();
    other.wait().unwrap();
    here.close().await;
    assert!(dies_within(pid, Duration::from_secs(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_died_is_started_again_for_all_its_users() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let log = Log::open(settings(data.path(), &program)).await.unwrap();
    let other = Log::open(settings(data.path(), &program)).await.unwrap();
    let aggregate = dc("a");
    let first = log.append(&aggregate, PROCESS, 0, &envelope(&aggregate, "1")).await.unwrap();
    assert_eq!(first, Outcome::Committed(1));
    let text = std::fs::read_to_string(data.path().join("nats/server.json")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&text).unwrap()["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    let second = loop {
        match other.append(&aggregate, PROCESS, 1, &envelope(&aggregate, "2")).await.unwrap() {
            Outcome::Indeterminate => tokio::time::sleep(Duration::from_millis(50)).await,
            outcome => break outcome,
        }
    };
    assert_eq!(second, Outcome::Committed(2), "what was stored is still there, and more can be");
    assert_eq!(everything(&log).await.len(), 2);
    log.close().await;
    other.close().await;
}

#[tokio::test]
async fn no_program_is_one_sentence() {
    let data = tempfile::tempdir().unwrap();
    for program in ["no-such-nats-server", "/no/such/nats-server"] {
        let error = Embedded::start_or_find(data.path(), Some(program.into()), PATIENCE).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no nats-server program: {program} is not there; install it on PATH, set STHENO_NATS_SERVER, or give --nats-url"
            )
        );
    }
}

#[tokio::test]
async fn a_program_that_is_something_else_is_one_sentence() {
    let data = tempfile::tempdir().unwrap();
    let error = Embedded::start_or_find(data.path(), Some("false".into()), PATIENCE).await.unwrap_err().to_string();
    assert!(error.ends_with("ended at once: it said nothing"), "{error}");
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_one_sentence() {
    let data = tempfile::NamedTempFile::new().unwrap();
    let error = Embedded::start_or_find(data.path(), None, PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("cannot be written; choose another with --data-dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_no_store_is_one_sentence() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    std::fs::create_dir_all(data.path().join("nats")).unwrap();
    std::fs::write(data.path().join("nats/store"), "a file").unwrap();
    let error = Embedded::start_or_find(data.path(), Some(program), PATIENCE).await.unwrap_err().to_string();
    println!("{error}");
    assert!(error.contains("ended at once: ") && error.lines().count() == 1, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_port_in_use_by_something_else_is_passed_over() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let first = Embedded::start_or_find(data.path(), Some(program.clone()), PATIENCE).await.unwrap();
    let url = first.url();
    first.close().await;
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let log = Log::open(settings(data.path(), &program)).await.unwrap();
    assert_eq!(everything(&log).await, []);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starter_that_died_before_it_wrote_down_the_port_has_left_enough() {
    let (data, program) = (tempfile::tempdir().unwrap(), program().await);
    let first = Embedded::start_or_find(data.path(), Some(program.clone()), PATIENCE).await.unwrap();
    let notice = format!("{{\"pid\":null,\"port\":null,\"token\":{:?}}}", first.token());
    std::fs::write(data.path().join("nats/server.json"), notice).unwrap();
    let second = Embedded::start_or_find(data.path(), Some(program), PATIENCE).await.unwrap();
    assert_eq!((second.pid(), second.url()), (first.pid(), first.url()));
    second.close().await;
    first.close().await;
    assert!(dies_within(first.pid(), Duration::from_secs(2)));
}

/// A small file system of its own; `None` where this process may not make one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        nix::mount::mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .ok()?;
        Some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_one_sentence_and_loses_nothing_that_was_acknowledged() {
    // A test that is left out would look green.
    let disk = SmallDisk::new("4m").expect("the right to mount a small tmpfs: root, or `unshare -rm` around the tests");
    let program = program().await;
    let patience = Patience { ack: Duration::from_secs(2), ..fixture::patience() };
    let log = Log::open(Settings { patience, ..settings(disk.0.path(), &program) }).await.unwrap();
    let aggregate = dc("a");
    let mut stored = 0;
    let refusal = loop {
        let id = stheno_events::EventId::from(format!("{stored}"));
        let payload = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        match log.append_encoded(&aggregate, PROCESS, stored, &id, payload).await {
            Ok(Outcome::Committed(sequence)) => stored = sequence,
            Ok(Outcome::Indeterminate) => break None,
            Ok(Outcome::Conflict(last)) => panic!("conflict at {last} with {stored} stored"),
            Err(error) => break Some(error.to_string()),
        }
        assert!(stored < 1_000, "the disk never fills");
    };
    assert!(stored > 0);
    println!("full after {stored} messages: {refusal:?}");
    // A command that comes now says what is wrong, or still reads everything.
    log.close().await;
    match Log::open(settings(disk.0.path(), &program)).await {
        Ok(log) => {
            assert!(everything(&log).await.len() as u64 >= stored);
            log.close().await;
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}
