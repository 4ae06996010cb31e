//! What is remembered of operations that have left the world: a job that comes back from an older copy of the API server's
//! store is never run again.

use crate::backup::{Operation, Stage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::backup::Outcome;
use stheno_events::observed::Meta;
use stheno_events::{Time, Uid};

/// As many of a datacenter are remembered one by one: more than a year of hourly backups.
const KEPT: usize = 10_000;

/// How a forgotten operation had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Start, if it started at all.
    pub started: Option<Time>,
    /// End.
    pub finished: Time,
    /// The outcome.
    pub outcome: Outcome,
    /// One sentence.
    pub message: Arc<str>,
    /// It had ended before the log met it: its status is not ours to write.
    pub adopted: bool,
}

/// Operations that ended and whose custom resource is gone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Forgotten {
    /// By the creation of the custom resource, so that the oldest are first.
    tombstones: BTreeMap<(Time, Uid), Tombstone>,
    /// Those that were created up to here are not remembered one by one any more.
    until: Option<Time>,
}

impl Forgotten {
    /// How the operation of this object had ended, where it is remembered by itself.
    #[must_use]
    pub fn tombstone(&self, meta: &Meta) -> Option<&Tombstone> {
        self.tombstones.get(&(meta.created, meta.uid.clone()))
    }

    /// Whether an object that the world does not know is too old to be told from one that was forgotten.
    #[must_use]
    pub fn too_old(&self, meta: &Meta) -> bool {
        self.until.is_some_and(|until| meta.created <= until) && self.tombstone(meta).is_none()
    }

    /// Takes in an operation that leaves the world.
    pub(crate) fn bury(&mut self, operation: &Operation) {
        let Stage::Ended { started, finished, outcome, message, adopted } = &operation.stage else { return };
        let (message, adopted) = (message.clone(), *adopted);
        let tombstone = Tombstone { started: *started, finished: *finished, outcome: *outcome, message, adopted };
        self.lay(&operation.request.meta, tombstone);
    }

    /// Remembers how the operation of an object had ended.
    pub(crate) fn lay(&mut self, meta: &Meta, tombstone: Tombstone) {
        self.tombstones.insert((meta.created, meta.uid.clone()), tombstone);
        while self.tombstones.len() > KEPT {
            if let Some(((created, _), _)) = self.tombstones.pop_first() {
                self.until = self.until.max(Some(created));
            }
        }
    }

    /// The operation of an object that came back.
    pub(crate) fn rise(memory: &mut Arc<Self>, meta: &Meta) -> Option<Stage> {
        let Tombstone { started, finished, outcome, message, adopted } = Self::lift(memory, meta)?;
        Some(Stage::Ended { started, finished, outcome, message, adopted })
    }

    /// How the operation of an object that came back had ended.
    pub(crate) fn lift(memory: &mut Arc<Self>, meta: &Meta) -> Option<Tombstone> {
        // Nearly all are new: what is shared with a snapshot or a draft is not copied for them.
        memory.tombstone(meta)?;
        Arc::make_mut(memory).tombstones.remove(&(meta.created, meta.uid.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use stheno_events::observed::{BackupJob, BackupType, JobRules};

    fn meta(number: i64) -> Meta {
        Meta {
            uid: format!("job-{number}").into(),
            name: "nightly".into(),
            resource_version: "7".into(),
            generation: 1,
            created: Time::UNIX_EPOCH + TimeDelta::seconds(number),
            deleting: None,
        }
    }

    fn ended(number: i64) -> Operation {
        let request = BackupJob {
            meta: meta(number),
            dc: "dc1".into(),
            backup_type: BackupType::Full,
            owned: false,
            schedule: None,
            rules: JobRules::default(),
            annotations: BTreeMap::new(),
        };
        let mut operation = Operation::requested(request, Time::UNIX_EPOCH);
        operation.stage = Stage::Ended {
            started: None,
            finished: Time::UNIX_EPOCH,
            outcome: Outcome::Complete,
            message: "done".into(),
            adopted: false,
        };
        operation
    }

    #[test]
    fn memory_is_bounded_and_nothing_that_left_it_is_taken_for_new() {
        let mut forgotten = Forgotten::default();
        let many = i64::try_from(KEPT).unwrap() + 5;
        (0..many).for_each(|number| forgotten.bury(&ended(number)));
        assert_eq!(forgotten.tombstones.len(), KEPT);
        assert!(forgotten.tombstone(&meta(5)).is_some() && !forgotten.too_old(&meta(5)));
        assert!(forgotten.tombstone(&meta(4)).is_none() && forgotten.too_old(&meta(4)));
        assert!(!forgotten.too_old(&meta(many)), "a new one is new");
        let mut forgotten = Arc::new(forgotten);
        assert!(matches!(Forgotten::rise(&mut forgotten, &meta(9)), Some(Stage::Ended { .. })));
        assert!(forgotten.tombstone(&meta(9)).is_none());
    }
}
