//! One message of the log as it was stored, with what it says: what every reader of history works on.

use crate::log::Item;
use bytes::Bytes;
use stheno_events::envelope::DecodeError;
use stheno_events::{Aggregate, Digest, Envelope, LogId, Process, Time};
use stheno_projections::{Message, Touched, World};

/// A stored message.
#[derive(Debug)]
pub struct Entry {
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Whose it is, and which process decided it, where this build knows it; `None` under a subject that is none of this
    /// log's.
    pub place: Option<(Aggregate, Option<Process>)>,
    /// When the server stored it, by the server's clock.
    pub stored: Time,
    /// The stored bytes: what the hash chain is about.
    pub payload: Bytes,
    /// What it says.
    pub envelope: Result<Envelope, DecodeError>,
}

impl Entry {
    /// Reads a stored message of the log `log`.
    #[must_use]
    pub fn read(log: &LogId, sequence: u64, subject: String, stored: Time, payload: Bytes) -> Self {
        let place = Aggregate::parse(log, &subject).ok();
        let process = place.as_ref().map(|(_, process)| *process);
        let envelope =
            process.map_or_else(|| Envelope::decode(&payload), |process| Envelope::decode_of(process, &payload));
        Self { sequence, subject, place, stored, payload, envelope }
    }

    /// A message as the log delivers it; `None` for a mere notice.
    #[must_use]
    pub fn delivered(item: Item) -> Option<Self> {
        match item {
            Item::Message(stored) => Some(Self {
                sequence: stored.sequence,
                subject: stored.subject,
                place: Some((stored.aggregate, stored.process)),
                stored: stored.time,
                payload: stored.payload,
                envelope: stored.envelope,
            }),
            Item::Foreign(foreign) => Some(Self {
                sequence: foreign.sequence,
                subject: foreign.subject,
                place: None,
                stored: foreign.time,
                envelope: Envelope::decode(&foreign.payload),
                payload: foreign.payload,
            }),
            Item::CaughtUp(_) => None,
        }
    }

    /// The digest by which the next message of its aggregate names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// When it was decided; when it was stored, where that cannot be read.
    #[must_use]
    pub fn at(&self) -> Time {
        self.envelope.as_ref().map_or(self.stored, |envelope| envelope.at)
    }

    /// The aggregate that its subject names.
    #[must_use]
    pub fn aggregate(&self) -> Option<&Aggregate> {
        self.place.as_ref().map(|(aggregate, _)| aggregate)
    }

    /// Namespace and datacenter, where it belongs to one.
    #[must_use]
    pub fn datacenter(&self) -> Option<&stheno_events::DcKey> {
        match self.aggregate() {
            Some(Aggregate::Datacenter(key)) => Some(key),
            Some(Aggregate::Location(_) | Aggregate::Operator) | None => None,
        }
    }

    /// Folds it into `world`, exactly as the operator does when it is delivered. A message under a foreign subject is
    /// none of the log's. `digest` is [`Entry::digest`], which a caller often has.
    pub fn fold(&self, digest: Digest, world: &mut World) -> Vec<Touched> {
        let Some(aggregate) = self.aggregate() else { return Vec::new() };
        world.apply(Message { sequence: self.sequence, aggregate, digest, envelope: self.envelope.as_ref() })
    }
}
