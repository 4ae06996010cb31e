//! What can happen at a moment, and what then does.

use super::{Sim, time};
use crate::api::{Change, JobStatus};
use crate::process::{Input, Process};
use std::sync::Arc;
use stheno_decide::Effect;
use stheno_decide::engine::Append;
use stheno_events::observed::{JobRules, TaskOperation};
use stheno_events::{PodName, Uid};
use stheno_projections::World;

/// What happens at a moment.
pub(super) enum Happening {
    Arrive(usize, u64, Input),
    AppendArrives(usize, u64, Append),
    /// A call; the flag tells the first one of an effect from its later questions.
    CallArrives(usize, u64, Effect, bool),
    StatusArrives(usize, u64, Uid, Arc<str>, JobStatus),
    CreateArrives(usize, u64, Arc<str>, Uid),
    /// The job of a slot, by its name, for a schedule.
    ScheduledArrives(usize, u64, Arc<str>, Uid),
    /// The sync that a purge asked for, by its name.
    SyncArrives(usize, u64, Arc<str>, Uid),
    /// What a sync has deleted.
    RemovalArrives(usize, u64, Uid),
    /// A sidecar is done with a call of a task that it began then.
    TaskAnswer(usize, u64, Box<Effect>, u64),
    /// A person asks for a task; the bucket loses what is old; a person looks at what waits for consent.
    Asks(&'static str, TaskOperation),
    BucketLoses,
    Person,
    /// The operators sleep for so long: what is missing then is made up for.
    Outage(u64),
    Restart(usize),
    Resume(usize),
    Lease,
    Late,
    PodReady(PodName),
    PodBack(PodName),
    UserDeletes(Uid),
    /// What a person does to the job with this UID.
    Wished(Uid),
    /// Another job is asked for.
    Next,
    /// The deletion of a job whose time to live is over.
    ExpireArrives(usize, u64, Uid),
    /// Nothing stands in the way of a process any more.
    Clear(usize),
    /// A copy of the API server's store is made, put back, and accepted by a person.
    Copy,
    PutBack,
    Accept,
}

impl Sim {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(index, life, input) => self.arrive(index, life, input),
            Happening::AppendArrives(index, life, append) => self.append(index, life, append),
            Happening::CallArrives(index, life, effect, first) => {
                let key = effect.key.clone();
                // One that was stopped before it was sent does not arrive.
                if first && !self.processes[index].stopped.contains(&key) {
                    self.arrived(&effect);
                }
                self.call(index, life, effect);
                self.processes[index].out.remove(&key);
                if self.processes[index].sent.remove(&key) {
                    self.processes[index].stopped.insert(key.clone());
                    self.after(40, Happening::Arrive(index, life, Input::EffectEnded(key)));
                }
            }
            Happening::StatusArrives(index, life, uid, version, status) => {
                if let Some(change) = self.api.status(&uid, &version, status) {
                    self.tell(&change);
                }
                if self.crash_of(index, life, true) {
                    return;
                }
                self.reply(index, life, Input::Written(uid));
            }
            Happening::CreateArrives(index, life, name, operation) => {
                if let Some(change) = self.api.backup(&name, Some(operation), time(self.now)) {
                    self.tell(&change);
                    if let (Change::Is(body), true) = (&change, self.chance(self.plan.faults.user_deletes)) {
                        let uid = body.meta().uid.clone();
                        let delay = 40_000 + self.below(20_000);
                        self.after(delay, Happening::UserDeletes(uid));
                    }
                }
                if self.crash_of(index, life, true) {
                    return;
                }
                self.reply(index, life, Input::Written(Uid::from(name)));
            }
            Happening::ScheduledArrives(index, life, name, schedule) => {
                if let Some(change) = self.api.scheduled_job(&name, schedule, time(self.now)) {
                    self.tell(&change);
                }
                if self.crash_of(index, life, true) {
                    return;
                }
                self.reply(index, life, Input::Written(Uid::from(name)));
            }
            Happening::SyncArrives(index, life, name, purge) => self.sync_arrives(index, life, &name, purge),
            Happening::RemovalArrives(index, life, uid) => self.removal_arrives(index, life, uid),
            Happening::TaskAnswer(index, life, effect, began) => self.task_answer(index, life, &effect, began),
            Happening::Asks(name, operation) => self.asks(name, operation),
            Happening::BucketLoses => {
                self.note(|| "the bucket loses what is old".into());
                self.bucket.clear();
            }
            Happening::Person => self.person(),
            Happening::Outage(long) => {
                self.note(|| format!("no operator for {long} ms"));
                for index in 0..self.processes.len() {
                    self.processes[index].alive = false;
                    self.after(long, Happening::Restart(index));
                }
            }
            Happening::Restart(index) => {
                let life = self.processes[index].life + 1;
                if self.lease == Some(index) {
                    self.lease = None;
                }
                // Half of the restarts go on from a snapshot of another moment of the log.
                let world = if self.below(2) == 0 { World::default() } else { self.replay(None) };
                self.processes[index] = Process::new(index, life, world);
                self.boot(index);
            }
            Happening::Resume(index) => {
                self.note(|| format!("operator {index} wakes up"));
                self.processes[index].paused = false;
                for input in std::mem::take(&mut self.processes[index].mailbox) {
                    self.step(index, Some(input));
                }
            }
            Happening::Lease => self.lease_round(),
            Happening::Late => {
                let now = time(self.now);
                self.log.deliver_late(now);
                self.tell_messages();
            }
            Happening::PodReady(name) => {
                if let Some(change) = self.api.ready(&name, true) {
                    self.tell(&change);
                }
            }
            Happening::PodBack(name) => {
                let change = self.api.pod(&name, true, time(self.now));
                self.tell(&change);
            }
            Happening::Clear(index) => {
                let life = self.processes[index].life;
                self.arrive(index, life, Input::Block(false));
            }
            Happening::Copy => self.copy = Some(self.api.clone()),
            Happening::PutBack => self.put_back(),
            Happening::Accept => self.accept(),
            Happening::ExpireArrives(index, life, uid) => {
                if let Some(change) = self.api.delete(&uid) {
                    self.tell(&change);
                }
                if self.crash_of(index, life, true) {
                    return;
                }
                self.reply(index, life, Input::Written(uid));
            }
            Happening::Wished(uid) => self.wished(&uid),
            Happening::Next => {
                let change = self.api.job("weekly", JobRules { suspended: false, ..self.plan.rules }, time(self.now));
                self.tell(&change);
            }
            Happening::UserDeletes(uid) => {
                if let Some(body) = self.api.objects.get(&uid) {
                    self.deleted_by_user.insert(body.meta().name.clone());
                }
                if let Some(change) = self.api.delete(&uid) {
                    self.tell(&change);
                }
            }
        }
    }

    pub(super) fn crash_of(&mut self, index: usize, life: u64, after: bool) -> bool {
        let mine = self.processes[index].life == life && self.processes[index].alive;
        let dies = self.crash(index, after);
        dies || !mine
    }

    /// An answer to a request: it may be lost with its process.
    pub(super) fn reply(&mut self, index: usize, life: u64, input: Input) {
        if self.processes[index].life == life && self.processes[index].alive {
            self.send(index, 9, input);
        }
    }
}
