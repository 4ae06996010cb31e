//! A schedule as the log tells it: which of its slots ended how, which one waits, what is to be created for them.

use crate::datacenter::Object;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use stheno_events::observed::{self, ScheduledOperation};
use stheno_events::schedule::{Event, MissReason, Requested, SkipReason};
use stheno_events::{Time, Uid};

/// So many outcomes are kept one by one: what the status shows.
const OUTCOMES: usize = 10;

/// One MedusaBackupSchedule and its slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What was asked for.
    pub request: observed::Schedule,
    /// Since when the times of the request count.
    pub since: Time,
    /// Slots up to here have ended.
    pub cursor: Time,
    /// Times from before edits, some slots of which may not have ended yet; in order.
    pub former: Vec<Span>,
    /// What its times come to.
    pub plan: Plan,
    /// The slot that waits.
    pub postponed: Option<Postponed>,
    /// How many slots ended how.
    pub counts: Counts,
    /// How the last slots ended, the latest last.
    pub outcomes: VecDeque<Outcome>,
    /// When something was last started.
    pub last_execution: Option<Time>,
    /// Whether it starts something at its next slot, and since when that is so.
    pub ready: Option<(bool, Time)>,
}

/// Times that counted for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// From here on, not included.
    pub since: Time,
    /// Up to here, included.
    pub until: Time,
    /// The expression.
    pub cron: Arc<str>,
    /// Its zone.
    pub time_zone: Option<Arc<str>>,
    /// Whether the schedule was suspended.
    pub suspended: bool,
}

/// What the times of a schedule come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// They were not read yet, or not since the last edit.
    Unread,
    /// They were read.
    Times {
        /// The first slot that has not ended; none when there is none.
        next: Option<Time>,
    },
    /// They cannot be followed.
    Refused {
        /// One sentence.
        message: Arc<str>,
    },
}

/// A slot that waits for the end of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postponed {
    /// The slot.
    pub slot: Time,
    /// Since when it waits.
    pub since: Time,
    /// When it is skipped if it still waits.
    pub until: Option<Time>,
    /// What it waits for, one sentence.
    pub message: Arc<str>,
}

/// How many slots ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// In time.
    pub ran: u64,
    /// Late.
    pub ran_late: u64,
    /// Nothing was started, on purpose.
    pub skipped: u64,
    /// Nothing was started when it was time.
    pub missed: u64,
}

impl Counts {
    /// All slots that have ended.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.ran.saturating_add(self.ran_late).saturating_add(self.skipped).saturating_add(self.missed)
    }
}

/// How slots in a row ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The first of them.
    pub first: Time,
    /// The last of them.
    pub last: Time,
    /// How many.
    pub count: u64,
    /// How.
    pub ended: Ended,
}

/// How a slot ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// In time: the object's name.
    Ran(Arc<str>),
    /// Late: the object's name.
    RanLate(Arc<str>),
    /// Nothing was started, on purpose.
    Skipped(SkipReason),
    /// Nothing was started when it was time.
    Missed(MissReason),
}

/// An object that a slot asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The schedule.
    pub schedule: Uid,
    /// Its name.
    pub schedule_name: Arc<str>,
    /// The slot.
    pub slot: Time,
    /// What was asked for.
    pub request: Requested,
    /// When it was asked for, or created.
    pub since: Time,
    /// The object; never [`Object::Foreign`].
    pub object: Object,
    /// It is to be deleted: the schedule keeps no more.
    pub expired: bool,
}

impl Schedule {
    /// A schedule that the log has just met. Its slots count from `cursor` on.
    #[must_use]
    pub(crate) const fn met(request: observed::Schedule, cursor: Time) -> Self {
        Self {
            request,
            since: cursor,
            cursor,
            former: Vec::new(),
            plan: Plan::Unread,
            postponed: None,
            counts: Counts { ran: 0, ran_late: 0, skipped: 0, missed: 0 },
            outcomes: VecDeque::new(),
            last_execution: None,
            ready: None,
        }
    }

    /// It was there before the log: what another program made of earlier slots is not made again.
    pub(crate) fn adopt(&mut self, at: Time) {
        if self.counts.total() == 0 {
            self.cursor = self.cursor.max(at);
            self.since = self.cursor;
        }
    }

    /// It was edited. What it said before counts for the slots up to now.
    pub(crate) fn edit(&mut self, request: observed::Schedule, at: Time) {
        let before = &self.request;
        let same = before.cron == request.cron
            && before.time_zone == request.time_zone
            && before.suspended == request.suspended;
        let refused = matches!(self.plan, Plan::Refused { .. });
        if refused {
            // As long as it could not be followed it had no slots.
            self.since = at;
        } else if !same || before.concurrency != request.concurrency {
            self.former.push(Span {
                since: self.since,
                until: at,
                cron: before.cron.clone(),
                time_zone: before.time_zone.clone(),
                suspended: before.suspended,
            });
            self.since = at;
        }
        if let Some(postponed) = self.postponed.as_mut().filter(|_| !same) {
            // Of other times nobody can say which slot it would have waited for.
            postponed.until = Some(postponed.until.map_or(at, |until| until.min(at)));
        }
        if !same || before.meta.generation != request.meta.generation {
            self.plan = Plan::Unread;
        }
        self.request = request;
    }

    /// Folds one event of this schedule. Returns whether it was legal: a slot ends once, and in order.
    pub(crate) fn apply(&mut self, event: &Event, at: Time) -> bool {
        let legal = match event {
            Event::Accepted(e) => {
                self.former.clear();
                self.plan = Plan::Times { next: e.next };
                true
            }
            Event::Rejected(e) => {
                self.former.clear();
                self.plan = Plan::Refused { message: e.message.clone() };
                true
            }
            Event::Postponed(e) => {
                let open = e.slot > self.cursor && self.postponed.is_none();
                if open {
                    let message = e.message.clone();
                    self.postponed = Some(Postponed { slot: e.slot, since: at, until: e.until, message });
                }
                open
            }
            Event::Ran(e) => {
                let ended = self.end((e.slot, e.slot, 1), Ended::Ran(e.object.name.clone()), e.next);
                if ended {
                    self.counts.ran += 1;
                    self.last_execution = Some(at);
                }
                ended
            }
            Event::RanLate(e) => {
                let ended = self.end((e.slot, e.slot, 1), Ended::RanLate(e.object.name.clone()), e.next);
                if ended {
                    self.counts.ran_late += 1;
                    self.last_execution = Some(at);
                }
                ended
            }
            Event::Skipped(e) => {
                let ended = self.end((e.first, e.last, e.count), Ended::Skipped(e.reason), e.next);
                if ended {
                    self.counts.skipped = self.counts.skipped.saturating_add(e.count);
                }
                ended
            }
            Event::Missed(e) => {
                let ended = self.end((e.first, e.last, e.count), Ended::Missed(e.reason), e.next);
                if ended {
                    self.counts.missed = self.counts.missed.saturating_add(e.count);
                }
                ended
            }
            // These are about objects: see Datacenter.
            Event::ObjectCreated(_) | Event::Expired(_) => true,
        };
        let ready = match &self.plan {
            Plan::Unread => return legal,
            Plan::Times { next } => next.is_some() && !self.request.suspended,
            Plan::Refused { .. } => false,
        };
        if self.ready.is_none_or(|(before, _)| before != ready) {
            self.ready = Some((ready, at));
        }
        legal
    }

    fn end(&mut self, (first, last, count): (Time, Time, u64), ended: Ended, next: Option<Time>) -> bool {
        if first <= self.cursor || last < first || count == 0 {
            return false;
        }
        self.cursor = last;
        self.former.retain(|span| span.until > last);
        self.postponed.take_if(|postponed| postponed.slot <= last);
        if let Plan::Times { next: known } = &mut self.plan {
            *known = next;
        }
        self.outcomes.push_back(Outcome { first, last, count, ended });
        if self.outcomes.len() > OUTCOMES {
            self.outcomes.pop_front();
        }
        true
    }
}

impl Scheduled {
    /// Whether this is its object.
    #[must_use]
    pub fn is(&self, object: &Uid) -> bool {
        match &self.object {
            Object::Ours { uid } | Object::Foreign { uid } => uid == object,
            Object::Wanted => false,
        }
    }

    /// Whether it is a backup whose object is there, or is to be.
    #[must_use]
    pub const fn is_backup(&self) -> bool {
        matches!(self.request.operation, ScheduledOperation::Backup)
    }
}
