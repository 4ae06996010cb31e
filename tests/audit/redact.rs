//! `audit export --redact`: a file that can be given away holds no name, and tells the same story.

use crate::story::{Story, audit, dc, two_backups};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stheno::audit::Source;
use stheno::audit::source::Scope;
use stheno_events::backup::{Queued, WaitReason};
use stheno_events::operator::{Checkpoint, Event as OperatorEvent};
use stheno_events::{Aggregate, Digest, Event, Fact, Process, examples};
use stheno_projections::World;

async fn redacted(source: &Source, folder: &Path) -> (PathBuf, String) {
    let path = folder.join("incident.stheno");
    let said = audit(source, &["export", "--redact", "--force", path.to_str().unwrap()]).await.unwrap();
    (path, said)
}

/// What is wrong with a file that can be given away: names that it holds.
async fn names_in(source: &Source, names: &[&str]) -> Vec<String> {
    let mut reader = source.read(1, Scope::default()).await.unwrap();
    let mut found = Vec::new();
    let mut look = |place: String, bytes: &[u8]| {
        let bytes = without_uuids(bytes);
        let holds = |name: &&&str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
        found.extend(names.iter().filter(holds).map(|name| format!("{name} in {place}")));
    };
    while let Some(entry) = reader.next().await.unwrap() {
        look(format!("the subject of {}", entry.sequence), entry.subject.as_bytes());
        look(format!("message {}", entry.sequence), &entry.payload);
    }
    reader.trailer().unwrap().heads.keys().for_each(|filter| look("the trailer".into(), filter.as_bytes()));
    let Source::File { header, .. } = source else { panic!("not a file") };
    look("the header".into(), serde_json::to_string(header).unwrap().as_bytes());
    found
}

/// What an example of a consent names.
const TOKEN: &[u8] = b"3f0a7c11d2b54e90";

/// Digits of a UUID, or of a hash, spell no name.
fn without_uuids(bytes: &[u8]) -> Vec<u8> {
    let is_uuid = |part: &[u8]| part[8] == b'-' && uuid::Uuid::try_parse_ascii(part).is_ok();
    let mut rest = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(TOKEN.len() - 1) {
        if bytes[at..].starts_with(TOKEN) {
            rest[at..at + TOKEN.len()].fill(b'.');
        }
    }
    for at in 0..bytes.len().saturating_sub(35) {
        if is_uuid(&bytes[at..at + 36]) {
            rest[at..at + 36].fill(b'.');
        }
    }
    rest
}

const NAMES: [&str; 9] = ["prod", "dc1", "c1", "r1", "nightly", "weekly", "stheno-0", "10.0.0.", "memory"];

#[tokio::test]
async fn a_redacted_log_tells_the_same_story_without_names() {
    let folder = tempfile::tempdir().unwrap();
    let story = two_backups();
    let (path, said) = redacted(&story.source(), folder.path()).await;
    assert_eq!(said, format!("17 messages up to 17 written to {}, redacted, hashes void.\n", path.display()));
    let file = Source::file(path.clone()).unwrap();
    assert_eq!(names_in(&file, &NAMES).await, [""; 0]);
    let mut all = String::new();
    for arguments in [
        &["log"][..],
        &["why", "job", "ns-0001/backup-0001-2"],
        &["show", "backup", "ns-0001/backup-0001-1"],
        &["at", "5"],
    ] {
        let told = audit(&file, arguments).await.unwrap();
        all.push_str(&format!("$ stheno audit {}\n{told}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!("redacted", all);
    // The same events at the same times, with the same outcomes.
    let kinds = async |source: &Source| {
        let json = audit(source, &["log", "-o", "json"]).await.unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        rows.into_iter()
            .map(|row| (row["sequence"].clone(), row["type"].clone(), row["time"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&file).await, kinds(&story.source()).await);
}

#[tokio::test]
async fn a_recorded_log_is_decided_as_it_was_without_names() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/first-path.stheno");
    let (golden, folder) = (Source::file(golden).unwrap(), tempfile::tempdir().unwrap());
    let (path, _) = redacted(&golden, folder.path()).await;
    let file = Source::file(path).unwrap();
    let replayed = audit(&golden, &["replay", "-o", "json"]).await.unwrap();
    assert_eq!(audit(&file, &["replay", "-o", "json"]).await.unwrap(), replayed);
    // What it names, as the log itself shows it.
    let rows = audit(&golden, &["log", "-o", "json"]).await.unwrap();
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for row in rows.as_array().unwrap() {
        for pointer in
            ["/namespace", "/datacenter", "/data/meta/name", "/data/cluster", "/data/ip", "/data/identity", "/data/pod"]
        {
            names.extend(row.pointer(pointer).and_then(|name| name.as_str()).filter(|name| !name.is_empty()));
        }
    }
    // A word of the format is no name in it: `default` stands for a rack that nobody named.
    names.remove("default");
    assert!(names.len() > 8, "{names:?}");
    let names: Vec<&str> = names.into_iter().filter(|name| name.parse::<uuid::Uuid>().is_err()).collect();
    assert_eq!(names_in(&file, &names).await, [""; 0]);
}

/// Every kind of event, and whatever else may lie in a stream.
#[tokio::test]
async fn every_event_is_redacted_and_what_is_unknown_stays_unknown() {
    let mut story = two_backups();
    for event in examples::all() {
        let place = match &event {
            Event::Operator(_) => Aggregate::Operator,
            _ => dc("dc1"),
        };
        story.say(&place, Process::Backup, vec![event]).wait(1);
    }
    let filter = |aggregate: Aggregate| Arc::<str>::from(aggregate.filter(&story.log));
    let heads =
        BTreeMap::from([(filter(Aggregate::Operator), Digest::of(b"1")), (filter(dc("dc1")), Digest::of(b"2"))]);
    let signature = Some("ab".repeat(64).into());
    let checkpoint = Checkpoint { sequence: 3, heads, root: Digest::of(b"3"), signature };
    story.say(&Aggregate::Operator, Process::Operator, vec![checkpoint.into()]);
    story.say(&Aggregate::Location("0123abcd".into()), Process::Location, Vec::new());
    let known = story.messages.len() as u64;
    for (name, critical) in [("backup.teleported", true), ("Prod.nightly", false)] {
        let data = rmpv::Value::from("the bucket of prod");
        let fact = Fact::Unknown { name: name.into(), version: 7, critical, data };
        let payload = story.envelope(&dc("dc2"), vec![fact]).encode().unwrap();
        story.append(&dc("dc2"), Process::Backup, payload);
    }
    // A known event with another shape.
    let data = rmpv::Value::Map(vec![("job".into(), "nightly".into())]);
    let fact = Fact::Unknown { name: "backup.queued".into(), version: 1, critical: true, data };
    let payload = story.envelope(&dc("dc3"), vec![fact]).encode().unwrap();
    story.append(&dc("dc3"), Process::Backup, payload);
    story.append(&dc("dc4"), Process::Backup, b"\xc1 prod".to_vec());
    let mut newer = story.envelope(&dc("dc5"), Vec::new());
    newer.v = 9;
    story.append(&dc("dc5"), Process::Backup, newer.encode().unwrap());
    let weather = dc("dc6").subject(&story.log, Process::Backup).replace("backup", "prod-weather");
    story.messages.push((weather, story.now, "prod".into()));
    story.messages.push(("orders.prod".into(), story.now, "prod".into()));
    let source = story.source();

    let folder = tempfile::tempdir().unwrap();
    let (path, _) = redacted(&source, folder.path()).await;
    let file = Source::file(path).unwrap();
    assert_eq!(
        names_in(&file, &[&NAMES[..], &["dc2", "dc6", "orders", "weather", "Prod", "0123abcd"]].concat()).await,
        [""; 0]
    );
    let (was, is) = (world(&source).await, world(&file).await);
    assert_eq!((was.position, was.at, was.unreadable), (is.position, is.at, is.unreadable));
    assert_eq!(was.skipped.values().collect::<Vec<_>>(), is.skipped.values().collect::<Vec<_>>());
    let state = |world: &World| -> Vec<(bool, usize, u64, u64)> {
        world
            .datacenters
            .values()
            .map(|dc| (dc.frozen.is_some(), dc.operations.len(), dc.illegal, dc.head.sequence))
            .collect()
    };
    assert_eq!(state(&was), state(&is));
    assert_eq!(state(&is).iter().filter(|dc| dc.0).count(), 5, "nothing is decided where something is not understood");
    let json = audit(&file, &["log", "-o", "json", "--from-sequence", "18"]).await.unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    insta::assert_json_snapshot!("redacted_events", rows);

    // A hash says nothing any more, wherever it stood.
    let mut reader = file.read(1, Scope::default()).await.unwrap();
    while let Some(entry) = reader.next().await.unwrap().filter(|entry| entry.sequence <= known) {
        let envelope = entry.envelope.unwrap();
        assert!(envelope.prev.is_none_or(|prev| prev == Digest([0; 32])));
        for fact in &envelope.events {
            if let Fact::Known(Event::Operator(OperatorEvent::Checkpoint(e))) = fact {
                assert!(
                    e.heads.values().chain([&e.root]).all(|hash| *hash == Digest([0; 32])) && e.signature.is_none()
                );
            }
        }
    }
}

async fn world(source: &Source) -> World {
    let mut reader = source.read(1, Scope::default()).await.unwrap();
    let mut world = World::default();
    while let Some(entry) = reader.next().await.unwrap() {
        entry.fold(entry.digest(), &mut world);
    }
    world
}

#[tokio::test]
async fn what_proves_nothing_is_not_verified_and_not_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = redacted(&two_backups().source(), folder.path()).await;
    let file = Source::file(path.clone()).unwrap();
    let sentence =
        "the log was redacted: its hashes are void, so it cannot be verified; verify the log that it was exported from";
    assert_eq!(audit(&file, &["verify"]).await.unwrap_err(), sentence);
    let data = folder.path().join("data");
    let import = Command::new(env!("CARGO_BIN_EXE_stheno"))
        .args(["audit", "import"])
        .arg(&path)
        .arg("--data-dir")
        .arg(&data)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(
        (import.status.code(), String::from_utf8(import.stderr).unwrap()),
        (Some(1), format!("stheno: {sentence}\n"))
    );
    assert!(!data.exists(), "nothing was begun");
    // Exported once more it is what it was.
    let again = folder.path().join("again.stheno");
    audit(&file, &["export", again.to_str().unwrap()]).await.unwrap();
    assert!(Source::file(again).unwrap().redacted());
}

/// In the words of an older stheno a step is judged otherwise, in the log and in the file.
#[tokio::test]
async fn decided_otherwise_there_and_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut story = Story::new();
    story.opening().asked("nightly-1", 11);
    let message = "pod c1-dc1-r2-sts-0 of prod has not started".into();
    let queued =
        Queued { job: "00000011-0000-4000-8000-000000000000".into(), reason: WaitReason::PodsMissing, message };
    story.say(&dc("dc1"), Process::Backup, vec![queued.into()]).wait(20);
    let source = story.source();
    let (path, said) = redacted(&source, folder.path()).await;
    assert_eq!(said.lines().count(), 1, "{said}");
    let places = async |source: &Source| {
        let text = audit(source, &["replay"]).await.unwrap_err();
        text.rsplit_once(' ').unwrap().1.to_owned()
    };
    let file = Source::file(path).unwrap();
    assert_eq!(places(&source).await, "4");
    assert_eq!(places(&file).await, "4");
    let log = audit(&file, &["log", "--from-sequence", "4"]).await.unwrap();
    assert!(log.contains("pod cluster-0001-dc-0001-rack-0002-sts-0 of ns-0001 has not started"), "{log}");
}
