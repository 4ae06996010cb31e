//! What each field of a message holds that somebody named or wrote. Every field is listed: one that is added to an event
//! does not compile before it is said here what it is.

mod backup;
mod others;
mod task;

use super::names::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::observed::{self, Meta, ObjectKind};
use stheno_events::{Aggregate, Envelope, Event, EventId, Fact, PodName, Uid};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// A name.
    Name(Kind),
    /// The program and the name of who wrote a message.
    By,
    /// What a person consents to: drawn, or told by a hash.
    Token,
    /// A sentence, or words that are none of a closed vocabulary.
    Text,
}

/// Looks at a text, and says what it becomes; none where it stays.
pub(super) type Look<'a> = &'a mut dyn FnMut(Field, &str) -> Option<Arc<str>>;

/// Goes through all texts of a message. Hashes, checkpoints and what this build does not know are the caller's.
pub(super) fn envelope(envelope: &mut Envelope, aggregate: Option<&Aggregate>, look: Look<'_>) {
    let Envelope { v: _, id, at: _, wall: _, seen: _, epoch: _, ns, dc, dc_uid, prev: _, cause, corr, by, events } =
        envelope;
    let mut walk = Walk { look };
    walk.id(id);
    walk.name(Kind::Namespace, ns);
    let kind = if matches!(aggregate, Some(Aggregate::Location(_))) { Kind::Location } else { Kind::Datacenter };
    walk.name(kind, dc);
    dc_uid.iter_mut().for_each(|uid| walk.uid(uid));
    cause.iter_mut().for_each(|id| walk.id(id));
    corr.iter_mut().for_each(|uid| walk.uid(uid));
    walk.text(Field::By, by);
    for fact in events {
        match fact {
            Fact::Known(event) => walk.event(event),
            Fact::Unknown { .. } => {}
        }
    }
}

struct Walk<'a> {
    look: Look<'a>,
}

impl Walk<'_> {
    fn text(&mut self, field: Field, text: &mut Arc<str>) {
        if let Some(other) = (self.look)(field, text) {
            *text = other;
        }
    }

    fn name(&mut self, kind: Kind, name: &mut Arc<str>) {
        self.text(Field::Name(kind), name);
    }

    fn names(&mut self, kind: Kind, names: &mut [Arc<str>]) {
        names.iter_mut().for_each(|name| self.name(kind, name));
    }

    fn perhaps(&mut self, field: Field, text: &mut Option<Arc<str>>) {
        text.iter_mut().for_each(|text| self.text(field, text));
    }

    /// What people write beside an object: `field` is what the values are.
    fn words(&mut self, words: &mut BTreeMap<Arc<str>, Arc<str>>, field: Field) {
        *words = std::mem::take(words)
            .into_iter()
            .map(|(mut key, mut value)| {
                self.text(Field::Text, &mut key);
                self.text(field, &mut value);
                (key, value)
            })
            .collect();
    }

    fn id(&mut self, id: &mut EventId) {
        if let Some(other) = (self.look)(Field::Name(Kind::Id), id.as_str()) {
            *id = other.into();
        }
    }

    fn uid(&mut self, uid: &mut Uid) {
        if let Some(other) = (self.look)(Field::Name(Kind::Id), uid.as_str()) {
            *uid = other.into();
        }
    }

    fn pod(&mut self, pod: &mut PodName) {
        if let Some(other) = (self.look)(Field::Name(Kind::Node), pod.as_str()) {
            *pod = other.into();
        }
    }

    fn pods(&mut self, pods: &mut [PodName]) {
        pods.iter_mut().for_each(|pod| self.pod(pod));
    }

    fn meta(&mut self, kind: ObjectKind, meta: &mut Meta) {
        let Meta { uid, name, resource_version, generation: _, created: _, deleting: _ } = meta;
        self.uid(uid);
        self.name(named(kind), name);
        self.name(Kind::Version, resource_version);
    }

    fn event(&mut self, event: &mut Event) {
        match event {
            Event::Observed(event) => self.observed(event),
            Event::Backup(event) => self.backup(event),
            Event::Schedule(event) => self.schedule(event),
            Event::Task(event) => self.task(event),
            Event::Datacenter(event) => self.datacenter(event),
            Event::Operator(event) => self.operator(event),
        }
    }

    fn observed(&mut self, event: &mut observed::Event) {
        match event {
            observed::Event::BackupJob(e) => {
                let observed::BackupJob { meta, dc, backup_type: _, rules: _, owned: _, schedule, annotations } = e;
                self.meta(ObjectKind::MedusaBackupJob, meta);
                self.name(Kind::Datacenter, dc);
                schedule.iter_mut().for_each(|uid| self.uid(uid));
                self.words(annotations, Field::Token);
            }
            observed::Event::Backup(e) => {
                let observed::Backup { meta, dc, backup_type: _, operation } = e;
                self.meta(ObjectKind::MedusaBackup, meta);
                self.name(Kind::Datacenter, dc);
                operation.iter_mut().for_each(|uid| self.uid(uid));
            }
            observed::Event::Schedule(e) => {
                let observed::Schedule {
                    meta,
                    dc,
                    backup_type: _,
                    rules: _,
                    cron,
                    time_zone,
                    suspended: _,
                    operation: _,
                    concurrency,
                    catch_up: _,
                    starting_deadline: _,
                    keep_complete: _,
                    keep_failed: _,
                    owned: _,
                } = e;
                self.meta(ObjectKind::MedusaBackupSchedule, meta);
                self.name(Kind::Datacenter, dc);
                self.name(Kind::Cron, cron);
                self.perhaps(Field::Name(Kind::Zone), time_zone);
                self.perhaps(Field::Name(Kind::Policy), concurrency);
            }
            observed::Event::Task(e) => {
                let observed::Task { meta, dc, operation: _, backup, restore_key, owned: _, labels, annotations } = e;
                self.meta(ObjectKind::MedusaTask, meta);
                self.name(Kind::Datacenter, dc);
                self.perhaps(Field::Name(Kind::Backup), backup);
                self.perhaps(Field::Name(Kind::Id), restore_key);
                self.words(labels, Field::Text);
                self.words(annotations, Field::Token);
            }
            observed::Event::Datacenter(e) => {
                let observed::Datacenter {
                    meta,
                    cluster,
                    datacenter_name,
                    size: _,
                    racks,
                    stopped: _,
                    observed_generation: _,
                    progress,
                    conditions,
                } = e;
                self.meta(ObjectKind::CassandraDatacenter, meta);
                self.name(Kind::Cluster, cluster);
                self.perhaps(Field::Name(Kind::Datacenter), datacenter_name);
                self.names(Kind::Rack, racks);
                self.perhaps(Field::Text, progress);
                self.words(conditions, Field::Text);
            }
            observed::Event::Pod(e) => {
                let observed::Pod { meta, cluster, ip, sidecar: _ } = e;
                self.meta(ObjectKind::Pod, meta);
                self.name(Kind::Cluster, cluster);
                self.perhaps(Field::Name(Kind::Address), ip);
            }
            observed::Event::Gone(e) => {
                let observed::Gone { kind, uid, name, inferred: _ } = e;
                self.uid(uid);
                self.name(named(*kind), name);
            }
            observed::Event::Adopted(e) => {
                let observed::Adopted {
                    kind: _,
                    uid,
                    started: _,
                    finished: _,
                    in_progress,
                    finished_pods,
                    failed_pods,
                } = e;
                self.uid(uid);
                [in_progress, finished_pods, failed_pods].into_iter().for_each(|pods| self.pods(pods));
            }
            observed::Event::Malformed(e) => {
                let observed::Malformed { kind, uid, name, reason } = e;
                self.uid(uid);
                self.name(named(*kind), name);
                self.text(Field::Text, reason);
            }
            observed::Event::Gap(e) => {
                let observed::Gap { kind: _, from, to, backwards: _ } = e;
                self.name(Kind::Version, from);
                self.name(Kind::Version, to);
            }
            observed::Event::Unobservable(e) => {
                let observed::Unobservable { kind: _, reason } = e;
                self.text(Field::Text, reason);
            }
            observed::Event::Observable(e) => {
                let observed::Observable { kind: _ } = e;
            }
        }
    }
}

/// Whose names objects of a kind bear. A backup has the name of its job.
const fn named(kind: ObjectKind) -> Kind {
    match kind {
        ObjectKind::MedusaBackupJob | ObjectKind::MedusaBackup => Kind::Backup,
        ObjectKind::MedusaBackupSchedule => Kind::Schedule,
        ObjectKind::MedusaTask => Kind::Task,
        ObjectKind::CassandraDatacenter => Kind::Datacenter,
        ObjectKind::Pod => Kind::Node,
    }
}
