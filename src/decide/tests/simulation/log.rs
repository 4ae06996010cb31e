//! The false log: append with the expectation of a subtree, read from a sequence. In memory, never lost.

use stheno_events::{Aggregate, Digest, Envelope};

pub(crate) struct Stored {
    pub(crate) aggregate: Aggregate,
    pub(crate) payload: Vec<u8>,
    pub(crate) envelope: Envelope,
    pub(crate) digest: Digest,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) messages: Vec<Stored>,
}

impl Log {
    pub(crate) fn last_of(&self, aggregate: &Aggregate) -> u64 {
        self.messages.iter().rposition(|stored| stored.aggregate == *aggregate).map_or(0, |index| index as u64 + 1)
    }

    /// The sequence of the message, or the aggregate's last one when the expectation is stale.
    pub(crate) fn append(&mut self, aggregate: &Aggregate, expected: u64, envelope: &Envelope) -> Result<u64, u64> {
        let last = self.last_of(aggregate);
        if let Some(index) = self.messages.iter().position(|stored| stored.envelope.id == envelope.id) {
            return Ok(index as u64 + 1);
        }
        if last != expected {
            return Err(last);
        }
        let payload = envelope.encode().expect("an envelope has a MessagePack form");
        let digest = Digest::of(&payload);
        let envelope = Envelope::decode(&payload).expect("what is encoded can be decoded");
        self.messages.push(Stored { aggregate: aggregate.clone(), payload, envelope, digest });
        Ok(self.messages.len() as u64)
    }
}
