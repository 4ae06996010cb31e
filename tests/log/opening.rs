//! Opening the log: what is made, what is judged, what is refused.

use super::fixture::{self, envelope, open, settings};
use crate::support::conformance::{PROCESS, dc};
use async_nats::jetstream::stream::{Config, StorageType};
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use stheno::log::{Credentials, Durability, Endpoint, Log, Outcome, Patience, Reason, Settings, Skew};
use stheno_events::Uid;
use stheno_local::nats::{Options, Server};
use stheno_local::testing::{nats, nats_with};
use tokio::time::Instant;

async fn jetstream(server: &Server) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

fn stream(subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    Config { name: "STHENO".into(), subjects, ..Config::default() }
}

const OURS: &str = "stheno.v1.cafe0000.>";

async fn refusal(settings: Settings) -> String {
    let begun = Instant::now();
    let error = Log::open(settings).await.unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(25), "bounded");
    assert_eq!(error.lines().count(), 1, "one sentence: {error}");
    error
}

#[tokio::test]
async fn the_stream_has_the_settings_that_the_log_needs() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let config = jetstream(&server).await.get_stream("STHENO").await.unwrap().cached_info().config.clone();
    assert_eq!(config.subjects, [OURS]);
    assert_eq!(config.storage, StorageType::File);
    assert!(config.deny_delete && config.deny_purge && config.allow_direct);
    assert_eq!(
        (config.max_age, config.max_bytes, config.max_messages, config.max_messages_per_subject),
        (Duration::ZERO, -1, -1, -1)
    );
    assert_eq!(config.metadata["stheno.io/cluster-uid"], fixture::CLUSTER);
    assert_eq!(config.metadata["stheno.io/log-id"], "cafe0000");
    assert_eq!(config.metadata["stheno.io/stream-id"], log.identity().stream_id);
    assert_eq!(*log.durability(), Durability::Relaxed(vec![Reason::OneReplica]));
    let again = open(&server.url()).await;
    assert_eq!(again.identity(), log.identity(), "a second opening finds the same");
    let facts = again.facts().await.unwrap();
    assert_eq!((facts.first_sequence, facts.last_sequence), (1, 0));
}

#[tokio::test]
async fn a_stream_of_another_cluster_is_refused_and_beside_it_there_is_room() {
    let server = nats().await.unwrap();
    open(&server.url()).await;
    let other = "beef0000-0000-4000-8000-000000000000";
    let mine = Settings { cluster: Some(Uid::from(other)), ..settings(&server.url()) };
    let error = refusal(mine.clone()).await;
    assert_eq!(
        error,
        format!(
            "stream STHENO is the log of another Kubernetes cluster (kube-system {}, this one is {other}): choose another name with --stream",
            fixture::CLUSTER
        )
    );
    let relaxed = Settings { allow_relaxed: true, ..mine.clone() };
    refusal(relaxed).await;
    let beside = Log::open(Settings { stream: "STHENO-2".into(), ..mine }).await.unwrap();
    assert_eq!(beside.id().as_str(), "beef0000");
}

#[tokio::test]
async fn a_stream_of_something_else_is_refused() {
    let server = nats().await.unwrap();
    let jetstream = jetstream(&server).await;
    let create = async |config: Config| {
        let _ = jetstream.delete_stream("STHENO").await;
        jetstream.create_stream(config).await.unwrap();
    };
    create(stream(&["orders.>"])).await;
    assert_eq!(
        refusal(settings(&server.url())).await,
        "stream STHENO belongs to something else (its subjects are orders.>, ours would be stheno.v1.cafe0000.>): choose another name with --stream"
    );
    create(stream(&[OURS, "orders.>"])).await;
    refusal(settings(&server.url())).await;
    let retention = async_nats::jetstream::stream::RetentionPolicy::WorkQueue;
    create(Config { retention, ..stream(&[OURS]) }).await;
    assert!(refusal(settings(&server.url())).await.contains("it forgets what was read"));
    create(Config { no_ack: true, ..stream(&[OURS]) }).await;
    assert!(refusal(settings(&server.url())).await.contains("does not acknowledge"));
    create(stream(&[OURS])).await;
    jetstream.publish("stheno.v1.cafe0000.x", "y".into()).await.unwrap().await.unwrap();
    assert!(refusal(settings(&server.url())).await.contains("it has messages and does not say of which cluster"));
    create(Config { name: "STHENO".into(), ..stream(&["orders.>"]) }).await;
    create(Config { name: "OTHER".into(), ..stream(&["stheno.>"]) }).await;
    jetstream.delete_stream("STHENO").await.ok();
    assert_eq!(
        refusal(settings(&server.url())).await,
        "stream STHENO cannot be created: another stream holds this cluster's subjects; name it with --stream"
    );
}

#[tokio::test]
async fn an_empty_stream_that_was_made_for_us_is_taken() {
    let server = nats().await.unwrap();
    let jetstream = jetstream(&server).await;
    jetstream.create_stream(stream(&[OURS])).await.unwrap();
    let log = open(&server.url()).await;
    let config = jetstream.get_stream("STHENO").await.unwrap().cached_info().config.clone();
    assert!(config.deny_delete && config.deny_purge);
    assert_eq!(open(&server.url()).await.identity(), log.identity());
}

#[tokio::test]
async fn what_would_lose_messages_is_refused_unless_allowed() {
    let server = nats().await.unwrap();
    let jetstream = jetstream(&server).await;
    let cases = [
        (Config { storage: StorageType::Memory, ..stream(&[OURS]) }, Reason::MemoryStorage),
        (Config { max_age: Duration::from_secs(3600), ..stream(&[OURS]) }, Reason::Forgets("max_age")),
        (Config { max_messages_per_subject: 5, ..stream(&[OURS]) }, Reason::Forgets("max_msgs_per_subject")),
        (Config { max_bytes: 1 << 20, ..stream(&[OURS]) }, Reason::Forgets("max_bytes")),
    ];
    for (config, reason) in cases {
        let _ = jetstream.delete_stream("STHENO").await;
        jetstream.create_stream(config).await.unwrap();
        let error = refusal(settings(&server.url())).await;
        assert_eq!(error, format!("the log is refused because {reason}; --allow-relaxed-log accepts that"));
        let log = Log::open(Settings { allow_relaxed: true, ..settings(&server.url()) }).await.unwrap();
        let Durability::Relaxed(reasons) = log.durability() else { panic!("{reason}") };
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
}

#[tokio::test]
async fn a_limit_near_exhaustion_is_refused() {
    let server = nats().await.unwrap();
    let jetstream = jetstream(&server).await;
    let discard = async_nats::jetstream::stream::DiscardPolicy::New;
    jetstream.create_stream(Config { max_messages: 10, discard, ..stream(&[OURS]) }).await.unwrap();
    let log = open(&server.url()).await;
    let Durability::Relaxed(reasons) = log.durability() else { panic!("a limit is set") };
    assert!(reasons.contains(&Reason::Limited("max_msgs")), "{reasons:?}");
    let a = dc("a");
    for sequence in 0..10 {
        let outcome = log.append(&a, PROCESS, sequence, &envelope(&a, &sequence.to_string())).await.unwrap();
        assert_eq!(outcome, Outcome::Committed(sequence + 1));
    }
    let full = log.append(&a, PROCESS, 10, &envelope(&a, "10")).await.unwrap_err().to_string();
    assert!(full.starts_with("the NATS server has no room for the message (error 10077"), "{full}");
    let near = Reason::NearLimit { what: "max_msgs", used: 10, limit: 10 };
    assert!(refusal(settings(&server.url())).await.contains(&near.to_string()));
}

#[tokio::test]
async fn a_server_that_is_dead_at_the_start_is_one_sentence_in_bounded_time() {
    let mut server = nats().await.unwrap();
    let patience = Patience { start: Duration::from_secs(1), request: Duration::from_secs(1), ..fixture::patience() };
    let impatient = Settings { patience, ..settings(&server.url()) };
    server.stop().await;
    let begun = Instant::now();
    let error = refusal(impatient.clone()).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(error.starts_with("no NATS server answers at nats://127.0.0.1:"), "{error}");

    server.start().await.unwrap();
    server.pause().unwrap();
    let begun = Instant::now();
    let error = refusal(impatient).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "one that hangs: {:?}", begun.elapsed());
    assert!(error.starts_with("no NATS server answers at nats://127.0.0.1:"), "{error}");
    server.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_late_is_waited_for() {
    let mut server = nats().await.unwrap();
    server.stop().await;
    let opening = Log::open(settings(&server.url()));
    let start = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.start().await.unwrap();
    };
    let (opened, ()) = tokio::join!(opening, start);
    opened.unwrap();
}

#[tokio::test]
async fn a_server_without_jetstream_and_wrong_credentials_are_one_sentence_each() {
    let server =
        nats_with(&Options { extra: "authorization { token: secret }".into(), ..Options::default() }).await.unwrap();
    let error = refusal(settings(&server.url())).await;
    assert!(error.ends_with("refuses the credentials: check --nats-creds"), "{error}");
    let credentials = Credentials::File("/no/such/file.creds".into());
    let endpoint = Endpoint::External { url: server.url(), credentials };
    let error = refusal(Settings { endpoint, ..settings("") }).await;
    assert_eq!(error, "the NATS credentials file /no/such/file.creds cannot be read");
    let address = server.address();
    let endpoint = Endpoint::External { url: format!("nats://secret@{address}"), credentials: Credentials::None };
    Log::open(Settings { endpoint, ..settings("") }).await.unwrap();

    let accounts = "accounts { A { users: [{ user: a, password: a }] } }";
    let server = nats_with(&Options { extra: accounts.into(), ..Options::default() }).await.unwrap();
    let url = format!("nats://a:a@{}", server.address());
    let patience = Patience { start: Duration::from_secs(1), request: Duration::from_secs(1), ..fixture::patience() };
    let error = refusal(Settings { patience, ..settings(&url) }).await;
    assert_eq!(
        error,
        format!(
            "JetStream is not available on the NATS server at nats://{}: start it with JetStream enabled for this account",
            server.address()
        )
    );
}

#[tokio::test]
async fn a_clock_a_day_ahead_is_measured() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    assert_eq!(log.measure_skew().await.unwrap(), Skew::Fine);
    let ahead = Settings { clock: Arc::new(|| fixture::now() + TimeDelta::days(1)), ..settings(&server.url()) };
    let log = Log::open(ahead).await.unwrap();
    let Skew::Stop(offset) = log.measure_skew().await.unwrap() else { panic!("not noticed") };
    assert!((offset - TimeDelta::days(1)).abs() < TimeDelta::seconds(5), "{offset}");
    assert!(matches!(Skew::of(*log.clock_offset().borrow()), Skew::Stop(_)), "known since the opening");
    let behind = Settings { clock: Arc::new(|| fixture::now() - TimeDelta::seconds(20)), ..settings(&server.url()) };
    let log = Log::open(behind).await.unwrap();
    assert!(matches!(log.measure_skew().await.unwrap(), Skew::Warn(offset) if offset < TimeDelta::seconds(-15)));
}
