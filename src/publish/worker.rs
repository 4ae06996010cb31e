//! The worker: what waits to be written, in which order and when. It knows neither the world nor what statuses mean.

use super::Order;
use super::desired::Desired;
use super::note::Note;
use super::reach::{Reach, backoff};
use super::write::{Made, Trouble, Writer};
use crate::observe::{Mirror, StatusDigest};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use stheno_events::{DcKey, Event, Uid};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Writes at one time.
const CONCURRENCY: usize = 16;
/// Progress of a job is shown at most this often, and
const PROGRESS_EVERY: Duration = Duration::from_secs(30);
/// the ends of its nodes this often: a hundred nodes that end together are a few writes.
const NODES_EVERY: Duration = Duration::from_secs(1);
/// A conflict that no sight explains is read up after this.
const REREAD: Duration = Duration::from_secs(10);
/// Kubernetes Events that wait; beyond that the oldest are dropped: they are news, not records.
const NOTES: usize = 1_000;
/// Tries of one Kubernetes Event.
const NOTE_TRIES: u32 = 5;

/// An object that is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Job(Uid),
    Backup(DcKey, Arc<str>),
    Schedule(Uid),
    Scheduled(DcKey, Arc<str>),
    Expired(Uid),
    Task(Uid),
    FollowUp(DcKey, Arc<str>),
    Removal(Uid),
}

impl Key {
    fn of(desired: &Desired) -> Self {
        match desired {
            Desired::Job(job) => Self::Job(job.uid.clone()),
            Desired::Backup(backup) => Self::Backup(backup.dc.clone(), backup.name.clone()),
            Desired::Schedule(schedule) => Self::Schedule(schedule.uid.clone()),
            Desired::Scheduled(wanted) => Self::Scheduled(wanted.dc.clone(), wanted.name.clone()),
            Desired::Expired(job) => Self::Expired(job.uid.clone()),
            Desired::Task(task) => Self::Task(task.uid.clone()),
            Desired::FollowUp(wanted) => Self::FollowUp(wanted.dc.clone(), wanted.name.clone()),
            Desired::Removal(removal) => Self::Removal(removal.uid.clone()),
        }
    }
}

/// One object and what is to become of it.
#[derive(Debug)]
struct Slot {
    /// The newest state that is wanted and may not stand there yet.
    desired: Option<Arc<Desired>>,
    flying: bool,
    /// No try before.
    not_before: Option<Instant>,
    /// After a conflict: the version that was in the way.
    conflict: Option<Arc<str>>,
    failures: u32,
    /// The trouble of it that was last told: one line a change.
    told: Option<String>,
    /// What was last written of a job or a task that still runs.
    shown: Option<Shown>,
}

/// What people see of a job or a task, and since when.
#[derive(Debug, Clone)]
struct Shown {
    at: Instant,
    stage: &'static str,
    nodes: Option<StatusDigest>,
}

/// A write that has ended.
enum Landed {
    Object { key: Key, desired: Arc<Desired>, version: Option<Arc<str>>, result: Result<Option<Made>, Trouble> },
    Note { note: Box<Note>, result: Result<(), Trouble> },
}

/// The worker.
pub(super) struct Worker {
    writer: Writer,
    slots: BTreeMap<Key, Slot>,
    /// MedusaBackups that were created, by datacenter and name, until the log says so: what is wanted meanwhile does not
    /// know.
    made: BTreeMap<(DcKey, Arc<str>), Uid>,
    /// What slots of schedules and purges asked for and was created, with the fact: it is not created again before the log
    /// says so, but told again, for the fact is lost where this process did not lead when it came.
    created: BTreeMap<Key, Event>,
    notes: VecDeque<Note>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    reach: Reach<Key>,
}

impl Worker {
    pub(super) fn new(client: Client, mirror: Mirror, facts: mpsc::UnboundedSender<(DcKey, Event)>) -> Self {
        Self {
            writer: Writer { client, mirror, facts },
            slots: BTreeMap::new(),
            made: BTreeMap::new(),
            created: BTreeMap::new(),
            notes: VecDeque::new(),
            flights: FuturesUnordered::new(),
            reach: Reach::new(),
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, stop: CancellationToken) {
        let mirror = self.writer.mirror.clone();
        loop {
            let next = self.launch(Instant::now());
            let wake = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(landed) = self.flights.next() => self.landed(landed, Instant::now()),
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                () = mirror.changed() => {}
                () = wake => {}
            }
        }
        while let Some(landed) = self.flights.next().await {
            self.landed(landed, Instant::now());
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Write(desired) => self.want(*desired),
            Order::Objects(dc, wanted) => {
                let keys: BTreeSet<Key> = wanted.iter().map(Key::of).collect();
                self.withdraw(|key, desired| desired.made_in() == Some(&dc) && !keys.contains(key));
                self.created.retain(|key, _| key.dc() != Some(&dc) || keys.contains(key));
                wanted.into_iter().for_each(|desired| self.want(desired));
            }
            Order::Withhold => self.withdraw(|_, desired| desired.made_in().is_some()),
            Order::Announce(notes) => {
                self.notes.extend(notes);
                let excess = self.notes.len().saturating_sub(NOTES);
                if excess > 0 {
                    self.notes.drain(..excess);
                    tracing::warn!(dropped = excess, "too many Kubernetes Events wait: the oldest are dropped");
                }
            }
            Order::Suspend => {
                self.notes.clear();
                self.made.clear();
                self.withdraw(|_, _| true);
            }
        }
    }

    fn want(&mut self, mut desired: Desired) {
        identify(&mut desired, &mut self.made);
        let key = Key::of(&desired);
        if let (Some(fact), Some(dc)) = (self.created.get(&key), desired.made_in()) {
            let _ = self.writer.facts.send((dc.clone(), fact.clone()));
            return;
        }
        if stands(&self.writer.mirror, &desired) {
            // The newest state stands there already: nothing older may follow it.
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.desired = None;
                self.tidy(&key, &desired);
            }
            return;
        }
        self.slots.entry(key).or_insert_with(Slot::new).desired = Some(Arc::new(desired));
    }

    /// Forgets what is not to be written any more; what is under way ends.
    fn withdraw(&mut self, which: impl Fn(&Key, &Desired) -> bool) {
        self.slots.retain(|key, slot| {
            let withdrawn = slot.desired.take_if(|desired| which(key, desired)).is_some();
            !withdrawn || slot.flying
        });
    }

    /// Starts what may be written now. Returns when the next one may.
    fn launch(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let mut room = match self.reach.room(now, CONCURRENCY) {
            Ok(room) => room.saturating_sub(self.flights.len()),
            Err(until) => return Some(until),
        };
        let mut done = Vec::new();
        let mut slots: Vec<_> = self.slots.iter_mut().collect();
        if self.reach.probes() {
            // An object that always fails must not be the one that finds out, time after time.
            slots.sort_by_key(|(_, slot)| slot.failures);
        }
        for (key, slot) in slots {
            if room == 0 {
                break;
            }
            let Some(desired) = slot.desired.clone().filter(|_| !slot.flying) else { continue };
            let version = version(&self.writer.mirror, &desired);
            let mut refresh = false;
            let mut due = slot.not_before;
            if let Some(conflict) = &slot.conflict {
                // A newer sight explains a conflict; without one the object is read when the wait is over.
                if version.as_deref().unwrap_or_default() == &**conflict {
                    refresh = true;
                } else {
                    due = None;
                }
            }
            if let Some((stage, nodes)) = shown_of(&desired) {
                due = due.max(slot.shown.as_ref().and_then(|shown| shown.next(stage, nodes)));
            }
            if let Some(at) = due.filter(|at| now < *at) {
                later(at);
                continue;
            }
            if !refresh && stands(&self.writer.mirror, &desired) {
                slot.desired = None;
                done.push((key.clone(), desired));
                continue;
            }
            slot.flying = true;
            room -= 1;
            let (writer, key) = (self.writer.clone(), key.clone());
            self.flights.push(
                async move {
                    let result = writer.write(&desired, refresh).await;
                    Landed::Object { key, desired, version, result }
                }
                .boxed(),
            );
        }
        for (key, desired) in done {
            self.tidy(&key, &desired);
        }
        for _ in 0..self.notes.len() {
            let Some(note) = self.notes.pop_front() else { break };
            let wait = note.not_before.filter(|at| now < *at);
            if room == 0 || wait.is_some() {
                wait.into_iter().for_each(&mut later);
                self.notes.push_back(note);
                continue;
            }
            room -= 1;
            let client = self.writer.client.clone();
            self.flights.push(
                async move {
                    let result = note.write(client).await;
                    Landed::Note { note: Box::new(note), result }
                }
                .boxed(),
            );
        }
        next
    }

    fn landed(&mut self, landed: Landed, now: Instant) {
        match landed {
            Landed::Object { key, desired, version, result } => self.object(key, &desired, version, result, now),
            Landed::Note { mut note, result } => {
                self.reach.heard(None, result.as_ref().err(), now);
                note.failures += 1;
                note.not_before = Some(now + backoff(note.failures));
                let again = match result {
                    Ok(()) | Err(Trouble::Gone | Trouble::Conflict | Trouble::Refused(_)) => false,
                    Err(Trouble::Failed(_) | Trouble::Away(_)) => note.failures < NOTE_TRIES,
                };
                if again {
                    self.notes.push_back(*note);
                }
            }
        }
    }

    fn object(
        &mut self,
        key: Key,
        desired: &Arc<Desired>,
        version: Option<Arc<str>>,
        result: Result<Option<Made>, Trouble>,
        now: Instant,
    ) {
        self.reach.heard(Some(key.clone()), result.as_ref().err(), now);
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.flying = false;
        let newest = slot.desired.as_ref().is_some_and(|newest| Arc::ptr_eq(newest, desired));
        slot.conflict = None;
        match result {
            Ok(made) => {
                if let (Some(Made::Backup(uid)), Desired::Backup(backup)) = (&made, &**desired) {
                    self.made.insert((backup.dc.clone(), backup.name.clone()), uid.clone());
                }
                if let (Some(Made::Scheduled(fact)), Some(dc)) = (made, desired.made_in()) {
                    // Nobody receives when the process ends: the successor finds the object by its label.
                    let _ = self.writer.facts.send((dc.clone(), (*fact).clone()));
                    self.created.insert(key.clone(), *fact);
                    slot.desired = None;
                }
                slot.failures = 0;
                slot.not_before = None;
                if slot.told.take().is_some() {
                    tracing::info!("{} is written again", desired.title());
                }
                if let Some((stage, nodes)) = shown_of(desired) {
                    slot.shown = Some(Shown { at: now, stage, nodes });
                }
                if newest {
                    slot.desired = None;
                } else if let Some(newer) = slot.desired.as_mut().and_then(Arc::get_mut) {
                    identify(newer, &mut self.made);
                }
            }
            Err(Trouble::Gone) => slot.desired = None,
            Err(Trouble::Conflict) => {
                slot.conflict = version.or_else(|| Some("".into()));
                slot.not_before = Some(now + REREAD);
            }
            Err(Trouble::Away(_)) => slot.not_before = None,
            Err(Trouble::Refused(text) | Trouble::Failed(text)) => {
                slot.failures += 1;
                slot.not_before = Some(now + backoff(slot.failures));
                if slot.told.as_ref() != Some(&text) {
                    tracing::warn!("{} cannot be written, it is tried again: {text}", desired.title());
                    slot.told = Some(text);
                }
            }
        }
        self.tidy(&key, desired);
    }

    /// Forgets an object about which nothing is left to remember.
    fn tidy(&mut self, key: &Key, desired: &Desired) {
        let over = match desired {
            Desired::Job(_) | Desired::Task(_) => shown_of(desired).is_some_and(|(stage, _)| stage == "ended"),
            Desired::Backup(_)
            | Desired::Schedule(_)
            | Desired::Scheduled(_)
            | Desired::Expired(_)
            | Desired::FollowUp(_)
            | Desired::Removal(_) => true,
        };
        let idle = self.slots.get(key).is_some_and(|slot| slot.desired.is_none() && !slot.flying);
        if idle && (over || self.slots.get(key).is_some_and(|slot| slot.shown.is_none())) {
            self.slots.remove(key);
        }
    }
}

impl Key {
    /// The datacenter for whose schedule or purge it was created.
    const fn dc(&self) -> Option<&DcKey> {
        match self {
            Self::Scheduled(dc, _) | Self::FollowUp(dc, _) => Some(dc),
            Self::Job(_)
            | Self::Backup(..)
            | Self::Schedule(_)
            | Self::Expired(_)
            | Self::Task(_)
            | Self::Removal(_) => None,
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Self { desired: None, flying: false, not_before: None, conflict: None, failures: 0, told: None, shown: None }
    }
}

impl Shown {
    /// From when a newer state is shown.
    fn next(&self, stage: &str, nodes: Option<StatusDigest>) -> Option<Instant> {
        if self.stage != stage {
            return None;
        }
        Some(self.at + if self.nodes == nodes { PROGRESS_EVERY } else { NODES_EVERY })
    }
}

/// What people wait for of a job or a task; none of what is written at each change.
fn shown_of(desired: &Desired) -> Option<(&'static str, Option<StatusDigest>)> {
    match desired {
        Desired::Job(job) => Some((job.stage, job.nodes)),
        Desired::Task(task) => Some((task.stage, task.nodes)),
        Desired::Backup(_)
        | Desired::Schedule(_)
        | Desired::Scheduled(_)
        | Desired::Expired(_)
        | Desired::FollowUp(_)
        | Desired::Removal(_) => None,
    }
}

/// Tells a MedusaBackup that the log believes to be wanted still from one that was made.
fn identify(desired: &mut Desired, made: &mut BTreeMap<(DcKey, Arc<str>), Uid>) {
    let Desired::Backup(backup) = desired else { return };
    let named = (backup.dc.clone(), backup.name.clone());
    match &backup.uid {
        Some(_) => drop(made.remove(&named)),
        None => backup.uid = made.get(&named).cloned(),
    }
}

/// The version of an object as it was last seen.
fn version(mirror: &Mirror, desired: &Desired) -> Option<Arc<str>> {
    let uid = match desired {
        Desired::Job(job) => Some(&job.uid),
        Desired::Backup(backup) => backup.uid.as_ref(),
        Desired::Schedule(schedule) => Some(&schedule.uid),
        Desired::Scheduled(_) => None,
        Desired::Expired(job) => Some(&job.uid),
        Desired::Task(task) => Some(&task.uid),
        Desired::FollowUp(_) => None,
        Desired::Removal(removal) => Some(&removal.uid),
    };
    mirror.get(uid?).map(|copy| copy.resource_version)
}

/// Whether nothing is to be written: it stands there, or the object is not there at all.
fn stands(mirror: &Mirror, desired: &Desired) -> bool {
    match desired {
        Desired::Job(job) => mirror.get(&job.uid).is_none_or(|copy| {
            (job.status.is_none() || copy.status == job.digest) && (job.owner.is_none() || copy.owned)
        }),
        Desired::Backup(backup) => {
            backup.uid.as_ref().is_some_and(|uid| mirror.get(uid).is_none_or(|copy| copy.status == backup.digest))
        }
        Desired::Schedule(schedule) => mirror
            .get(&schedule.uid)
            .is_none_or(|copy| copy.status == schedule.digest && (schedule.owner.is_none() || copy.owned)),
        // Where the mirror does not know an object yet, the API server says that it is gone.
        Desired::Scheduled(_) | Desired::Expired(_) | Desired::FollowUp(_) | Desired::Removal(_) => false,
        Desired::Task(task) => mirror.get(&task.uid).is_none_or(|copy| {
            (task.status.is_none() || copy.status == task.digest) && (task.owner.is_none() || copy.owned)
        }),
    }
}
