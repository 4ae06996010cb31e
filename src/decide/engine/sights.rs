//! What is seen of the API server: kept as the newest sight of each object until the log agrees with it.

use super::{Engine, compose};
use crate::Observation;
use std::collections::BTreeSet;
use std::sync::Arc;
use stheno_events::observed::{self, Gap, Gone, ObjectKind, Observable, Unobservable};
use stheno_events::{DcKey, Envelope, Event, Fact, Uid};

impl Engine {
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
        self.cannot_see.remove(&kind);
    }

    /// A kind cannot be listed.
    pub fn unobservable(&mut self, kind: ObjectKind, reason: Arc<str>) {
        self.cannot_see.entry(kind).or_insert(reason);
    }

    /// Watch events may have been missed, or versions ran backwards.
    pub fn gap(&mut self, gap: Gap) {
        // Who does not lead has nothing to say of a gap that the leader closes by its own list; a store that went back
        // is worth telling whenever this process comes to lead.
        let event = Event::from(gap);
        let backwards = matches!(
            &event,
            Event::Observed(observed::Event::Gap(gap)) if gap.backwards
        );
        if (backwards || self.leads()) && !self.notices.contains(&event) {
            self.notices.push(event);
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
            if let Fact::Known(Event::Observed(observed::Event::BackupJob(job))) = fact {
                self.homes.insert(job.meta.uid.clone(), key.clone());
            }
        }
    }
}
