//! False sidecars. Ours: idempotent by (operation, attempt), fenced by epoch, state survives a restart. Stock Medusa: a
//! second start of a name breaks the first, state is lost on restart, NOT_FOUND until the backup becomes visible.

use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_events::{Epoch, Uid};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stheno,
    Medusa,
}

#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) operation: Uid,
    pub(crate) attempt: u32,
    pub(crate) visible_ms: u64,
    pub(crate) ends_ms: u64,
    pub(crate) fails: bool,
    /// It was broken off; stock: the thread died with its process.
    pub(crate) dead: bool,
}

/// What a sidecar says of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    NotFound,
    /// In progress; ends at this moment.
    Running(u64),
    Done,
    Failed {
        retryable: bool,
    },
    /// A lower epoch than one seen before.
    Fenced,
    Unreachable,
}

pub(crate) struct Sidecar {
    pub(crate) kind: Kind,
    /// Away until this moment: restarting, or cut off.
    pub(crate) away_until: u64,
    /// Answers nothing at all until this moment.
    pub(crate) epoch: Epoch,
    pub(crate) works: BTreeMap<Arc<str>, Work>,
    /// Starts of each backup that arrived.
    pub(crate) starts: BTreeMap<Arc<str>, Vec<(Epoch, u64)>>,
}

impl Sidecar {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, away_until: 0, epoch: Epoch(0), works: BTreeMap::new(), starts: BTreeMap::new() }
    }

    pub(crate) fn start(&mut self, now: u64, name: &Arc<str>, work: Work, epoch: Epoch) -> Answer {
        if now < self.away_until {
            return Answer::Unreachable;
        }
        match self.kind {
            Kind::Stheno => {
                if epoch < self.epoch {
                    return Answer::Fenced;
                }
                self.epoch = epoch;
                let known = self.works.get(name);
                let same = known.is_some_and(|k| k.operation == work.operation && k.attempt >= work.attempt);
                if !same {
                    self.starts.entry(name.clone()).or_default().push((epoch, now));
                    self.works.insert(name.clone(), work);
                }
            }
            Kind::Medusa => {
                self.starts.entry(name.clone()).or_default().push((epoch, now));
                self.works.insert(name.clone(), work);
            }
        }
        self.status(now, name)
    }

    /// Ours breaks off what runs; what has ended stays what it is.
    pub(crate) fn cancel(&mut self, now: u64, name: &Arc<str>, operation: &Uid, epoch: Epoch) -> Answer {
        if now < self.away_until {
            return Answer::Unreachable;
        }
        if epoch < self.epoch {
            return Answer::Fenced;
        }
        self.epoch = epoch;
        match self.works.get_mut(name).filter(|work| work.operation == *operation) {
            None => return Answer::NotFound,
            Some(work) if now < work.ends_ms => (work.ends_ms, work.dead) = (now, true),
            Some(_) => {}
        }
        self.status(now, name)
    }

    pub(crate) fn status(&self, now: u64, name: &Arc<str>) -> Answer {
        if now < self.away_until {
            return Answer::Unreachable;
        }
        match self.works.get(name) {
            None => Answer::NotFound,
            Some(work) if self.kind == Kind::Medusa && now < work.visible_ms => Answer::NotFound,
            Some(work) if work.dead => Answer::Failed { retryable: false },
            Some(work) if now < work.ends_ms => Answer::Running(work.ends_ms),
            Some(work) if work.fails => Answer::Failed { retryable: self.kind == Kind::Stheno },
            Some(_) => Answer::Done,
        }
    }

    /// Whether its part of a backup lies in the bucket.
    pub(crate) fn finished(&self, now: u64, name: &Arc<str>) -> bool {
        self.works.get(name).is_some_and(|work| now >= work.ends_ms && !work.fails && !work.dead)
    }

    /// Whether something of an operation is at work here.
    pub(crate) fn works_on(&self, operation: &Uid, now: u64) -> bool {
        self.works.values().any(|work| work.operation == *operation && !work.dead && now < work.ends_ms)
    }

    /// The process restarts: ours goes on where it was, stock Medusa's threads are gone.
    pub(crate) fn restart(&mut self, now: u64, away_ms: u64) {
        self.away_until = now + away_ms;
        for work in self.works.values_mut().filter(|work| now < work.ends_ms) {
            match self.kind {
                Kind::Stheno => work.ends_ms += away_ms + 500,
                Kind::Medusa => work.dead = true,
            }
        }
    }
}
