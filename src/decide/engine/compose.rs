//! Composing a message: facts first, then every decision that follows from them, all or nothing.

use super::clock::Clock;
use super::{Append, Command, Engine, InFlight, Quiet, Room};
use crate::draft::Draft;
use crate::{Observation, policy, wake};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::backup::{self, NodeProgress, Progress};
use stheno_events::datacenter::Led;
use stheno_events::observed::{Gone, ObjectKind};
use stheno_events::{
    Aggregate, DcKey, Envelope, Epoch, Event, EventId, Fact, LAYOUT, PodName, Process, Time, Uid, schedule, task,
};
use stheno_projections::Datacenter;
use stheno_projections::datacenter::Object;

impl Engine {
    pub(super) fn compose_all(&mut self, clock: Clock, new_id: &mut dyn FnMut() -> EventId) {
        let due: Vec<DcKey> = self
            .rooms
            .iter()
            .filter(|(key, room)| room.in_flight.is_none() && self.in_scope(key))
            .filter(|(_, room)| room.dirty || room.wake.is_some_and(|wake| wake <= clock.now))
            .map(|(key, _)| key.clone())
            .collect();
        let Some(epoch) = self.acting() else { return };
        let ending = matches!(self.role, super::Role::Leading { ending: true, .. });
        let deciding = self.decides() && !ending;
        for key in due {
            self.compose(&key, epoch, deciding, clock, new_id);
        }
    }

    /// Decisions need everything observable; facts are recorded all the same.
    pub(super) fn decides(&self) -> bool {
        self.world.operator.unobservable.is_empty() && !self.backwards()
    }

    fn compose(
        &mut self,
        key: &DcKey,
        epoch: Epoch,
        deciding: bool,
        clock: Clock,
        new_id: &mut dyn FnMut() -> EventId,
    ) {
        let known = self.world.datacenters.get(key).cloned().unwrap_or_default();
        let head = known.head;
        let backwards = self.backwards();
        // An API server that went back shows what was once there.
        let pods_listed =
            self.listed.contains(&ObjectKind::Pod) && !self.cannot_see.contains_key(&ObjectKind::Pod) && !backwards;
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.behind > head.sequence {
            return;
        }
        room.dirty = false;
        let context = clock.context(key, epoch);
        let mut draft = Draft::new(Arc::unwrap_or_clone(known), clock.now);

        let led = draft.state.led.as_ref().is_some_and(|led| led.epoch == epoch);
        let quiet_until = Some(clock.now + policy::QUIET);
        if let Quiet::Read { sent_ms } = room.quiet {
            let in_time = |sent: u64| clock.boot_ms.saturating_sub(sent) <= policy::LED_WITHIN_MS;
            room.quiet = if sent_ms.is_some_and(in_time) { Quiet::Counted } else { Quiet::Late };
        }
        if !led {
            let quiet =
                draft.state.led.as_ref().is_some_and(|led| !self.world.operator.stepped_down.contains(&led.epoch));
            draft.push(Led { epoch, quiet_until: quiet_until.filter(|_| quiet) }.into());
        } else if room.quiet == Quiet::Late {
            // The former leader could write until our word was in, and that took a while.
            draft.push(Led { epoch, quiet_until }.into());
        }
        let busy = draft.state.busy();
        let whole = observations(room, &mut draft, pods_listed);
        let outcomes = outcomes(room, &mut draft);
        let progress = progress(room, &mut draft, clock.now);
        let mut decided = None;
        if whole && deciding {
            decided = draft.decide(context);
        } else if !whole {
            room.dirty = true;
        }
        room.wake = wake(&draft.state, context).into_iter().chain(next_progress(room, &draft.state)).min();

        // Taking an aggregate is worth a message only where something is open, or something is to be said.
        if draft.events.len() == usize::from(!led) && !busy {
            return;
        }
        if draft.events.is_empty() {
            return;
        }
        let cause = outcomes.iter().find_map(|event| cause(&self.effects, event));
        let id = new_id();
        let envelope = Envelope {
            v: LAYOUT,
            id: id.clone(),
            at: clock.now,
            wall: clock.wall,
            seen: self.world.position,
            epoch,
            ns: key.namespace.clone(),
            dc: key.name.clone(),
            dc_uid: draft.state.uid.clone(),
            prev: head.digest,
            cause,
            corr: correlation(&draft.events),
            by: self.identity.by.clone(),
            events: draft.events.into_iter().map(Fact::Known).collect(),
        };
        room.in_flight = Some(InFlight { id, epoch, sent_ms: clock.boot_ms, outcomes, progress });
        self.commands.push(Command::Append(Append {
            aggregate: Aggregate::Datacenter(key.clone()),
            process: decided.unwrap_or(Process::Observed),
            expected: head.sequence,
            envelope,
        }));
    }
}

/// Folds what was seen of objects. Returns whether everything found room in the message. Sights that are no news are
/// fresh no more; the others stay so until the state agrees with them.
fn observations(room: &mut Room, draft: &mut Draft, pods_listed: bool) -> bool {
    let mut known = Vec::new();
    let mut whole = true;
    for key in &room.fresh {
        let Some(seen) = room.seen.get(key) else { continue };
        if draft.full() {
            whole = false;
            break;
        }
        let news = seen.news(&draft.state);
        if news.is_empty() {
            known.push(key.clone());
        }
        news.into_iter().for_each(|event| draft.push(event));
    }
    for key in known {
        room.fresh.remove(&key);
        match room.seen.get_mut(&key) {
            Some(Observation::Gone(_)) => {
                room.seen.remove(&key);
            }
            // The status of a job, a schedule or a task is looked at once.
            Some(
                Observation::BackupJob(_, status) | Observation::Schedule(_, status) | Observation::Task(_, status),
            ) => *status = None,
            Some(
                Observation::Backup(_) | Observation::Datacenter(_) | Observation::Malformed(_) | Observation::Pod(_),
            )
            | None => {}
        }
    }
    // What cannot be listed is neither there nor gone.
    if whole && pods_listed && draft.state.busy() {
        whole = pods(room, draft);
    }
    whole
}

/// Pods are recorded only while an operation needs them. Returns whether all of them found room.
fn pods(room: &Room, draft: &mut Draft) -> bool {
    let lost: Vec<Gone> = draft
        .state
        .pods
        .iter()
        .filter(|(name, pod)| room.pods.get(*name).is_none_or(|seen| seen.meta.uid != pod.meta.uid))
        .map(|(_, pod)| Gone {
            kind: ObjectKind::Pod,
            uid: pod.meta.uid.clone(),
            name: pod.meta.name.clone(),
            inferred: false,
        })
        .collect();
    lost.into_iter().for_each(|gone| draft.push(gone.into()));
    for pod in room.pods.values() {
        if draft.full() {
            return false;
        }
        Observation::Pod(pod.clone()).news(&draft.state).into_iter().for_each(|event| draft.push(event));
    }
    true
}

/// Folds what effects found out. Returns what the message carries of it.
fn outcomes(room: &mut Room, draft: &mut Draft) -> Vec<Event> {
    let mut waiting = std::mem::take(&mut room.outcomes).into_iter();
    let mut carried = Vec::new();
    while !draft.full() {
        let Some(event) = waiting.next() else { break };
        // Terminal is terminal: what comes after it is not written.
        let late = match &event {
            Event::Backup(backup::Event::ObjectCreated(_)) => false,
            Event::Backup(event) => draft.state.operation(event.job()).is_none_or(|operation| operation.ended()),
            Event::Schedule(schedule::Event::ObjectCreated(e)) => {
                draft.state.scheduled.get(&e.name).is_none_or(|made| made.object != Object::Wanted)
            }
            Event::Task(task::Event::SyncCreated(e)) => !draft.state.follow_ups.contains_key(&e.name),
            Event::Task(task::Event::BackupCreated(e)) => {
                draft.state.backups.get(&e.name).is_none_or(|backup| backup.object != Object::Wanted)
            }
            Event::Task(event) => draft.state.task_of(event.task()).is_none_or(|task| task.ended()),
            Event::Observed(_) | Event::Schedule(_) | Event::Datacenter(_) | Event::Operator(_) => false,
        };
        if !late {
            draft.push(event.clone());
            carried.push(event);
        }
    }
    room.outcomes = waiting.collect();
    if !room.outcomes.is_empty() {
        room.dirty = true;
    }
    carried
}

type Nodes = BTreeMap<PodName, NodeProgress>;

/// Folds progress, where it is time for it.
fn progress(room: &mut Room, draft: &mut Draft, now: Time) -> BTreeMap<Uid, Nodes> {
    let mut carried = BTreeMap::new();
    room.progress.retain(|job, _| draft.state.operation(job).is_some_and(|operation| operation.active()));
    let due: Vec<Uid> = room
        .progress
        .keys()
        .filter(|job| progress_at(&draft.state, job).is_some_and(|at| at <= now))
        .cloned()
        .collect();
    for job in due {
        if let Some(nodes) = room.progress.remove(&job) {
            draft.push(Progress { job: job.clone(), nodes: nodes.values().cloned().collect() }.into());
            carried.insert(job, nodes);
        }
    }
    carried
}

fn progress_at(dc: &Datacenter, job: &Uid) -> Option<Time> {
    let operation = dc.operation(job)?;
    Some(operation.progress_at.or(operation.started())? + policy::PROGRESS_EVERY)
}

fn next_progress(room: &Room, dc: &Datacenter) -> Option<Time> {
    room.progress.keys().filter_map(|job| progress_at(dc, job)).min()
}

/// Whether a message takes an aggregate in such a way that nothing is started there for a while.
pub(super) fn begins_quiet_time(envelope: &Envelope) -> bool {
    let begins = |fact: &Fact| {
        matches!(fact, Fact::Known(Event::Datacenter(stheno_events::datacenter::Event::Led(led)))
            if led.epoch == envelope.epoch && led.quiet_until.is_some())
    };
    envelope.events.iter().any(begins)
}

/// The message that claimed the effect of which this is an outcome.
fn cause(effects: &BTreeMap<crate::EffectKey, super::Running>, event: &Event) -> Option<EventId> {
    let operation = match event {
        Event::Backup(event) => event.job(),
        Event::Task(event) => event.task(),
        Event::Observed(_) | Event::Schedule(_) | Event::Datacenter(_) | Event::Operator(_) => return None,
    };
    effects.iter().find(|(key, _)| key.job == *operation).map(|(_, running)| running.claimed_in.clone())
}

/// The custom resource behind a message, where it is one.
fn correlation(events: &[Event]) -> Option<Uid> {
    let mut jobs = events.iter().filter_map(|event| match event {
        Event::Backup(event) => Some(event.job()),
        Event::Schedule(event) => Some(event.schedule()),
        Event::Task(event) => Some(event.task()),
        Event::Observed(stheno_events::observed::Event::BackupJob(job)) => Some(&job.meta.uid),
        Event::Observed(stheno_events::observed::Event::Schedule(seen)) => Some(&seen.meta.uid),
        Event::Observed(stheno_events::observed::Event::Task(seen)) => Some(&seen.meta.uid),
        Event::Observed(_) | Event::Datacenter(_) | Event::Operator(_) => None,
    });
    let first = jobs.next()?;
    jobs.all(|job| job == first).then(|| first.clone())
}

/// The objects of a kind that the state knows of.
pub(super) fn objects(dc: &Datacenter, kind: ObjectKind) -> impl Iterator<Item = (Uid, Arc<str>)> + '_ {
    let known: Box<dyn Iterator<Item = (Uid, Arc<str>)> + '_> = match kind {
        ObjectKind::MedusaBackupJob => Box::new(
            dc.operations
                .iter()
                .filter(|(_, operation)| !operation.gone)
                .map(|(uid, operation)| (uid.clone(), operation.request.meta.name.clone()))
                .chain(dc.scheduled.iter().filter_map(|(name, made)| match &made.object {
                    Object::Ours { uid } if !dc.operations.contains_key(uid) => Some((uid.clone(), name.clone())),
                    Object::Ours { .. } | Object::Foreign { .. } | Object::Wanted => None,
                })),
        ),
        ObjectKind::MedusaBackupSchedule => {
            Box::new(dc.schedules.iter().map(|(uid, schedule)| (uid.clone(), schedule.request.meta.name.clone())))
        }
        ObjectKind::MedusaTask => Box::new(
            dc.tasks
                .iter()
                .filter(|(_, task)| !task.gone)
                .map(|(uid, task)| (uid.clone(), task.request.meta.name.clone())),
        ),
        ObjectKind::MedusaBackup => Box::new(
            dc.backups
                .iter()
                .filter_map(|(name, backup)| match &backup.object {
                    Object::Ours { uid } | Object::Foreign { uid } => Some((uid.clone(), name.clone())),
                    Object::Wanted => None,
                })
                .chain(
                    dc.removals
                        .iter()
                        .filter(|(_, removal)| removal.kind == ObjectKind::MedusaBackup)
                        .map(|(uid, removal)| (uid.clone(), removal.name.clone())),
                ),
        ),
        ObjectKind::CassandraDatacenter => {
            Box::new(dc.object.iter().map(|object| (object.meta.uid.clone(), object.meta.name.clone())))
        }
        ObjectKind::Pod => Box::new(dc.pods.values().map(|pod| (pod.meta.uid.clone(), pod.meta.name.clone()))),
    };
    let malformed = dc.malformed.values().filter(move |object| object.kind == kind);
    known.chain(malformed.map(|object| (object.uid.clone(), object.name.clone())))
}

/// The name of an object that was seen.
pub(super) fn name(seen: &Observation) -> Arc<str> {
    match seen {
        Observation::BackupJob(e, _) => e.meta.name.clone(),
        Observation::Backup(e) => e.meta.name.clone(),
        Observation::Schedule(e, _) => e.meta.name.clone(),
        Observation::Task(e, _) => e.meta.name.clone(),
        Observation::Datacenter(e) => e.meta.name.clone(),
        Observation::Pod(e) => e.meta.name.clone(),
        Observation::Malformed(e) => e.name.clone(),
        Observation::Gone(e) => e.name.clone(),
    }
}
