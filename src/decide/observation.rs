//! What an observer hands in: the newest sight of an object. Whether that is news is found by comparing it with the state.

use std::sync::Arc;
use stheno_events::observed::{
    Adopted, Backup, BackupJob, Datacenter as DcObject, Gone, Malformed, Meta, ObjectKind, Pod, Schedule, Task,
};
use stheno_events::{DcKey, Uid};
use stheno_events::{Event, observed};
use stheno_projections::Datacenter;

/// The newest sight of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A MedusaBackupJob, with the status that another program may have left on it.
    BackupJob(BackupJob, Option<Adopted>),
    /// A MedusaBackup.
    Backup(Backup),
    /// A MedusaBackupSchedule, with the status that another program may have left on it.
    Schedule(Schedule, Option<Adopted>),
    /// A MedusaTask, with the status that another program may have left on it.
    Task(Task, Option<Adopted>),
    /// A CassandraDatacenter.
    Datacenter(DcObject),
    /// A pod with a datacenter's labels.
    Pod(Pod),
    /// An object that cannot be read.
    Malformed(Malformed),
    /// An object that is there no more.
    Gone(Gone),
}

impl Observation {
    /// The kind of the object.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::BackupJob(..) => ObjectKind::MedusaBackupJob,
            Self::Backup(_) => ObjectKind::MedusaBackup,
            Self::Schedule(..) => ObjectKind::MedusaBackupSchedule,
            Self::Task(..) => ObjectKind::MedusaTask,
            Self::Datacenter(_) => ObjectKind::CassandraDatacenter,
            Self::Pod(_) => ObjectKind::Pod,
            Self::Malformed(e) => e.kind,
            Self::Gone(e) => e.kind,
        }
    }

    /// The identity of the object.
    #[must_use]
    pub const fn uid(&self) -> &Uid {
        match self {
            Self::BackupJob(e, _) => &e.meta.uid,
            Self::Backup(e) => &e.meta.uid,
            Self::Schedule(e, _) => &e.meta.uid,
            Self::Task(e, _) => &e.meta.uid,
            Self::Datacenter(e) => &e.meta.uid,
            Self::Pod(e) => &e.meta.uid,
            Self::Malformed(e) => &e.uid,
            Self::Gone(e) => &e.uid,
        }
    }

    /// The datacenter that the object belongs to, in `namespace`; none where only the log knows (an object that is gone).
    #[must_use]
    pub fn home(&self, namespace: &Arc<str>) -> Option<DcKey> {
        let name = match self {
            Self::BackupJob(e, _) => &e.dc,
            Self::Backup(e) => &e.dc,
            Self::Schedule(e, _) => &e.dc,
            Self::Task(e, _) => &e.dc,
            Self::Datacenter(e) => &e.meta.name,
            Self::Pod(_) | Self::Malformed(_) | Self::Gone(_) => return None,
        };
        Some(DcKey::new(namespace.clone(), name.clone()))
    }

    /// The events that make the state agree with this sight; none when it is no news.
    #[must_use]
    pub fn news(&self, dc: &Datacenter) -> Vec<Event> {
        match self {
            Self::BackupJob(seen, status) => match dc.operations.get(&seen.meta.uid) {
                None if dc.forgotten.too_old(&seen.meta) => Vec::new(),
                None => {
                    // One that came back from an older store has ended: only the status of that end is news.
                    let ended = dc.forgotten.tombstone(&seen.meta).is_some();
                    let adopted = status.clone().filter(|status| !ended || status.finished.is_some()).map(Event::from);
                    std::iter::once(seen.clone().into()).chain(adopted).collect()
                }
                Some(known) if known.gone => {
                    // A sight from before its end, unless it came back from an older store that a person accepted.
                    let known = &known.request.meta;
                    let back = known.resource_version.is_empty() || newer(known, &seen.meta);
                    if back { vec![seen.clone().into()] } else { Vec::new() }
                }
                Some(known) => {
                    let known = &known.request;
                    let same = BackupJob { meta: known.meta.clone(), ..seen.clone() } == *known;
                    changed(same, &known.meta, &seen.meta, || seen.clone().into())
                }
            },
            Self::Backup(seen) => {
                // One that a sync has deleted is there until it is gone.
                let known = dc.backups.get(&seen.meta.name).is_some_and(|backup| backup.is(&seen.meta.uid))
                    || dc.removals.contains_key(&seen.meta.uid);
                if known { Vec::new() } else { vec![seen.clone().into()] }
            }
            Self::Schedule(seen, status) => match dc.schedules.get(&seen.meta.uid) {
                None => std::iter::once(seen.clone().into()).chain(status.clone().map(Event::from)).collect(),
                Some(known) => {
                    let known = &known.request;
                    let same = Schedule { meta: known.meta.clone(), ..seen.clone() } == *known;
                    changed(same, &known.meta, &seen.meta, || seen.clone().into())
                }
            },
            Self::Task(seen, status) => match dc.tasks.get(&seen.meta.uid) {
                None if dc.forgotten.too_old(&seen.meta) => Vec::new(),
                None => {
                    // One that came back from an older store has ended: only the status of that end is news.
                    let ended = dc.forgotten.tombstone(&seen.meta).is_some();
                    let adopted = status.clone().filter(|status| !ended || status.finished.is_some()).map(Event::from);
                    std::iter::once(seen.clone().into()).chain(adopted).collect()
                }
                Some(known) if known.gone => {
                    let known = &known.request.meta;
                    let back = known.resource_version.is_empty() || newer(known, &seen.meta);
                    if back { vec![seen.clone().into()] } else { Vec::new() }
                }
                Some(known) => {
                    let known = &known.request;
                    let same = Task { meta: known.meta.clone(), ..seen.clone() } == *known;
                    changed(same, &known.meta, &seen.meta, || seen.clone().into())
                }
            },
            Self::Datacenter(seen) => match &dc.object {
                None => vec![seen.clone().into()],
                Some(known) => {
                    let same = DcObject { meta: known.meta.clone(), ..seen.clone() } == **known;
                    changed(same, &known.meta, &seen.meta, || seen.clone().into())
                }
            },
            Self::Pod(seen) => match dc.pods.get(&seen.name()) {
                None => vec![seen.clone().into()],
                Some(known) => {
                    let same = Pod { meta: known.meta.clone(), ..seen.clone() } == **known;
                    changed(same, &known.meta, &seen.meta, || seen.clone().into())
                }
            },
            Self::Malformed(seen) => {
                let known = dc.malformed.get(&seen.uid).is_some_and(|known| **known == *seen);
                if known { Vec::new() } else { vec![seen.clone().into()] }
            }
            Self::Gone(seen) => {
                if knows(dc, seen) {
                    vec![observed::Event::Gone(seen.clone()).into()]
                } else {
                    Vec::new()
                }
            }
        }
    }
}

/// An event when the content or the meaning of the metadata changed; a mere resourceVersion is no news, an older one
/// even less.
fn changed(same: bool, known: &Meta, seen: &Meta, event: impl FnOnce() -> Event) -> Vec<Event> {
    let stale = known.uid == seen.uid && newer(seen, known);
    let same = same && known.uid == seen.uid && known.deleting == seen.deleting && known.generation == seen.generation;
    if stale || same { Vec::new() } else { vec![event()] }
}

/// Whether `second` is a later version of an object than `first`, as far as versions can be compared.
fn newer(first: &Meta, second: &Meta) -> bool {
    let number = |meta: &Meta| meta.resource_version.parse::<u64>().ok();
    matches!((number(first), number(second)), (Some(first), Some(second)) if first < second)
}

fn knows(dc: &Datacenter, gone: &Gone) -> bool {
    dc.malformed.contains_key(&gone.uid)
        || match gone.kind {
            ObjectKind::MedusaBackupJob => {
                dc.operations.get(&gone.uid).is_some_and(|operation| !operation.gone)
                    || dc.scheduled.get(&gone.name).is_some_and(|made| made.is(&gone.uid))
            }
            ObjectKind::MedusaBackupSchedule => dc.schedules.contains_key(&gone.uid),
            ObjectKind::MedusaTask => dc.tasks.get(&gone.uid).is_some_and(|task| !task.gone),
            ObjectKind::MedusaBackup => {
                dc.backups.get(&gone.name).is_some_and(|backup| backup.is(&gone.uid))
                    || dc.removals.contains_key(&gone.uid)
            }
            ObjectKind::CassandraDatacenter => dc.object.as_ref().is_some_and(|object| object.meta.uid == gone.uid),
            ObjectKind::Pod => dc.pods.values().any(|pod| pod.meta.uid == gone.uid),
        }
}
