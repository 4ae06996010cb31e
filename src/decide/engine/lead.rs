//! Terms: who may append and act. The Lease picks a candidate; the log decides.

use super::clock::Clock;
use super::{Append, Command, Engine, InFlight};
use crate::policy;
use std::sync::Arc;
use stheno_events::operator::{Checkpoint, Genesis, Leading, SteppedDown};
use stheno_events::{
    Aggregate, Digest, Envelope, Epoch, Event, EventId, Fact, LAYOUT, Process, backup, observed, task,
};

/// The role of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Folds the log, decides nothing.
    Following,
    /// Leads a term.
    Leading {
        /// The term.
        epoch: Epoch,
        /// Whether the witness knows of the term: before that no effect starts.
        witnessed: bool,
        /// Whether the term is to end.
        ending: bool,
    },
}

impl Engine {
    /// The Lease was won or lost.
    pub fn lease(&mut self, held: bool) {
        self.elected = held;
        if !held {
            self.depose();
        }
    }

    /// The witness outside NATS holds this term.
    pub fn witnessed(&mut self, epoch: Epoch) {
        if let Role::Leading { epoch: mine, witnessed, .. } = &mut self.role
            && *mine == epoch
        {
            *witnessed = true;
        }
    }

    /// Ends the term in order: no new effect; once nothing is in flight the log is told, and the Lease can go.
    pub fn finish(&mut self) {
        if let Role::Leading { ending, .. } = &mut self.role {
            *ending = true;
        } else {
            self.commands.push(Command::Released);
        }
        self.elected = false;
    }

    pub(super) fn depose(&mut self) {
        if matches!(self.role, Role::Leading { .. }) {
            self.role = Role::Following;
            // The Lease goes back with the term: until it is won anew, a term of ours would only end that of another.
            self.elected = false;
            self.stop_all_effects();
            for room in self.rooms.values_mut() {
                // What was found out by a former leader is found out again by the next one.
                room.outcomes.clear();
                room.progress.clear();
                room.quiet = super::Quiet::Counted;
            }
            self.commands.push(Command::Released);
        }
    }

    /// A message of the operator's aggregate was folded.
    pub(super) fn new_term(&mut self, own: bool) {
        let epoch = self.world.operator.epoch;
        let mine = self.world.operator.identity.as_ref() == Some(&self.identity.name);
        match &self.role {
            Role::Following if own && mine && self.elected && !self.world.operator.stepped_down.contains(&epoch) => {
                self.role = Role::Leading { epoch, witnessed: false, ending: false };
                self.rooms.values_mut().for_each(|room| room.dirty = true);
                for key in self.world.datacenters.keys() {
                    self.rooms.entry(key.clone()).or_default().dirty = true;
                }
                self.look_again_everywhere();
                self.commands.push(Command::Witness { epoch, sequence: self.world.position });
                self.commands.push(Command::PublishAll);
            }
            Role::Leading { epoch: led, ending, .. } => {
                let done = *ending && self.world.operator.stepped_down.contains(led);
                if *led != epoch || done {
                    self.depose();
                }
            }
            Role::Following => {}
        }
    }

    pub(super) fn lead(&mut self, clock: Clock, new_id: &mut dyn FnMut() -> EventId) {
        if self.world.operator.frozen.is_some() {
            self.depose();
            return;
        }
        // A sidecar refuses this term: the log was put back behind a later one. The next term lies above all of them.
        if let Role::Leading { epoch, ending: false, .. } = self.role
            && self.world.operator.overtaken > Some(epoch)
        {
            self.finish();
        }
        if self.operator_in_flight.is_some() || self.operator_behind > self.world.head.sequence || !self.caught_up {
            return;
        }
        let (epoch, events) = match &self.role {
            Role::Following if self.elected => {
                let operator = &self.world.operator;
                let epoch = Epoch(operator.epoch.max(operator.overtaken.unwrap_or_default()).0 + 1);
                let genesis = self
                    .world
                    .operator
                    .genesis
                    .is_none()
                    .then(|| Event::from(Genesis { cluster: self.identity.cluster.clone(), at: clock.now }));
                let leading = Leading { epoch, identity: self.identity.name.clone() }.into();
                (epoch, genesis.into_iter().chain([leading]).collect())
            }
            Role::Leading { epoch, .. } => {
                let epoch = *epoch;
                let mut events = std::mem::take(&mut self.notices);
                events.extend(self.sight_changes());
                events.extend(self.checkpoint(clock));
                (epoch, events)
            }
            Role::Following => return,
        };
        if !events.is_empty() {
            self.append_operator(epoch, events, clock, new_id);
        }
    }

    /// The term ends once nothing of it is in flight.
    pub(super) fn step_down(&mut self, clock: Clock, new_id: &mut dyn FnMut() -> EventId) {
        let Role::Leading { epoch, ending: true, .. } = self.role else { return };
        let quiet = self.operator_in_flight.is_none()
            && self.operator_behind <= self.world.head.sequence
            && self.effects.values().all(|state| !state.runs())
            && self.rooms.values().all(|room| room.in_flight.is_none() && room.outcomes.is_empty());
        if quiet && self.blocked.is_none() {
            self.append_operator(epoch, vec![SteppedDown { epoch }.into()], clock, new_id);
        }
    }

    fn append_operator(&mut self, epoch: Epoch, events: Vec<Event>, clock: Clock, new_id: &mut dyn FnMut() -> EventId) {
        let id = new_id();
        let head = self.world.head;
        let empty: Arc<str> = "".into();
        let envelope = Envelope {
            v: LAYOUT,
            id: id.clone(),
            at: clock.now,
            wall: clock.wall,
            seen: self.world.position,
            epoch,
            ns: empty.clone(),
            dc: empty,
            dc_uid: None,
            prev: head.digest,
            cause: None,
            corr: None,
            by: self.identity.by.clone(),
            events: events.iter().cloned().map(Fact::Known).collect(),
        };
        // A term that was not written is asked for anew; notices come back.
        let outcomes =
            events.into_iter().filter(|event| matches!(event, Event::Observed(observed::Event::Gap(_)))).collect();
        self.operator_in_flight =
            Some(InFlight { id, epoch, sent_ms: clock.boot_ms, outcomes, progress: Default::default() });
        let aggregate = Aggregate::Operator;
        self.commands.push(Command::Append(Append {
            aggregate,
            process: Process::Operator,
            expected: head.sequence,
            envelope,
        }));
    }

    fn checkpoint(&mut self, clock: Clock) -> Option<Event> {
        let operator = &self.world.operator;
        let new = self.world.position.saturating_sub(operator.checkpoint);
        let since = operator.checkpoint_at.or(operator.since)?;
        // The checkpoint itself is one message: without another one there is nothing to vouch for.
        let due = new >= policy::CHECKPOINT_MESSAGES || (new > 1 && clock.now >= since + policy::CHECKPOINT_EVERY);
        if !due {
            return None;
        }
        let heads = self.heads();
        let root = Digest::root(heads.iter().map(|(name, digest, _)| (&**name, digest)));
        let last = operator.checkpoint;
        let heads = heads.into_iter().filter(|(.., sequence)| *sequence > last).map(|(name, digest, _)| (name, digest));
        let sequence = self.world.position;
        let Role::Leading { epoch, .. } = self.role else { return None };
        self.commands.push(Command::Witness { epoch, sequence });
        Some(Checkpoint { sequence, heads: heads.collect(), root, signature: None }.into())
    }

    /// The last message of every aggregate: its subject filter, digest and sequence, in order.
    fn heads(&self) -> Vec<(Arc<str>, Digest, u64)> {
        self.world.heads().collect()
    }

    /// A terminal event is witnessed too: a log that lost it is found out.
    pub(super) fn witness_terminal(&mut self, envelope: &Envelope) {
        let Role::Leading { epoch, .. } = self.role else { return };
        let terminal = envelope.events.iter().any(|fact| {
            matches!(
                fact,
                Fact::Known(
                    Event::Backup(backup::Event::Completed(_) | backup::Event::Failed(_))
                        | Event::Task(task::Event::Completed(_) | task::Event::Failed(_))
                )
            )
        });
        if terminal {
            self.commands.push(Command::Witness { epoch, sequence: self.world.position });
        }
    }
}
