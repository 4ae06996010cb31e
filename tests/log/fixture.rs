//! What the tests of the log share.

use bytes::Bytes;
use chrono::Utc;
use std::sync::Arc;
use std::time::Duration;
use stheno::log::{Credentials, Endpoint, Item, Log, Outcome, Patience, Settings};
use stheno_events::{Aggregate, Envelope, Epoch, EventId, LAYOUT, Process, Time, Uid};
use tokio_util::sync::CancellationToken;

pub const CLUSTER: &str = "cafe0000-0000-4000-8000-000000000000";

#[allow(clippy::disallowed_methods, reason = "the tests' edge: here the clock is read")]
pub fn now() -> Time {
    Utc::now()
}

/// Short enough that a test of a time-out does not wait long, long enough for a busy machine.
pub fn patience() -> Patience {
    Patience { start: Duration::from_secs(15), request: Duration::from_secs(5), ack: Duration::from_secs(5) }
}

pub fn settings(url: &str) -> Settings {
    Settings {
        endpoint: Endpoint::External { url: url.to_owned(), credentials: Credentials::None },
        stream: "STHENO".into(),
        cluster: Some(Uid::from(CLUSTER)),
        allow_relaxed: false,
        clock: Arc::new(now),
        patience: patience(),
    }
}

pub async fn open(url: &str) -> Log {
    Log::open(settings(url)).await.unwrap()
}

pub fn envelope(aggregate: &Aggregate, id: &str) -> Envelope {
    let (ns, dc) = match aggregate {
        Aggregate::Datacenter(key) => (key.namespace.clone(), key.name.clone()),
        Aggregate::Location(digest) => ("".into(), digest.as_str().into()),
        Aggregate::Operator => ("".into(), "".into()),
    };
    let at = stheno_events::to_millis(now());
    Envelope {
        v: LAYOUT,
        id: EventId::from(id),
        at,
        wall: at,
        seen: 0,
        epoch: Epoch(1),
        ns,
        dc,
        dc_uid: None,
        prev: None,
        cause: None,
        corr: None,
        by: "test".into(),
        events: vec![stheno_events::datacenter::Led { epoch: Epoch(1), quiet_until: None }.into()],
    }
}

/// Everything in the log now: sequence, subject, payload.
pub async fn everything(log: &Log) -> Vec<(u64, String, Bytes)> {
    let mut reader = log.read(1..=u64::MAX, &stheno::log::Filter::All, CancellationToken::new());
    let mut all = Vec::new();
    while let Some(item) = reader.next().await {
        match item.unwrap() {
            Item::Message(stored) => all.push((stored.sequence, stored.subject, stored.payload)),
            Item::Foreign(foreign) => all.push((foreign.sequence, foreign.subject, foreign.payload)),
            Item::CaughtUp(_) => {}
        }
    }
    all
}

/// Returns when the server has dealt with everything that this client sent before: a stream takes messages one by one, in
/// order, so the answer to an append that must be refused comes last.
pub async fn taken(log: &Log) {
    let barrier = Aggregate::Location("barrier".into());
    loop {
        let outcome = log.append(&barrier, Process::Location, u64::MAX, &envelope(&barrier, "barrier")).await.unwrap();
        match outcome {
            Outcome::Conflict(_) => return,
            Outcome::Indeterminate => {}
            Outcome::Committed(sequence) => panic!("committed at {sequence}"),
        }
    }
}
