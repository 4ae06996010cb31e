//! What vouches for a log: the checkpoints in it, signed or not, and the witness outside NATS. A log that was rewritten
//! as a whole, chain and all, or lost its end, does not agree with them.

use super::entry::Entry;
use super::verify::Fault;
use crate::log::checkpoint::{self, Verifier as Key};
use crate::log::witness::{Integrity, Witness};
use crate::log::{self, Identity};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use stheno_events::operator::{Checkpoint, Event as OperatorEvent};
use stheno_events::{Aggregate, Digest, Event, Fact, LogId};

/// How far back a checkpoint may speak: what is written while its message is under way.
const LOOKS_BACK: usize = 65_536;

/// Why something that should vouch for the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("{} cannot be read", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not a public key.
    #[error("{} holds no key", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: checkpoint::Error,
    },
    /// Not a ConfigMap.
    #[error("{} is not the ConfigMap stheno-log: `kubectl get configmap stheno-log -o yaml` writes it", .0.display())]
    NoConfigMap(PathBuf),
    /// The witness.
    #[error(transparent)]
    Witness(#[from] log::witness::Error),
    /// There is none.
    #[error("there is no ConfigMap stheno-log in namespace {0}: name the operator's namespace with --own-namespace")]
    NoWitness(String),
}

/// What vouches for a log.
#[derive(Debug, Clone, Default)]
pub struct Vouchers {
    /// The key that signs checkpoints: each of them must be signed by it.
    pub key: Option<Key>,
    /// What was kept outside NATS.
    pub witness: Option<Witness>,
}

/// The public key in a file.
///
/// # Errors
/// When there is none.
pub fn key(path: &Path) -> Result<Key, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Key::from_hex(&text).map_err(|source| Error::Key { path: path.to_owned(), source })
}

/// The witness in a file: the ConfigMap as kubectl writes it, YAML or JSON.
///
/// # Errors
/// When it is none.
pub fn witness_in(path: &Path) -> Result<Witness, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let map: ConfigMap = serde_yaml_ng::from_str(&text).map_err(|_| Error::NoConfigMap(path.to_owned()))?;
    let data = map.data.ok_or_else(|| Error::NoConfigMap(path.to_owned()))?;
    Ok(Witness::parse(&data)?)
}

/// The witness of a cluster.
///
/// # Errors
/// When the API server does not answer, or has none.
pub async fn witness_of(client: Client, namespace: &str) -> Result<Witness, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let read = log::witness::read(&api).await?;
    read.map(|(witness, _)| witness).ok_or_else(|| Error::NoWitness(namespace.to_owned()))
}

/// What was vouched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Vouched {
    /// Checkpoints that agree with the log.
    pub checkpoints: u64,
    /// The sequence up to which the last of them speaks, 0 for none.
    pub checkpointed: u64,
    /// Whether the key was asked: all of them are signed by it.
    pub signed: bool,
    /// The sequence up to which the witness speaks, 0 where it was not asked.
    pub witnessed: u64,
}

/// The last message of each aggregate: its sequence and digest.
type Heads = BTreeMap<Aggregate, Head>;
type Head = (u64, Digest);

/// Compares a log with what vouches for it, message by message.
#[derive(Clone)]
pub(super) struct Vouching {
    vouchers: Vouchers,
    log: LogId,
    heads: Heads,
    /// What each of the last messages replaced: heads as they were can be told from it.
    replaced: VecDeque<(u64, Aggregate, Option<Head>)>,
    vouched: Vouched,
}

impl Vouching {
    /// Begins. A witness of another log is found out at once.
    pub(super) fn begin(vouchers: Vouchers, log: LogId, identity: Option<&Identity>) -> Result<Self, Integrity> {
        if let (Some(witness), Some(identity)) = (&vouchers.witness, identity) {
            let judged = witness.judge_stream(identity, witness.last_sequence);
            if judged != Integrity::Ok {
                return Err(judged);
            }
        }
        let vouched = Vouched { signed: vouchers.key.is_some(), ..Vouched::default() };
        Ok(Self { vouchers, log, heads: BTreeMap::new(), replaced: VecDeque::new(), vouched })
    }

    /// The next message, with its digest.
    pub(super) fn add(&mut self, entry: &Entry, digest: Digest) -> Result<(), Fault> {
        if let Some(aggregate) = entry.aggregate() {
            // Before it is a head itself: no checkpoint speaks of its own message.
            for checkpoint in checkpoints(entry) {
                self.judge(entry.sequence, checkpoint)?;
            }
            let replaced = self.heads.insert(aggregate.clone(), (entry.sequence, digest));
            self.replaced.push_back((entry.sequence, aggregate.clone(), replaced));
            if self.replaced.len() > LOOKS_BACK {
                self.replaced.pop_front();
            }
        }
        if let Some(witness) = self.vouchers.witness.as_ref().filter(|witness| witness.last_sequence == entry.sequence)
        {
            let judged = witness.judge_root(&self.root(&self.heads));
            if judged != Integrity::Ok {
                return Err(Fault { sequence: entry.sequence, what: judged.sentence() });
            }
            self.vouched.witnessed = entry.sequence;
        }
        Ok(())
    }

    fn judge(&mut self, at: u64, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let own = |what: String| Err(Fault { sequence: at, what });
        if let Some(key) = &self.vouchers.key
            && let Err(error) = key.verify(checkpoint)
        {
            return own(error.to_string());
        }
        let sequence = checkpoint.sequence;
        let Some(heads) = self.heads_at(sequence) else {
            return own(format!("its checkpoint speaks of message {sequence}, where its writer cannot have stopped"));
        };
        let mut told = heads.clone();
        let mut differs = None;
        for (filter, digest) in &checkpoint.heads {
            let found = told.iter_mut().find(|(aggregate, _)| *aggregate.filter(&self.log) == **filter);
            match found {
                Some((_, (_, found))) if found == digest => {}
                Some((_, (last, found))) => {
                    *found = *digest;
                    differs.get_or_insert(*last);
                }
                None => return own(format!("its checkpoint names {filter}, of which there is no message before")),
            }
        }
        let since = self.vouched.checkpointed;
        let unnamed = |(aggregate, (last, _)): (&Aggregate, &(u64, Digest))| {
            (*last > since && !checkpoint.heads.contains_key(aggregate.filter(&self.log).as_str())).then_some(*last)
        };
        // A checkpoint that agrees with itself tells which message is not the one that it saw; one that does not was
        // changed itself.
        if self.root(&told) != checkpoint.root {
            told.retain(|aggregate, head| unnamed((aggregate, head)).is_none());
            if self.root(&told) != checkpoint.root {
                return own("its checkpoint has another root than the heads that it names".into());
            }
            differs = heads.iter().filter_map(unnamed).min();
        }
        if let Some(sequence) = differs {
            let what = format!("it is not the message that the checkpoint in message {at} vouches for");
            return Err(Fault { sequence, what });
        }
        self.vouched.checkpoints += 1;
        self.vouched.checkpointed = sequence;
        Ok(())
    }

    /// Whether a checkpoint has confirmed the last message of an aggregate; none where it is younger than all of them.
    pub(super) fn confirms(&self, sequence: u64) -> Option<bool> {
        (sequence <= self.vouched.checkpointed).then_some(true)
    }

    /// The heads behind a message; none where that lies too far back, or ahead.
    fn heads_at(&self, sequence: u64) -> Option<Heads> {
        let mut heads = self.heads.clone();
        let last = self.replaced.back().map_or(0, |(last, ..)| *last);
        let first = self.replaced.front().map_or(0, |(first, ..)| *first);
        if sequence > last || (self.replaced.len() == LOOKS_BACK && sequence < first) {
            return None;
        }
        for (_, aggregate, former) in self.replaced.iter().rev().take_while(|(at, ..)| *at > sequence) {
            match former {
                Some(former) => heads.insert(aggregate.clone(), *former),
                None => heads.remove(aggregate),
            };
        }
        Some(heads)
    }

    fn root(&self, heads: &Heads) -> Digest {
        // Ordered by subject, which is not the order of the aggregates.
        let heads: BTreeMap<String, &Digest> =
            heads.iter().map(|(one, (_, head))| (one.filter(&self.log), head)).collect();
        Digest::root(heads.iter().map(|(subject, head)| (subject.as_str(), *head)))
    }

    /// The answer, once everything up to `last` was added.
    pub(super) fn finish(self, last: u64) -> Result<Vouched, Fault> {
        if let Some(witness) = &self.vouchers.witness
            && last < witness.last_sequence
        {
            let what = Integrity::Backwards { witnessed: witness.last_sequence, last }.sentence();
            return Err(Fault { sequence: last + 1, what });
        }
        if self.vouchers.key.is_some() && self.vouched.checkpoints == 0 {
            let what = "there is no checkpoint in the log that the key could prove: an operator writes the first one \
                        within an hour of its start";
            return Err(Fault { sequence: last, what: what.into() });
        }
        Ok(self.vouched)
    }
}

fn checkpoints(entry: &Entry) -> impl Iterator<Item = &Checkpoint> {
    entry.envelope.iter().flat_map(|envelope| &envelope.events).filter_map(|fact| match fact {
        Fact::Known(Event::Operator(OperatorEvent::Checkpoint(checkpoint))) => Some(checkpoint),
        Fact::Known(_) | Fact::Unknown { .. } => None,
    })
}
