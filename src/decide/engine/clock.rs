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
        if let Some(at) = self.world.at.filter(|at| self.ahead.is_none_or(|(ahead, _)| *at > ahead)) {
            self.ahead = Some((at, boot_ms));
        }
        let ahead = self.ahead.map(|(at, since)| at + passed(since));
        let now = ahead.map_or(steady, |ahead| ahead.max(steady));
        self.now = Some(now);
        Clock { wall, now, boot_ms }
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
