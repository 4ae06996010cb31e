//! A log that can be given away: names become pseudonyms, sentences keep only words of this program's own, what it does not
//! know is dropped, hashes are void. This build decides each step of it as it decides that of the log itself.

mod fields;
mod names;
mod text;

use super::archive::Header;
use super::entry::Entry;
use super::redecide::{Redecider, known};
use bytes::Bytes;
use fields::Field;
use names::{Collection, Kind, Pseudonyms};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_events::envelope::{DecodeError, EncodeError};
use stheno_events::observed::Event as ObservedEvent;
use stheno_events::operator::{Checkpoint, Event as OperatorEvent};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Event, Fact, LogId};

/// What stands in the place of every hash.
const VOID: Digest = Digest([0; 32]);
/// How the stream is called where nobody chose another name.
const STREAM: &str = "STHENO";
/// The subject of messages that are none of the log's.
const FOREIGN: &str = "foreign";
/// A process that this build does not know, and an event whose name is none.
const UNKNOWN: &str = "unknown";

/// All names of a log: the first of two passes.
#[derive(Debug, Default)]
pub struct Names(Collection);

impl Names {
    /// The names in a message.
    pub fn learn(&mut self, entry: &Entry) {
        let names = &mut self.0;
        let home = entry.datacenter();
        match entry.aggregate() {
            Some(Aggregate::Datacenter(key)) => {
                names.learn(Kind::Namespace, &key.namespace, home);
                names.learn(Kind::Datacenter, &key.name, home);
            }
            Some(Aggregate::Location(digest)) => names.learn(Kind::Location, digest, home),
            Some(Aggregate::Operator) | None => {}
        }
        let Ok(envelope) = &entry.envelope else { return };
        for fact in &envelope.events {
            if let Fact::Known(Event::Observed(ObservedEvent::Datacenter(datacenter))) = fact {
                names.learn_sets(datacenter);
            }
        }
        let mut envelope = envelope.clone();
        fields::envelope(&mut envelope, entry.aggregate(), &mut |field, text| {
            match field {
                Field::Name(kind) => names.learn(kind, text, home),
                Field::By => names.learn(Kind::Operator, writer(text).1, home),
                Field::Token | Field::Text => {}
            }
            None
        });
    }
}

/// Redacts message by message: the second pass.
pub struct Redactor {
    log: LogId,
    names: Pseudonyms,
    /// What this build makes of the log, and of what is written.
    original: Redecider,
    redacted: Redecider,
}

impl Redactor {
    /// With all names of the log.
    #[must_use]
    pub fn new(log: LogId, names: Names) -> Self {
        let names = names.0.finish();
        Self { log, names, original: Redecider::default(), redacted: Redecider::default() }
    }

    /// Where the file comes from, as far as it says so.
    #[must_use]
    pub(super) fn header(&self, header: Header) -> Header {
        let stream = if header.stream == STREAM { header.stream } else { "stream".to_owned() };
        let cluster = self.names.of(Kind::Id, header.cluster.as_str()).map_or(header.cluster, Into::into);
        Header { stream, cluster, redacted: true, ..header }
    }

    /// The message as it is written.
    ///
    /// # Errors
    /// When it has no MessagePack form, which no message of ours has.
    pub fn redact(&mut self, entry: &Entry) -> Result<Entry, EncodeError> {
        let payload: Bytes = match &entry.envelope {
            Ok(envelope) => self.envelope(entry, envelope).encode()?.into(),
            Err(DecodeError::Newer(layout)) => rmp_serde::to_vec_named(&BTreeMap::from([("v", layout)]))?.into(),
            Err(DecodeError::Malformed(_) | DecodeError::Process) => Bytes::new(),
        };
        let subject = match &entry.place {
            Some((aggregate, Some(process))) => self.aggregate(aggregate).subject(&self.log, *process),
            Some((aggregate, None)) => {
                format!("{}{UNKNOWN}", self.aggregate(aggregate).filter(&self.log).trim_end_matches('>'))
            }
            None => FOREIGN.to_owned(),
        };
        let redacted = Entry::read(&self.log, entry.sequence, subject, entry.stored, payload);
        self.original.add(entry);
        self.redacted.add(&redacted);
        Ok(redacted)
    }

    /// The first message at which `audit replay` says other things of what was written than of the log: an older stheno
    /// may have said in other words what this one says, and a step that is judged by these words is judged otherwise.
    #[must_use]
    pub fn finish(self) -> Option<u64> {
        let [was, is] = [self.original, self.redacted].map(|redecider| -> BTreeSet<u64> {
            redecider.finish().differences.iter().map(|difference| difference.sequence).collect()
        });
        was.symmetric_difference(&is).next().copied()
    }

    fn look(&self, field: Field, text: &str) -> Option<Arc<str>> {
        match field {
            Field::Name(kind) => self.names.of(kind, text),
            Field::By => {
                let (program, name) = writer(text);
                self.names.of(Kind::Operator, name).map(|name| format!("{program}{name}").into())
            }
            Field::Token => match self.names.known(Kind::Id, text) {
                None => text::token(&self.names, text),
                known => known,
            },
            Field::Text => Some(text::text(&self.names, text)),
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Aggregate {
        match aggregate {
            Aggregate::Datacenter(key) => Aggregate::Datacenter(self.key(key)),
            Aggregate::Location(digest) => {
                let other = self.names.of(Kind::Location, digest);
                Aggregate::Location(other.map_or_else(|| digest.clone(), |other| other.to_string()))
            }
            Aggregate::Operator => Aggregate::Operator,
        }
    }

    fn key(&self, key: &DcKey) -> DcKey {
        let name = |kind, name: &Arc<str>| self.names.of(kind, name).unwrap_or_else(|| name.clone());
        DcKey::new(name(Kind::Namespace, &key.namespace), name(Kind::Datacenter, &key.name))
    }

    fn envelope(&self, entry: &Entry, original: &Envelope) -> Envelope {
        let mut envelope = original.clone();
        fields::envelope(&mut envelope, entry.aggregate(), &mut |field, text| self.look(field, text));
        envelope.prev = envelope.prev.map(|_| VOID);
        for fact in &mut envelope.events {
            match fact {
                Fact::Known(Event::Operator(OperatorEvent::Checkpoint(checkpoint))) => self.void(checkpoint),
                Fact::Known(_) => {}
                Fact::Unknown { name, data, .. } => {
                    *data = rmpv::Value::Nil;
                    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_')) {
                        *name = UNKNOWN.into();
                    }
                }
            }
        }
        if let Some(key) = entry.datacenter() {
            self.decide(key, original, &mut envelope);
        }
        envelope
    }

    /// What this build decides as it was decided then, it says of the redacted state in its own words: they must be those
    /// that it finds again when it replays.
    fn decide(&self, key: &DcKey, original: &Envelope, envelope: &mut Envelope) {
        let decided = |redecider: &Redecider, key: &DcKey, envelope: &Envelope| {
            redecider.decide(key, envelope, &known(envelope)?)
        };
        let Some((facts, was)) = decided(&self.original, key, original) else { return };
        let Some((_, is)) = decided(&self.redacted, &self.key(key), envelope) else { return };
        if was.len() != is.len() {
            return;
        }
        for (fact, then) in envelope.events.iter_mut().zip(&original.events).skip(facts) {
            if let Fact::Known(then) = then
                && let Some((_, now)) = was.iter().zip(&is).find(|(was, _)| *was == then)
            {
                *fact = Fact::Known(now.clone());
            }
        }
    }

    /// A checkpoint vouches for nothing any more; it still says how far it spoke.
    fn void(&self, checkpoint: &mut Checkpoint) {
        let filter = |filter: &Arc<str>| {
            let (aggregate, _) = Aggregate::parse(&self.log, filter).ok()?;
            Some((self.aggregate(&aggregate).filter(&self.log).into(), VOID))
        };
        checkpoint.heads = checkpoint.heads.keys().filter_map(filter).collect();
        (checkpoint.root, checkpoint.signature) = (VOID, None);
    }
}

/// The program and its version, and the name of who ran it.
fn writer(by: &str) -> (&str, &str) {
    let version = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match by.split_once(' ') {
        Some((program, name)) if program.strip_prefix("stheno/").is_some_and(version) => {
            (by.get(..=program.len()).unwrap_or_default(), name)
        }
        Some(_) | None => ("", by),
    }
}
