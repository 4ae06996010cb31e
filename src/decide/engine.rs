//! The order of the arrows as a state machine without I/O: observations, messages, outcomes and time go in, commands
//! come out. The operator drives it with real edges, the simulation with false ones; both run this very code.

mod compose;
mod effects;
mod lead;

use crate::{Context, Effect, EffectKey, Observation};
use effects::Running;
pub use lead::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_events::backup::NodeProgress;
use stheno_events::envelope::DecodeError;
use stheno_events::observed::{Gap, Gone, ObjectKind, Observable, Unobservable};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Event, EventId, PodName, Process, Time, Uid};
use stheno_projections::datacenter::Object;
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
    /// When it was sent, by a clock that counts suspended time, in milliseconds.
    sent_ms: u64,
    /// Outcomes that it carries: kept until it is in.
    outcomes: Vec<Event>,
    /// Progress that it carries.
    progress: BTreeMap<Uid, BTreeMap<PodName, NodeProgress>>,
}

/// What waits to be written about one datacenter.
#[derive(Debug, Clone, Default)]
struct Room {
    /// The newest sight of objects that may be news.
    seen: BTreeMap<(ObjectKind, Uid), Observation>,
    /// The newest sight of each pod: recorded only while an operation needs it.
    pods: BTreeMap<PodName, stheno_events::observed::Pod>,
    /// Outcomes of effects.
    outcomes: Vec<Event>,
    /// The newest progress.
    progress: BTreeMap<Uid, BTreeMap<PodName, NodeProgress>>,
    in_flight: Option<InFlight>,
    /// After a conflict: nothing is composed before this sequence was folded.
    behind: u64,
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
    /// Why nothing may be appended or started: clock, durability, integrity.
    blocked: Option<Arc<str>>,
    rooms: BTreeMap<DcKey, Room>,
    /// Where an object is recorded, by UID: an edited reference does not move it.
    homes: BTreeMap<Uid, DcKey>,
    /// Facts for the operator's own aggregate.
    notices: Vec<Event>,
    operator_in_flight: Option<InFlight>,
    operator_behind: u64,
    effects: BTreeMap<EffectKey, Running>,
    commands: Vec<Command>,
}

/// The kinds whose first list a leader waits for.
pub const WATCHED: [ObjectKind; 4] =
    [ObjectKind::MedusaBackupJob, ObjectKind::MedusaBackup, ObjectKind::CassandraDatacenter, ObjectKind::Pod];

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
            blocked: None,
            rooms: BTreeMap::new(),
            homes: BTreeMap::new(),
            notices: Vec::new(),
            operator_in_flight: None,
            operator_behind: 0,
            effects: BTreeMap::new(),
            commands: Vec::new(),
        };
        let world = std::mem::take(&mut engine.world);
        for (key, dc) in &world.datacenters {
            engine.homes.extend(dc.operations.keys().map(|uid| (uid.clone(), key.clone())));
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
        let touched = self.world.apply(Message { sequence, aggregate, digest, envelope });
        let id = envelope.ok().map(|envelope| &envelope.id);
        match aggregate {
            Aggregate::Operator => {
                let own = self.operator_in_flight.take_if(|sent| Some(&sent.id) == id).is_some();
                self.new_term(own);
            }
            Aggregate::Datacenter(key) => {
                if let Ok(envelope) = envelope {
                    self.settle_homes(key, envelope);
                }
                let room = self.rooms.entry(key.clone()).or_default();
                room.dirty = true;
                let own = room.in_flight.take_if(|sent| Some(&sent.id) == id);
                if let Ok(envelope) = envelope
                    && self.term() == Some(envelope.epoch)
                {
                    self.claims_committed(envelope, own.map(|sent| sent.sent_ms));
                    self.witness_terminal(envelope);
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
                    room.outcomes.splice(0..0, sent.outcomes);
                    for (job, nodes) in sent.progress {
                        let newer = room.progress.entry(job).or_default();
                        for (pod, progress) in nodes {
                            newer.entry(pod).or_insert(progress);
                        }
                    }
                    room.behind = last;
                    room.dirty = true;
                }
            }
        }
    }

    /// A sight of an object in a namespace. `home` is the datacenter for kinds that do not name it themselves (pods).
    pub fn observe(&mut self, namespace: &Arc<str>, home: Option<DcKey>, observation: Observation) {
        let uid = observation.uid().clone();
        let home = self.homes.get(&uid).cloned().or(home).or_else(|| observation.home(namespace));
        let Some(home) = home else { return };
        let room = self.rooms.entry(home.clone()).or_default();
        room.dirty = true;
        match observation {
            Observation::Pod(pod) => {
                self.homes.insert(uid, home);
                room.pods.insert(pod.name(), pod);
            }
            Observation::Gone(gone) if gone.kind == ObjectKind::Pod => {
                self.homes.remove(&uid);
                room.pods.retain(|_, pod| pod.meta.uid != uid);
            }
            Observation::BackupJob(..)
            | Observation::Backup(_)
            | Observation::Datacenter(_)
            | Observation::Malformed(_)
            | Observation::Gone(_) => {
                self.homes.entry(uid.clone()).or_insert(home);
                room.seen.insert((observation.kind(), uid), observation);
            }
        }
    }

    /// A complete list of a kind: what is known in `namespaces` (all, when none) and not in it is gone.
    pub fn listed(&mut self, kind: ObjectKind, namespaces: Option<&BTreeSet<Arc<str>>>, present: &BTreeSet<Uid>) {
        let in_scope = |key: &DcKey| namespaces.is_none_or(|scope| scope.contains(&key.namespace));
        let mut gone: Vec<(DcKey, Uid, Arc<str>)> = Vec::new();
        for (key, dc) in self.world.datacenters.iter().filter(|(key, _)| in_scope(key)) {
            gone.extend(compose::objects(dc, kind).map(|(uid, name)| (key.clone(), uid, name)));
        }
        for (key, room) in self.rooms.iter().filter(|(key, _)| in_scope(key)) {
            let seen = room.seen.values().filter(|seen| seen.kind() == kind && !matches!(seen, Observation::Gone(_)));
            gone.extend(seen.map(|seen| (key.clone(), seen.uid().clone(), compose::name(seen))));
            if kind == ObjectKind::Pod {
                gone.extend(room.pods.values().map(|pod| (key.clone(), pod.meta.uid.clone(), pod.meta.name.clone())));
            }
        }
        for (key, uid, name) in gone.into_iter().filter(|(_, uid, _)| !present.contains(uid)) {
            let gone = Gone { kind, uid, name, inferred: true };
            self.observe(&key.namespace.clone(), Some(key), Observation::Gone(gone));
        }
        self.listed.insert(kind);
        if self.world.operator.unobservable.contains_key(&kind) {
            self.notice(Observable { kind }.into());
        }
    }

    /// A kind cannot be listed.
    pub fn unobservable(&mut self, kind: ObjectKind, reason: Arc<str>) {
        if !self.world.operator.unobservable.contains_key(&kind) {
            self.notice(Unobservable { kind, reason }.into());
        }
    }

    /// Watch events may have been missed, or versions ran backwards.
    pub fn gap(&mut self, gap: Gap) {
        self.notice(gap.into());
    }

    fn notice(&mut self, event: Event) {
        if !self.notices.contains(&event) {
            self.notices.push(event);
        }
    }

    /// What an effect found out: facts, now.
    pub fn outcome(&mut self, key: &EffectKey, dc: &DcKey, events: Vec<Event>) {
        if !self.effects.get(key).is_some_and(Running::runs) {
            return;
        }
        let room = self.rooms.entry(dc.clone()).or_default();
        room.dirty = true;
        for event in events {
            if let Event::Backup(stheno_events::backup::Event::Progress(progress)) = event {
                let nodes = room.progress.entry(progress.job).or_default();
                nodes.extend(progress.nodes.into_iter().map(|node| (node.pod.clone(), node)));
            } else {
                room.outcomes.push(event);
            }
        }
    }

    /// What publishing found out and no claimed effect reports: that a MedusaBackup was created, or was there before.
    /// Dropped unless this process leads and the log still waits for it; the next attempt to create it says it again.
    pub fn published(&mut self, key: &DcKey, event: Event) {
        use stheno_events::backup::Event as Backup;
        let Event::Backup(Backup::ObjectCreated(created)) = &event else { return };
        let wanted = self.world.datacenter(key).is_some_and(|dc| {
            dc.operation(&created.job).is_some_and(|operation| {
                dc.backups.get(&operation.request.meta.name).is_some_and(|backup| {
                    backup.operation.as_ref() == Some(&created.job) && backup.object == Object::Wanted
                })
            })
        });
        if !self.leads() || !wanted {
            return;
        }
        let room = self.rooms.entry(key.clone()).or_default();
        if !room.outcomes.contains(&event) {
            room.outcomes.push(event);
            room.dirty = true;
        }
    }

    /// Why nothing may be appended or started, or that nothing stands in the way any more.
    pub fn block(&mut self, reason: Option<Arc<str>>) {
        self.blocked = reason;
        self.rooms.values_mut().for_each(|room| room.dirty = true);
    }

    /// What is to be done now. `now` is the wall clock, `boot_ms` a clock in milliseconds that counts suspended time.
    pub fn poll(&mut self, now: Time, boot_ms: u64, new_id: &mut dyn FnMut() -> EventId) -> Vec<Command> {
        let wall = stheno_events::to_millis(now);
        let now = self.world.at.map_or(wall, |at| at.max(wall));
        let clock = Clock { wall, now, boot_ms };
        if self.blocked.is_none() {
            self.lead(clock, new_id);
            if self.acting().is_some() {
                self.compose_all(clock, new_id);
            }
        }
        self.reconcile_effects(clock);
        self.step_down(clock, new_id);
        std::mem::take(&mut self.commands)
    }

    /// The next moment at which [`Self::poll`] may have something to do though nothing happens.
    #[must_use]
    pub fn wake(&self) -> Option<Time> {
        self.acting()?;
        self.rooms.values().filter_map(|room| room.wake).min()
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
        (complete && self.blocked.is_none()).then_some(epoch)
    }

    /// The term, when effects may be started too: everything can be observed, and the API server did not go back.
    fn effecting(&self) -> Option<Epoch> {
        let sound = self.world.operator.unobservable.is_empty() && self.world.operator.api_backwards.is_none();
        let witnessed = matches!(self.role, Role::Leading { witnessed: true, .. });
        self.acting().filter(|_| sound && witnessed)
    }

    fn settle_homes(&mut self, key: &DcKey, envelope: &Envelope) {
        use stheno_events::{Fact, observed};
        for fact in &envelope.events {
            if let Fact::Known(Event::Observed(observed::Event::BackupJob(job))) = fact {
                self.homes.insert(job.meta.uid.clone(), key.clone());
            }
        }
    }
}

/// The clocks of one poll.
#[derive(Debug, Clone, Copy)]
struct Clock {
    wall: Time,
    now: Time,
    boot_ms: u64,
}

impl Clock {
    const fn context<'a>(self, key: &'a DcKey, epoch: Epoch) -> Context<'a> {
        Context { key, now: self.now, epoch }
    }
}
