//! What our client of the log costs beside a raw one, on the same server in the same run: `cargo bench --bench log`.
//!
//! Rates of such machines vary by half from minute to minute, so rounds are interleaved and the ratio of the medians counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "it measures, and stops at the first surprise"
)]

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stheno::log::{Credentials, Endpoint, Item, Log, Outcome, Patience, Settings};
use stheno_events::{
    Aggregate, DcKey, Digest, Envelope, Epoch, EventId, LAYOUT, PodName, Process, Time, Uid, backup, to_millis,
};
use stheno_projections::World;
use stheno_projections::world::Message;
use tokio_util::sync::CancellationToken;

const AGGREGATES: u64 = 64;
const APPENDS: u64 = 40_000;
const ROUNDS: usize = 5;
/// Answers of one datacenter's nodes, and how many of them a decision takes at a time.
const FACTS: usize = 1_000;
const AT_ONCE: usize = stheno_decide::policy::FACTS_PER_MESSAGE;

fn now() -> Time {
    chrono::Utc::now()
}

fn aggregate(number: u64) -> Aggregate {
    Aggregate::Datacenter(DcKey::new("cassandra", format!("dc{number}")))
}

/// A usual message: two facts of a backup.
fn envelope(number: u64, id: EventId) -> Envelope {
    let job = Uid::from("0193d0c5-5d1f-7000-8000-000000000001");
    let pod = PodName::from(format!("demo-dc{number}-default-sts-0"));
    let at = to_millis(now());
    Envelope {
        v: LAYOUT,
        id,
        at,
        wall: at,
        seen: 1_000_000,
        epoch: Epoch(3),
        ns: "cassandra".into(),
        dc: format!("dc{number}").into(),
        dc_uid: Some(Uid::from("0193d0c5-5d1f-7000-8000-000000000002")),
        prev: Some(Digest::of(b"before")),
        cause: None,
        corr: Some(job.clone()),
        by: "stheno-0 0.1.0".into(),
        events: vec![
            backup::NodeFinished {
                job: job.clone(),
                pod,
                attempt: 1,
                bytes: Some(1 << 30),
                files: Some(744),
                reused: Some(700),
            }
            .into(),
            backup::Completed { job, message: "3 of 3 nodes".into() }.into(),
        ],
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let server = stheno_local::testing::nats().await.unwrap();
    let log = Log::open(Settings {
        endpoint: Endpoint::External { url: server.url(), credentials: Credentials::None },
        stream: "STHENO".into(),
        cluster: Some(Uid::from("cafe0000-0000-4000-8000-000000000000")),
        allow_relaxed: false,
        clock: Arc::new(now),
        patience: Patience::default(),
    })
    .await
    .unwrap();
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let size = envelope(1, EventId::from("0193d0c5-5d1f-7000-8000-000000000003")).encode().unwrap().len();

    let mut lasts = vec![0; usize::try_from(AGGREGATES).unwrap()];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(append_raw(&raw, &log, &mut lasts, round).await);
        ours.push(append_ours(&log, &mut lasts, round).await);
    }
    report("append, 64 aggregates, one in flight each, with expectation", size, &ours, &theirs);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(replay_raw(&raw).await);
        ours.push(replay_ours(&log).await);
    }
    report("replay and fold, from the first message", size, &ours, &theirs);

    let mut last = 0;
    for at_once in [1, AT_ONCE] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            theirs.push(facts_raw(&raw, &log, &mut last, at_once, round).await);
            ours.push(facts_ours(&log, &mut last, at_once, round).await);
        }
        let what = format!("facts of one datacenter, {at_once} a message");
        let size = one_datacenter("0".into(), at_once).encode().unwrap().len();
        report(&what, size, &ours, &theirs);
        println!("  1,000 of them in {:.1} ms", FACTS as f64 / median(&ours) * 1_000.0);
    }
}

fn rate(count: u64, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(what: &str, size: usize, ours: &[f64], theirs: &[f64]) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!("| {what} ({size} B) | {ours:.0}/s | {theirs:.0}/s | {:.2} |", ours / theirs);
}

async fn append_ours(log: &Log, lasts: &mut [u64], round: usize) -> f64 {
    let begun = Instant::now();
    let writers = (0..AGGREGATES).zip(lasts.iter_mut()).map(|(number, last)| {
        let log = log.clone();
        let mut expected = *last;
        let writer = tokio::spawn(async move {
            let aggregate = aggregate(number);
            for step in 0..APPENDS / AGGREGATES {
                let envelope = envelope(number, EventId::from(format!("{round}-{number}-{step}")));
                match log.append(&aggregate, Process::Backup, expected, &envelope).await.unwrap() {
                    Outcome::Committed(sequence) => expected = sequence,
                    outcome => panic!("{outcome:?}"),
                }
            }
            expected
        });
        async move { *last = writer.await.unwrap() }
    });
    futures::future::join_all(writers).await;
    rate(APPENDS, begun)
}

/// The same with `send_publish` and nothing around it: same subjects, same expectation, a payload encoded beforehand.
async fn append_raw(raw: &async_nats::jetstream::Context, log: &Log, lasts: &mut [u64], round: usize) -> f64 {
    let begun = Instant::now();
    let writers = (0..AGGREGATES).zip(lasts.iter_mut()).map(|(number, last)| {
        let (raw, id) = (raw.clone(), log.id().clone());
        let mut expected = *last;
        let writer = tokio::spawn(async move {
            let aggregate = aggregate(number);
            let (subject, filter) = (aggregate.subject(&id, Process::Backup), aggregate.filter(&id));
            let payload = bytes::Bytes::from(envelope(number, EventId::from("raw")).encode().unwrap());
            for step in 0..APPENDS / AGGREGATES {
                let message = PublishMessage::build()
                    .payload(payload.clone())
                    .message_id(format!("raw-{round}-{number}-{step}"))
                    .expected_last_subject_sequence(expected)
                    .header("Nats-Expected-Last-Subject-Sequence-Subject", filter.as_str());
                expected = raw.send_publish(subject.clone(), message).await.unwrap().await.unwrap().sequence;
            }
            expected
        });
        async move { *last = writer.await.unwrap() }
    });
    futures::future::join_all(writers).await;
    rate(APPENDS, begun)
}

/// A message with as many answers of nodes.
fn one_datacenter(id: EventId, facts: usize) -> Envelope {
    let mut envelope = envelope(AGGREGATES, id);
    envelope.events.truncate(1);
    envelope.events = (0..facts).map(|_| envelope.events[0].clone()).collect();
    envelope
}

/// One message after the other, for an aggregate has one in flight.
async fn facts_ours(log: &Log, last: &mut u64, at_once: usize, round: usize) -> f64 {
    let begun = Instant::now();
    for step in 0..FACTS / at_once {
        let envelope = one_datacenter(EventId::from(format!("facts-{at_once}-{round}-{step}")), at_once);
        match log.append(&aggregate(AGGREGATES), Process::Backup, *last, &envelope).await.unwrap() {
            Outcome::Committed(sequence) => *last = sequence,
            outcome => panic!("{outcome:?}"),
        }
    }
    rate(FACTS as u64, begun)
}

async fn facts_raw(
    raw: &async_nats::jetstream::Context,
    log: &Log,
    last: &mut u64,
    at_once: usize,
    round: usize,
) -> f64 {
    let aggregate = aggregate(AGGREGATES);
    let (subject, filter) = (aggregate.subject(log.id(), Process::Backup), aggregate.filter(log.id()));
    let payload = bytes::Bytes::from(one_datacenter(EventId::from("raw"), at_once).encode().unwrap());
    let begun = Instant::now();
    for step in 0..FACTS / at_once {
        let message = PublishMessage::build()
            .payload(payload.clone())
            .message_id(format!("facts-raw-{at_once}-{round}-{step}"))
            .expected_last_subject_sequence(*last)
            .header("Nats-Expected-Last-Subject-Sequence-Subject", filter.as_str());
        *last = raw.send_publish(subject.clone(), message).await.unwrap().await.unwrap().sequence;
    }
    rate(FACTS as u64, begun)
}

async fn replay_ours(log: &Log) -> f64 {
    let begun = Instant::now();
    let mut reader = log.follow(1, CancellationToken::new());
    let (mut world, mut events) = (World::default(), 0);
    loop {
        match reader.next().await.unwrap().unwrap() {
            Item::Message(stored) => {
                let digest = Digest::of(&stored.payload);
                let (sequence, aggregate) = (stored.sequence, &stored.aggregate);
                world.apply(Message { sequence, aggregate, digest, envelope: stored.envelope.as_ref() });
                events += stored.envelope.unwrap().events.len();
            }
            Item::CaughtUp(last) => {
                assert_eq!((events as u64, world.position, world.unreadable), (2 * last, last, 0));
                return rate(last, begun);
            }
            Item::Foreign(foreign) => panic!("{foreign:?}"),
        }
    }
}

/// A pull consumer in batches of 10,000, whose messages are counted and thrown away.
async fn replay_raw(raw: &async_nats::jetstream::Context) -> f64 {
    let begun = Instant::now();
    let stream = raw.get_stream("STHENO").await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        inactive_threshold: Duration::from_secs(60),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut messages = consumer.stream().max_messages_per_batch(10_000).messages().await.unwrap();
    while messages.next().await.unwrap().unwrap().info().unwrap().stream_sequence < last {}
    rate(last, begun)
}
