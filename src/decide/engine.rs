//! The order of the arrows as a state machine without I/O: observations, messages, outcomes and time go in, commands
//! come out. The operator drives it with real edges, the simulation with false ones; both run this very code.

mod clock;
mod compose;
mod effects;
mod lead;
mod outcomes;
mod sights;

use crate::{Effect, EffectKey, Observation};
use effects::Running;
pub use lead::Role;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use stheno_events::backup::NodeProgress;
use stheno_events::envelope::DecodeError;
use stheno_events::observed::{Gone, ObjectKind};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Event, EventId, PodName, Process, Time, Uid};
use stheno_projections::{Message, Touched, World};

/// Who this process is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name in the Lease, unique in the cluster.
    pub name: Arc<str>,
    /// Name and version, as messages carry it.
    pub by: Arc<str>,
    /// UID of namespace kube-system.
    pub cluster: Uid,
}

/// What the shell is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Append a message; answer with [`Engine::appended`].
    Append(Append),
    /// Start an effect; answer with [`Engine::outcome`] and, at its end, [`Engine::finished`].
    Start(Effect),
    /// Stop an effect: its outcome is not wanted any more.
    Stop(EffectKey),
    /// A message was folded: what people can see of it changed.
    Publish {
        /// Where.
        dc: DcKey,
        /// What.
        touched: Vec<Touched>,
    },
    /// This process leads: publish everything that differs.
    PublishAll,
    /// What is to be created and deleted for the schedules and tasks of a datacenter may have changed: what was asked for before
    /// and is not wanted any more is not done.
    Objects(DcKey),
    /// Nothing may be created or deleted now; answered by nothing.
    Withhold,
    /// Record outside NATS how far the log is; answer with [`Engine::witnessed`].
    Witness {
        /// The term.
        epoch: Epoch,
        /// The stream sequence.
        sequence: u64,
    },
    /// Another leader took over, or a term ended in order: give the Lease back.
    Released,
}

/// One append.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The aggregate.
    pub aggregate: Aggregate,
    /// The process that decided, for the subject.
    pub process: Process,
    /// The sequence of the aggregate's last message: what the append rests on.
    pub expected: u64,
    /// The message.
    pub envelope: Envelope,
}

/// How an append ended, once in-doubt ones were resolved by reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in, at this sequence.
    Committed(u64),
    /// It is not in; the aggregate's last message is this one.
    NotIn {
        /// Sequence of the aggregate's last message.
        last: u64,
    },
}

/// A message whose fate is not known yet, or that was not folded yet.
#[derive(Debug, Clone)]
struct InFlight {
    id: EventId,
    /// The term that wrote it: what it carries is worth nothing to another one.
    epoch: Epoch,
    /// When it was sent, by a clock that counts suspended time, in milliseconds.
    sent_ms: u64,
    /// Outcomes that it carries: kept until it is in.
    outcomes: Vec<Event>,
    /// Progress that it carries.
    progress: BTreeMap<Uid, BTreeMap<PodName, NodeProgress>>,
}

/// An object in a room.
type Place = (ObjectKind, Uid);

/// Whether the quiet time of this process's term in an aggregate is as long as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Quiet {
    /// It is, or there is none.
    #[default]
    Counted,
    /// The message with which it begins was just read. It was sent at this moment, where that is known.
    Read { sent_ms: Option<u64> },
    /// That message was long on its way: the time is counted anew.
    Late,
}

/// What waits to be written about one datacenter.
#[derive(Debug, Clone, Default)]
struct Room {
    /// The newest sight of each object that is there; of one that is gone until the log says so.
    seen: BTreeMap<Place, Observation>,
    /// The sights that were not found to be no news yet.
    fresh: BTreeSet<Place>,
    /// Who has a name now, of the kinds that the log knows by name.
    names: BTreeMap<(ObjectKind, Arc<str>), Uid>,
    /// The newest sight of each pod: recorded only while an operation needs it.
    pods: BTreeMap<PodName, stheno_events::observed::Pod>,
    /// Outcomes of effects.
    outcomes: Vec<Event>,
    /// The newest progress.
    progress: BTreeMap<Uid, BTreeMap<PodName, NodeProgress>>,
    in_flight: Option<InFlight>,
    /// After a conflict: nothing is composed before this sequence was folded.
    behind: u64,
    quiet: Quiet,
    /// Something may follow from the state.
    dirty: bool,
    /// When something may follow though nothing happens.
    wake: Option<Time>,
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    identity: Identity,
    world: World,
    role: Role,
    /// The Lease is held.
    elected: bool,
    /// The log was followed to its end once.
    caught_up: bool,
    /// Kinds whose first complete list was seen.
    listed: BTreeSet<ObjectKind>,
    /// Kinds that were listed anew since the API server's store went back, the last time that it did; and when that was.
    listed_since_back: Option<(BTreeSet<ObjectKind>, Option<Time>)>,
    /// The namespaces that were listed, once; all when none.
    scope: Option<BTreeSet<Arc<str>>>,
    /// Why nothing may be appended or started: clock, durability, integrity.
    blocked: Option<Arc<str>>,
    rooms: BTreeMap<DcKey, Room>,
    /// Where an object is recorded, by UID: an edited reference does not move it.
    homes: BTreeMap<Uid, DcKey>,
    /// What is gone and was not known to the log then, the oldest first.
    gone_unknown: VecDeque<(DcKey, Place)>,
    /// What a list lacks of an API server that went back: concluded when a person accepts it.
    withheld: Vec<(DcKey, Gone)>,
    /// Kinds that cannot be listed now, and why.
    cannot_see: BTreeMap<ObjectKind, Arc<str>>,
    /// What waits to be said in the operator's aggregate: that the API server's store went back, as this process saw it,
    /// and that a person accepted it.
    notices: Vec<Event>,
    operator_in_flight: Option<InFlight>,
    operator_behind: u64,
    /// The last time of a poll, and the machine's clock then.
    steady: Option<(Time, u64)>,
    /// Where the log's time is ahead of ours: its time, and the machine's clock when that was seen.
    ahead: Option<(Time, u64)>,
    /// The time that the last poll decided by.
    now: Option<Time>,
    /// How far it was ahead of the wall clock.
    before_wall: chrono::TimeDelta,
    effects: BTreeMap<EffectKey, Running>,
    /// Datacenters whose objects may have to be created or deleted, while this process may do so.
    objects: Option<BTreeSet<DcKey>>,
    commands: Vec<Command>,
}

/// The kinds whose first list a leader waits for.
pub const WATCHED: [ObjectKind; 6] = [
    ObjectKind::MedusaBackupJob,
    ObjectKind::MedusaBackup,
    ObjectKind::MedusaBackupSchedule,
    ObjectKind::MedusaTask,
    ObjectKind::CassandraDatacenter,
    ObjectKind::Pod,
];

impl Engine {
    /// An engine that goes on from a world: an empty one, or a snapshot.
    #[must_use]
    pub fn new(identity: Identity, world: World) -> Self {
        let mut engine = Self {
            identity,
            world,
            role: Role::Following,
            elected: false,
            caught_up: false,
            listed: BTreeSet::new(),
            listed_since_back: None,
            scope: Some(BTreeSet::new()),
            blocked: None,
            rooms: BTreeMap::new(),
            homes: BTreeMap::new(),
            gone_unknown: VecDeque::new(),
            withheld: Vec::new(),
            cannot_see: BTreeMap::new(),
            notices: Vec::new(),
            steady: None,
            ahead: None,
            now: None,
            before_wall: chrono::TimeDelta::zero(),
            operator_in_flight: None,
            operator_behind: 0,
            effects: BTreeMap::new(),
            objects: None,
            commands: Vec::new(),
        };
        let world = std::mem::take(&mut engine.world);
        for (key, dc) in &world.datacenters {
            let recorded = dc.operations.keys().chain(dc.schedules.keys()).chain(dc.tasks.keys());
            engine.homes.extend(recorded.map(|uid| (uid.clone(), key.clone())));
        }
        engine.world = world;
        engine
    }

    /// The state, as folded so far.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The role of this process.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// Whether this process may act.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// Effects that run.
    pub fn running(&self) -> impl Iterator<Item = &EffectKey> {
        self.effects.iter().filter(|(_, state)| state.runs()).map(|(key, _)| key)
    }

    /// A message of the stream, in order.
    pub fn delivered(
        &mut self,
        sequence: u64,
        aggregate: &Aggregate,
        digest: Digest,
        envelope: Result<&Envelope, &DecodeError>,
    ) {
        let backwards = self.world.operator.api_backwards.is_some();
        let blind = !self.world.operator.unobservable.is_empty();
        let touched = self.world.apply(Message { sequence, aggregate, digest, envelope });
        let id = envelope.ok().map(|envelope| &envelope.id);
        match aggregate {
            Aggregate::Operator => {
                let own = self.operator_in_flight.take_if(|sent| Some(&sent.id) == id).is_some();
                self.new_term(own);
                self.settle_notices(backwards, own);
                if blind && self.world.operator.unobservable.is_empty() {
                    // What was recorded meanwhile was not decided about.
                    self.rooms.values_mut().for_each(|room| room.dirty = true);
                }
            }
            Aggregate::Datacenter(key) => {
                if let Ok(envelope) = envelope {
                    self.settle_homes(key, envelope);
                }
                let room = self.rooms.entry(key.clone()).or_default();
                room.dirty = true;
                let own = room.in_flight.take_if(|sent| Some(&sent.id) == id);
                let written_now = own.is_some();
                if let Ok(envelope) = envelope
                    && self.term() == Some(envelope.epoch)
                {
                    let sent_ms = own.as_ref().map(|sent| sent.sent_ms);
                    if let Some(room) = self.rooms.get_mut(key).filter(|_| compose::begins_quiet_time(envelope)) {
                        // Once it is in, nobody else can write: counting anew does not have to be quick.
                        let late = room.quiet == Quiet::Late;
                        room.quiet = if late { Quiet::Counted } else { Quiet::Read { sent_ms } };
                    }
                    self.claims_committed(envelope, sent_ms);
                    self.witness_terminal(envelope);
                }
                // A former leader wrote, or a message that was given up: what was no news may be some again.
                if self.leads() && !written_now {
                    self.look_again(key);
                }
                let dc = self.world.datacenter(key);
                let makes = |touched: &Touched| match touched {
                    Touched::Schedule(_) | Touched::Task(_) | Touched::Removal(_) => true,
                    Touched::Job(job) => dc.is_some_and(|dc| dc.lapses.contains_key(job)),
                    Touched::Backup(_) | Touched::Malformed(_) => false,
                };
                if let Some(objects) = &mut self.objects
                    && touched.iter().any(makes)
                {
                    objects.insert(key.clone());
                }
                if !touched.is_empty() {
                    self.commands.push(Command::Publish { dc: key.clone(), touched });
                }
            }
            Aggregate::Location(_) => {}
        }
    }

    /// The log was followed to its end.
    pub const fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// How an append ended.
    pub fn appended(&mut self, aggregate: &Aggregate, id: &EventId, result: Appended) {
        let term = self.term();
        match (aggregate, result) {
            // It is folded when it is delivered; until then the aggregate stays in flight.
            (_, Appended::Committed(_)) | (Aggregate::Location(_), _) => {}
            (Aggregate::Operator, Appended::NotIn { last }) => {
                if let Some(sent) = self.operator_in_flight.take_if(|sent| sent.id == *id) {
                    self.notices.splice(0..0, sent.outcomes);
                    self.operator_behind = last;
                }
            }
            (Aggregate::Datacenter(key), Appended::NotIn { last }) => {
                let room = self.rooms.entry(key.clone()).or_default();
                if let Some(sent) = room.in_flight.take_if(|sent| sent.id == *id) {
                    if term == Some(sent.epoch) {
                        room.outcomes.splice(0..0, sent.outcomes);
                        for (job, nodes) in sent.progress {
                            let newer = room.progress.entry(job).or_default();
                            for (pod, progress) in nodes {
                                newer.entry(pod).or_insert(progress);
                            }
                        }
                    }
                    room.behind = last;
                    room.dirty = true;
                }
            }
        }
    }

    /// Whether this process could act if it led: it has read the log, understands it, and nothing stands in the way. One
    /// that could not must neither take the Lease nor keep it.
    #[must_use]
    pub const fn fit(&self) -> bool {
        self.caught_up && self.blocked.is_none() && self.world.operator.frozen.is_none()
    }

    /// Why nothing may be appended or started, or that nothing stands in the way any more. A term does not outlive it:
    /// another process may be able to act.
    pub fn block(&mut self, reason: Option<Arc<str>>) {
        if reason.is_some() {
            self.depose();
        } else if self.blocked.is_some() {
            // What stood in the way may have been the wall clock: now that it is right, it is followed.
            self.steady = None;
        }
        self.blocked = reason;
        self.rooms.values_mut().for_each(|room| room.dirty = true);
    }

    /// What is to be done now. `now` is the wall clock, `boot_ms` a clock in milliseconds that counts suspended time.
    pub fn poll(&mut self, now: Time, boot_ms: u64, new_id: &mut dyn FnMut() -> EventId) -> Vec<Command> {
        let clock = self.clock(stheno_events::to_millis(now), boot_ms);
        if self.blocked.is_none() {
            self.lead(clock, new_id);
        }
        // Before composing: a claim that is abandoned here is said in the same breath.
        self.reconcile_effects(clock);
        if self.blocked.is_none() && self.acting().is_some() {
            self.compose_all(clock, new_id);
        }
        self.step_down(clock, new_id);
        self.reconcile_objects();
        std::mem::take(&mut self.commands)
    }

    /// The next moment at which [`Self::poll`] may have something to do though nothing happens.
    #[must_use]
    pub fn wake(&self) -> Option<Time> {
        self.acting()?;
        self.rooms.values().filter_map(|room| room.wake).min()
    }

    /// How long after the last poll that moment is, by the time of decisions: the wall clock may be far from it.
    /// A moment that has passed and still stands waits for something to happen, and no other one waits for it.
    #[must_use]
    pub fn wake_in(&self) -> Option<std::time::Duration> {
        self.acting()?;
        let now = self.now?;
        let next = self.rooms.values().filter_map(|room| room.wake).filter(|wake| *wake > now).min()?;
        (next - now).to_std().ok()
    }

    /// The time that the last poll decided by.
    #[must_use]
    pub const fn now(&self) -> Option<Time> {
        self.now
    }

    /// Whether this process leads this term.
    #[must_use]
    pub fn is_term(&self, epoch: Epoch) -> bool {
        self.term() == Some(epoch)
    }

    /// The term that this process leads.
    const fn term(&self) -> Option<Epoch> {
        match self.role {
            Role::Leading { epoch, .. } => Some(epoch),
            Role::Following => None,
        }
    }

    /// The term, when this process leads and may decide: every watch's first list is in, nothing stands in the way.
    fn acting(&self) -> Option<Epoch> {
        let Role::Leading { epoch, .. } = self.role else { return None };
        let complete = WATCHED
            .iter()
            .all(|kind| self.listed.contains(kind) || self.world.operator.unobservable.contains_key(kind));
        (complete && self.blocked.is_none() && self.world.operator.frozen.is_none()).then_some(epoch)
    }

    /// The term, when effects may be started too: everything can be observed, and the API server did not go back.
    fn effecting(&self) -> Option<Epoch> {
        let sound = self.decides();
        let witnessed = matches!(self.role, Role::Leading { witnessed: true, .. });
        self.acting().filter(|_| sound && witnessed)
    }
}
