//! The writer's wall clock beside the server's timestamps: who drives by time must know that they agree.

use chrono::TimeDelta;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stheno_events::{EventId, Time};
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
    clock: Clock,
    offset: watch::Sender<TimeDelta>,
    /// Whether a message is waited for: looked at for every message that is read.
    waiting: AtomicBool,
    /// Which, and when it was handed over, by the wall clock.
    sent: Mutex<Option<(EventId, Time)>>,
}

impl Gauge {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            offset: watch::Sender::new(TimeDelta::zero()),
            waiting: AtomicBool::new(false),
            sent: Mutex::new(None),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<TimeDelta> {
        self.offset.subscribe()
    }

    pub(super) fn measured(&self, offset: TimeDelta) {
        self.offset.send_replace(offset);
    }

    /// A message is being sent. One at a time is waited for, and given up after a second: nobody may be reading.
    pub(super) fn sending(&self, id: &EventId) {
        let now = (self.clock)();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.as_ref().is_none_or(|(_, before)| (now - *before).abs() > TimeDelta::seconds(1)) {
            *sent = Some((id.clone(), now));
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// A message was read, with the server's timestamp.
    pub(super) fn read(&self, id: &EventId, time: Time) {
        if !self.waiting.load(Ordering::Acquire) {
            return;
        }
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = sent.take_if(|(waiting, _)| waiting == id) {
            self.waiting.store(false, Ordering::Release);
            self.measured(offset(before, time, (self.clock)()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

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
        let now = Arc::new(AtomicI64::new(100));
        let clock = Arc::clone(&now);
        let gauge = Gauge::new(Arc::new(move || at(clock.load(Ordering::Relaxed))));
        let offset = gauge.watch();
        let id = |text: &str| EventId::from(text);
        gauge.read(&id("stranger"), at(0));
        gauge.sending(&id("1"));
        gauge.sending(&id("2"));
        gauge.read(&id("stranger"), at(0));
        assert_eq!(*offset.borrow(), TimeDelta::zero(), "not the one");
        gauge.read(&id("1"), at(30));
        assert_eq!(*offset.borrow(), TimeDelta::seconds(70));
        gauge.read(&id("2"), at(100));
        assert_eq!(*offset.borrow(), TimeDelta::seconds(70), "it was not waited for");
        gauge.sending(&id("3"));
        now.store(200, Ordering::Relaxed);
        gauge.sending(&id("4"));
        gauge.read(&id("4"), at(200));
        assert_eq!(*offset.borrow(), TimeDelta::zero(), "3 never came");
    }

    #[test]
    fn limits_are_exclusive() {
        assert_eq!(Skew::of(TimeDelta::seconds(-5)), Skew::Fine);
        assert_eq!(Skew::of(TimeDelta::milliseconds(5_001)), Skew::Warn(TimeDelta::milliseconds(5_001)));
        assert_eq!(Skew::of(TimeDelta::seconds(-60)), Skew::Warn(TimeDelta::seconds(-60)));
        assert_eq!(Skew::of(TimeDelta::seconds(86_400)), Skew::Stop(TimeDelta::seconds(86_400)));
    }
}
