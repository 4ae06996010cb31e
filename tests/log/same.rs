//! One conformance suite, two logs.

use super::fixture::{self, everything, now};
use crate::support::conformance::{PROCESS, Subject, suite};
use crate::support::memory_log::{Fault, MemoryLog};
use crate::support::proxy::{Flow, Proxy};
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use stheno::log::{Log, Outcome, Patience, Resolution};
use stheno_events::{Aggregate, EventId};
use tokio_util::sync::CancellationToken;

struct Memory(Mutex<MemoryLog>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, MemoryLog> {
        self.0.lock().unwrap()
    }
}

impl Subject for Memory {
    async fn append(&self, aggregate: &Aggregate, expected: u64, id: &EventId, payload: Bytes) -> Outcome {
        self.lock().append(aggregate, PROCESS, expected, id, payload, now())
    }

    async fn resolve(&self, aggregate: &Aggregate, after: u64, id: &EventId) -> Resolution {
        self.lock().resolve(aggregate, after, id).unwrap()
    }

    async fn read(&self) -> Vec<(u64, String, Bytes)> {
        self.lock().read(1).iter().map(|m| (m.sequence, m.subject.clone(), m.payload.clone())).collect()
    }

    async fn inject(&self, fault: Fault) {
        self.lock().inject(fault);
    }

    async fn deliver_late(&self) {
        self.lock().deliver_late(now());
    }
}

#[tokio::test]
async fn the_log_in_memory_conforms() {
    suite(&Memory(Mutex::new(MemoryLog::new(fixture::CLUSTER)))).await;
}

#[test]
fn the_log_in_memory_can_be_away_and_put_back() {
    let mut log = MemoryLog::new(fixture::CLUSTER);
    let (a, id) = (crate::support::conformance::dc("a"), |text: &str| EventId::from(text));
    assert_eq!(log.append(&a, PROCESS, 0, &id("1"), Bytes::new(), now()), Outcome::Committed(1));
    log.set_away(true);
    assert_eq!(log.append(&a, PROCESS, 1, &id("2"), Bytes::new(), now()), Outcome::Indeterminate);
    assert_eq!(log.resolve(&a, 1, &id("2")), None);
    log.set_away(false);
    assert_eq!(log.resolve(&a, 1, &id("2")), Some(Resolution::NotIn { last: 1 }));
    assert_eq!(log.append(&a, PROCESS, 1, &id("2"), Bytes::new(), now()), Outcome::Committed(2));
    log.put_back(1);
    assert_eq!((log.last_sequence(), log.read(2).len()), (1, 0));
    assert_eq!(log.append(&a, PROCESS, 2, &id("3"), Bytes::new(), now()), Outcome::Conflict(1), "as the real one");
}

/// The real log: a writer behind a proxy that has the faults, and a second client for everything else.
struct Real {
    writer: Log,
    other: Log,
    proxy: Proxy,
    fault: Mutex<Option<Fault>>,
    held: Mutex<bool>,
}

impl Subject for Real {
    async fn append(&self, aggregate: &Aggregate, expected: u64, id: &EventId, payload: Bytes) -> Outcome {
        let fault = self.fault.lock().unwrap().take();
        // What is held up stays on its way while another client goes on.
        let through = if *self.held.lock().unwrap() { &self.other } else { &self.writer };
        match fault {
            None => {}
            Some(Fault::AckLost) => self.proxy.answers(Flow::Drop),
            Some(Fault::Lost) => self.proxy.requests(Flow::Drop),
            Some(Fault::Late) => {
                *self.held.lock().unwrap() = true;
                self.proxy.requests(Flow::Hold);
            }
        }
        let outcome = through.append_encoded(aggregate, PROCESS, expected, id, payload).await.unwrap();
        match fault {
            None | Some(Fault::Late) => {}
            Some(Fault::AckLost | Fault::Lost) => {
                // What was lost stays lost: a new connection for what comes next.
                self.proxy.cut();
                self.proxy.requests(Flow::Pass);
                self.proxy.answers(Flow::Pass);
            }
        }
        outcome
    }

    async fn resolve(&self, aggregate: &Aggregate, after: u64, id: &EventId) -> Resolution {
        self.other.resolve(aggregate, after, id, &CancellationToken::new()).await.unwrap()
    }

    async fn read(&self) -> Vec<(u64, String, Bytes)> {
        everything(&self.other).await
    }

    async fn inject(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    async fn deliver_late(&self) {
        *self.held.lock().unwrap() = false;
        self.proxy.requests(Flow::Pass);
        fixture::taken(&self.writer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_log_conforms() {
    let server = stheno_local::testing::nats().await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let patience = Patience { ack: Duration::from_millis(700), ..fixture::patience() };
    let writer = Log::open(stheno::log::Settings { patience, ..fixture::settings(&proxy.url()) }).await.unwrap();
    let other = fixture::open(&server.url()).await;
    suite(&Real { writer, other, proxy, fault: Mutex::new(None), held: Mutex::new(false) }).await;
}
