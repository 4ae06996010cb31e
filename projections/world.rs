//! The whole state: one struct, folded message by message in the order of the stream.

use crate::datacenter::Datacenter;
use crate::operator::Operator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::datacenter::Event as DcEvent;
use stheno_events::envelope::DecodeError;
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Event, Fact, LogId, Time, Uid};

/// The last message of an aggregate: what the next one must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// Its stream sequence, 0 for none: the expectation of the next append.
    pub sequence: u64,
    /// Its digest.
    pub digest: Option<Digest>,
}

/// A message as it lies in the stream.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its stream sequence.
    pub sequence: u64,
    /// The aggregate that its subject names.
    pub aggregate: &'a Aggregate,
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// What it says, or why it cannot be read.
    pub envelope: Result<&'a Envelope, &'a DecodeError>,
}

/// What a message changed, as far as somebody outside can see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// The job with this UID.
    Job(Uid),
    /// The MedusaBackup of this name.
    Backup(Arc<str>),
    /// The schedule with this UID, or an object that it asked for.
    Schedule(Uid),
    /// The task with this UID, or the sync that it asked for.
    Task(Uid),
    /// An object that a sync has deleted, by its UID.
    Removal(Uid),
    /// An object that cannot be read.
    Malformed(Uid),
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct World {
    /// Stream sequence of the last message folded.
    pub position: u64,
    /// The latest `at` folded: time does not run backwards in the log.
    pub at: Option<Time>,
    /// The operator's aggregate: its head.
    pub head: Head,
    /// The operator's aggregate.
    pub operator: Operator,
    /// Datacenters.
    pub datacenters: BTreeMap<DcKey, Arc<Datacenter>>,
    /// Heads of storage locations.
    pub locations: BTreeMap<String, Head>,
    /// Events of other builds that were skipped: how many of which. A build that knows one of them must not use a
    /// snapshot that skipped it.
    pub skipped: BTreeMap<(String, u16), u64>,
    /// Messages that could not be read at all.
    pub unreadable: u64,
}

impl World {
    /// Folds one message. Returns what it touched, for whoever publishes.
    pub fn apply(&mut self, message: Message<'_>) -> Vec<Touched> {
        let mut touched = Vec::new();
        self.position = message.sequence;
        let head = Head { sequence: message.sequence, digest: Some(message.digest) };
        if let Ok(envelope) = message.envelope {
            self.at = self.at.max(Some(envelope.at));
        } else {
            self.unreadable += 1;
        }
        match message.aggregate {
            Aggregate::Operator => {
                self.head = head;
                match message.envelope {
                    Ok(envelope) => {
                        let backwards = self.operator.api_backwards.is_some();
                        self.apply_operator(envelope, message.sequence);
                        if backwards && self.operator.api_backwards.is_none() {
                            self.datacenters.values_mut().for_each(|dc| Arc::make_mut(dc).forget_versions());
                        }
                    }
                    Err(error) => {
                        let text = format!("message {} cannot be read: {error}", message.sequence);
                        self.operator.frozen = Some(text.into());
                    }
                }
            }
            Aggregate::Location(digest) => {
                self.locations.insert(digest.clone(), head);
            }
            Aggregate::Datacenter(key) => {
                let datacenter = Arc::make_mut(self.datacenters.entry(key.clone()).or_default());
                datacenter.head = head;
                match message.envelope {
                    Ok(envelope) => {
                        for fact in &envelope.events {
                            match fact {
                                Fact::Known(event) => {
                                    if let Event::Datacenter(DcEvent::Overtaken(e)) = event
                                        && e.epoch <= Epoch::LAST
                                    {
                                        self.operator.overtaken = self.operator.overtaken.max(Some(e.epoch));
                                    }
                                    datacenter.apply(event, envelope.at, &mut touched);
                                }
                                Fact::Unknown { name, version, critical, .. } => {
                                    *self.skipped.entry((name.clone(), *version)).or_default() += 1;
                                    if *critical {
                                        datacenter.frozen = Some(newer(name, *version));
                                    }
                                }
                            }
                        }
                    }
                    Err(error) => {
                        let text = format!("message {} cannot be read: {error}", message.sequence);
                        datacenter.frozen = Some(text.into());
                    }
                }
            }
        }
        touched.sort();
        touched.dedup();
        touched
    }

    fn apply_operator(&mut self, envelope: &Envelope, sequence: u64) {
        for fact in &envelope.events {
            match fact {
                Fact::Known(Event::Operator(event)) => self.operator.apply(event, envelope.at),
                Fact::Known(Event::Observed(event)) => self.operator.observe(event, sequence),
                Fact::Known(Event::Backup(_) | Event::Schedule(_) | Event::Task(_) | Event::Datacenter(_)) => {
                    self.unreadable += 1
                }
                Fact::Unknown { name, version, critical, .. } => {
                    *self.skipped.entry((name.clone(), *version)).or_default() += 1;
                    if *critical {
                        self.operator.frozen = Some(newer(name, *version));
                    }
                }
            }
        }
    }

    /// The head of an aggregate.
    #[must_use]
    pub fn head(&self, aggregate: &Aggregate) -> Head {
        match aggregate {
            Aggregate::Operator => self.head,
            Aggregate::Location(digest) => self.locations.get(digest).copied().unwrap_or_default(),
            Aggregate::Datacenter(key) => self.datacenters.get(key).map(|dc| dc.head).unwrap_or_default(),
        }
    }

    /// The last message of every aggregate, ordered by subject: filter of the subtree, digest, sequence. A root over them
    /// is that of `stheno_events::chain::Heads::root`, which needs no world.
    pub fn heads(&self) -> impl Iterator<Item = (Arc<str>, Digest, u64)> {
        let cluster = self.operator.genesis.as_ref().map_or("", |genesis| genesis.cluster.as_str());
        let log = LogId::of_cluster(cluster);
        let datacenters = self.datacenters.iter().map(|(key, dc)| (Aggregate::Datacenter(key.clone()), dc.head));
        let locations = self.locations.iter().map(|(name, head)| (Aggregate::Location(name.clone()), *head));
        let heads: BTreeMap<String, Head> = datacenters
            .chain(locations)
            .chain([(Aggregate::Operator, self.head)])
            .map(|(aggregate, head)| (aggregate.filter(&log), head))
            .collect();
        heads
            .into_iter()
            .filter_map(|(subject, head)| head.digest.map(|digest| (subject.into(), digest, head.sequence)))
    }

    /// A datacenter, if the log has met it.
    #[must_use]
    pub fn datacenter(&self, key: &DcKey) -> Option<&Datacenter> {
        self.datacenters.get(key).map(AsRef::as_ref)
    }

    /// The world as bytes: the snapshot. Equal worlds give equal bytes.
    ///
    /// # Errors
    /// When a value has no MessagePack form, which none of ours has.
    pub fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(self)
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When the bytes are no world of this layout.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

fn newer(name: &str, version: u16) -> Arc<str> {
    format!("the log holds {name} v{version}, which this program does not know: use a newer stheno").into()
}
