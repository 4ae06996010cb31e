//! `audit verify`: whether the log is whole and lawful, and if not, the exact message where it first is not.

mod args;

pub use args::Args;

use super::archive::Trailer;
use super::entry::Entry;
use super::progress::Progress;
use super::source::{Error as SourceError, Scope, Source};
use super::vouch::{Vouched, Vouchers, Vouching};
use crate::log::Identity;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Fact, LogId, Time};
use stheno_projections::World;

/// What is wrong at which message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The message.
    pub sequence: u64,
    /// One sentence.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the log is at fault at message {}: {}", self.sequence, self.what)
    }
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Messages.
    pub messages: u64,
    /// Events in them.
    pub events: u64,
    /// The last sequence, 0 for an empty log.
    pub last: u64,
    /// Aggregates, each with a chain of its own.
    pub aggregates: usize,
    /// Events that this build does not know: whole, but not judged.
    pub unknown: u64,
    /// What checkpoints and the witness say of it.
    #[serde(flatten)]
    pub vouched: Vouched,
    /// The first fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Verifies a whole log by itself.
///
/// # Errors
/// When the log cannot be read for a reason that lies outside it.
pub async fn verify(source: &Source) -> Result<Report, SourceError> {
    verify_with(source, Vouchers::default()).await
}

/// Verifies a whole log, by itself and by what vouches for it.
///
/// # Errors
/// When the log cannot be read for a reason that lies outside it.
pub async fn verify_with(source: &Source, vouchers: Vouchers) -> Result<Report, SourceError> {
    if source.redacted() {
        return Err(SourceError::Redacted);
    }
    let mut reader = source.read(1, Scope::default()).await?;
    let mut verifier = match Verifier::new(vouchers, source.log().clone(), source.identity().as_ref()) {
        Ok(verifier) => verifier,
        Err(fault) => return Ok(Report { fault: Some(fault), ..Report::default() }),
    };
    let mut progress = Progress::begin("Verifying", source).await;
    loop {
        match reader.next().await {
            Ok(Some(entry)) => {
                progress.reached(entry.sequence);
                if !verifier.add(&entry) {
                    return Ok(verifier.finish(None));
                }
            }
            Ok(None) => return Ok(verifier.finish(reader.trailer())),
            Err(error) => match error.sequence() {
                Some(sequence) => {
                    verifier.found(sequence, error.to_string());
                    return Ok(verifier.finish(None));
                }
                None => return Err(error),
            },
        }
    }
}

/// The last message of an aggregate.
#[derive(Debug, Clone, Copy)]
struct Last {
    sequence: u64,
    digest: Digest,
    at: Time,
    epoch: Epoch,
    /// It does not name its predecessor. Which of the two was changed, the next message tells.
    broken: Option<u64>,
}

/// The latest `at` up to a sequence.
type Clock = (u64, Time);

/// Judges messages one by one.
#[derive(Clone, Default)]
pub struct Verifier {
    report: Report,
    world: World,
    chains: BTreeMap<Aggregate, Last>,
    /// How many chains wait for a message that tells which of two was changed.
    doubts: usize,
    /// How `at` grew, as far back as writers look.
    clock: VecDeque<Clock>,
    stored: Option<Time>,
    /// The fault may be the consequence of a change before it: of two times that contradict each other, the one of the
    /// message that its own successor does not name was changed.
    consequence: bool,
    vouching: Option<Vouching>,
}

impl Verifier {
    /// How far back a writer's knowledge of the log is compared.
    const LOOKS_BACK: usize = 65_536;

    /// A judge of a log that is this stream, by what vouches for it too.
    ///
    /// # Errors
    /// When the witness is of another log.
    pub fn new(vouchers: Vouchers, log: LogId, identity: Option<&Identity>) -> Result<Self, Fault> {
        let vouching = Vouching::begin(vouchers, log, identity);
        let vouching = vouching.map_err(|integrity| Fault { sequence: 1, what: integrity.sentence() })?;
        Ok(Self { vouching: Some(vouching), ..Self::default() })
    }

    /// Judges the next message. False when nothing that follows could change the answer.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let expected = self.report.last + 1;
        if entry.sequence != expected {
            let what = if entry.sequence > expected {
                format!("it is missing, {} follows {}", entry.sequence, self.report.last)
            } else {
                format!("sequence {} comes again or runs backwards", entry.sequence)
            };
            self.found(expected, what);
            return false;
        }
        self.report.last = entry.sequence;
        self.report.messages += 1;
        let digest = entry.digest();
        match self.judge(entry, digest) {
            Ok(()) => {}
            Err(what) => self.found(entry.sequence, what),
        }
        if let Some(vouching) = &mut self.vouching
            && let Err(fault) = vouching.add(entry, digest)
        {
            self.found(fault.sequence, fault.what);
        }
        self.report.fault.is_none() || self.doubts > 0 || self.consequence
    }

    fn judge(&mut self, entry: &Entry, digest: Digest) -> Result<(), String> {
        let Some(aggregate) = entry.aggregate() else {
            return Err(format!("its subject {} is none of this log's", entry.subject));
        };
        let envelope = entry.envelope.as_ref().map_err(ToString::to_string)?;
        self.report.events += envelope.events.len() as u64;
        self.report.unknown +=
            envelope.events.iter().filter(|fact| matches!(fact, Fact::Unknown { .. })).count() as u64;
        self.chain(aggregate, entry.sequence, digest, envelope)?;
        placed(aggregate, envelope)?;
        self.timed(entry, envelope)?;
        self.folded(aggregate, entry, digest)
    }

    /// The chain of the aggregate, and what its writers may do.
    fn chain(
        &mut self,
        aggregate: &Aggregate,
        sequence: u64,
        digest: Digest,
        envelope: &Envelope,
    ) -> Result<(), String> {
        let before = self.chains.get(aggregate).copied();
        let linked = envelope.prev == before.map(|before| before.digest);
        if let Some((predecessor, suspect)) = before.and_then(|last| Some((last.broken?, last.sequence))) {
            self.doubts -= 1;
            let (whose, what) = told(predecessor, suspect, linked);
            self.found(whose, what);
        }
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Err(format!("it is message {} once more", before.sequence));
        }
        // Behind a fault links break as its consequence: they tell nothing new.
        let first = match &self.report.fault {
            None => true,
            Some(fault) => self.consequence && before.is_some_and(|before| before.sequence < fault.sequence),
        };
        let broken = (!linked && first).then_some(before.map_or(0, |before| before.sequence));
        let epoch = before.map_or(envelope.epoch, |before| before.epoch.max(envelope.epoch));
        let last = Last { sequence, digest, at: envelope.at, epoch, broken: broken.filter(|before| *before > 0) };
        self.doubts += usize::from(last.broken.is_some());
        self.chains.insert(aggregate.clone(), last);
        self.report.aggregates = self.chains.len();
        if broken == Some(0) {
            return Err("it names a predecessor, and is the first of its aggregate".into());
        }
        let Some(before) = before.filter(|_| linked) else { return Ok(()) };
        if envelope.at < before.at {
            return Err(format!(
                "its time {} lies before that of message {}, {}",
                envelope.at, before.sequence, before.at
            ));
        }
        if envelope.epoch < before.epoch {
            let (old, new) = (envelope.epoch, before.epoch);
            return Err(format!("the leader of term {old} wrote it after that of term {new} had taken over"));
        }
        if envelope.seen < before.sequence {
            return Err(format!(
                "its writer had seen the log up to {} only, not message {}",
                envelope.seen, before.sequence
            ));
        }
        Ok(())
    }

    /// Time: what a writer had seen lies before what it wrote.
    fn timed(&mut self, entry: &Entry, envelope: &Envelope) -> Result<(), String> {
        if envelope.seen >= entry.sequence {
            return Err(format!("its writer claims to have seen the log up to {}", envelope.seen));
        }
        let known = self.clock.partition_point(|(sequence, _)| *sequence <= envelope.seen);
        if let Some((sequence, at)) = known.checked_sub(1).and_then(|index| self.clock.get(index))
            && envelope.at < *at
        {
            self.consequence |= self.report.fault.is_none();
            return Err(format!(
                "its time {} lies before {at} of message {sequence}, which its writer had seen",
                envelope.at
            ));
        }
        if self.clock.back().is_none_or(|(_, at)| *at < envelope.at) {
            self.clock.push_back((entry.sequence, envelope.at));
            if self.clock.len() > Self::LOOKS_BACK {
                self.clock.pop_front();
            }
        }
        if let Some(stored) = self.stored.replace(entry.stored).filter(|stored| *stored > entry.stored) {
            return Err(format!("it was stored at {}, before its predecessor in the stream at {stored}", entry.stored));
        }
        Ok(())
    }

    /// The fold: what no lawful writer decides.
    fn folded(&mut self, aggregate: &Aggregate, entry: &Entry, digest: Digest) -> Result<(), String> {
        let illegal = |world: &World| match aggregate {
            Aggregate::Datacenter(key) => world.datacenter(key).map_or(0, |dc| dc.illegal),
            Aggregate::Location(_) | Aggregate::Operator => world.unreadable,
        };
        let before = illegal(&self.world);
        entry.fold(digest, &mut self.world);
        if illegal(&self.world) > before {
            let names: Vec<&str> = entry.envelope.iter().flat_map(|e| &e.events).map(Fact::name).collect();
            return Err(format!("it breaks a law: {} cannot follow what came before", names.join(", ")));
        }
        Ok(())
    }

    /// Keeps the earliest fault.
    fn found(&mut self, sequence: u64, what: String) {
        if self.report.fault.as_ref().is_none_or(|fault| sequence < fault.sequence) {
            self.report.fault = Some(Fault { sequence, what });
        }
    }

    /// The answer, once everything was added. A trailer tells what the last messages were.
    #[must_use]
    pub fn finish(mut self, trailer: Option<&Trailer>) -> Report {
        let open: Vec<(u64, u64, Digest)> = self
            .chains
            .values()
            .filter_map(|last| last.broken.map(|predecessor| (predecessor, last.sequence, last.digest)))
            .collect();
        for (predecessor, sequence, digest) in open {
            let whole = trailer.map(|trailer| trailer.heads.values().any(|head| *head == digest));
            let whole = whole.or_else(|| self.vouching.as_ref()?.confirms(sequence));
            let (whose, what) = match whole {
                Some(whole) => told(predecessor, sequence, whole),
                // A checkpoint has told which of the two it was.
                None if self.report.fault.as_ref().is_some_and(|fault| fault.sequence == sequence) => continue,
                None => (
                    predecessor,
                    format!(
                        "it is not the one that message {sequence} names as its predecessor; one of the two was changed"
                    ),
                ),
            };
            self.found(whose, what);
        }
        // What was found on the way lies before whatever the end shows.
        if let Some(vouching) = self.vouching.take()
            && self.report.fault.is_none()
        {
            match vouching.finish(self.report.last) {
                Ok(vouched) => self.report.vouched = vouched,
                Err(fault) => self.found(fault.sequence, fault.what),
            }
        }
        self.report
    }
}

/// Whose fault a broken link is: of two messages, the one that its own successor confirms was not changed.
fn told(predecessor: u64, sequence: u64, confirmed: bool) -> (u64, String) {
    if confirmed {
        (predecessor, format!("it was changed: message {sequence} names another one as its predecessor"))
    } else {
        (
            sequence,
            format!("it was changed: it does not name message {predecessor}, and its successor does not name it"),
        )
    }
}

/// Whether the message speaks of the datacenter under whose subject it lies.
fn placed(aggregate: &Aggregate, envelope: &Envelope) -> Result<(), String> {
    let fits = match aggregate {
        Aggregate::Datacenter(key) => *key == DcKey::new(envelope.ns.clone(), envelope.dc.clone()),
        Aggregate::Location(digest) => envelope.ns.is_empty() && **digest == *envelope.dc,
        Aggregate::Operator => envelope.ns.is_empty() && envelope.dc.is_empty(),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("it lies in another aggregate than it speaks of ({}/{})", envelope.ns, envelope.dc))
    }
}
