//! Three servers, three copies: races, and a leader that is killed.

use super::fixture::{self, envelope, everything, settings};
use crate::support::conformance::{PROCESS, dc};
use std::collections::BTreeMap;
use std::time::Duration;
use stheno::log::{Durability, Log, Outcome, Patience, Resolution, Settings};
use stheno_events::{Aggregate, EventId};
use stheno_local::testing::nats_cluster;
use tokio_util::sync::CancellationToken;

async fn client(url: &str) -> Log {
    let patience = Patience { start: Duration::from_secs(40), ack: Duration::from_secs(2), ..fixture::patience() };
    Log::open(Settings { patience, ..settings(url) }).await.unwrap()
}

/// Appends until it is known whether the message is in: what the operator does.
async fn decided(log: &Log, aggregate: &Aggregate, expected: u64, id: &str) -> Resolution {
    let envelope = envelope(aggregate, id);
    match log.append(aggregate, PROCESS, expected, &envelope).await.unwrap() {
        Outcome::Committed(sequence) => Resolution::In(sequence),
        Outcome::Conflict(last) => Resolution::NotIn { last },
        Outcome::Indeterminate => {
            let none = CancellationToken::new();
            let id = EventId::from(id);
            let found = log.resolve(aggregate, expected, &id, &none);
            tokio::time::timeout(Duration::from_secs(60), found).await.expect("a minute is enough").unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_race_and_exactly_one_wins_also_while_leaders_die() {
    const ROUNDS: u32 = 400;
    let mut cluster = nats_cluster().await.unwrap();
    let (first, second) = (client(&cluster.url()).await, client(&cluster.url()).await);
    assert_eq!(*first.durability(), Durability::Safe, "three copies");
    let aggregate = dc("contested");
    let (mut expected, mut won, mut undecided) = (0, BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        if round % 100 == 50 {
            let leader = cluster.leader_of("STHENO").await.unwrap();
            cluster.servers()[leader].kill();
        }
        if round % 100 == 80 {
            for server in cluster.servers() {
                server.start().await.unwrap();
            }
        }
        let (a, b) = (format!("{round}-first"), format!("{round}-second"));
        // Both have seen the same; both write at once, until one of them is in.
        loop {
            let (one, other) =
                tokio::join!(decided(&first, &aggregate, expected, &a), decided(&second, &aggregate, expected, &b),);
            let winner = match (one, other) {
                (Resolution::In(sequence), Resolution::NotIn { .. }) => Some((sequence, "first")),
                (Resolution::NotIn { .. }, Resolution::In(sequence)) => Some((sequence, "second")),
                (Resolution::In(one), Resolution::In(other)) => panic!("round {round}: both won, {one} and {other}"),
                (Resolution::NotIn { .. }, Resolution::NotIn { .. }) => None,
            };
            if let Some((sequence, name)) = winner {
                assert!(sequence > expected);
                *won.entry(name).or_insert(0) += 1;
                expected = sequence;
                break;
            }
            // Both were turned away for each other's sake, or the leader died with both: they look, and try again.
            undecided += 1;
            let none = CancellationToken::new();
            let looked = first.resolve(&aggregate, expected, &EventId::from("nobody"), &none).await.unwrap();
            if looked != (Resolution::NotIn { last: expected }) {
                // One of them arrived late: it has won.
                let late = first.resolve(&aggregate, expected, &EventId::from(a.as_str()), &none).await.unwrap();
                let late = match late {
                    Resolution::In(sequence) => sequence,
                    Resolution::NotIn { last } => last,
                };
                *won.entry("late").or_insert(0) += 1;
                expected = late;
                break;
            }
        }
    }
    let all = everything(&first).await;
    assert_eq!(all.len(), ROUNDS as usize, "one message a round: {won:?}");
    assert_eq!(all.last().map(|(sequence, _, _)| *sequence), Some(expected));
    println!("{ROUNDS} races: won {won:?}, repeated because nobody had won {undecided}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_and_a_writer_go_on_while_each_server_is_killed_in_turn() {
    let mut cluster = nats_cluster().await.unwrap();
    let log = client(&cluster.url()).await;
    let mut reader = log.follow(1, CancellationToken::new());
    let (sender, mut read) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(item) = reader.next().await {
            if let stheno::log::Item::Message(stored) = item.unwrap()
                && sender.send((stored.sequence, stored.envelope.unwrap().id)).is_err()
            {
                return;
            }
        }
    });
    let aggregate = dc("a");
    let (mut expected, mut written) = (0, Vec::new());
    for number in 0..150_u32 {
        if number % 50 == 20 {
            cluster.servers()[(number / 50) as usize].kill();
        }
        if number % 50 == 45 {
            let server = &mut cluster.servers()[(number / 50) as usize];
            server.start().await.unwrap();
            server.ready().await.unwrap();
        }
        let id = number.to_string();
        expected = loop {
            match decided(&log, &aggregate, expected, &id).await {
                Resolution::In(sequence) => break sequence,
                Resolution::NotIn { last } => assert_eq!(last, expected, "nobody else writes"),
            }
        };
        written.push((expected, EventId::from(id)));
    }
    for message in written {
        let next = tokio::time::timeout(Duration::from_secs(60), read.recv()).await.expect("a minute is enough");
        assert_eq!(next, Some(message));
    }
    assert!(read.try_recv().is_err(), "and nothing else");
}
