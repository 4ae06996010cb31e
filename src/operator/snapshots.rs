//! Snapshots of the world: loaded at the start, taken now and then, never needed.

use crate::log::Log;
use crate::log::snapshot::{Meta, Snapshots};
use crate::runtime;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stheno_events::{Digest, Event};
use stheno_projections::{LAYOUT, World};

/// A snapshot after this many messages, or
const MESSAGES: u64 = 10_000;
/// after this time in milliseconds, when anything was written.
const EVERY_MS: u64 = 3_600_000;

/// The newest world at or before `until` that this build can use; an empty one where there is none.
pub(super) async fn load(log: &Log, until: u64) -> World {
    let usable = |meta: &Meta| {
        let knows =
            |(name, version): &(String, u16)| Event::kinds().any(|kind| kind.name == name && kind.version == *version);
        // One that skipped what this build knows lacks it.
        meta.layout == LAYOUT && !meta.skipped.iter().any(knows)
    };
    let Some((meta, bytes)) = log.snapshots().latest(until, usable).await else { return World::default() };
    match World::from_bytes(&bytes) {
        Ok(world) if world.position == meta.sequence => {
            tracing::info!(sequence = meta.sequence, "going on from a snapshot");
            world
        }
        Ok(_) | Err(_) => {
            tracing::warn!(sequence = meta.sequence, "a snapshot cannot be read: the log is replayed");
            World::default()
        }
    }
}

/// Takes snapshots, one at a time.
#[derive(Debug)]
pub(super) struct Photographer {
    snapshots: Snapshots,
    last: u64,
    last_ms: u64,
    /// A snapshot after as many messages.
    messages: u64,
    busy: Arc<AtomicBool>,
}

impl Photographer {
    pub(super) fn new(log: &Log, position: u64) -> Self {
        let busy = Arc::new(AtomicBool::new(false));
        Self { snapshots: log.snapshots(), last: position, last_ms: runtime::boot_ms(), messages: MESSAGES, busy }
    }

    /// Takes one if it is time.
    pub(super) fn consider(&mut self, world: &World) {
        let new = world.position.saturating_sub(self.last);
        let old = runtime::boot_ms().saturating_sub(self.last_ms) >= EVERY_MS;
        let Some(at) = world.at.filter(|_| new >= self.messages || (new > 0 && old)) else { return };
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        (self.last, self.last_ms) = (world.position, runtime::boot_ms());
        let (snapshots, busy, world) = (self.snapshots.clone(), self.busy.clone(), world.clone());
        tokio::spawn(async move {
            let sequence = world.position;
            let skipped = world.skipped.keys().cloned().collect();
            // Large worlds take a while: not on a thread that answers.
            let bytes = tokio::task::spawn_blocking(move || world.to_bytes()).await;
            if let Ok(Ok(bytes)) = bytes {
                let meta = Meta { sequence, layout: LAYOUT, digest: Digest::of(&bytes), at, skipped };
                match snapshots.put(&meta, &bytes).await {
                    Ok(()) => tracing::info!(sequence, bytes = bytes.len(), "a snapshot was taken"),
                    Err(error) => tracing::warn!(%error, "a snapshot was not taken: the next start reads more"),
                }
            }
            busy.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Credentials, Endpoint, Patience, Settings};
    use std::time::Duration;

    #[tokio::test]
    async fn a_world_comes_back_from_a_snapshot_and_never_from_one_too_new() {
        let nats = stheno_local::testing::nats().await.unwrap();
        let log = Log::open(Settings {
            endpoint: Endpoint::External { url: nats.url(), credentials: Credentials::None },
            stream: "STHENO".into(),
            cluster: Some("cafe".into()),
            allow_relaxed: false,
            clock: Arc::new(runtime::wall),
            patience: Patience::default(),
        })
        .await
        .unwrap();
        let mut photographer = Photographer::new(&log, 0);
        photographer.messages = 5;
        let mut world = World { position: 4, at: Some(runtime::wall()), ..World::default() };
        photographer.consider(&world);
        assert!(!photographer.busy.load(Ordering::Acquire), "it is too early");
        world.position = 5;
        photographer.consider(&world);
        for _ in 0..500 {
            if !photographer.busy.load(Ordering::Acquire) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(load(&log, 9).await, world);
        assert_eq!(load(&log, 5).await, world);
        // The log that was vouched for ends before it.
        assert_eq!(load(&log, 4).await, World::default());
    }
}
