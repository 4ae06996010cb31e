//! What the clients below do not try again by themselves: answers that break off in the middle, and deletions.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Error, Store};

/// Attempts for one thing.
pub(crate) const ATTEMPTS: u32 = 4;
/// A failure that came later than this was tried again below, with patience: once more would only double the wait.
pub(crate) const BRIEF: Duration = Duration::from_millis(1500);
/// The first wait; each is drawn at random around twice the last one, so that many nodes do not come back together.
const WAIT: Duration = Duration::from_millis(200);

impl Store {
    /// Does something again that may be repeated and failed soon.
    pub(super) async fn again<'a, T>(
        &self,
        work: impl Fn() -> BoxFuture<'a, Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            match work().await {
                Err(error @ Error::Failed { .. }) if attempt < ATTEMPTS && begun.elapsed() < BRIEF => {
                    tracing::debug!(%error, attempt, "once more");
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

/// How long to wait after an attempt, the first being 1.
pub(crate) fn pause(attempt: u32) -> Duration {
    let factor: f64 = rand::random_range(0.5..1.5);
    (WAIT * 2_u32.saturating_pow(attempt.saturating_sub(1).min(6))).mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_drawn() {
        let many: Vec<Duration> = (0..50).map(|_| pause(3)).collect();
        assert!(many.iter().all(|pause| (400..1200).contains(&pause.as_millis())), "{many:?}");
        assert!(many.iter().any(|pause| *pause != many[0]));
        assert!(pause(u32::MAX) < Duration::from_secs(20));
    }
}
