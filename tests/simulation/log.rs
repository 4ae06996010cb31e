//! The false log of the conformance suite, with what the simulation asks of it beside: decoded messages.

use crate::memory_log::{Fault, MemoryLog};
use stheno::log::{Outcome, Resolution};
use stheno_decide::engine::{Append, Appended};
use stheno_events::{Aggregate, Digest, Envelope, Time};

pub(crate) struct Stored {
    pub(crate) aggregate: Aggregate,
    pub(crate) payload: Vec<u8>,
    pub(crate) envelope: Envelope,
    pub(crate) digest: Digest,
}

pub(crate) struct Log {
    memory: MemoryLog,
    pub(crate) messages: Vec<Stored>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { memory: MemoryLog::new("cluster-uid"), messages: Vec::new() }
    }

    /// Appends as a client does: an in-doubt one is resolved by reading. Returns whether it was in doubt, too.
    pub(crate) fn append(&mut self, append: &Append, fault: Option<Fault>, now: Time) -> (Appended, bool) {
        if let Some(fault) = fault {
            self.memory.inject(fault);
        }
        let payload = append.envelope.encode().expect("an envelope has a MessagePack form");
        let id = &append.envelope.id;
        let outcome = self.memory.append(&append.aggregate, append.process, append.expected, id, payload.into(), now);
        self.catch_up();
        match outcome {
            Outcome::Committed(sequence) => (Appended::Committed(sequence), false),
            Outcome::Conflict(last) => (Appended::NotIn { last }, false),
            Outcome::Indeterminate => {
                let read = self.memory.resolve(&append.aggregate, append.expected, id);
                match read.expect("the log is not away") {
                    Resolution::In(sequence) => (Appended::Committed(sequence), true),
                    Resolution::NotIn { last } => (Appended::NotIn { last }, true),
                }
            }
        }
    }

    /// What was held up on the way arrives now.
    pub(crate) fn deliver_late(&mut self, now: Time) {
        self.memory.deliver_late(now);
        self.catch_up();
    }

    fn catch_up(&mut self) {
        for message in self.memory.read(self.messages.len() as u64 + 1) {
            let payload = message.payload.to_vec();
            let envelope = Envelope::decode(&payload).expect("what is encoded can be decoded");
            let digest = Digest::of(&payload);
            self.messages.push(Stored { aggregate: message.aggregate.clone(), payload, envelope, digest });
        }
    }
}
