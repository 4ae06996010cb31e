//! The scheduler: virtual time, seeded delays and faults, and everything that travels between the parts.

mod calls;
mod happening;
mod leases;
mod operators;
mod plan;
mod publish;
mod store;
mod tasks;
mod wishes;

pub(crate) use calls::epochs;
use happening::Happening;
pub(crate) use plan::{Faults, Plan, Wish};
pub(crate) use tasks::{OLD, UNKNOWN};

use crate::api::{Api, Body, Change, DC, NAMESPACE};
use crate::log::Log;
use crate::process::{Input, Process};
use crate::sidecar::Sidecar;
use chrono::{TimeDelta, TimeZone, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::engine::WATCHED;
use stheno_events::observed::ObjectKind;
use stheno_events::{DcKey, Epoch, Fact, PodName, Time};
use stheno_projections::World;

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
    /// Backups that the bucket holds and that no job here made.
    pub(crate) bucket: BTreeSet<Arc<str>>,
    /// A copy of the API server's store.
    copy: Option<Api>,
    /// The next wish holds the job back, the one after it lets it go on.
    suspends: bool,
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
            bucket: BTreeSet::new(),
            copy: None,
            suspends: true,
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
        let change = match plan.schedule {
            Some(cron) => sim.api.schedule(cron, time(at)),
            None => sim.api.job("nightly", plan.rules, time(at)),
        };
        sim.tell(&change);
        sim.plan_wish(&change);
        if plan.outages {
            let (begin, long) = (600_000 + sim.below(3_000_000), 60_000 + sim.below(4_200_000));
            sim.after(begin, Happening::Outage(long));
        }
        if plan.put_back {
            sim.plan_put_back(&change);
        }
        if plan.tasks {
            sim.plan_tasks();
        }
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
        if self.plan.put_back {
            self.processes[index].highest = stheno::observe::highest(&self.replay(None));
        }
        self.show_all(index);
    }

    /// A complete list of each kind reaches a process.
    fn show_all(&mut self, index: usize) {
        for kind in WATCHED {
            if let Some(gap) = self.backwards(index, kind) {
                self.send(index, channel(kind), Input::Gap(gap));
            }
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
        ObjectKind::MedusaBackupSchedule => 5,
        ObjectKind::MedusaTask => 6,
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
