//! A log in memory that behaves as an unreplicated JetStream stream and our client of it do, without a runtime: for
//! simulations. It passes the same conformance suite as the real one.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use stheno::log::{Outcome, Resolution};
use stheno_events::{Aggregate, EventId, LogId, Process, Time};

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sequence: u64,
    pub subject: String,
    pub aggregate: Aggregate,
    pub process: Process,
    pub id: EventId,
    /// The server's clock when it was stored.
    pub time: Time,
    pub payload: Bytes,
}

/// What goes wrong with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The message is stored, its acknowledgement is lost.
    AckLost,
    /// The message never arrives.
    Lost,
    /// The message is held up, and arrives at [`MemoryLog::deliver_late`].
    Late,
}

struct Request {
    aggregate: Aggregate,
    process: Process,
    expected: u64,
    id: EventId,
    payload: Bytes,
}

/// What the server answers to one publication.
enum Answer {
    Stored(u64),
    Duplicate(u64),
    WrongLast(u64),
}

/// The log.
pub struct MemoryLog {
    id: LogId,
    messages: Vec<Message>,
    ids: BTreeMap<EventId, u64>,
    faults: VecDeque<Fault>,
    late: Vec<Request>,
    away: bool,
}

impl MemoryLog {
    /// An empty log of the cluster with this kube-system UID.
    pub fn new(cluster: &str) -> Self {
        Self {
            id: LogId::of_cluster(cluster),
            messages: Vec::new(),
            ids: BTreeMap::new(),
            faults: VecDeque::new(),
            late: Vec::new(),
            away: false,
        }
    }

    /// The next append suffers this; several calls queue.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push_back(fault);
    }

    /// While it is away, appends end as Indeterminate (and are not in), and nothing can be resolved.
    pub fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    /// Appends; `now` is the server's clock. What [`stheno::log::Log::append`] would answer.
    pub fn append(
        &mut self,
        aggregate: &Aggregate,
        process: Process,
        expected: u64,
        id: &EventId,
        payload: Bytes,
        now: Time,
    ) -> Outcome {
        let request = Request { aggregate: aggregate.clone(), process, expected, id: id.clone(), payload };
        if self.away {
            return Outcome::Indeterminate;
        }
        match self.faults.pop_front() {
            Some(Fault::Lost) => return Outcome::Indeterminate,
            Some(Fault::Late) => {
                self.late.push(request);
                return Outcome::Indeterminate;
            }
            Some(Fault::AckLost) => {
                self.publish(request, now);
                return Outcome::Indeterminate;
            }
            None => {}
        }
        match self.publish(request, now) {
            Answer::Stored(sequence) | Answer::Duplicate(sequence) => Outcome::Committed(sequence),
            // The client looks whether the message that it collides with is its own.
            Answer::WrongLast(last) => match self.find(aggregate, expected, id) {
                Resolution::In(sequence) => Outcome::Committed(sequence),
                Resolution::NotIn { last: read } => Outcome::Conflict(if read == expected { last } else { read }),
            },
        }
    }

    /// Delivers what was held up, in order; returns how many of them were stored.
    pub fn deliver_late(&mut self, now: Time) -> usize {
        let late = std::mem::take(&mut self.late);
        late.into_iter()
            .filter_map(|request| matches!(self.publish(request, now), Answer::Stored(_)).then_some(()))
            .count()
    }

    /// What [`stheno::log::Log::resolve`] would answer; `None` while the log is away.
    pub fn resolve(&self, aggregate: &Aggregate, after: u64, id: &EventId) -> Option<Resolution> {
        (!self.away).then(|| self.find(aggregate, after, id))
    }

    /// The messages from a sequence on.
    pub fn read(&self, from: u64) -> &[Message] {
        let skipped = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
        self.messages.get(skipped..).unwrap_or_default()
    }

    /// Sequence of the last message, 0 for an empty log.
    pub fn last_sequence(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Puts the log back to an older copy, as a restored disk would.
    pub fn put_back(&mut self, last: u64) {
        self.messages.truncate(usize::try_from(last).unwrap());
        self.ids.retain(|_, sequence| *sequence <= last);
    }

    fn last_of(&self, aggregate: &Aggregate) -> u64 {
        self.messages.iter().rev().find(|message| message.aggregate == *aggregate).map_or(0, |message| message.sequence)
    }

    fn find(&self, aggregate: &Aggregate, after: u64, id: &EventId) -> Resolution {
        let mut behind = self.read(after.saturating_add(1)).iter().filter(|message| message.aggregate == *aggregate);
        let mut last = after;
        for message in &mut behind {
            if message.id == *id {
                return Resolution::In(message.sequence);
            }
            last = message.sequence;
        }
        Resolution::NotIn { last }
    }

    /// The server's part: an unreplicated stream compares the expectation before it looks for duplicates.
    fn publish(&mut self, request: Request, now: Time) -> Answer {
        let last = self.last_of(&request.aggregate);
        if last != request.expected {
            return Answer::WrongLast(last);
        }
        if let Some(sequence) = self.ids.get(&request.id) {
            return Answer::Duplicate(*sequence);
        }
        let sequence = self.last_sequence() + 1;
        self.ids.insert(request.id.clone(), sequence);
        self.messages.push(Message {
            sequence,
            subject: request.aggregate.subject(&self.id, request.process),
            aggregate: request.aggregate,
            process: request.process,
            id: request.id,
            time: now,
            payload: request.payload,
        });
        Answer::Stored(sequence)
    }
}
