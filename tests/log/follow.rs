//! Following a real log: order, gaps, foreign messages, reconnects.

use super::fixture::{self, envelope, open};
use crate::support::conformance::{PROCESS, dc};
use bytes::Bytes;
use std::time::Duration;
use stheno::log::follow::Error;
use stheno::log::{Filter, Follow, Item, Log, Outcome, Settings};
use stheno_events::envelope::DecodeError;
use stheno_events::{Aggregate, Envelope, EventId, LAYOUT};
use stheno_local::testing::nats;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

async fn next(reader: &mut Follow) -> Item {
    timeout(SOON, reader.next()).await.expect("within 20 s").expect("an item").unwrap()
}

async fn end(reader: &mut Follow) -> Error {
    loop {
        if let Err(error) = timeout(SOON, reader.next()).await.expect("within 20 s").expect("an error") {
            return error;
        }
    }
}

async fn fill(log: &Log, aggregate: &Aggregate, mut last: u64, count: u64) -> u64 {
    for _ in 0..count {
        let envelope = envelope(aggregate, &format!("{aggregate:?}-{last}"));
        match log.append(aggregate, PROCESS, last, &envelope).await.unwrap() {
            Outcome::Committed(sequence) => last = sequence,
            outcome => panic!("{outcome:?}"),
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_order_then_caught_up_then_live() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    let last = fill(&log, &a, 0, 30).await;
    let mut reader = log.follow(0, CancellationToken::new());
    for sequence in 1..=30 {
        let Item::Message(stored) = next(&mut reader).await else { panic!("no message") };
        assert_eq!((stored.sequence, &stored.aggregate, stored.process), (sequence, &a, Some(PROCESS)));
        let envelope = stored.envelope.unwrap();
        assert_eq!(envelope.encode().unwrap(), stored.payload);
        assert!((stored.time - envelope.wall).abs() < chrono::TimeDelta::seconds(5));
    }
    assert!(matches!(next(&mut reader).await, Item::CaughtUp(30)));
    assert!(timeout(Duration::from_millis(100), reader.next()).await.is_err(), "now it waits");
    fill(&log, &a, last, 1).await;
    assert!(matches!(next(&mut reader).await, Item::Message(stored) if stored.sequence == 31));
    assert_eq!(reader.position(), 31);

    let mut later = log.follow(31, CancellationToken::new());
    assert!(matches!(next(&mut later).await, Item::Message(stored) if stored.sequence == 31));
    assert!(matches!(next(&mut later).await, Item::CaughtUp(31)));
    let mut latest = log.follow(32, CancellationToken::new());
    assert!(matches!(next(&mut latest).await, Item::CaughtUp(31)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_is_caught_up_at_once() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let cancel = CancellationToken::new();
    let mut reader = log.follow(1, cancel.clone());
    assert!(matches!(next(&mut reader).await, Item::CaughtUp(0)));
    cancel.cancel();
    assert!(timeout(SOON, reader.next()).await.unwrap().is_none(), "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_none_of_ours_is_delivered_as_foreign() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let a = dc("a");
    let newer = Envelope { v: LAYOUT + 1, ..envelope(&a, "newer") }.encode().unwrap();
    for (subject, payload) in [
        ("stheno.v1.cafe0000.ns.a.backup", Bytes::from_static(b"no envelope")),
        ("stheno.v1.cafe0000.ns.a.backup", newer.into()),
        ("stheno.v1.cafe0000.ns.a.elsewhere", Bytes::new()),
        ("stheno.v1.cafe0000.ns.A.backup", Bytes::new()),
        ("stheno.v1.cafe0000.x", Bytes::new()),
    ] {
        client.request(subject, payload).await.unwrap();
    }
    let mut reader = log.follow(1, CancellationToken::new());
    let Item::Message(malformed) = next(&mut reader).await else { panic!("no message") };
    assert!(matches!(malformed.envelope, Err(DecodeError::Malformed(_))), "{malformed:?}");
    let Item::Message(newer) = next(&mut reader).await else { panic!("no message") };
    assert!(newer.envelope.unwrap_err().to_string().contains("newer than this program"));
    let Item::Message(elsewhere) = next(&mut reader).await else { panic!("no message") };
    assert_eq!((&elsewhere.aggregate, elsewhere.process), (&a, None));
    assert!(matches!(elsewhere.envelope, Err(DecodeError::Process)), "{elsewhere:?}");
    for subject in ["stheno.v1.cafe0000.ns.A.backup", "stheno.v1.cafe0000.x"] {
        let Item::Foreign(foreign) = next(&mut reader).await else { panic!("not foreign: {subject}") };
        assert_eq!(foreign.subject, subject);
    }
    assert!(matches!(next(&mut reader).await, Item::CaughtUp(5)));
}

/// The server compares the next append with everything in the subtree; so must whoever counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_build_is_counted_and_what_it_says_is_not() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let a = dc("a");
    let said = envelope(&a, "said").encode().unwrap();
    client.request("stheno.v1.cafe0000.ns.a.prophecy", said.into()).await.unwrap();
    let mut world = stheno_projections::World::default();
    let mut reader = log.follow(1, CancellationToken::new());
    while let Item::Message(stored) = next(&mut reader).await {
        let digest = stheno_events::Digest::of(&stored.payload);
        let envelope = stored.envelope.as_ref();
        world.apply(stheno_projections::Message {
            sequence: stored.sequence,
            aggregate: &stored.aggregate,
            digest,
            envelope,
        });
    }
    let head = world.head(&a);
    assert_eq!((head.sequence, world.unreadable), (1, 1));
    let Aggregate::Datacenter(key) = &a else { panic!("no datacenter") };
    let known = world.datacenter(key).unwrap();
    assert_eq!(known.led, None, "what it says is not obeyed");
    let why = known.frozen.as_deref().unwrap();
    assert_eq!(
        why,
        "message 1 cannot be read: its subject names no process that this program knows: use a newer stheno"
    );
    let next = log.append(&a, PROCESS, head.sequence, &envelope(&a, "next")).await.unwrap();
    assert_eq!(next, Outcome::Committed(2), "the next append does not collide with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_and_doubles_nothing() {
    let mut server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    let mut last = fill(&log, &a, 0, 3).await;
    let mut reader = log.follow(1, CancellationToken::new());
    let mut read = Vec::new();
    for round in 0..3 {
        while read.last() != Some(&last) {
            if let Item::Message(stored) = next(&mut reader).await {
                read.push(stored.sequence);
            }
        }
        match round {
            0 => server.kill(),
            1 => server.stop().await,
            _ => break,
        }
        server.start().await.unwrap();
        // The reader's consumer lay in memory and is gone with the server.
        let id = EventId::from(format!("after {round}"));
        last = loop {
            let envelope = Envelope { id: id.clone(), ..envelope(&a, "") };
            match log.append(&a, PROCESS, last, &envelope).await.unwrap() {
                Outcome::Committed(sequence) => break sequence,
                Outcome::Indeterminate => tokio::time::sleep(Duration::from_millis(20)).await,
                Outcome::Conflict(last) => panic!("conflict {last}"),
            }
        };
    }
    assert_eq!(read, (1..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_is_made_again() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    let last = fill(&log, &a, 0, 2).await;
    let mut reader = log.follow(1, CancellationToken::new());
    for _ in 0..3 {
        next(&mut reader).await;
    }
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = jetstream.get_stream("STHENO").await.unwrap();
    let names: Vec<_> = futures::TryStreamExt::try_collect(stream.consumer_names()).await.unwrap();
    for name in names {
        let name: String = name;
        stream.delete_consumer(&name).await.unwrap();
    }
    fill(&log, &a, last, 1).await;
    assert!(matches!(next(&mut reader).await, Item::Message(stored) if stored.sequence == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_says_from_where_to_where() {
    let server = nats().await.unwrap();
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    // A stream from which messages can be deleted: ours denies it.
    let subjects = vec!["stheno.v1.cafe0000.>".to_owned()];
    let config = async_nats::jetstream::stream::Config { name: "STHENO".into(), subjects, ..Default::default() };
    jetstream.create_stream(config.clone()).await.unwrap();
    let log = open(&server.url()).await;
    let stream = jetstream.get_stream("STHENO").await.unwrap();
    fill(&log, &dc("a"), 0, 9).await;
    assert!(stream.delete_message(4).await.is_err(), "opening has closed that door");

    let server = nats().await.unwrap();
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let log = open(&server.url()).await;
    fill(&log, &dc("a"), 0, 9).await;
    // Damage that the server's doors do not show: the stream is copied elsewhere without some messages.
    let kept: Vec<_> = {
        let stream = jetstream.get_stream("STHENO").await.unwrap();
        let mut kept = Vec::new();
        for sequence in 1..=9 {
            kept.push(stream.get_raw_message(sequence).await.unwrap());
        }
        kept
    };
    let metadata = jetstream.get_stream("STHENO").await.unwrap().cached_info().config.metadata.clone();
    jetstream.delete_stream("STHENO").await.unwrap();
    let stream = jetstream.create_stream(async_nats::jetstream::stream::Config { metadata, ..config }).await.unwrap();
    for message in kept {
        jetstream.publish(message.subject.clone(), message.payload).await.unwrap().await.unwrap();
    }
    for sequence in [4, 5, 6] {
        stream.delete_message(sequence).await.unwrap();
    }
    let log = open(&server.url()).await;
    let error = end(&mut log.follow(1, CancellationToken::new())).await;
    assert!(matches!(error, Error::Gap { from: 4, to: 6 }), "{error}");
    assert!(error.to_string().starts_with("the log lacks the messages 4 to 6:"));
    let mut behind = log.follow(7, CancellationToken::new());
    assert!(
        matches!(next(&mut behind).await, Item::Message(stored) if stored.sequence == 7),
        "behind the gap it can be read"
    );
    stream.delete_message(1).await.unwrap();
    let error = end(&mut log.follow(1, CancellationToken::new())).await;
    assert!(matches!(error, Error::Gap { from: 1, to: 1 }), "also at the beginning: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_put_back_to_an_older_copy_and_one_made_anew_are_noticed() {
    let mut server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    let last = fill(&log, &a, 0, 3).await;
    let witness =
        stheno::log::Witness::of(log.identity(), last, stheno_events::Digest::of(b""), stheno_events::Epoch(1));
    server.stop().await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(server.store_dir(), copy.path());
    server.start().await.unwrap();
    server.ready().await.unwrap();
    let mut reader = log.follow(1, CancellationToken::new());
    let last = loop {
        let append = log.append(&a, PROCESS, last, &envelope(&a, "4")).await.unwrap();
        if let Outcome::Committed(last) = append {
            break last;
        }
    };
    for _ in 0..5 {
        next(&mut reader).await;
    }
    assert_eq!(reader.position(), last);
    let newer = stheno::log::Witness { last_sequence: last, ..witness.clone() };
    assert_eq!(newer.judge(&log.facts().await.unwrap()), stheno::log::Integrity::Ok);

    server.stop().await;
    std::fs::remove_dir_all(server.store_dir()).unwrap();
    copy_folder(copy.path(), server.store_dir());
    server.start().await.unwrap();
    let error = end(&mut reader).await;
    assert!(matches!(error, Error::Backwards { position: 4, last: 3 }), "{error}");
    let again = open(&server.url()).await;
    let backwards = stheno::log::Integrity::Backwards { witnessed: 4, last: 3 };
    assert_eq!(newer.judge(&again.facts().await.unwrap()), backwards);
    assert_eq!(witness.judge(&again.facts().await.unwrap()), stheno::log::Integrity::Ok);
    // What the writer has seen is not there any more: it collides, it does not write on.
    assert_eq!(again.append(&a, PROCESS, 4, &envelope(&a, "5")).await.unwrap(), Outcome::Conflict(3));

    let mut reader = again.follow(1, CancellationToken::new());
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    jetstream.delete_stream("STHENO").await.unwrap();
    let anew = open(&server.url()).await;
    let error = end(&mut reader).await;
    assert!(matches!(&error, Error::Recreated(stream) if stream == "STHENO"), "{error}");
    assert_eq!(witness.judge(&anew.facts().await.unwrap()), stheno::log::Integrity::Empty);
    fill(&anew, &a, 0, 9).await;
    assert_eq!(witness.judge(&anew.facts().await.unwrap()), stheno::log::Integrity::Recreated);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_read_and_then_it_ends() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let other = Aggregate::Datacenter(stheno_events::DcKey::new("other", "a"));
    let (a, b) = (dc("a"), dc("b"));
    let mut last = [0, 0, 0];
    for _ in 0..4 {
        for (index, aggregate) in [&a, &b, &other].into_iter().enumerate() {
            last[index] = fill(&log, aggregate, last[index], 1).await;
        }
    }
    let read = async |range: std::ops::RangeInclusive<u64>, filter: Filter| {
        let mut reader = log.read(range, &filter, CancellationToken::new());
        let mut read = Vec::new();
        while let Some(item) = timeout(SOON, reader.next()).await.expect("it ends") {
            match item.unwrap() {
                Item::Message(stored) => read.push(stored.sequence),
                item => panic!("{item:?}"),
            }
        }
        read
    };
    assert_eq!(read(1..=u64::MAX, Filter::All).await, (1..=12).collect::<Vec<_>>());
    assert_eq!(read(5..=7, Filter::All).await, [5, 6, 7]);
    assert_eq!(read(13..=20, Filter::All).await, [0; 0]);
    assert_eq!(read(1..=12, Filter::Aggregates(vec![b.clone()])).await, [2, 5, 8, 11]);
    assert_eq!(read(3..=8, Filter::Aggregates(vec![a.clone(), b.clone()])).await, [4, 5, 7, 8]);
    assert_eq!(read(1..=12, Filter::Aggregates(vec![])).await, [0; 0]);
    assert_eq!(read(1..=12, Filter::Aggregates(vec![dc("nobody")])).await, [0; 0]);
    assert_eq!(read(12..=12, Filter::Aggregates(vec![a.clone()])).await, [0; 0]);
    assert_eq!(read(1..=7, Filter::Namespace("other".into())).await, [3, 6]);
    assert_eq!(read(1..=6, Filter::Namespace("ns".into())).await, [1, 2, 4, 5]);
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    {
        assert_eq!(read(7..=3, Filter::All).await, [0; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_do_not_choke_the_reader() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    // More than the server keeps for a slow client (64 MiB).
    for sequence in 0..160 {
        let id = EventId::from(sequence.to_string());
        let outcome = log.append_encoded(&a, PROCESS, sequence, &id, Bytes::from(vec![0; 1_000_000])).await.unwrap();
        assert_eq!(outcome, Outcome::Committed(sequence + 1));
    }
    let mut reader = log.follow(1, CancellationToken::new());
    for sequence in 1..=160 {
        assert!(matches!(next(&mut reader).await, Item::Message(stored) if stored.sequence == sequence));
        if sequence % 40 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_interrupted_at_every_step_misses_nothing() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    fill(&log, &dc("a"), 0, 200).await;
    let mut reader = log.follow(1, CancellationToken::new());
    let mut read = Vec::new();
    let mut patience = Duration::ZERO;
    while read.len() < 200 {
        match timeout(patience, reader.next()).await {
            Ok(item) => {
                if let Item::Message(stored) = item.unwrap().unwrap() {
                    read.push(stored.sequence);
                }
                patience = Duration::ZERO;
            }
            Err(_elapsed) => patience += Duration::from_micros(50),
        }
    }
    assert_eq!(read, (1..=200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_cluster_but_a_log() {
    let server = nats().await.unwrap();
    let reading = || Settings { cluster: None, ..fixture::settings(&server.url()) };
    let error = Log::open(reading()).await.unwrap_err().to_string();
    assert_eq!(error, "stream STHENO does not exist on this NATS server");
    let log = open(&server.url()).await;
    fill(&log, &dc("a"), 0, 2).await;
    let log = Log::open(reading()).await.unwrap();
    assert_eq!(log.identity().cluster.as_str(), fixture::CLUSTER);
    assert_eq!(fixture::everything(&log).await.len(), 2);
}
