//! What an operator takes in and does: its inputs, the commands of its engine, its appends.

use super::{Happening, Sim, names, time};
use crate::api::{Change, NAMESPACE};
use crate::memory_log::Fault;
use crate::process::{Input, Step};
use stheno_decide::engine::{Append, Command};
use stheno_decide::{Effect, EffectKey, Observation};
use stheno_events::{Event, EventId, Fact, backup, task};

impl Sim {
    pub(super) fn arrive(&mut self, index: usize, life: u64, input: Input) {
        let process = &mut self.processes[index];
        if process.life != life || !process.alive {
            return;
        }
        if process.paused {
            process.mailbox.push(input);
            return;
        }
        self.step(index, Some(input));
    }

    /// The process takes one input and does what follows.
    pub(super) fn step(&mut self, index: usize, input: Option<Input>) {
        if !self.processes[index].alive {
            return;
        }
        if self.processes[index].paused {
            self.processes[index].mailbox.extend(input);
            return;
        }
        if let Some(input) = input {
            self.take(index, input);
            if self.chance(self.plan.faults.crowds) {
                let (life, delay) = (self.processes[index].life, 1 + self.below(10));
                self.after(delay, Happening::Arrive(index, life, Input::Wake));
                return;
            }
        }
        let now = self.now;
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            EventId::from(format!("id-{ids:06}"))
        };
        let commands = self.processes[index].engine.poll(time(now), now, &mut new_id);
        for command in commands {
            if !self.processes[index].alive {
                return;
            }
            self.command(index, command);
        }
        self.publish(index);
        if let Some(wake) = self.processes[index].engine.wake() {
            let wake = u64::try_from((wake - time(0)).num_milliseconds()).unwrap_or(0).max(now + 1);
            if self.processes[index].wake.is_none_or(|planned| planned <= now || wake < planned) {
                self.processes[index].wake = Some(wake);
                let life = self.processes[index].life;
                self.after(wake - now, Happening::Arrive(index, life, Input::Wake));
            }
        }
    }

    pub(super) fn take(&mut self, index: usize, input: Input) {
        let process = &mut self.processes[index];
        match input {
            Input::Message(sequence) => {
                if sequence != process.next {
                    return;
                }
                process.next += 1;
                let position = usize::try_from(sequence - 1).expect("an index");
                let stored = &self.log.messages[position];
                process.engine.delivered(sequence, &stored.aggregate, stored.digest, Ok(&stored.envelope));
            }
            Input::CaughtUp => process.engine.caught_up(),
            Input::Sight(change, home) => {
                process.saw(&change);
                let observation = match change {
                    Change::Is(body) => body.observation(),
                    Change::Gone(gone) => Observation::Gone(gone),
                };
                process.engine.observe(&NAMESPACE.into(), home, observation);
            }
            Input::Listed(kind, present) => process.engine.listed(kind, None, &present),
            Input::Appended(aggregate, id, result) => process.engine.appended(&aggregate, &id, result),
            Input::Fact(key, dc, events) => process.engine.outcome(&key, &dc, events),
            Input::EffectEnded(key) => process.engine.finished(&key),
            Input::Effect(effect, Step::Ask) => {
                if !process.stopped.contains(&effect.key) {
                    let life = process.life;
                    let delay = 1 + self.below(3);
                    self.after(delay, Happening::CallArrives(index, life, effect, false));
                }
            }
            Input::Block(blocked) => process.engine.block(blocked.then(|| "the clock cannot be trusted".into())),
            Input::Gap(gap) => {
                process.relists(gap.kind);
                process.engine.gap(gap);
            }
            Input::Accept(message) => process.engine.accept_api(message),
            Input::Witnessed(epoch) => {
                process.witnessed.insert(epoch);
                process.engine.witnessed(epoch);
            }
            Input::Finish => process.engine.finish(),
            Input::Lease(held) => {
                process.has_lease = held;
                process.engine.lease(held);
            }
            Input::Written(uid) => {
                process.writing.remove(&uid);
            }
            Input::Published(event) => process.engine.published(&super::dc(), event),
            Input::Wake => {}
        }
    }

    pub(super) fn command(&mut self, index: usize, command: Command) {
        let life = self.processes[index].life;
        match command {
            Command::Append(append) => {
                self.note(|| format!("operator {index} appends {}", names(&append.envelope)));
                if self.crash(index, false) {
                    return;
                }
                let delay = 1 + self.below(5);
                self.after(delay, Happening::AppendArrives(index, life, append));
            }
            Command::Start(effect) => {
                self.law_at_start(index, &effect);
                self.note(|| format!("operator {index} calls {:?} epoch {}", effect.key.call, effect.key.epoch));
                if self.crash(index, false) {
                    return;
                }
                // A call may be held up on its way: with the five seconds in which it may start, less than the quiet time.
                let slow = self.chance(self.plan.faults.slow_calls);
                let delay = 1 + self.below(if slow { 4_500 } else { 5 });
                self.processes[index].out.insert(effect.key.clone());
                self.after(delay, Happening::CallArrives(index, life, effect, true));
            }
            Command::Stop(key) => {
                if self.processes[index].out.contains(&key) && self.below(2) == 0 {
                    self.processes[index].sent.insert(key);
                } else {
                    self.processes[index].stopped.insert(key.clone());
                    self.send(index, 9, Input::EffectEnded(key));
                }
            }
            Command::Witness { epoch, .. } => {
                let slow = self.chance(self.plan.faults.slow_calls);
                let delay = 1 + self.below(if slow { 4_500 } else { 5 });
                self.after(delay, Happening::Arrive(index, life, Input::Witnessed(epoch)));
            }
            Command::Released => {
                if self.lease == Some(index) {
                    self.lease = None;
                }
                self.processes[index].has_lease = false;
            }
            Command::Objects(_) => self.processes[index].creates = true,
            Command::Withhold => self.processes[index].creates = false,
            Command::Publish { .. } | Command::PublishAll => {}
        }
    }

    /// Intent before effect, terminal is terminal: both are asked of the log itself, at the moment of the call. So is the
    /// witness of the process's term.
    pub(super) fn law_at_start(&mut self, index: usize, effect: &Effect) {
        let mut claimed = false;
        let mut terminal = false;
        for fact in self.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
            match fact {
                Fact::Known(Event::Backup(backup::Event::EffectClaimed(claim))) => {
                    claimed |= EffectKey {
                        job: claim.job.clone(),
                        call: claim.call.clone().into(),
                        attempt: claim.attempt,
                        serial: claim.serial,
                        epoch: claim.epoch,
                    } == effect.key;
                }
                Fact::Known(Event::Task(task::Event::EffectClaimed(claim))) => {
                    claimed |= EffectKey {
                        job: claim.task.clone(),
                        call: claim.call.clone().into(),
                        attempt: claim.attempt,
                        serial: claim.serial,
                        epoch: claim.epoch,
                    } == effect.key;
                }
                Fact::Known(Event::Task(event @ (task::Event::Completed(_) | task::Event::Failed(_)))) => {
                    terminal |= *event.task() == effect.key.job;
                }
                Fact::Known(Event::Backup(event @ (backup::Event::Completed(_) | backup::Event::Failed(_)))) => {
                    terminal |= *event.job() == effect.key.job;
                }
                Fact::Known(_) | Fact::Unknown { .. } => {}
            }
        }
        if !claimed {
            self.faults_found.push(format!("operator {index} calls without a claim: {:?}", effect.key));
        }
        if !self.processes[index].witnessed.contains(&effect.key.epoch) {
            self.faults_found.push(format!("operator {index} calls in a term without a witness: {:?}", effect.key));
        }
        if terminal {
            self.faults_found.push(format!("operator {index} calls after the terminal event: {:?}", effect.key));
        }
    }

    pub(super) fn append(&mut self, index: usize, life: u64, append: Append) {
        let faults = self.plan.faults;
        let fault = if self.chance(faults.lost_request) {
            Some(Fault::Lost)
        } else if self.chance(faults.lost_ack) {
            Some(Fault::AckLost)
        } else if self.chance(faults.late_request) {
            let delay = 1 + self.below(8_000);
            self.after(delay, Happening::Late);
            Some(Fault::Late)
        } else {
            None
        };
        let now = time(self.now);
        let (appended, doubted) = self.log.append(&append, fault, now);
        self.tell_messages();
        if self.crash_of(index, life, true) {
            return;
        }
        let input = Input::Appended(append.aggregate, append.envelope.id, appended);
        if doubted {
            // It takes a time-out and a read to know.
            let delay = 5_000 + self.below(3_000);
            self.after(delay, Happening::Arrive(index, life, input));
        } else {
            self.reply(index, life, input);
        }
    }

    /// New messages reach every follower.
    pub(super) fn tell_messages(&mut self) {
        for sequence in self.told + 1..=self.log.messages.len() as u64 {
            for to in 0..self.processes.len() {
                self.send(to, 0, Input::Message(sequence));
            }
            self.told = sequence;
        }
    }
}
