//! Which effects run: what the state says is due is started, what is not due any more is stopped.

use super::clock::Clock;
use super::{Command, Engine};
use crate::effect::TaskWork;
use crate::{Call, Effect, EffectKey, due, names, policy};
use std::collections::BTreeSet;
use std::sync::Arc;
use stheno_events::backup::{self, ClaimAbandoned};
use stheno_events::{DcKey, Envelope, Epoch, Event, EventId, Fact, task};
use stheno_projections::World;

/// What this process knows of a claim of its own term.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) dc: DcKey,
    state: State,
    /// The message that holds the claim: the cause of what comes of it.
    pub(super) claimed_in: EventId,
}

#[derive(Debug, Clone)]
enum State {
    /// Claimed, not started: the append was sent at this moment.
    Claimed {
        sent_ms: Option<u64>,
    },
    Runs,
    /// Ended; kept until the state has its outcome.
    Ended,
}

impl Running {
    pub(super) const fn runs(&self) -> bool {
        matches!(self.state, State::Runs)
    }
}

impl Engine {
    /// The effect has ended; what it found out was handed in before.
    pub fn finished(&mut self, key: &EffectKey) {
        if let Some(running) = self.effects.get_mut(key) {
            running.state = State::Ended;
            if let Some(room) = self.rooms.get_mut(&running.dc) {
                room.dirty = true;
            }
        }
    }

    /// Claims in a message of our term that is in the log: they may be started now, within the time that counts from
    /// sending. A message that was given up for lost and arrived all the same has no such time: its claims are abandoned.
    pub(super) fn claims_committed(&mut self, envelope: &Envelope, sent_ms: Option<u64>) {
        let dc = DcKey::new(envelope.ns.clone(), envelope.dc.clone());
        for fact in &envelope.events {
            if let Some(key) = claimed(fact) {
                let state = State::Claimed { sent_ms };
                self.effects.insert(key, Running { dc: dc.clone(), state, claimed_in: envelope.id.clone() });
            }
        }
    }

    pub(super) fn stop_all_effects(&mut self) {
        for (key, running) in std::mem::take(&mut self.effects) {
            if running.runs() {
                self.commands.push(Command::Stop(key));
            }
        }
    }

    /// Objects are created and deleted while effects may be started, and not before: what is wanted is in the log already.
    pub(super) fn reconcile_objects(&mut self) {
        let ending = matches!(self.role, super::Role::Leading { ending: true, .. });
        if self.effecting().is_none() || ending {
            if self.objects.take().is_some() {
                self.commands.push(Command::Withhold);
            }
            return;
        }
        let changed = match self.objects.replace(BTreeSet::new()) {
            Some(changed) => changed,
            None => self.world.datacenters.keys().cloned().collect(),
        };
        self.commands.extend(changed.into_iter().map(Command::Objects));
    }

    pub(super) fn reconcile_effects(&mut self, clock: Clock) {
        let Some(epoch) = self.acting() else { return };
        let effecting = self.effecting().is_some();
        let ending = matches!(self.role, super::Role::Leading { ending: true, .. });
        let dcs: BTreeSet<DcKey> = self.effects.values().map(|running| running.dc.clone()).collect();
        for key in dcs {
            let Some(dc) = self.world.datacenter(&key) else { continue };
            let mut wanted: std::collections::BTreeMap<_, _> =
                due(dc, clock.context(&key, epoch)).into_iter().map(|effect| (effect.key.clone(), effect)).collect();
            let mine: Vec<EffectKey> =
                self.effects.iter().filter(|(_, running)| running.dc == key).map(|(key, _)| key.clone()).collect();
            for effect_key in mine {
                let Some(running) = self.effects.get_mut(&effect_key) else { continue };
                let wanted = wanted.remove(&effect_key);
                match (&running.state, wanted) {
                    // Nothing may be started yet; whether it is too late is judged then.
                    (State::Claimed { .. }, Some(_)) if !effecting && !ending => {}
                    (State::Claimed { sent_ms }, Some(mut effect)) => {
                        let sent =
                            sent_ms.filter(|sent| clock.boot_ms.saturating_sub(*sent) <= policy::START_WITHIN_MS);
                        let Some(sent) = sent.filter(|_| !ending) else {
                            running.state = State::Ended;
                            let room = self.rooms.entry(key.clone()).or_default();
                            room.outcomes.push(abandoned(effect_key, epoch));
                            room.dirty = true;
                            continue;
                        };
                        running.state = State::Runs;
                        if let Some(TaskWork::List(asked)) = &mut effect.task {
                            asked.others = others(&self.world, &key);
                        }
                        let command_by_ms = sent.saturating_add(policy::COMMAND_WITHIN_MS);
                        self.commands.push(Command::Start(Effect { command_by_ms, ..effect }));
                    }
                    (State::Runs, Some(_)) => {
                        if ending {
                            // Following can stop at any time; the shell lets a call that is out come back first.
                            self.commands.push(Command::Stop(effect_key));
                        }
                    }
                    (State::Ended, Some(_)) => {}
                    (State::Runs, None) => {
                        self.commands.push(Command::Stop(effect_key.clone()));
                        self.effects.remove(&effect_key);
                    }
                    (State::Claimed { .. } | State::Ended, None) => {
                        self.effects.remove(&effect_key);
                    }
                }
            }
        }
    }
}

/// The effect that a fact claims, where it claims one.
fn claimed(fact: &Fact) -> Option<EffectKey> {
    match fact {
        Fact::Known(Event::Backup(backup::Event::EffectClaimed(claim))) => Some(EffectKey {
            job: claim.job.clone(),
            call: claim.call.clone().into(),
            attempt: claim.attempt,
            serial: claim.serial,
            epoch: claim.epoch,
        }),
        Fact::Known(Event::Task(task::Event::EffectClaimed(claim))) => Some(EffectKey {
            job: claim.task.clone(),
            call: claim.call.clone().into(),
            attempt: claim.attempt,
            serial: claim.serial,
            epoch: claim.epoch,
        }),
        Fact::Known(_) | Fact::Unknown { .. } => None,
    }
}

/// A claim of this term that was not started in time.
fn abandoned(key: EffectKey, epoch: Epoch) -> Event {
    let EffectKey { job, call, attempt, serial, .. } = key;
    match call {
        Call::Backup(call) => ClaimAbandoned { job, call, attempt, serial, epoch }.into(),
        Call::Task(call) => task::ClaimAbandoned { task: job, call, attempt, serial, epoch }.into(),
    }
}

/// What the names of nodes of all other datacenters begin with.
fn others(world: &World, key: &DcKey) -> Vec<Arc<str>> {
    let others = world.datacenters.iter().filter(|(other, _)| *other != key);
    others
        .filter_map(|(_, dc)| dc.object.as_ref())
        .map(|object| names::pods(&object.cluster, &object.meta.name).into())
        .collect()
}
