//! What a reader gets, and which messages it asks for.

use bytes::Bytes;
use stheno_events::envelope::DecodeError;
use stheno_events::{Aggregate, Envelope, LogId, Process, Time};

/// A message of the log.
#[derive(Debug)]
pub struct Stored {
    /// Its place in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Whose message it is.
    pub aggregate: Aggregate,
    /// Whose process decided it; none when this build does not know it, and then nothing of what it says either.
    pub process: Option<Process>,
    /// When the server stored it, by the server's clock.
    pub time: Time,
    /// The stored bytes: what the hash chain is about.
    pub payload: Bytes,
    /// What it says; an error for bytes that are no envelope of ours, or a newer one.
    pub envelope: Result<Envelope, DecodeError>,
}

/// A message under a subject that lies in no aggregate of ours: no append is compared with it.
#[derive(Debug)]
pub struct Foreign {
    /// Its place in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// When the server stored it.
    pub time: Time,
    /// Its bytes.
    pub payload: Bytes,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Item {
    /// A message of ours.
    Message(Box<Stored>),
    /// A message of somebody else.
    Foreign(Foreign),
    /// Everything that was in the log when reading began has been delivered, up to this sequence. Comes once.
    CaughtUp(u64),
}

impl Item {
    /// A message as it came from the stream.
    pub(in crate::log) fn read(log: &LogId, sequence: u64, subject: &str, time: Time, payload: Bytes) -> Self {
        match Aggregate::parse(log, subject) {
            Ok((aggregate, process)) => Self::Message(Box::new(Stored {
                sequence,
                subject: subject.to_owned(),
                aggregate,
                process,
                time,
                envelope: Envelope::decode_of(process, &payload),
                payload,
            })),
            Err(_foreign) => Self::Foreign(Foreign { sequence, subject: subject.to_owned(), time, payload }),
        }
    }
}

/// Which messages are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Filter {
    /// All of them; gaps are found.
    #[default]
    All,
    /// Those of these aggregates.
    Aggregates(Vec<Aggregate>),
    /// Those of a namespace's datacenters.
    Namespace(String),
    /// Those of the datacenters of this name, in all namespaces.
    Datacenter(String),
}

impl Filter {
    pub(in crate::log) fn subjects(&self, log: &LogId) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Aggregates(aggregates) => aggregates.iter().map(|aggregate| aggregate.filter(log)).collect(),
            Self::Namespace(namespace) => vec![stheno_events::subject::namespace(log, namespace)],
            Self::Datacenter(name) => vec![stheno_events::subject::datacenter(log, name)],
        }
    }
}
