//! One rate in bytes for everything that a sidecar transfers.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// One rate for the whole node: each caller is given the next free slot.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: f64,
    free: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1) as f64, free: Mutex::new(Instant::now()) }
    }

    pub(crate) async fn wait(&self, bytes: u64) {
        let slot = {
            let mut free = self.free.lock().await;
            let slot = (*free).max(Instant::now());
            *free = slot + Duration::from_secs_f64(bytes as f64 / self.rate);
            slot
        };
        tokio::time::sleep_until(slot).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_all_uploads() {
        let throttle = Throttle::new(100);
        let start = Instant::now();
        for _ in 0..5 {
            throttle.wait(100).await;
        }
        assert_eq!(start.elapsed().as_secs(), 4);
    }
}
