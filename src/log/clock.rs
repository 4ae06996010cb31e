//! The writer's wall clock beside the server's timestamps: who drives by time must know that they agree.

use chrono::TimeDelta;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stheno_events::Time;
use tokio::sync::watch;

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

/// Keeps the last measured offset: at every question to the server, and of own messages when they come back.
pub(super) struct Gauge {
    offset: watch::Sender<TimeDelta>,
    /// The message that is waited for, 0 for none; looked at for every message that is read.
    sequence: AtomicU64,
    /// When it was handed over and when it was acknowledged, by the wall clock.
    between: Mutex<(Time, Time)>,
}

impl Gauge {
    pub(super) fn new(offset: TimeDelta) -> Self {
        let between = Mutex::new((Time::UNIX_EPOCH, Time::UNIX_EPOCH));
        Self { offset: watch::Sender::new(offset), sequence: AtomicU64::new(0), between }
    }

    pub(super) fn watch(&self) -> watch::Receiver<TimeDelta> {
        self.offset.subscribe()
    }

    pub(super) fn measured(&self, offset: TimeDelta) {
        self.offset.send_replace(offset);
    }

    /// A message of ours was stored. One at a time is waited for, and given up after a second: nobody may be reading.
    pub(super) fn committed(&self, sequence: u64, before: Time, after: Time) {
        let mut between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.sequence.load(Ordering::Relaxed) != 0;
        if !waiting || (after - between.1).abs() > TimeDelta::seconds(1) {
            *between = (before, after);
            self.sequence.store(sequence, Ordering::Release);
        }
    }

    /// A message was read, with the server's timestamp.
    pub(super) fn read(&self, sequence: u64, time: Time) {
        if self.sequence.load(Ordering::Acquire) != sequence {
            return;
        }
        let between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sequence.compare_exchange(sequence, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.measured(offset(between.0, time, between.1));
        }
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
    fn own_messages_that_come_back_are_measured() {
        let gauge = Gauge::new(TimeDelta::zero());
        let offset = gauge.watch();
        gauge.read(0, at(0));
        gauge.committed(5, at(100), at(100));
        gauge.committed(6, at(100), at(100));
        gauge.read(4, at(0));
        assert_eq!(*offset.borrow(), TimeDelta::zero(), "not the one");
        gauge.read(5, at(30));
        assert_eq!(*offset.borrow(), TimeDelta::seconds(70));
        gauge.read(6, at(100));
        assert_eq!(*offset.borrow(), TimeDelta::seconds(70), "it was not waited for");
        gauge.committed(7, at(101), at(101));
        gauge.committed(9, at(200), at(200));
        gauge.read(9, at(200));
        assert_eq!(*offset.borrow(), TimeDelta::zero(), "7 never came");
    }

    #[test]
    fn limits_are_exclusive() {
        assert_eq!(Skew::of(TimeDelta::seconds(-5)), Skew::Fine);
        assert_eq!(Skew::of(TimeDelta::milliseconds(5_001)), Skew::Warn(TimeDelta::milliseconds(5_001)));
        assert_eq!(Skew::of(TimeDelta::seconds(-60)), Skew::Warn(TimeDelta::seconds(-60)));
        assert_eq!(Skew::of(TimeDelta::seconds(86_400)), Skew::Stop(TimeDelta::seconds(86_400)));
    }
}
