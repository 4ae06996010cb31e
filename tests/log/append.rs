//! Appending to a real server, and finding out what became of it.

use super::fixture::{self, envelope, everything, open};
use crate::support::conformance::{PROCESS, dc};
use crate::support::proxy::{Flow, Proxy};
use bytes::Bytes;
use std::time::Duration;
use stheno::log::append::Error;
use stheno::log::{Log, Outcome, Patience, Resolution, Settings};
use stheno_events::EventId;
use stheno_local::nats::Options;
use stheno_local::testing::{nats, nats_with};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn short_ack(url: &str) -> Settings {
    Settings { patience: Patience { ack: Duration::from_millis(500), ..fixture::patience() }, ..fixture::settings(url) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_append_to_an_aggregate_in_flight_is_a_fault_of_the_caller() {
    let mut server = nats().await.unwrap();
    let log = Log::open(short_ack(&server.url())).await.unwrap();
    server.pause().unwrap();
    let (a, b) = (dc("a"), dc("b"));
    let messages = [envelope(&a, "1"), envelope(&a, "2"), envelope(&b, "3")];
    let (first, second, other) = tokio::join!(
        log.append(&a, PROCESS, 0, &messages[0]),
        log.append(&a, PROCESS, 0, &messages[1]),
        log.append(&b, PROCESS, 0, &messages[2]),
    );
    assert_eq!(first.unwrap(), Outcome::Indeterminate);
    assert!(matches!(second, Err(Error::InFlight(filter)) if filter.ends_with(".ns.a.>")));
    assert_eq!(other.unwrap(), Outcome::Indeterminate);
    server.resume().unwrap();
    // The server has them still before it and takes them now; trying again is safe until it has.
    let sequence = loop {
        match log.append(&a, PROCESS, 0, &messages[0]).await.unwrap() {
            Outcome::Committed(sequence) => break sequence,
            Outcome::Indeterminate => {}
            Outcome::Conflict(last) => panic!("conflict at {last}"),
        }
    };
    let none = CancellationToken::new();
    let refused = log.resolve(&a, 0, &EventId::from("2"), &none).await.unwrap();
    assert_eq!(refused, Resolution::NotIn { last: sequence });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_it_is_sent() {
    let server = nats_with(&Options { extra: "max_payload: 65536".into(), ..Options::default() }).await.unwrap();
    let log = open(&server.url()).await;
    let (a, id) = (dc("a"), EventId::from("1"));
    let mut fits = 0;
    for size in (64_900..=65_536).rev() {
        match log.append_encoded(&a, PROCESS, 0, &id, Bytes::from(vec![0; size])).await {
            Err(Error::TooLarge { bytes, limit: 65_536 }) => assert!(bytes > 65_536),
            other => {
                assert_eq!(other.unwrap(), Outcome::Committed(1), "what is said to fit does fit");
                fits = size;
                break;
            }
        }
    }
    assert!(fits > 65_000, "and nothing is given away: {fits}");
    let error = log.append_encoded(&a, PROCESS, 1, &id, Bytes::from(vec![0; 70_000])).await.unwrap_err();
    assert!(error.to_string().ends_with("and the NATS server takes 65536: split it, or raise max_payload there"));
}

#[tokio::test]
async fn an_id_that_would_break_the_headers_is_an_error() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let error = log.append_encoded(&dc("a"), PROCESS, 0, &EventId::from("1\r\nX: y"), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, Error::Header(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_with_the_message_in_and_one_with_it_not_in() {
    let server = nats().await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let log = Log::open(short_ack(&proxy.url())).await.unwrap();
    let (a, none) = (dc("a"), CancellationToken::new());

    proxy.answers(Flow::Drop);
    let begun = Instant::now();
    assert_eq!(log.append(&a, PROCESS, 0, &envelope(&a, "in")).await.unwrap(), Outcome::Indeterminate);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    proxy.cut();
    proxy.answers(Flow::Pass);
    fixture::taken(&log).await;
    assert_eq!(log.resolve(&a, 0, &EventId::from("in"), &none).await.unwrap(), Resolution::In(1));

    proxy.requests(Flow::Drop);
    assert_eq!(log.append(&a, PROCESS, 1, &envelope(&a, "not in")).await.unwrap(), Outcome::Indeterminate);
    proxy.cut();
    proxy.requests(Flow::Pass);
    assert_eq!(log.resolve(&a, 1, &EventId::from("not in"), &none).await.unwrap(), Resolution::NotIn { last: 1 });
    assert_eq!(log.append(&a, PROCESS, 1, &envelope(&a, "not in")).await.unwrap(), Outcome::Committed(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_at_once() {
    let server = nats().await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let log = open(&proxy.url()).await;
    let a = dc("a");
    proxy.answers(Flow::Drop);
    let cut = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.cut();
        proxy.answers(Flow::Pass);
    };
    let begun = Instant::now();
    let envelope = envelope(&a, "1");
    let (outcome, ()) = tokio::join!(log.append(&a, PROCESS, 0, &envelope), cut);
    assert_eq!(outcome.unwrap(), Outcome::Indeterminate);
    assert!(begun.elapsed() < log.ack_patience(), "not only when the time is over: {:?}", begun.elapsed());
    fixture::taken(&log).await;
    let resolution = log.resolve(&a, 0, &EventId::from("1"), &CancellationToken::new()).await.unwrap();
    assert_eq!(resolution, Resolution::In(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_sending_and_acknowledging_and_started_again() {
    let mut server = nats_with(&Options { sync_always: true, ..Options::default() }).await.unwrap();
    let log = open(&server.url()).await;
    let none = CancellationToken::new();
    let (mut committed, mut in_doubt_in, mut in_doubt_out) = (0, 0, 0);
    // Killed at another moment of the exchange each time.
    for round in 0..12_u32 {
        let a = dc(&format!("r{round}"));
        let mut expected = 0;
        let mut sent = 0_u32;
        let killer = async {
            tokio::time::sleep(Duration::from_micros(u64::from(round) * 450)).await;
            server.kill();
        };
        let writer = async {
            loop {
                sent += 1;
                let id = format!("{round}-{sent}");
                match log.append(&a, PROCESS, expected, &envelope(&a, &id)).await.unwrap() {
                    Outcome::Committed(sequence) => {
                        committed += 1;
                        expected = sequence;
                    }
                    Outcome::Indeterminate => return (EventId::from(id), expected),
                    Outcome::Conflict(last) => panic!("conflict at {last}, expected {expected}"),
                }
            }
        };
        let ((id, expected), ()) = tokio::join!(writer, killer);
        let resolved = log.resolve(&a, expected, &id, &none);
        let start = server.start();
        let (resolution, started) = tokio::join!(resolved, start);
        started.unwrap();
        match resolution.unwrap() {
            Resolution::In(sequence) => {
                in_doubt_in += 1;
                assert!(sequence > expected);
            }
            Resolution::NotIn { last } => {
                in_doubt_out += 1;
                assert_eq!(last, expected, "everything acknowledged is there, and nothing else");
            }
        }
    }
    println!("committed {committed}, in doubt and in {in_doubt_in}, in doubt and not in {in_doubt_out}");
    assert!(everything(&log).await.len() >= committed, "nothing that was acknowledged is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_waits_for_a_server_that_is_away_and_can_be_given_up() {
    let mut server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    assert_eq!(log.append(&a, PROCESS, 0, &envelope(&a, "1")).await.unwrap(), Outcome::Committed(1));
    server.stop().await;
    let cancel = CancellationToken::new();
    let id = EventId::from("1");
    let waiting = log.resolve(&a, 0, &id, &cancel);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    };
    let begun = Instant::now();
    let (given_up, ()) = tokio::join!(waiting, stop);
    assert!(matches!(given_up, Err(stheno::log::resolve::Error::Cancelled)));
    assert!(begun.elapsed() < Duration::from_secs(2));

    let none = CancellationToken::new();
    let (found, started) = tokio::join!(log.resolve(&a, 0, &id, &none), server.start());
    started.unwrap();
    assert_eq!(found.unwrap(), Resolution::In(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_that_writes_late_is_fenced_out() {
    let server = nats().await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let former = Log::open(short_ack(&proxy.url())).await.unwrap();
    let leader = open(&server.url()).await;
    let (a, b) = (dc("a"), dc("b"));
    assert_eq!(former.append(&a, PROCESS, 0, &envelope(&a, "led 1")).await.unwrap(), Outcome::Committed(1));
    // The former leader's last words are on the wire when it is suspended; it believes in sequence 1 of a, 0 of b.
    proxy.requests(Flow::Hold);
    let (claim_a, claim_b) = (envelope(&a, "claim a"), envelope(&b, "claim b"));
    let (late_a, late_b) =
        tokio::join!(former.append(&a, PROCESS, 1, &claim_a), former.append(&b, PROCESS, 0, &claim_b));
    assert_eq!((late_a.unwrap(), late_b.unwrap()), (Outcome::Indeterminate, Outcome::Indeterminate));
    // The successor takes the aggregate a, and not b.
    assert_eq!(leader.append(&a, PROCESS, 1, &envelope(&a, "led 2")).await.unwrap(), Outcome::Committed(2));
    proxy.requests(Flow::Pass);
    fixture::taken(&former).await;
    let subjects: Vec<String> = everything(&leader).await.into_iter().map(|(_, subject, _)| subject).collect();
    assert_eq!(subjects.len(), 3);
    assert!(subjects[2].contains(".ns.b."), "only where nobody had taken over: {subjects:?}");
    let none = CancellationToken::new();
    let resolved = former.resolve(&a, 1, &EventId::from("claim a"), &none).await.unwrap();
    assert_eq!(resolved, Resolution::NotIn { last: 2 });
    assert_eq!(former.append(&a, PROCESS, 1, &envelope(&a, "again")).await.unwrap(), Outcome::Conflict(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_nobody_waits_for_leave_nothing_behind() {
    let mut server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let a = dc("a");
    server.pause().unwrap();
    for id in 0..100 {
        let envelope = envelope(&a, &id.to_string());
        let given_up = tokio::time::timeout(Duration::from_millis(1), log.append(&a, PROCESS, 0, &envelope)).await;
        assert!(given_up.is_err());
    }
    server.resume().unwrap();
    // One of them is in; the rest was fenced out by it.
    let last = loop {
        match log.append(&a, PROCESS, 0, &envelope(&a, "last")).await.unwrap() {
            Outcome::Conflict(last) => break last,
            Outcome::Indeterminate => {}
            Outcome::Committed(sequence) => panic!("committed at {sequence}"),
        }
    };
    assert_eq!((last, everything(&log).await.len()), (1, 1));
}
