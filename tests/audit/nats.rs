//! The same answers from a stream on a real nats-server, and the event stream with its readers.

use crate::story::{Story, audit, dc, events, start, two_backups};
use std::sync::Arc;
use std::time::Duration;
use stheno::audit::{Entry, Source, SourceArgs};
use stheno::log::snapshot::Meta;
use stheno::log::{Clock, Credentials, Endpoint, Log, Outcome, Patience, Settings};
use stheno_events::datacenter::Led;
use stheno_events::{Aggregate, Digest, Envelope, Epoch, LogId, Process};
use stheno_local::testing::nats;
use stheno_projections::World;
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn clock() -> Clock {
    Arc::new(start)
}

/// A log on the server with the messages of a story, appended as the operator appends them.
pub async fn written(url: &str, story: &Story) -> Log {
    written_to(Endpoint::External { url: url.to_owned(), credentials: Credentials::None }, story).await
}

pub async fn written_to(endpoint: Endpoint, story: &Story) -> Log {
    let settings = Settings {
        endpoint,
        stream: "STHENO".into(),
        cluster: Some(crate::story::CLUSTER.into()),
        allow_relaxed: true,
        clock: clock(),
        patience: Patience::default(),
    };
    let log = Log::open(settings).await.unwrap();
    append(&log, story, 0).await;
    log
}

/// Appends the messages of a story from an index on.
pub async fn append(log: &Log, story: &Story, from: usize) {
    let mut heads = std::collections::BTreeMap::<Aggregate, u64>::new();
    for (sequence, (subject, _, payload)) in (1..).zip(&story.messages) {
        let (aggregate, process) = Aggregate::parse(&story.log, subject).unwrap();
        let expected = heads.insert(aggregate.clone(), sequence).unwrap_or(0);
        if sequence > from as u64 {
            let id = Envelope::decode(payload).unwrap().id;
            let outcome =
                log.append_encoded(&aggregate, process.unwrap(), expected, &id, payload.clone()).await.unwrap();
            assert_eq!(outcome, Outcome::Committed(sequence));
        }
    }
}

fn args(url: &str) -> SourceArgs {
    SourceArgs { file: None, nats_url: Some(url.into()), nats_creds: None, stream: "STHENO".into(), data_dir: None }
}

async fn source(url: &str) -> Source {
    Source::open(&args(url), clock()).await.unwrap()
}

/// What the server's clock says is the only difference.
fn without_stored(text: &str) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
    value.as_array_mut().unwrap().iter_mut().for_each(|row| {
        row.as_object_mut().unwrap().remove("stored");
    });
    value
}

/// A world beside the log, folded up to a message, and perhaps one that says what the log does not.
pub async fn photographed(log: &Log, story: &Story, until: usize, planted: Option<&str>) {
    let mut world = World::default();
    for (sequence, (subject, stored, payload)) in (1..).zip(&story.messages).take(until) {
        let entry = Entry::read(&story.log, sequence, subject.clone(), *stored, payload.clone());
        entry.fold(entry.digest(), &mut world);
    }
    if let Some(name) = planted {
        let dc = Arc::make_mut(world.datacenters.values_mut().next().unwrap());
        Arc::make_mut(dc.object.as_mut().unwrap()).cluster = name.into();
    }
    let bytes = world.to_bytes().unwrap();
    let (sequence, at, skipped) = (world.position, world.at.unwrap(), Default::default());
    let meta = Meta { sequence, layout: stheno_projections::LAYOUT, digest: Digest::of(&bytes), at, skipped };
    log.snapshots().put(&meta, &bytes).await.unwrap();
}

/// From a snapshot on or from the first message: the same objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_the_same_from_a_snapshot_on() {
    let (server, story) = (nats().await.unwrap(), two_backups());
    let log = written(&server.url(), &story).await;
    photographed(&log, &story, 5, None).await;
    let (memory, stream) = (story.source(), source(&server.url()).await);
    let moments = story.messages.iter().map(|(_, time, _)| time.to_rfc3339());
    for point in (1..=17).map(|sequence| sequence.to_string()).chain(moments) {
        let expected = audit(&memory, &["at", &point]).await;
        assert_eq!(audit(&stream, &["at", &point]).await, expected, "at {point}");
        assert_eq!(audit(&stream, &["at", &point, "--no-snapshot"]).await, expected, "at {point}");
    }
    assert_eq!(audit(&stream, &["diff", "4", "9"]).await, audit(&memory, &["diff", "4", "9"]).await);
    for point in ["2020-01-01", "9000"] {
        assert_eq!(audit(&stream, &["at", point]).await, audit(&memory, &["at", point]).await);
    }
    // It is used: what only the snapshot says shows, behind it and not before.
    photographed(&log, &story, 8, Some("planted")).await;
    let shows = async |arguments: &[&str]| audit(&stream, arguments).await.unwrap().matches("planted").count();
    assert_eq!(shows(&["at", "7"]).await, 0);
    assert_ne!(shows(&["at", "8"]).await, 0);
    assert_ne!(shows(&["at", "2026-03-01T03:00Z"]).await, 0);
    assert_eq!(shows(&["at", "8", "--no-snapshot"]).await, 0);
    assert_eq!(shows(&["at", &story.messages[6].1.to_rfc3339()]).await, 0);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_as_memory_does() {
    let server = nats().await.unwrap();
    let mut story = two_backups();
    let led = Led { epoch: Epoch(1), quiet_until: None };
    story.say(&dc("dc2"), Process::Observed, vec![led.clone().into()]);
    let elsewhere = Aggregate::Datacenter(stheno_events::DcKey::new("dev", "dc1"));
    story.say(&elsewhere, Process::Observed, vec![led.into()]);
    let log = written(&server.url(), &story).await;
    let (memory, stream) = (story.source(), source(&server.url()).await);
    for arguments in [
        &["log"][..],
        &["log", "--namespace", "prod"],
        &["log", "--namespace", "prod", "--datacenter", "dc2"],
        &["log", "--datacenter", "dc1", "--from-sequence", "12"],
        &["log", "--namespace", "nowhere"],
        &["show", "job", "prod/nightly-2"],
        &["show", "pod", "prod/nobody"],
        &["at", "9"],
        &["at", "2026-03-01T02:02:00Z", "jobs"],
        &["at", "9000"],
        &["at", "2020-01-01"],
        &["verify"],
    ] {
        assert_eq!(audit(&stream, arguments).await, audit(&memory, arguments).await, "{arguments:?}");
    }
    let json = &["log", "-o", "json", "--datacenter", "dc1"];
    let (a, b) = (audit(&stream, json).await.unwrap(), audit(&memory, json).await.unwrap());
    assert_eq!(without_stored(&a), without_stored(&b));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.stheno");
    audit(&stream, &["export", path.to_str().unwrap()]).await.unwrap();
    let file = Source::file(path).unwrap();
    assert_eq!(audit(&file, json).await, audit(&stream, json).await, "server times survive the export");
    assert_eq!(audit(&file, &["verify"]).await, audit(&memory, &["verify"]).await);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_cannot_be_read() {
    let server = nats().await.unwrap();
    written(&server.url(), &Story::new()).await.close().await;
    let refused = async |args: SourceArgs| {
        let error = Source::open(&args, clock()).await.err().unwrap();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(!text.contains('\n'), "{text}");
        text
    };
    let other = SourceArgs { stream: "ORDERS".into(), ..args(&server.url()) };
    assert_eq!(refused(other).await, "stream ORDERS does not exist on this NATS server");
    let client = async_nats::connect(server.url()).await.unwrap();
    let orders = async_nats::jetstream::stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.>".into()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).create_stream(orders).await.unwrap();
    let other = SourceArgs { stream: "ORDERS".into(), ..args(&server.url()) };
    let text = refused(other).await;
    assert_eq!(text, "stream ORDERS is not a log of stheno: it does not say of which cluster it is");
    let nothing = SourceArgs { nats_url: None, data_dir: Some("/nowhere/at/all".into()), ..args("") };
    assert!(refused(nothing).await.starts_with("there is no log: the data folder /nowhere/at/all does not exist"));
    let empty = source(&server.url()).await;
    assert_eq!(audit(&empty, &["at", "1"]).await.unwrap_err(), "the log is empty");
    assert_eq!(audit(&empty, &["log", "-o", "json"]).await.unwrap(), "[]\n");
}

/// Reading ends with one sentence when the server goes away in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away() {
    let mut server = nats().await.unwrap();
    let log = written(&server.url(), &two_backups()).await;
    let stream = source(&server.url()).await;
    server.kill();
    let begun = tokio::time::Instant::now();
    let error = audit(&stream, &["verify"]).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(error, "NATS went away: nothing came for 20 s behind message 0");
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_follow_with_filters() {
    let server = nats().await.unwrap();
    let mut story = two_backups();
    let before = story.messages.len();
    let log = written(&server.url(), &story).await;
    let url = server.url();
    let out = events::following(&url, &["--datacenter", "dc1", "--type", "backup.completed", "-o", "json"]).await;
    out.lines(1).await;
    // The first text lines wait for the widths of the columns, not for ever.
    let text = events::following(&url, &["--type", "backup.completed", "--from-sequence", "9"]).await;
    text.lines(1).await;
    let led = Led { epoch: Epoch(1), quiet_until: None };
    story.say(&dc("dc2"), Process::Observed, vec![led.into()]);
    story.asked("nightly-3", 13).started(13).completed(13);
    append(&log, &story, before).await;
    let lines = out.lines(2).await;
    let last: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(last["objects"][0]["name"], "nightly-3");
    let lines = text.lines(2).await;
    assert!(lines[1].contains("job/nightly-3"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_reader_resumes() {
    let server = nats().await.unwrap();
    let mut story = two_backups();
    let log = written(&server.url(), &story).await;
    let stream = source(&server.url()).await;
    let named = async |arguments: &[&str]| {
        let arguments = [&["--durable", "billing", "-o", "json"], arguments].concat();
        events::read(&stream, &arguments).await
    };
    let ends = &["--type", "backup.completed,backup.failed"];
    let sequences = |text: String| {
        let sequence =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap();
        text.lines().map(sequence).collect::<Vec<_>>()
    };
    assert_eq!(sequences(named(ends).await.unwrap()), [9, 17]);
    assert_eq!(sequences(named(ends).await.unwrap()), [0_u64; 0], "nothing new");
    let before = story.messages.len();
    story.asked("nightly-3", 13).started(13).completed(13);
    append(&log, &story, before).await;
    // A reader that ends before it is done with what it got: it comes again, at once and in order.
    let mut broken = log.durable("billing", 1, &stheno::log::Filter::All).await.unwrap();
    assert_eq!(broken.position(), 17);
    for _ in 0..3 {
        broken.next().await.unwrap();
    }
    assert_eq!(broken.position(), 20);
    drop(broken);
    assert_eq!(sequences(named(ends).await.unwrap()), [24]);
    assert_eq!(sequences(named(ends).await.unwrap()), [0_u64; 0]);

    let error = named(&["--namespace", "prod"]).await.unwrap_err();
    assert!(error.starts_with("the durable reader billing reads stheno.v1."), "{error}");
    let error = events::read(&stream, &["--durable", "a b"]).await.unwrap_err();
    assert_eq!(error, "\"a b\" is no name for a durable reader: use letters, digits, - and _");
    let error = events::read(&story.source(), &["--durable", "x"]).await.unwrap_err();
    assert!(error.starts_with("an exported log does not grow"), "{error}");
}

/// What the server sends to a reader that is as good as gone comes to the one that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_reader_gets_what_was_sent_to_its_predecessor() {
    let server = nats().await.unwrap();
    let mut story = two_backups();
    let log = written(&server.url(), &story).await;
    let before = story.messages.len();
    let mut gone = tokio::process::Command::new(env!("CARGO_BIN_EXE_stheno"))
        .args(["events", "--durable", "billing", "-f", "-o", "json", "--nats-url", &server.url()])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gone.stdout.take().unwrap()).lines();
    let last = format!("\"sequence\":{before},");
    while !lines.next_line().await.unwrap().unwrap().contains(&last) {}
    // It waits for more when its machine stands still.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gone.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    story.asked("nightly-3", 13).started(13).completed(13);
    append(&log, &story, before).await;

    let mut next = log.durable("billing", 1, &stheno::log::Filter::All).await.unwrap();
    for sequence in before as u64 + 1..=story.messages.len() as u64 {
        let coming = tokio::time::timeout(Duration::from_secs(20), next.next()).await;
        assert!(coming.is_ok_and(|item| item.is_ok()), "message {sequence} does not come");
        assert_eq!(next.position(), sequence, "in order, and none left out");
    }
    next.done().await.unwrap();
}

/// Another log in the same account is none of this one's.
#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_are_such() {
    let story = two_backups();
    let text =
        events::read(&story.source(), &["-o", "cloudevents", "--type", "backup.completed,operator.genesis"]).await;
    let text = text.unwrap();
    let all: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    insta::assert_json_snapshot!(all);
    for event in &all {
        for name in event.as_object().unwrap().keys() {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
        }
    }
    assert_eq!(LogId::of_cluster(crate::story::CLUSTER).as_str(), "cafe0000");
}
