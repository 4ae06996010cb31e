//! What every log does: one suite for the real one and for the one in memory.

use super::memory_log::Fault;
use bytes::Bytes;
use stheno::log::{Outcome, Resolution};
use stheno_events::{Aggregate, DcKey, EventId, Process};

/// A log under test, and its faults.
pub trait Subject {
    async fn append(&self, aggregate: &Aggregate, expected: u64, id: &EventId, payload: Bytes) -> Outcome;
    async fn resolve(&self, aggregate: &Aggregate, after: u64, id: &EventId) -> Resolution;
    /// Sequence, subject and payload of every message.
    async fn read(&self) -> Vec<(u64, String, Bytes)>;
    /// The next append suffers this.
    async fn inject(&self, fault: Fault);
    /// What was held up arrives.
    async fn deliver_late(&self);
}

pub fn dc(name: &str) -> Aggregate {
    Aggregate::Datacenter(DcKey::new("ns", name))
}

fn id(text: &str) -> EventId {
    EventId::from(text)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs the whole suite on an empty log of cluster `cafe0000`.
pub async fn suite(log: &impl Subject) {
    expectations(log).await;
    repetitions(log).await;
    lost_acknowledgement(log).await;
    lost_message(log).await;
    late_message(log).await;
    what_is_read(log).await;
}

async fn expectations(log: &impl Subject) {
    let (a, b) = (dc("a"), dc("b"));
    assert_eq!(log.append(&a, 0, &id("a1"), bytes("1")).await, Outcome::Committed(1));
    assert_eq!(log.append(&a, 0, &id("a2"), bytes("2")).await, Outcome::Conflict(1), "a stale expectation");
    assert_eq!(log.append(&a, 9, &id("a2"), bytes("2")).await, Outcome::Conflict(1), "one from the future");
    assert_eq!(log.append(&b, 1, &id("b1"), bytes("3")).await, Outcome::Conflict(0), "another aggregate's");
    assert_eq!(log.append(&b, 0, &id("b1"), bytes("3")).await, Outcome::Committed(2), "aggregates do not collide");
    assert_eq!(log.append(&a, 1, &id("a2"), bytes("2")).await, Outcome::Committed(3));
    // Names that are prefixes of each other, or need escaping, are apart.
    assert_eq!(log.append(&dc("a.b"), 0, &id("ab1"), bytes("4")).await, Outcome::Committed(4));
    assert_eq!(log.append(&dc("> *"), 0, &id("w1"), bytes("5")).await, Outcome::Committed(5));
    assert_eq!(log.append(&Aggregate::Operator, 0, &id("o1"), bytes("6")).await, Outcome::Committed(6));
    assert_eq!(log.append(&Aggregate::Location("l".into()), 0, &id("l1"), bytes("7")).await, Outcome::Committed(7));
    assert_eq!(log.append(&a, 3, &id("a3"), bytes("8")).await, Outcome::Committed(8), "and did not touch this one");
}

async fn repetitions(log: &impl Subject) {
    let c = dc("c");
    assert_eq!(log.append(&c, 0, &id("c1"), bytes("9")).await, Outcome::Committed(9));
    assert_eq!(log.append(&c, 0, &id("c1"), bytes("9")).await, Outcome::Committed(9), "a repetition finds itself");
    assert_eq!(log.append(&c, 9, &id("c2"), bytes("10")).await, Outcome::Committed(10));
    assert_eq!(log.append(&c, 0, &id("c1"), bytes("9")).await, Outcome::Committed(9), "also behind later messages");
    assert_eq!(log.resolve(&c, 0, &id("c1")).await, Resolution::In(9));
    assert_eq!(log.resolve(&c, 0, &id("c2")).await, Resolution::In(10));
    assert_eq!(log.resolve(&c, 0, &id("c3")).await, Resolution::NotIn { last: 10 });
    assert_eq!(log.resolve(&c, 10, &id("c3")).await, Resolution::NotIn { last: 10 });
    assert_eq!(log.resolve(&dc("nobody"), 0, &id("c1")).await, Resolution::NotIn { last: 0 });
}

async fn lost_acknowledgement(log: &impl Subject) {
    let d = dc("d");
    log.inject(Fault::AckLost).await;
    assert_eq!(log.append(&d, 0, &id("d1"), bytes("11")).await, Outcome::Indeterminate);
    assert_eq!(log.resolve(&d, 0, &id("d1")).await, Resolution::In(11));
    assert_eq!(log.append(&d, 0, &id("d1"), bytes("11")).await, Outcome::Committed(11), "trying again is as good");
    log.inject(Fault::AckLost).await;
    assert_eq!(
        log.append(&d, 0, &id("d2"), bytes("x")).await,
        Outcome::Indeterminate,
        "a conflict's answer is lost too"
    );
    assert_eq!(log.resolve(&d, 0, &id("d2")).await, Resolution::NotIn { last: 11 });
}

async fn lost_message(log: &impl Subject) {
    let e = dc("e");
    log.inject(Fault::Lost).await;
    assert_eq!(log.append(&e, 0, &id("e1"), bytes("12")).await, Outcome::Indeterminate);
    assert_eq!(log.resolve(&e, 0, &id("e1")).await, Resolution::NotIn { last: 0 });
    assert_eq!(log.append(&e, 0, &id("e1"), bytes("12")).await, Outcome::Committed(12));
}

async fn late_message(log: &impl Subject) {
    // Held up, and nothing else was appended: it still gets in, and the writer finds it.
    let f = dc("f");
    log.inject(Fault::Late).await;
    assert_eq!(log.append(&f, 0, &id("f1"), bytes("13")).await, Outcome::Indeterminate);
    assert_eq!(log.resolve(&f, 0, &id("f1")).await, Resolution::NotIn { last: 0 });
    log.deliver_late().await;
    assert_eq!(log.append(&f, 0, &id("f2"), bytes("x")).await, Outcome::Conflict(13), "the next append meets it");
    assert_eq!(log.resolve(&f, 0, &id("f1")).await, Resolution::In(13));
    // Held up while somebody else wrote: it is fenced out for ever.
    log.inject(Fault::Late).await;
    assert_eq!(log.append(&f, 13, &id("f3"), bytes("x")).await, Outcome::Indeterminate);
    assert_eq!(log.append(&f, 13, &id("f4"), bytes("14")).await, Outcome::Committed(14));
    log.deliver_late().await;
    assert_eq!(log.resolve(&f, 13, &id("f3")).await, Resolution::NotIn { last: 14 });
}

async fn what_is_read(log: &impl Subject) {
    let read = log.read().await;
    let sequences: Vec<u64> = read.iter().map(|(sequence, _, _)| *sequence).collect();
    assert_eq!(sequences, (1..=14).collect::<Vec<_>>());
    let subjects: Vec<&str> = read.iter().map(|(_, subject, _)| subject.as_str()).collect();
    assert_eq!(
        subjects[..8],
        [
            "stheno.v1.cafe0000.ns.a.backup",
            "stheno.v1.cafe0000.ns.b.backup",
            "stheno.v1.cafe0000.ns.a.backup",
            "stheno.v1.cafe0000.ns.a~2eb.backup",
            "stheno.v1.cafe0000.ns.~3e~20~2a.backup",
            "stheno.v1.cafe0000._._.backup",
            "stheno.v1.cafe0000._loc.l.backup",
            "stheno.v1.cafe0000.ns.a.backup",
        ]
    );
    for (index, text) in ["1", "3", "2", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14"].iter().enumerate()
    {
        assert_eq!(read[index].2, text.as_bytes(), "message {}", index + 1);
    }
}

/// The process under which the suite writes.
pub const PROCESS: Process = Process::Backup;
