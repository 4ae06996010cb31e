//! The time of a decision: a wall clock that is set while we run is not followed.

use super::Engine;
use crate::Context;
use stheno_events::{DcKey, Epoch, Time};

impl Engine {
    /// The time of a decision. A wall clock that was set while we run is not followed: a backup must not end because of
    /// it. Where the log is ahead of us its time goes on by the machine's clock, so that waits still end.
    pub(super) fn clock(&mut self, wall: Time, boot_ms: u64) -> Clock {
        let passed = |since: u64| {
            chrono::TimeDelta::milliseconds(i64::try_from(boot_ms.saturating_sub(since)).unwrap_or(i64::MAX / 2))
        };
        let steady = match self.steady {
            Some((time, since)) if (wall - (time + passed(since))).abs() > crate::policy::CLOCK_JUMP => {
                time + passed(since)
            }
            Some(_) | None => wall,
        };
        self.steady = Some((steady, boot_ms));
        // Only what lies behind its time that went on meanwhile is news: messages come back later than they are written.
        if let Some(at) = self.world.at.filter(|at| self.ahead.is_none_or(|(ahead, since)| *at > ahead + passed(since)))
        {
            self.ahead = Some((at, boot_ms));
        }
        let ahead = self.ahead.map(|(at, since)| at + passed(since));
        let now = ahead.map_or(steady, |ahead| ahead.max(steady));
        (self.now, self.before_wall) = (Some(now), now - wall);
        Clock { wall, now, boot_ms }
    }
}

impl Engine {
    /// What an effect read from the wall clock, by the time of decisions: where that does not follow the wall clock, a node
    /// that was heard of just now must not count as silent, nor one that is silent as heard of.
    pub(super) fn by_our_time(&self, wall: Time) -> Time {
        let time = wall + self.before_wall;
        self.now.map_or(time, |now| time.min(now))
    }
}

/// The clocks of one poll.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) wall: Time,
    pub(super) now: Time,
    pub(super) boot_ms: u64,
}

impl Clock {
    pub(super) const fn context<'a>(self, key: &'a DcKey, epoch: Epoch) -> Context<'a> {
        Context { key, now: self.now, epoch }
    }
}
