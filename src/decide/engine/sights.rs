//! What is seen of the API server: the newest sight of each object, compared with the log when one of the two changes.
//!
//! What is kept is bounded by what is there and what the log knows: of an object that is gone only that, and only until
//! the log says so. Who comes to lead, or reads what a former leader wrote late, compares once more.

use super::{Command, Engine, Place, Room, compose};
use crate::{Observation, policy};
use std::collections::BTreeSet;
use std::sync::Arc;
use stheno_events::observed::{self, Adopted, Gap, Gone, ObjectKind, Observable, Unobservable};
use stheno_events::operator::{self, ApiAccepted};
use stheno_events::{DcKey, Envelope, Event, Fact, Time, Uid};

/// Objects that are gone before the log knows of them are remembered up to this number: a leader that is slow to record
/// their beginning may yet do so.
const GONE_UNKNOWN: usize = 4_096;

impl Engine {
    /// A sight of an object in a namespace. `home` is the datacenter for kinds that do not name it themselves (pods).
    pub fn observe(&mut self, namespace: &Arc<str>, home: Option<DcKey>, observation: Observation) {
        let observation = self.adopted(observation);
        let uid = observation.uid().clone();
        if let Some((former, gone)) = self.misread(namespace, &observation) {
            self.conclude(former, gone);
        }
        for (former, gone) in self.moved(namespace, &observation) {
            self.conclude(former, gone);
        }
        self.withheld.retain(|gone| gone.1.uid != uid);
        let leads = self.leads();
        let recorded = self.recorded_home(&observation);
        let home = recorded.or(home).or_else(|| observation.home(namespace));
        let Some(home) = home else { return };
        let room = self.rooms.entry(home.clone()).or_default();
        room.dirty = true;
        match observation {
            Observation::Pod(pod) => {
                self.homes.insert(uid, home);
                room.pods.insert(pod.name(), pod);
            }
            Observation::Gone(gone) => {
                self.homes.remove(&uid);
                room.pods.retain(|_, pod| pod.meta.uid != uid);
                let name = (gone.kind, gone.name.clone());
                if room.names.get(&name) == Some(&uid) {
                    room.names.remove(&name);
                }
                if gone.kind != ObjectKind::Pod {
                    let place = (gone.kind, uid);
                    let gone = Observation::Gone(gone);
                    if !leads && self.world.datacenter(&home).is_none_or(|dc| gone.news(dc).is_empty()) {
                        self.gone_unknown.push_back((home, place.clone()));
                    }
                    room.fresh.insert(place.clone());
                    room.seen.insert(place, gone);
                    self.bound_gone();
                }
            }
            Observation::BackupJob(..)
            | Observation::Backup(_)
            | Observation::Schedule(..)
            | Observation::Task(..)
            | Observation::Datacenter(_)
            | Observation::Malformed(_) => {
                let place = (observation.kind(), uid.clone());
                if let Some(former) = supplanted(room, &observation) {
                    self.homes.remove(&former.1);
                }
                room.fresh.insert(place.clone());
                room.seen.insert(place, observation);
                self.homes.entry(uid).or_insert(home);
            }
        }
    }

    /// Where an object is recorded: an edited reference does not move it, nor does it move by coming back from an older
    /// store.
    fn recorded_home(&self, observation: &Observation) -> Option<DcKey> {
        if matches!(observation, Observation::Schedule(..)) {
            return None;
        }
        if let Some(home) = self.homes.get(observation.uid()) {
            return Some(home.clone());
        }
        let meta = match observation {
            Observation::BackupJob(job, _) => &job.meta,
            Observation::Task(task, _) => &task.meta,
            Observation::Backup(_)
            | Observation::Schedule(..)
            | Observation::Datacenter(_)
            | Observation::Pod(_)
            | Observation::Malformed(_)
            | Observation::Gone(_) => return None,
        };
        let knows = |dc: &stheno_projections::Datacenter| {
            dc.operations.contains_key(&meta.uid)
                || dc.tasks.contains_key(&meta.uid)
                || dc.forgotten.tombstone(meta).is_some()
        };
        self.world.datacenters.iter().find(|(_, dc)| knows(dc)).map(|(key, _)| key.clone())
    }

    /// Where a schedule was that names another datacenter now: it goes on there.
    fn moved(&self, namespace: &Arc<str>, now: &Observation) -> Vec<(DcKey, Gone)> {
        let (Observation::Schedule(seen, _), Some(home)) = (now, now.home(namespace)) else { return Vec::new() };
        let uid = &seen.meta.uid;
        let recorded = self.world.datacenters.iter().filter(|(_, dc)| dc.schedules.contains_key(uid));
        let mut former: BTreeSet<&DcKey> = recorded.map(|(key, _)| key).collect();
        former.extend(self.homes.get(uid));
        former.remove(&home);
        let (kind, name) = (ObjectKind::MedusaBackupSchedule, &seen.meta.name);
        let gone = || Gone { kind, uid: uid.clone(), name: name.clone(), inferred: true };
        former.into_iter().map(|key| (key.clone(), gone())).collect()
    }

    /// Where an object was that could not be read, and can be now: what it said of its datacenter then is worth nothing.
    fn misread(&self, namespace: &Arc<str>, now: &Observation) -> Option<(DcKey, Gone)> {
        let (kind, uid) = (now.kind(), now.uid());
        let former = self.homes.get(uid)?;
        if now.home(namespace).is_none_or(|home| home == *former) {
            return None;
        }
        let dc = self.world.datacenter(former);
        let seen = self.rooms.get(former).and_then(|room| room.seen.get(&(kind, uid.clone())));
        let unread =
            matches!(seen, Some(Observation::Malformed(_))) || dc.is_some_and(|dc| dc.malformed.contains_key(uid));
        let recorded = dc.is_some_and(|dc| {
            dc.operation(uid).is_some() || dc.task_of(uid).is_some() || dc.backups.values().any(|it| it.is(uid))
        });
        let gone = Gone { kind, uid: uid.clone(), name: compose::name(now), inferred: true };
        (unread && !recorded).then(|| (former.clone(), gone))
    }

    /// A schedule from before the log counts from its first sight: its slots until then were somebody else's, or nobody's.
    /// Of a task from before it nobody knows whether it was done.
    fn adopted(&self, observation: Observation) -> Observation {
        let genesis = self.world.operator.genesis.as_ref().map(|genesis| genesis.at);
        let before = |created: Time| genesis.is_none_or(|genesis| created < genesis);
        let status = |kind, uid: &Uid| Adopted {
            kind,
            uid: uid.clone(),
            started: None,
            finished: None,
            in_progress: Vec::new(),
            finished_pods: Vec::new(),
            failed_pods: Vec::new(),
        };
        match observation {
            Observation::Schedule(seen, None) => {
                let adopted =
                    before(seen.meta.created).then(|| status(ObjectKind::MedusaBackupSchedule, &seen.meta.uid));
                Observation::Schedule(seen, adopted)
            }
            Observation::Task(seen, None) => {
                // The API server's times are whole seconds.
                let adopted = before(seen.meta.created + chrono::TimeDelta::seconds(1))
                    .then(|| status(ObjectKind::MedusaTask, &seen.meta.uid));
                Observation::Task(seen, adopted)
            }
            Observation::BackupJob(..)
            | Observation::Schedule(..)
            | Observation::Task(..)
            | Observation::Backup(_)
            | Observation::Datacenter(_)
            | Observation::Pod(_)
            | Observation::Malformed(_)
            | Observation::Gone(_) => observation,
        }
    }

    /// A complete list of a kind: what is known in `namespaces` (all, when none) and not in it is gone.
    pub fn listed(&mut self, kind: ObjectKind, namespaces: Option<&BTreeSet<Arc<str>>>, present: &BTreeSet<Uid>) {
        match (namespaces, &mut self.scope) {
            (None, scope) => *scope = None,
            // A list that is repeated may be of one namespace only.
            (Some(names), Some(scope)) => scope.extend(names.iter().cloned()),
            (Some(_), None) => {}
        }
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
        gone.retain(|(_, uid, _)| !present.contains(uid));
        let gone = gone.into_iter().map(|(key, uid, name)| (key, Gone { kind, uid, name, inferred: true }));
        self.withheld.retain(|(_, gone)| gone.kind != kind);
        if self.backwards() {
            // Of an API server that went back nothing is concluded until a person accepts it.
            self.withheld.extend(gone);
        } else {
            gone.collect::<Vec<_>>().into_iter().for_each(|(key, gone)| self.conclude(key, gone));
        }
        self.listed.insert(kind);
        self.listed_since_back.iter_mut().for_each(|(listed, _)| _ = listed.insert(kind));
        self.cannot_see.remove(&kind);
    }

    /// Whether anything is seen of this datacenter. Of another one nothing is recorded, decided or concluded.
    pub(super) fn in_scope(&self, key: &DcKey) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.contains(&key.namespace))
    }

    fn conclude(&mut self, key: DcKey, gone: Gone) {
        self.observe(&key.namespace.clone(), Some(key), Observation::Gone(gone));
    }

    /// Forgets the oldest of what is gone and still not known to the log.
    fn bound_gone(&mut self) {
        while self.gone_unknown.len() > GONE_UNKNOWN {
            let Some((key, place)) = self.gone_unknown.pop_front() else { return };
            let (Some(room), dc) = (self.rooms.get_mut(&key), self.world.datacenters.get(&key)) else { continue };
            let unknown = |seen: &Observation| {
                matches!(seen, Observation::Gone(_)) && dc.is_none_or(|dc| seen.news(dc).is_empty())
            };
            if room.seen.get(&place).is_some_and(unknown) {
                room.seen.remove(&place);
                room.fresh.remove(&place);
            }
        }
    }

    /// What was seen is compared with the log once more, in one datacenter.
    pub(super) fn look_again(&mut self, key: &DcKey) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.fresh = room.seen.keys().cloned().collect();
            room.dirty = true;
        }
    }

    /// All that was seen is compared with the log once more.
    pub(super) fn look_again_everywhere(&mut self) {
        let keys: Vec<DcKey> = self.rooms.keys().cloned().collect();
        keys.iter().for_each(|key| self.look_again(key));
    }

    /// How many objects this process remembers: those that are there, those of operations in the log, and a bounded
    /// number of others.
    #[must_use]
    pub fn remembered(&self) -> usize {
        let rooms = self.rooms.values().map(|room| room.seen.len().max(room.fresh.len()) + room.pods.len());
        rooms.sum::<usize>().max(self.homes.len()) + self.withheld.len()
    }

    /// A kind cannot be listed.
    pub fn unobservable(&mut self, kind: ObjectKind, reason: Arc<str>) {
        self.cannot_see.entry(kind).or_insert(reason);
    }

    /// Watch events may have been missed, or versions ran backwards.
    pub fn gap(&mut self, gap: Gap) {
        // Who does not lead has nothing to say of a gap that the leader closes by its own list; a store that went back
        // is worth telling whenever this process comes to lead, unless the log knows already.
        let tell = if gap.backwards {
            // A watch compares with what it saw before the store went back, however late it lists again: what was told
            // of the first kind, and what a person accepted since, are of this one too.
            // A watch notices within its time-outs; what is told much later is another step back.
            let now = self.now;
            let late =
                |since: Option<Time>| since.zip(now).is_some_and(|(since, now)| now > since + policy::NOTICED_WITHIN);
            let known = (self.listed_since_back.as_ref())
                .is_some_and(|(listed, since)| !listed.contains(&gap.kind) && !late(*since));
            if !known {
                self.listed_since_back = Some((BTreeSet::new(), now));
            }
            !known && self.world.operator.api_backwards.is_none()
        } else {
            self.leads()
        };
        let event = Event::from(gap);
        if tell && !self.notices.contains(&event) {
            self.notices.push(event);
        }
    }

    /// A person accepts the API server's store as it is, knowing of the log up to the message `until`.
    pub fn accept_api(&mut self, until: u64) {
        let event = Event::from(ApiAccepted { until });
        let told = self.world.operator.api_backwards.as_ref().is_some_and(|backwards| backwards.message <= until);
        let said = self.notices.iter().any(|notice| matches!(notice, Event::Operator(operator::Event::ApiAccepted(_))));
        if told && self.leads() && !said {
            self.notices.push(event);
        }
    }

    /// Whether the API server's store went back and nobody has accepted it.
    pub(super) fn backwards(&self) -> bool {
        let sent = self.operator_in_flight.iter().flat_map(|sent| &sent.outcomes);
        self.world.operator.api_backwards.is_some() || self.notices.iter().chain(sent).any(went_back)
    }

    /// A message of the operator's aggregate was folded: what waits to be said and is said already is dropped.
    pub(super) fn settle_notices(&mut self, backwards_before: bool, own: bool) {
        let recorded = self.world.operator.api_backwards.as_ref().map(|backwards| backwards.message);
        if recorded.is_some() && !backwards_before && !own && !self.notices.iter().any(went_back) {
            // Another process told of it: the lists of this one are still to come.
            self.listed_since_back = Some((BTreeSet::new(), self.now));
        }
        self.notices.retain(|event| {
            let accepted =
                if let Event::Operator(operator::Event::ApiAccepted(e)) = event { Some(e.until) } else { None };
            match accepted {
                Some(until) => recorded.is_some_and(|message| message <= until),
                None => recorded.is_none() || !went_back(event),
            }
        });
        if let (Some(epoch), Some(_), false) = (self.term(), recorded, backwards_before) {
            // The witness may have been put back too, and it is where a person accepts this.
            self.commands.push(Command::Witness { epoch, sequence: self.world.position });
        }
        if backwards_before && recorded.is_none() {
            // Whoever leads later must not take for there what the accepted store lacks.
            let gone = std::mem::take(&mut self.withheld);
            gone.into_iter().for_each(|(key, gone)| self.conclude(key, gone));
            if self.leads() {
                self.look_again_everywhere();
            }
        }
    }

    /// What changed in what can be listed, against what the log says: never what was true some time ago.
    pub(super) fn sight_changes(&self) -> Vec<Event> {
        let recorded = &self.world.operator.unobservable;
        let lost = self.cannot_see.iter().filter(|(kind, _)| !recorded.contains_key(kind));
        let found = recorded.keys().filter(|kind| self.listed.contains(kind) && !self.cannot_see.contains_key(kind));
        lost.map(|(kind, reason)| Unobservable { kind: *kind, reason: reason.clone() }.into())
            .chain(found.map(|kind| Observable { kind: *kind }.into()))
            .collect()
    }

    pub(super) fn settle_homes(&mut self, key: &DcKey, envelope: &Envelope) {
        for fact in &envelope.events {
            match fact {
                Fact::Known(Event::Observed(recorded @ (observed::Event::BackupJob(_) | observed::Event::Task(_)))) => {
                    let Some(place) = request(recorded) else { continue };
                    let uid = place.1.clone();
                    let before = self.homes.insert(uid, key.clone()).filter(|before| before != key);
                    // Where it is recorded, there it is compared.
                    if let Some(room) = before.and_then(|before| self.rooms.get_mut(&before)) {
                        room.fresh.remove(&place);
                        if let Some(seen) = room.seen.remove(&place) {
                            let room = self.rooms.entry(key.clone()).or_default();
                            room.fresh.insert(place.clone());
                            room.seen.insert(place, seen);
                        }
                    }
                }
                Fact::Known(Event::Observed(observed::Event::Schedule(recorded))) => {
                    let (kind, uid) = (ObjectKind::MedusaBackupSchedule, recorded.meta.uid.clone());
                    let place = (kind, uid.clone());
                    let elsewhere = self.rooms.iter().any(|(other, room)| {
                        other != key && matches!(room.seen.get(&place), Some(Observation::Schedule(..)))
                    });
                    if elsewhere {
                        // A former leader recorded it where it was before it named another datacenter.
                        let gone = Gone { kind, uid, name: recorded.meta.name.clone(), inferred: true };
                        let home = self.homes.get(&gone.uid).cloned();
                        self.conclude(key.clone(), gone);
                        self.homes.extend(home.map(|home| (recorded.meta.uid.clone(), home)));
                    } else {
                        self.homes.insert(uid, key.clone());
                    }
                }
                Fact::Known(Event::Observed(observed::Event::Gone(gone))) if gone.kind != ObjectKind::Pod => {
                    if self.homes.get(&gone.uid) == Some(key) {
                        self.homes.remove(&gone.uid);
                    }
                    // The log says so.
                    let place = (gone.kind, gone.uid.clone());
                    if let Some(room) = self.rooms.get_mut(key)
                        && matches!(room.seen.get(&place), Some(Observation::Gone(_)))
                    {
                        room.seen.remove(&place);
                        room.fresh.remove(&place);
                    }
                }
                Fact::Known(_) | Fact::Unknown { .. } => {}
            }
        }
    }
}

/// The object that had the name before, where the log knows the kind by name: it is there no more, since another one has
/// the name, and to compare both sights with the log would write each over the other without end.
fn supplanted(room: &mut Room, now: &Observation) -> Option<Place> {
    match now {
        Observation::Datacenter(_) | Observation::Backup(_) | Observation::Schedule(..) => {}
        Observation::BackupJob(..)
        | Observation::Task(..)
        | Observation::Pod(_)
        | Observation::Malformed(_)
        | Observation::Gone(_) => {
            return None;
        }
    }
    let (kind, uid) = (now.kind(), now.uid().clone());
    let former = room.names.insert((kind, compose::name(now)), uid.clone()).filter(|former| *former != uid)?;
    let place = (kind, former);
    room.fresh.remove(&place);
    room.seen.remove(&place).map(|_| place)
}

fn went_back(event: &Event) -> bool {
    matches!(event, Event::Observed(observed::Event::Gap(gap)) if gap.backwards)
}

/// The request that was recorded.
fn request(event: &observed::Event) -> Option<Place> {
    if let observed::Event::BackupJob(job) = event {
        return Some((ObjectKind::MedusaBackupJob, job.meta.uid.clone()));
    }
    if let observed::Event::Task(task) = event {
        return Some((ObjectKind::MedusaTask, task.meta.uid.clone()));
    }
    None
}
