//! The scheduler: virtual time, seeded delays and faults, and everything that travels between the parts.

use crate::api::{Api, Body, Change, DC, JobStatus, NAMESPACE};
use crate::log::Log;
use crate::memory_log::Fault;
use crate::process::{Input, Process, Step};
use crate::sidecar::{Answer, Kind, Sidecar, Work};
use chrono::{TimeDelta, TimeZone, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::engine::{Append, Command, WATCHED};
use stheno_decide::{Effect, EffectKey, Observation};
use stheno_events::backup::{self, Call, NodeFailed, NodeFinished, NodeStarted, NodeUnanswered, SidecarKind};
use stheno_events::observed::ObjectKind;
use stheno_events::{DcKey, Epoch, Event, EventId, Fact, PodName, Time, Uid};
use stheno_projections::World;
use stheno_projections::backup::Stage;
use stheno_projections::datacenter::Object;

/// Chances in a thousand, at each occasion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost_request: u32,
    pub(crate) lost_ack: u32,
    pub(crate) late_request: u32,
    pub(crate) slow_calls: u32,
    pub(crate) lost_reply: u32,
    /// Pauses of a whole process, and how long at most.
    pub(crate) pauses: u32,
    pub(crate) kills: u32,
    pub(crate) lease_flaps: u32,
    pub(crate) sidecar_restarts: u32,
    pub(crate) sidecar_failures: u32,
    pub(crate) pod_replacements: u32,
    pub(crate) user_deletes: u32,
}

impl Faults {
    pub(crate) fn leaders() -> Self {
        Self {
            lost_ack: 30,
            lost_request: 30,
            late_request: 30,
            slow_calls: 300,
            pauses: 4,
            lease_flaps: 4,
            kills: 1,
            ..Self::default()
        }
    }

    pub(crate) fn everything() -> Self {
        Self {
            lost_reply: 30,
            sidecar_restarts: 3,
            sidecar_failures: 60,
            pod_replacements: 2,
            user_deletes: 30,
            ..Self::leaders()
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) nodes: u64,
    pub(crate) seed: u64,
    /// The side of an edge at which the operator dies.
    pub(crate) crash_at: Option<u64>,
    pub(crate) faults: Faults,
    pub(crate) operators: u64,
}

/// What happens at a moment.
enum Happening {
    Arrive(usize, u64, Input),
    AppendArrives(usize, u64, Append),
    /// A call; the flag tells the first one of an effect from its later questions.
    CallArrives(usize, u64, Effect, bool),
    StatusArrives(usize, u64, Uid, Arc<str>, JobStatus),
    CreateArrives(usize, u64, Arc<str>, Uid),
    Restart(usize),
    Resume(usize),
    Lease,
    Late,
    PodReady(PodName),
    PodBack(PodName),
    UserDeletes(Uid),
}

pub(crate) struct Sim {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    rng: StdRng,
    pub(crate) log: Log,
    /// Messages that followers were told of.
    told: u64,
    pub(crate) api: Api,
    pub(crate) sidecars: BTreeMap<PodName, Sidecar>,
    pub(crate) processes: Vec<Process>,
    lease: Option<usize>,
    /// The latest term of which something began at each node.
    terms: BTreeMap<PodName, Epoch>,
    points: u64,
    ids: u64,
    /// Broken laws, as they happen.
    pub(crate) faults_found: Vec<String>,
    pub(crate) deleted_by_user: BTreeSet<Arc<str>>,
    trace: bool,
}

const CALM_AFTER: u64 = 120_000;
const END: u64 = 3 * 3_600_000;

pub(crate) fn time(ms: u64) -> Time {
    let start = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().expect("a date");
    start + TimeDelta::milliseconds(i64::try_from(ms).expect("a simulation is shorter than the universe"))
}

pub(crate) fn dc() -> DcKey {
    DcKey::new(NAMESPACE, DC)
}

impl Sim {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut sim = Self {
            plan,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            rng: StdRng::seed_from_u64(plan.seed),
            log: Log::new(),
            told: 0,
            api: Api::default(),
            sidecars: BTreeMap::new(),
            processes: Vec::new(),
            lease: None,
            terms: BTreeMap::new(),
            points: 0,
            ids: 0,
            faults_found: Vec::new(),
            deleted_by_user: BTreeSet::new(),
            trace: std::env::var_os("STHENO_SIM_TRACE").is_some(),
        };
        sim.api.datacenter(i32::try_from(plan.nodes).expect("few nodes"), time(0));
        for index in 0..plan.nodes {
            let name = PodName::from(format!("test-dc1-r1-sts-{index}"));
            sim.api.pod(&name, true, time(0));
            sim.sidecars.insert(name, Sidecar::new(plan.kind));
        }
        for index in 0..usize::try_from(plan.operators).expect("few operators") {
            sim.processes.push(Process::new(index, 0, World::default()));
            sim.boot(index);
        }
        sim.after(10, Happening::Lease);
        let at = 1_000 + sim.below(500);
        let change = sim.api.job("nightly", time(at));
        sim.tell(&change);
        sim
    }

    /// Sides of edges that were crossed: before and after each append, call and write.
    pub(crate) const fn points(&self) -> u64 {
        self.points
    }

    pub(crate) fn run(&mut self) {
        let mut steps = 0_u64;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            if at > END {
                break;
            }
            steps += 1;
            if steps > 400_000 {
                self.faults_found.push("the simulation does not come to rest".into());
                break;
            }
            self.now = at;
            self.happen(happening);
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound.max(1))
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.now < CALM_AFTER && thousandths > 0 && self.rng.random_range(0..1000) < thousandths
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), happening);
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>9} {}", self.now, text());
        }
    }

    /// Sends to a process over a channel that keeps its order.
    fn send(&mut self, to: usize, channel: u8, input: Input) {
        let delay = 1 + self.below(if self.plan.crash_at.is_some() || self.plan.operators == 1 { 3 } else { 30 });
        let (now, life) = (self.now, self.processes[to].life);
        let last = self.processes[to].channels.entry(channel).or_default();
        let at = (now + delay).max(*last);
        *last = at;
        self.order += 1;
        self.queue.insert((at, self.order), Happening::Arrive(to, life, input));
    }

    /// A change reaches every watch.
    fn tell(&mut self, change: &Change) {
        for to in 0..self.processes.len() {
            let (channel, input) = sight(change);
            self.send(to, channel, input);
        }
    }

    /// A process starts: it reads the log and lists everything.
    fn boot(&mut self, index: usize) {
        let next = self.processes[index].next;
        for sequence in next..=self.log.messages.len() as u64 {
            self.send(index, 0, Input::Message(sequence));
        }
        self.send(index, 0, Input::CaughtUp);
        for kind in WATCHED {
            let present: Vec<Body> = self.api.objects.values().filter(|body| body.kind() == kind).cloned().collect();
            let uids = present.iter().map(|body| body.meta().uid.clone()).collect();
            for body in present {
                let (channel, input) = sight(&Change::Is(body));
                self.send(index, channel, input);
            }
            self.send(index, channel(kind), Input::Listed(kind, uids));
        }
    }

    /// Counts a side of an edge. True when the process dies there: before it sends, or after it arrived.
    fn crash(&mut self, index: usize, after: bool) -> bool {
        let point = self.points;
        self.points += 1;
        let dies = self.plan.crash_at == Some(point);
        let dies = dies || (!after && self.chance(self.plan.faults.kills));
        if dies {
            self.kill(index);
        }
        dies
    }

    fn kill(&mut self, index: usize) {
        self.note(|| format!("operator {index} dies"));
        self.processes[index].alive = false;
        // The Lease of a dead process runs out.
        let down = 3_000 + self.below(12_000);
        self.after(down, Happening::Restart(index));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(index, life, input) => self.arrive(index, life, input),
            Happening::AppendArrives(index, life, append) => self.append(index, life, append),
            Happening::CallArrives(index, life, effect, first) => {
                if first {
                    self.arrived(&effect);
                }
                self.call(index, life, effect);
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
                if let Some(change) = self.api.backup(&name, operation.clone(), time(self.now)) {
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
                self.reply(index, life, Input::Written(operation));
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

    fn crash_of(&mut self, index: usize, life: u64, after: bool) -> bool {
        let mine = self.processes[index].life == life && self.processes[index].alive;
        let dies = self.crash(index, after);
        dies || !mine
    }

    /// An answer to a request: it may be lost with its process.
    fn reply(&mut self, index: usize, life: u64, input: Input) {
        if self.processes[index].life == life && self.processes[index].alive {
            self.send(index, 9, input);
        }
    }

    /// Who holds the Lease; and, every second, what else goes wrong.
    fn lease_round(&mut self) {
        if self.now < 2 * CALM_AFTER || self.lease.is_none() {
            self.after(1_000, Happening::Lease);
        } else {
            self.after(60_000, Happening::Lease);
        }
        let faults = self.plan.faults;
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.alive && !process.paused && self.chance(faults.pauses) {
                self.note(|| format!("operator {index} is suspended"));
                self.processes[index].paused = true;
                let long = 1_000 + self.below(40_000);
                self.after(long, Happening::Resume(index));
            }
        }
        if let Some(holder) = self.lease {
            let process = &self.processes[holder];
            // A suspended or dead holder does not renew: after a while somebody else may have it.
            let silent = !process.alive || process.paused;
            if (silent && self.below(12) == 0) || self.chance(faults.lease_flaps) {
                self.lease = None;
                self.send(holder, 8, Input::Lease(false));
            }
        }
        if self.lease.is_none() {
            let free: Vec<usize> = (0..self.processes.len())
                .filter(|index| self.processes[*index].alive && !self.processes[*index].paused)
                .collect();
            if !free.is_empty() {
                let winner = free[usize::try_from(self.below(free.len() as u64)).expect("an index")];
                self.note(|| format!("operator {winner} holds the Lease"));
                self.lease = Some(winner);
                self.send(winner, 8, Input::Lease(true));
            }
        }
        self.disturb_sidecars(faults);
    }

    fn disturb_sidecars(&mut self, faults: Faults) {
        let names: Vec<PodName> = self.sidecars.keys().cloned().collect();
        for name in names {
            if self.chance(faults.sidecar_restarts) {
                let away = 1_000 + self.below(20_000);
                self.note(|| format!("sidecar {name} restarts, away for {away} ms"));
                let now = self.now;
                if let Some(sidecar) = self.sidecars.get_mut(&name) {
                    sidecar.restart(now, away);
                }
                if let Some(change) = self.api.ready(&name, false) {
                    self.tell(&change);
                }
                self.after(away + 100, Happening::PodReady(name.clone()));
            }
            if self.chance(faults.pod_replacements)
                && let Some(uid) = self.api.pod_uid(&name)
            {
                let away = 5_000 + self.below(60_000);
                self.note(|| format!("pod {name} is replaced, away for {away} ms"));
                let now = self.now;
                if let Some(sidecar) = self.sidecars.get_mut(&name) {
                    sidecar.restart(now, away);
                }
                if let Some(change) = self.api.delete(&uid) {
                    self.tell(&change);
                }
                self.after(away, Happening::PodBack(name));
            }
        }
    }

    fn arrive(&mut self, index: usize, life: u64, input: Input) {
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
    fn step(&mut self, index: usize, input: Option<Input>) {
        if !self.processes[index].alive {
            return;
        }
        if self.processes[index].paused {
            self.processes[index].mailbox.extend(input);
            return;
        }
        if let Some(input) = input {
            self.take(index, input);
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

    fn take(&mut self, index: usize, input: Input) {
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
            Input::Witnessed(epoch) => process.engine.witnessed(epoch),
            Input::Lease(held) => {
                process.has_lease = held;
                process.engine.lease(held);
            }
            Input::Written(uid) => {
                process.writing.remove(&uid);
            }
            Input::Wake => {}
        }
    }

    fn command(&mut self, index: usize, command: Command) {
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
                self.after(delay, Happening::CallArrives(index, life, effect, true));
            }
            Command::Stop(key) => {
                self.processes[index].stopped.insert(key.clone());
                self.send(index, 9, Input::EffectEnded(key));
            }
            Command::Witness { epoch, .. } => self.send(index, 9, Input::Witnessed(epoch)),
            Command::Released => {
                if self.lease == Some(index) {
                    self.lease = None;
                }
                self.processes[index].has_lease = false;
                self.processes[index].engine.lease(false);
            }
            Command::Publish { .. } | Command::PublishAll => {}
        }
    }

    /// Intent before effect, terminal is terminal: both are asked of the log itself, at the moment of the call.
    fn law_at_start(&mut self, index: usize, effect: &Effect) {
        let mut claimed = false;
        let mut terminal = false;
        for fact in self.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
            match fact {
                Fact::Known(Event::Backup(backup::Event::EffectClaimed(claim))) => {
                    claimed |= EffectKey {
                        job: claim.job.clone(),
                        call: claim.call.clone(),
                        attempt: claim.attempt,
                        serial: claim.serial,
                        epoch: claim.epoch,
                    } == effect.key;
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
        if terminal {
            self.faults_found.push(format!("operator {index} calls after the terminal event: {:?}", effect.key));
        }
    }

    fn append(&mut self, index: usize, life: u64, append: Append) {
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
    fn tell_messages(&mut self) {
        for sequence in self.told + 1..=self.log.messages.len() as u64 {
            for to in 0..self.processes.len() {
                self.send(to, 0, Input::Message(sequence));
            }
            self.told = sequence;
        }
    }

    /// No overlapping effects: nothing of an earlier term begins at a node after something of a later one.
    fn arrived(&mut self, effect: &Effect) {
        let pod = effect.key.call.pod();
        let latest = self.terms.entry(pod.clone()).or_default();
        if effect.key.epoch < *latest {
            let fault = format!("{pod}: a call of term {} begins after one of term {latest}", effect.key.epoch);
            self.faults_found.push(fault);
        }
        *latest = effect.key.epoch.max(*latest);
    }

    /// A call of an effect arrives at its sidecar.
    fn call(&mut self, index: usize, life: u64, effect: Effect) {
        let pod = effect.key.call.pod().clone();
        if let Call::Summary(_) = effect.key.call {
            self.summary(index, life, &effect, &pod);
            return;
        }
        let now = self.now;
        let fails = self.chance(self.plan.faults.sidecar_failures);
        let (visible, length) = (now + 20 + self.below(2_000), 500 + self.below(30_000));
        let work = Work {
            operation: effect.key.job.clone(),
            attempt: effect.key.attempt,
            visible_ms: visible,
            ends_ms: visible + length,
            fails,
            dead: false,
        };
        let replaced = self.api.pod_uid(&pod).is_none();
        let (backup, epoch) = (effect.backup.clone(), effect.key.epoch);
        let first = !self.processes[index].stopped.contains(&effect.key);
        let asked_before = effect.accepted;
        let Some(sidecar) = self.sidecars.get_mut(&pod) else { return };
        let kind = sidecar.kind;
        let answer = if replaced || !first {
            Answer::Unreachable
        } else {
            match (kind, &effect.key.call) {
                (Kind::Stheno, _) => sidecar.start(now, &backup, work, epoch),
                (Kind::Medusa, Call::Start(_)) if !asked_before => {
                    sidecar.start(now, &backup, work, epoch);
                    // AsyncBackup answers IN_PROGRESS whatever happens after it.
                    if now < sidecar.away_until { Answer::Unreachable } else { Answer::Running(visible) }
                }
                (Kind::Medusa, _) => sidecar.status(now, &backup),
            }
        };
        self.note(|| format!("sidecar {pod} answers {answer:?} to epoch {epoch}"));
        if self.crash_of(index, life, true) {
            return;
        }
        let answer = if self.chance(self.plan.faults.lost_reply) { Answer::Unreachable } else { answer };
        self.answer(index, life, effect, kind, answer);
    }

    fn answer(&mut self, index: usize, life: u64, effect: Effect, kind: Kind, answer: Answer) {
        let (job, attempt, epoch) = (effect.key.job.clone(), effect.key.attempt, effect.key.epoch);
        let pod = effect.key.call.pod().clone();
        let sidecar = match kind {
            Kind::Stheno => SidecarKind::Stheno,
            Kind::Medusa => SidecarKind::Medusa,
        };
        let unanswered = |not_found: bool, heard: Option<Time>| -> Event {
            NodeUnanswered {
                job: job.clone(),
                call: effect.key.call.clone(),
                attempt,
                serial: effect.key.serial,
                epoch,
                in_doubt: true,
                not_found,
                heard,
                error: "no answer".into(),
            }
            .into()
        };
        let fact = |event: Event| Input::Fact(effect.key.clone(), effect.dc.clone(), vec![event]);
        let heard = effect.accepted.then(|| time(self.now));
        match answer {
            Answer::Running(until) => {
                if !effect.accepted {
                    let started = NodeStarted { job, pod, attempt, sidecar };
                    self.reply(index, life, fact(started.into()));
                }
                let again = Effect { accepted: true, ..effect };
                let delay = until.saturating_sub(self.now) + 1 + self.below(200);
                self.after(delay, Happening::Arrive(index, life, Input::Effect(again, Step::Ask)));
                return;
            }
            Answer::Done => {
                let done = NodeFinished { job, pod, attempt, bytes: None, files: None, reused: None };
                self.reply(index, life, fact(done.into()));
            }
            Answer::Failed { retryable } => {
                let failed = NodeFailed { job, pod, attempt, reason: "disk on fire".into(), retryable };
                self.reply(index, life, fact(failed.into()));
            }
            // During the start a stock sidecar knows nothing yet: the effect asks again.
            Answer::NotFound if effect.accepted && matches!(effect.key.call, Call::Start(_)) => {
                let delay = 500 + self.below(500);
                self.after(delay, Happening::Arrive(index, life, Input::Effect(effect, Step::Ask)));
                return;
            }
            Answer::NotFound => self.reply(index, life, fact(unanswered(true, Some(time(self.now))))),
            Answer::Unreachable | Answer::Fenced => self.reply(index, life, fact(unanswered(false, heard))),
        }
        self.reply(index, life, Input::EffectEnded(effect.key.clone()));
    }

    fn summary(&mut self, index: usize, life: u64, effect: &Effect, pod: &PodName) {
        let complete = self.sidecars.values().all(|sidecar| sidecar.status(u64::MAX, &effect.backup) == Answer::Done);
        let away = self.sidecars.get(pod).is_none_or(|sidecar| self.now < sidecar.away_until);
        if self.crash_of(index, life, true) {
            return;
        }
        let job = effect.key.job.clone();
        let nodes = i32::try_from(self.plan.nodes).unwrap_or(0);
        let event: Event = if away {
            backup::SummaryFailed {
                job,
                pod: pod.clone(),
                attempt: effect.key.attempt,
                epoch: effect.key.epoch,
                error: "no answer".into(),
            }
            .into()
        } else {
            backup::Summarised {
                job,
                started: None,
                finished: None,
                total_nodes: nodes,
                finished_nodes: nodes,
                nodes: Vec::new(),
                files: 7,
                bytes: 7_000,
                complete,
            }
            .into()
        };
        self.reply(index, life, Input::Fact(effect.key.clone(), effect.dc.clone(), vec![event]));
        self.reply(index, life, Input::EffectEnded(effect.key.clone()));
    }

    /// What the shell would publish: what differs from what it last saw, one write of an object at a time.
    fn publish(&mut self, index: usize) {
        if !self.processes[index].engine.leads() {
            return;
        }
        let Some(dc) = self.processes[index].engine.world().datacenters.get(&dc()).cloned() else { return };
        let life = self.processes[index].life;
        for (uid, operation) in &dc.operations {
            let desired = JobStatus {
                started: operation.started(),
                finished: match &operation.stage {
                    Stage::Ended { finished, .. } => Some(*finished),
                    Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
                },
                outcome: match &operation.stage {
                    Stage::Ended { outcome, .. } => Some(format!("{outcome:?}")),
                    Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
                },
            };
            let Some((version, seen)) = self.processes[index].jobs.get(uid).cloned() else { continue };
            if seen == desired || self.processes[index].writing.contains(uid) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(uid.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::StatusArrives(index, life, uid.clone(), version, desired));
        }
        for (name, backup) in &dc.backups {
            let Some(operation) = backup.operation.clone().filter(|_| backup.object == Object::Wanted) else {
                continue;
            };
            let process = &self.processes[index];
            if process.backups.contains(name) || process.writing.contains(&operation) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(operation.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::CreateArrives(index, life, name.clone(), operation));
        }
    }

    /// The fold of the log up to a sequence.
    pub(crate) fn replay(&self, until: Option<u64>) -> World {
        let mut world = World::default();
        let until = until.unwrap_or(self.log.messages.len() as u64);
        for (sequence, stored) in (1..=until).zip(&self.log.messages) {
            world.apply(stheno_projections::Message {
                sequence,
                aggregate: &stored.aggregate,
                digest: stored.digest,
                envelope: Ok(&stored.envelope),
            });
        }
        world
    }
}

const fn channel(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::MedusaBackupJob => 1,
        ObjectKind::MedusaBackup => 2,
        ObjectKind::CassandraDatacenter => 3,
        ObjectKind::Pod => 4,
    }
}

fn sight(change: &Change) -> (u8, Input) {
    match change {
        Change::Is(body) => {
            let home = matches!(body, Body::Pod(_)).then(dc);
            (channel(body.kind()), Input::Sight(change.clone(), home))
        }
        Change::Gone(gone) => (channel(gone.kind), Input::Sight(change.clone(), Some(dc()))),
    }
}

fn names(envelope: &stheno_events::Envelope) -> String {
    envelope.events.iter().map(Fact::name).collect::<Vec<_>>().join(", ")
}

/// The terms in which nothing may overlap.
pub(crate) fn epochs(starts: &[(Epoch, u64)]) -> Vec<Epoch> {
    starts.iter().map(|(epoch, _)| *epoch).collect()
}
