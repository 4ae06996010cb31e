//! `audit replay`: each recorded step is decided once more, by this build, and compared with what was decided then.

use super::describe::describe;
use super::entry::Entry;
use super::output::{self, Format, Screen};
use super::progress::Progress;
use super::source::{Scope, Source};
use super::text::count;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use stheno_decide::Context;
use stheno_decide::draft::{Draft, is_decision};
use stheno_events::operator::Event as OperatorEvent;
use stheno_events::{DcKey, Envelope, Epoch, Event, Fact, Time};
use stheno_projections::World;

/// Decides each recorded step once more with this build, and says where it would decide differently.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit export monday.stheno && stheno-next audit replay monday.stheno\n\n\
    The gate before an upgrade: it ends with 1 when this build decides anything differently.")]
pub(super) struct Args {
    /// An exported log; else the log that the other options name.
    #[arg(value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
}

/// One step that this build would take differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The message.
    pub sequence: u64,
    /// When it was decided.
    pub at: Time,
    /// The datacenter's namespace.
    pub namespace: String,
    /// Its name.
    pub datacenter: String,
    /// What was decided then, and not now.
    pub then: Vec<String>,
    /// What this build decides, and nobody did then.
    pub now: Vec<String>,
}

/// What was compared.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Messages about datacenters.
    pub messages: u64,
    /// Decisions in them.
    pub decisions: u64,
    /// Messages that this build cannot judge: what they hold is unknown to it, or stands in no order that it writes.
    pub unjudged: u64,
    /// Where this build decides otherwise, in order.
    pub differences: Vec<Difference>,
}

impl Args {
    /// Writes the differences.
    ///
    /// # Errors
    /// When the log cannot be read, or there is a difference.
    pub(super) async fn run(&self, source: &Source, format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
        let report = replay(source).await?;
        match format {
            Format::Text => {
                for difference in &report.differences {
                    write!(screen.out, "{difference}")?;
                }
                if report.differences.is_empty() {
                    write!(
                        screen.out,
                        "{} in {}",
                        count(report.decisions, "decision"),
                        count(report.messages, "message")
                    )?;
                    writeln!(screen.out, " taken once more: this build decides all of them as they were decided.")?;
                }
                if report.unjudged > 0 {
                    writeln!(
                        screen.out,
                        "{} not judged: this build does not know all that they say.",
                        count(report.unjudged, "message")
                    )?;
                }
            }
            Format::Json | Format::Yaml => output::value(screen.out, format, &report)?,
        }
        screen.out.flush()?;
        match report.differences.as_slice() {
            [] => Ok(()),
            [first, ..] => anyhow::bail!(
                "this build decides differently in {} of {}, first at message {}",
                count(report.differences.len(), "step"),
                report.messages,
                first.sequence
            ),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at.format("%Y-%m-%d %H:%M:%S");
        writeln!(f, "message {}, {at}, {}/{}", self.sequence, self.namespace, self.datacenter)?;
        self.then.iter().try_for_each(|line| writeln!(f, "  then  {line}"))?;
        self.now.iter().try_for_each(|line| writeln!(f, "  now   {line}"))
    }
}

/// Decides message by message once more.
#[derive(Default)]
pub struct Redecider {
    world: World,
    /// From which message on decisions were taken, or were not, because something could not be seen.
    deciding: BTreeMap<u64, bool>,
    /// Silence where this build would decide: it counts only if the term goes on to say nothing.
    silent: BTreeMap<DcKey, (Epoch, Difference)>,
    /// Terms that ended by themselves: a leader that ends decides nothing more.
    ended: BTreeSet<Epoch>,
    report: Report,
}

async fn replay(source: &Source) -> anyhow::Result<Report> {
    let mut reader = source.read(1, Scope::default()).await?;
    let mut progress = Progress::begin("Deciding", source).await;
    let mut redecider = Redecider::default();
    while let Some(entry) = reader.next().await? {
        progress.reached(entry.sequence);
        redecider.add(&entry);
    }
    Ok(redecider.finish())
}

impl Redecider {
    /// The next message of the log.
    pub fn add(&mut self, entry: &Entry) {
        if let (Some(key), Ok(envelope)) = (entry.datacenter(), &entry.envelope) {
            self.report.messages += 1;
            match known(envelope) {
                Some(events) => self.compare(entry, key, envelope, &events),
                None => self.report.unjudged += 1,
            }
        }
        entry.fold(entry.digest(), &mut self.world);
        if let (None, Ok(envelope)) = (entry.datacenter(), &entry.envelope) {
            for fact in &envelope.events {
                if let Fact::Known(Event::Operator(OperatorEvent::SteppedDown(e))) = fact {
                    self.ended.insert(e.epoch);
                }
            }
            let operator = &self.world.operator;
            let deciding = operator.unobservable.is_empty() && operator.api_backwards.is_none();
            if self.deciding.last_key_value().is_none_or(|(_, last)| *last != deciding) {
                self.deciding.insert(entry.sequence, deciding);
            }
        }
    }

    /// How many of a message's events are facts, and what this build decides on them; none where it cannot judge.
    pub(super) fn decide(&self, key: &DcKey, envelope: &Envelope, events: &[&Event]) -> Option<(usize, Vec<Event>)> {
        let told = events.iter().position(|event| is_decision(event)).unwrap_or(events.len());
        let (facts, then) = events.split_at(told);
        if then.iter().any(|event| !is_decision(event)) {
            // Nothing that this build writes has facts behind decisions.
            return None;
        }
        let state = self.world.datacenter(key).cloned().unwrap_or_default();
        let mut draft = Draft::new(state, envelope.at);
        facts.iter().for_each(|event| draft.push((*event).clone()));
        // Facts that found no room are told first.
        let deciding = self.deciding.range(..=envelope.seen).next_back().is_none_or(|(_, deciding)| *deciding);
        if deciding && !(then.is_empty() && draft.full()) {
            draft.decide(Context { key, now: envelope.at, epoch: envelope.epoch });
        }
        Some((told, draft.events.split_off(told)))
    }

    fn compare(&mut self, entry: &Entry, key: &DcKey, envelope: &Envelope, events: &[&Event]) {
        let Some((facts, now)) = self.decide(key, envelope, events) else {
            self.report.unjudged += 1;
            return;
        };
        let (_, then) = events.split_at(facts);
        self.report.decisions += then.len() as u64;
        let now: Vec<&Event> = now.iter().collect();
        if now == then {
            self.silent.remove(key);
            return;
        }
        let (then_only, now_only) = apart(then, &now);
        let difference = Difference {
            sequence: entry.sequence,
            at: envelope.at,
            namespace: key.namespace.to_string(),
            datacenter: key.name.to_string(),
            then: then_only,
            now: now_only,
        };
        if then.is_empty() {
            // Whoever could not see everything yet decides later, and then it is compared.
            self.silent.entry(key.clone()).or_insert((envelope.epoch, difference));
        } else {
            self.report.differences.push(difference);
        }
    }

    /// What it came to.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let silent = std::mem::take(&mut self.silent).into_values();
        let meant = silent.filter(|(epoch, _)| !self.ended.contains(epoch)).map(|(_, difference)| difference);
        self.report.differences.extend(meant);
        self.report.differences.sort_by_key(|difference| difference.sequence);
        self.report
    }
}

/// The events of a message, where this build knows all of them.
pub(super) fn known(envelope: &Envelope) -> Option<Vec<&Event>> {
    let events = envelope.events.iter().map(|fact| match fact {
        Fact::Known(event) => Some(event),
        Fact::Unknown { .. } => None,
    });
    events.collect()
}

/// What only one of two lists of decisions holds, as lines.
fn apart(then: &[&Event], now: &[&Event]) -> (Vec<String>, Vec<String>) {
    let line = |event: &Event| {
        let fact = Fact::Known(event.clone());
        format!("{}: {}", fact.name(), describe(&fact))
    };
    let only = |these: &[&Event], those: &[&Event]| -> Vec<String> {
        these.iter().filter(|event| !those.contains(event)).map(|event| line(event)).collect()
    };
    let (mut a, mut b) = (only(then, now), only(now, then));
    if a.is_empty() && b.is_empty() {
        // The same in another order.
        (a, b) = (then.iter().map(|event| line(event)).collect(), now.iter().map(|event| line(event)).collect());
    }
    (a, b)
}
