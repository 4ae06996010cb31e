//! When the wall clock is compared with that of the NATS server: now and then, when it was set, and all the time that
//! something is wrong with it.

use crate::log::{self, Log, Skew};
use crate::runtime;
use std::time::Duration;
use stheno_events::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The clocks are compared this often,
const EVERY_MS: u64 = 60_000;
/// and more often where there is a reason, which is looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Compares the clocks when it is due, and whenever an own message has come back; the start has done it once.
pub(super) fn measure(log: Log, first: Skew, stop: CancellationToken) -> watch::Receiver<Skew> {
    let (sender, receiver) = watch::channel(first);
    let mut told = log.clock_offset();
    tokio::spawn(async move {
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Some(Compared::now());
        loop {
            let measured = tokio::select! {
                () = stop.cancelled() => return,
                // One that was on its way when the clock was set tells nothing of now, and must not hide that it was.
                Ok(()) = told.changed() => Skew::of(*told.borrow_and_update()),
                _ = looks.tick() => {
                    let now = Compared::now();
                    let fine = *sender.borrow() == Skew::Fine;
                    if last.is_some_and(|last| fine && !last.is_due(now)) {
                        continue;
                    }
                    match log.measure_skew().await {
                        Ok(skew) => {
                            // From before the question: what was set while it was out is seen by the next look.
                            last = Some(now);
                            skew
                        }
                        // What is wrong with the log is said elsewhere.
                        Err(error) => {
                            tracing::debug!(%error, "the clocks cannot be compared now");
                            last = None;
                            continue;
                        }
                    }
                }
            };
            sender.send_if_modified(|shown| std::mem::replace(shown, measured) != measured);
        }
    });
    receiver
}

/// The clocks of this machine when they were last compared with the server's.
#[derive(Debug, Clone, Copy)]
struct Compared {
    wall: Time,
    /// Counts suspended time, and cannot be set.
    boot_ms: u64,
}

impl Compared {
    fn now() -> Self {
        Self { wall: runtime::wall(), boot_ms: runtime::boot_ms() }
    }

    /// Whether it is time to compare again: long ago, or the wall clock went another way than the machine's.
    fn is_due(self, now: Self) -> bool {
        let passed = now.boot_ms.saturating_sub(self.boot_ms);
        let by_wall = (now.wall - self.wall).num_milliseconds();
        let moved = by_wall.saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX)).saturating_abs();
        passed >= EVERY_MS || moved > log::clock::WARN.num_milliseconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boot_ms: u64) -> Compared {
        Compared { wall: Time::from_timestamp_millis(1_800_000_000_000 + wall).unwrap(), boot_ms }
    }

    #[test]
    fn clocks_are_compared_when_the_wall_clock_was_set_and_now_and_then() {
        let last = at(0, 0);
        assert!(!last.is_due(at(59_999, 59_999)), "both went on");
        assert!(last.is_due(at(60_000, 60_000)), "long ago");
        assert!(!last.is_due(at(9_000, 4_000)), "no more than what is tolerated");
        assert!(last.is_due(at(9_001, 4_000)), "set ahead");
        assert!(last.is_due(at(-2_001, 3_000)), "set back");
    }
}
