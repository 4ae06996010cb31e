//! How fast the audit replay tool is on logs of years, and what memory it takes: `cargo bench --bench audit`.
//!
//! `STHENO_EVENTS` (1,000,000) is the log whose moments are asked for, from a file and from a real nats-server, with a
//! snapshot and without; `STHENO_MANY` (10,000,000) the one whose memory is measured. The second log takes some 3 GB of
//! writing and 1 GB of disk; 0 leaves it out.

#![allow(unreachable_pub, missing_docs, reason = "a benchmark has no public interface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, clippy::panic, reason = "it measures, and stops at the first surprise")]

#[path = "audit/years.rs"]
mod years;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stheno::audit::Source;
use stheno::audit::source::Scope;
use stheno::log::snapshot::Meta;
use stheno::log::{Credentials, Endpoint, Log, Patience, Settings};
use stheno_events::{Digest, Uid};
use stheno_projections::{LAYOUT, World};

const ROUNDS: usize = 3;

/// How often a process's memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What a command took.
struct Took {
    seconds: f64,
    /// Resident memory at most, in MiB.
    most: f64,
}

/// Runs `stheno audit …`, which must end well.
fn audit(arguments: &[&str]) -> Took {
    let begun = Instant::now();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_stheno")).arg("audit").args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0_f64;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let high =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        most = most.max(high.unwrap_or_default() / 1024.0);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(LOOK);
    };
    assert!(ended.success(), "stheno audit {arguments:?}: {ended}");
    Took { seconds: begun.elapsed().as_secs_f64(), most }
}

/// The median of several runs, and the highest memory of all.
fn rounds(arguments: &[&str]) -> Took {
    let runs: Vec<Took> = (0..ROUNDS).map(|_| audit(arguments)).collect();
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    Took { seconds: seconds[ROUNDS / 2], most: runs.iter().map(|run| run.most).fold(0.0, f64::max) }
}

fn report(what: &str, events: Option<u64>, took: &Took) {
    let rate = events.map(|events| format!("{:.0} events/s", events as f64 / took.seconds)).unwrap_or_default();
    println!("| {what} | {:.2} s | {rate} | {:.0} MiB |", took.seconds, took.most);
}

fn size(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    println!("| what | time | rate | memory at most |\n|---|---|---|---|");
    moments(folder.path(), size("STHENO_EVENTS", 1_000_000)).await;
    let many = size("STHENO_MANY", 10_000_000);
    if many > 0 {
        memory(folder.path(), many);
    }
}

async fn moments(folder: &Path, events: u64) {
    let file = folder.join("years.stheno");
    let years::Written { events, messages } = years::write(&file, events);
    let path = file.to_str().unwrap();
    println!("| a log of {events} events in {messages} messages: size of the file | | {} MiB | |", mib(&file));
    let point = (messages - messages / 20).to_string();
    let at = ["at", &point, "medusabackups", "-n", "team-3"];
    report("verify, from a file", Some(events), &rounds(&["verify", "--file", path]));
    report("at, from a file", None, &rounds(&[&at[..], &["--file", path]].concat()));

    let server = stheno_local::testing::nats().await.unwrap();
    let url = server.url();
    report("import", Some(events), &audit(&["import", path, "--nats-url", &url]));
    report("verify, from NATS", Some(events), &rounds(&["verify", "--nats-url", &url]));
    let nats = [&at[..], &["--nats-url", &url]].concat();
    report("at, from NATS, no snapshot", None, &rounds(&nats));
    let log = Log::open(Settings {
        endpoint: Endpoint::External { url: url.clone(), credentials: Credentials::None },
        stream: "STHENO".into(),
        cluster: Some(Uid::from(years::CLUSTER)),
        allow_relaxed: true,
        clock: Arc::new(chrono::Utc::now),
        patience: Patience::default(),
    })
    .await
    .unwrap();
    // One as old as it gets: an operator takes them after 10,000 messages.
    let world = folded(&file, (messages - messages / 20).saturating_sub(9_999).max(1)).await;
    let bytes = world.to_bytes().unwrap();
    let meta = Meta {
        sequence: world.position,
        layout: LAYOUT,
        digest: Digest::of(&bytes),
        at: world.at.unwrap(),
        skipped: Default::default(),
    };
    log.snapshots().put(&meta, &bytes).await.unwrap();
    println!("| the snapshot | | {:.1} MiB | |", bytes.len() as f64 / f64::from(1 << 20));
    report("at, from NATS, a snapshot 9,999 messages before", None, &rounds(&nats));
    log.close().await;
}

/// The world behind a message.
async fn folded(file: &Path, until: u64) -> World {
    let source = Source::file(file.to_owned()).unwrap();
    let mut reader = source.read(1, Scope::default()).await.unwrap();
    let mut world = World::default();
    while let Some(entry) = reader.next().await.unwrap().filter(|entry| entry.sequence <= until) {
        entry.fold(entry.digest(), &mut world);
    }
    world
}

fn memory(folder: &Path, events: u64) {
    let file = folder.join("many.stheno");
    let years::Written { events, messages } = years::write(&file, events);
    let path = file.to_str().unwrap();
    println!("| a log of {events} events in {messages} messages: size of the file | | {} MiB | |", mib(&file));
    let last = messages.to_string();
    report("verify, from a file", Some(events), &audit(&["verify", "--file", path]));
    report("at, from a file", Some(events), &audit(&["at", &last, "medusabackups", "-n", "team-3", "--file", path]));
    report("log, of one datacenter", Some(events), &audit(&["log", "--datacenter", "dc7", "--file", path]));
    let target = folder.join("redacted.stheno");
    report("export --redact", Some(events), &audit(&["export", target.to_str().unwrap(), "--redact", "--file", path]));
}

fn mib(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len() >> 20
}
