//! The slots of a schedule that have not ended: those that are due, and the one behind them.

use super::reading::{Times, times};
use crate::policy;
use chrono::TimeDelta;
use stheno_events::Time;
use stheno_events::observed::{self, CatchUp};
use stheno_projections::schedule::Schedule;

/// One time at which something was asked for.
#[derive(Debug, Clone, Copy)]
struct Slot {
    at: Time,
    /// The schedule was suspended then.
    suspended: bool,
}

/// Slots in order: all that are due, as far as they are looked at together, and the one behind them.
#[derive(Debug)]
pub(super) struct Slots {
    listed: Vec<Slot>,
    /// How many of them are due.
    due: usize,
}

/// What becomes of the first slots in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The schedule is suspended, or was.
    Suspended,
    /// It is too late for them.
    DeadlinePassed,
    /// A later one stands for them.
    Superseded,
    /// More have passed than are made up for.
    TooMany,
    /// They are late, and nothing late is made up for.
    NotInTime,
    /// It is to run.
    Candidate,
}

/// Until when a slot may start. The second in which it comes always counts: nobody could start it any earlier.
pub(super) fn deadline(request: &observed::Schedule, slot: Time) -> Option<Time> {
    request.starting_deadline.map(|seconds| slot + TimeDelta::seconds(seconds.max(1).into()))
}

impl Slots {
    /// The open slots of a schedule, with those of times from before its edits; none of the present ones where these
    /// cannot be read.
    pub(super) fn of(schedule: &Schedule, present: Option<&Times>, now: Time) -> Self {
        let mut listed = Vec::new();
        let mut due = 0;
        let cursor = schedule.cursor;
        let former = schedule.former.iter().filter_map(|span| {
            let times = times(&span.cron, span.time_zone.as_deref()).ok()?;
            Some((times, span.since.max(cursor), Some(span.until), span.suspended))
        });
        let present =
            present.map(|times| (times.clone(), schedule.since.max(cursor), None, schedule.request.suspended));
        'spans: for (times, since, until, suspended) in former.chain(present) {
            let mut after = since;
            while let Some(at) = times.cron.next_after(after, times.zone).filter(|at| *at > after) {
                if until.is_some_and(|until| at > until) {
                    break;
                }
                listed.push(Slot { at, suspended });
                if at > now || due == policy::SLOTS_AT_ONCE {
                    break 'spans;
                }
                due += 1;
                after = at;
            }
        }
        Self { listed, due }
    }

    /// How many are due.
    pub(super) const fn due(&self) -> usize {
        self.due
    }

    /// The first that has not ended, where one is due.
    pub(super) fn first(&self) -> Option<Time> {
        self.listed.first().filter(|_| self.due > 0).map(|slot| slot.at)
    }

    /// The last of the first `count`.
    pub(super) fn last_of(&self, count: usize) -> Time {
        self.listed.get(count.saturating_sub(1)).map(|slot| slot.at).unwrap_or_default()
    }

    /// The slot behind the first `count`.
    pub(super) fn behind(&self, count: usize) -> Option<Time> {
        self.listed.get(count).map(|slot| slot.at)
    }

    /// The first that is not due yet.
    pub(super) fn future(&self) -> Option<Time> {
        self.behind(self.due)
    }

    /// What becomes of the first slot, and of how many in a row.
    pub(super) fn fate(&self, request: &observed::Schedule, now: Time) -> (Fate, usize) {
        let fates: Vec<Fate> = (0..self.due).map(|index| self.fate_of(index, request, now)).collect();
        let Some(first) = fates.first().copied() else { return (Fate::Candidate, 0) };
        if first == Fate::Candidate {
            return (first, 1);
        }
        (first, fates.iter().take_while(|fate| **fate == first).count())
    }

    fn fate_of(&self, index: usize, request: &observed::Schedule, now: Time) -> Fate {
        let Some(slot) = self.listed.get(index) else { return Fate::Candidate };
        if slot.suspended || request.suspended {
            return Fate::Suspended;
        }
        if deadline(request, slot.at).is_some_and(|deadline| now > deadline) {
            return Fate::DeadlinePassed;
        }
        // Where not all that are due were looked at, each of these has later ones.
        let more = self.listed.get(self.due).is_some_and(|behind| behind.at <= now);
        let later = || self.listed[index + 1..self.due].iter().any(|later| !later.suspended);
        match request.catch_up {
            // The last of those that are looked at together are looked at again with what comes behind them.
            CatchUp::All if self.due - index > policy::CATCH_UP_AT_ONCE => Fate::TooMany,
            CatchUp::All => Fate::Candidate,
            CatchUp::None | CatchUp::Latest if more || later() => Fate::Superseded,
            CatchUp::None if now > slot.at + policy::ON_TIME => Fate::NotInTime,
            CatchUp::None | CatchUp::Latest => Fate::Candidate,
        }
    }
}
