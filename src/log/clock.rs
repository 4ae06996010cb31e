//! The writer's wall clock beside the server's timestamps: who drives by time must know that they agree.

use chrono::TimeDelta;
use std::sync::Arc;
use stheno_events::Time;

/// Where the log gets the wall clock from: given by the process's edge, never read here.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Above this the condition `ClockSkew` is shown.
pub const WARN: TimeDelta = TimeDelta::seconds(5);
/// Above this nothing is appended and nothing is driven by time.
pub const STOP: TimeDelta = TimeDelta::seconds(60);

/// What a difference between the clocks means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// At most 5 s.
    Fine,
    /// More than 5 s: shown, tolerated.
    Warn(TimeDelta),
    /// More than 60 s: no append, nothing driven by time.
    Stop(TimeDelta),
}

impl Skew {
    /// Judges an offset as [`offset`] measures it.
    #[must_use]
    pub fn of(offset: TimeDelta) -> Self {
        let size = offset.abs();
        if size > STOP {
            Self::Stop(offset)
        } else if size > WARN {
            Self::Warn(offset)
        } else {
            Self::Fine
        }
    }
}

/// How far the wall clock is ahead of the server's (negative: behind), given a server's timestamp that was taken between
/// two readings of the wall clock. Zero when the timestamp lies between them: a slow answer alone is no skew.
#[must_use]
pub fn offset(before: Time, server: Time, after: Time) -> TimeDelta {
    if server < before {
        before - server
    } else if server > after {
        after - server
    } else {
        TimeDelta::zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_timestamp_between_the_readings_is_no_skew_however_slow_the_answer() {
        assert_eq!(offset(at(0), at(90), at(100)), TimeDelta::zero());
    }

    #[test]
    fn the_sign_says_who_is_ahead() {
        assert_eq!(offset(at(10), at(0), at(11)), TimeDelta::seconds(10));
        assert_eq!(offset(at(0), at(10), at(1)), TimeDelta::seconds(-9));
    }

    #[test]
    fn limits_are_exclusive() {
        assert_eq!(Skew::of(TimeDelta::seconds(-5)), Skew::Fine);
        assert_eq!(Skew::of(TimeDelta::milliseconds(5_001)), Skew::Warn(TimeDelta::milliseconds(5_001)));
        assert_eq!(Skew::of(TimeDelta::seconds(-60)), Skew::Warn(TimeDelta::seconds(-60)));
        assert_eq!(Skew::of(TimeDelta::seconds(86_400)), Skew::Stop(TimeDelta::seconds(86_400)));
    }
}
