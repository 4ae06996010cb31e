//! Snapshots of the world: loaded at the start, taken now and then, never needed.

use crate::log::snapshot::{Meta, Snapshots};
use crate::log::{Filter, Item, Log};
use crate::runtime;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stheno_events::{Digest, Event, Time};
use stheno_projections::{LAYOUT, World};
use tokio_util::sync::CancellationToken;

/// A snapshot after this many messages, or
const MESSAGES: u64 = 10_000;
/// after this time in milliseconds, when anything was written.
const EVERY_MS: u64 = 3_600_000;
/// How long the message may take with which a snapshot is compared.
const PATIENCE: Duration = Duration::from_secs(5);

/// The newest world at or before `until` that this build can use and that this log leads to; an empty one where there is
/// none.
pub(super) async fn load(log: &Log, until: u64) -> World {
    load_before(log, until, Time::MAX_UTC).await
}

/// As [`load`], of one that lies at or before a moment too.
pub(crate) async fn load_before(log: &Log, mut until: u64, moment: Time) -> World {
    let usable = |meta: &Meta| {
        let knows =
            |(name, version): &(String, u16)| Event::kinds().any(|kind| kind.name == name && kind.version == *version);
        // One that skipped what this build knows lacks it.
        meta.layout == LAYOUT && meta.at <= moment && !meta.skipped.iter().any(knows)
    };
    while let Some((meta, bytes)) = log.snapshots().latest(until, usable).await {
        let sequence = meta.sequence;
        match World::from_bytes(&bytes) {
            Ok(world) if world.position == sequence && is_of(log, &world).await => {
                tracing::info!(sequence, "going on from a snapshot");
                return world;
            }
            Ok(world) if world.position == sequence => tracing::warn!(sequence, "a snapshot is not of this log"),
            Ok(_) | Err(_) => tracing::warn!(sequence, "a snapshot cannot be read"),
        }
        until = sequence.saturating_sub(1);
    }
    World::default()
}

/// Whether the last message that a world was folded from lies there in the log. After an older copy of the stream was
/// put back, and accepted, snapshots of the history that is lost may still lie beside it.
async fn is_of(log: &Log, world: &World) -> bool {
    let position = world.position;
    let Some((_, digest, _)) = world.heads().find(|(.., sequence)| *sequence == position) else { return false };
    let mut reader = log.read(position..=position, &Filter::All, CancellationToken::new());
    let found = async {
        loop {
            match reader.next().await {
                Some(Ok(Item::Message(stored))) => {
                    return stored.sequence == position && Digest::of(&stored.payload) == digest;
                }
                Some(Ok(Item::CaughtUp(_))) => {}
                Some(Ok(Item::Foreign(_)) | Err(_)) | None => return false,
            }
        }
    };
    // Without an answer the log is replayed.
    tokio::time::timeout(PATIENCE, found).await.unwrap_or(false)
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
        // A build that can read what this one could not must find it in the log, not miss it in a snapshot.
        if world.unreadable > 0 {
            return;
        }
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
    use crate::log::{Credentials, Endpoint, Outcome, Patience, Settings};
    use stheno_events::datacenter::Led;
    use stheno_events::{Aggregate, DcKey, Envelope, Epoch, EventId, LAYOUT as ENVELOPE, Process};
    use stheno_projections::Message;

    async fn open(nats: &stheno_local::nats::Server) -> Log {
        Log::open(Settings {
            endpoint: Endpoint::External { url: nats.url(), credentials: Credentials::None },
            stream: "STHENO".into(),
            cluster: Some("cafe".into()),
            allow_relaxed: false,
            clock: Arc::new(runtime::wall),
            patience: Patience::default(),
        })
        .await
        .unwrap()
    }

    /// The next message of a datacenter, folded.
    fn message(world: &mut World, id: &str) -> Envelope {
        let aggregate = Aggregate::Datacenter(DcKey::new("prod", "dc1"));
        let at = stheno_events::to_millis(runtime::wall());
        let envelope = Envelope {
            v: ENVELOPE,
            id: EventId::from(id),
            at,
            wall: at,
            seen: world.position,
            epoch: Epoch(1),
            ns: "prod".into(),
            dc: "dc1".into(),
            dc_uid: None,
            prev: world.head(&aggregate).digest,
            cause: None,
            corr: None,
            by: "test".into(),
            events: vec![Led { epoch: Epoch(1), quiet_until: None }.into()],
        };
        let digest = Digest::of(&envelope.encode().unwrap());
        world.apply(Message { sequence: world.position + 1, aggregate: &aggregate, digest, envelope: Ok(&envelope) });
        envelope
    }

    async fn append(log: &Log, world: &mut World, id: &str) {
        let aggregate = Aggregate::Datacenter(DcKey::new("prod", "dc1"));
        let expected = world.position;
        let envelope = message(world, id);
        let outcome = log.append(&aggregate, Process::Datacenter, expected, &envelope).await.unwrap();
        assert_eq!(outcome, Outcome::Committed(world.position));
    }

    async fn taken(photographer: &Photographer) {
        for _ in 0..500 {
            if !photographer.busy.load(Ordering::Acquire) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no snapshot");
    }

    #[tokio::test]
    async fn a_world_comes_back_from_a_snapshot_and_never_from_one_too_new() {
        let nats = stheno_local::testing::nats().await.unwrap();
        let log = open(&nats).await;
        let mut photographer = Photographer::new(&log, 0);
        photographer.messages = 5;
        let mut world = World::default();
        for id in ["1", "2", "3", "4"] {
            append(&log, &mut world, id).await;
        }
        photographer.consider(&world);
        assert!(!photographer.busy.load(Ordering::Acquire), "it is too early");
        append(&log, &mut world, "5").await;
        photographer.consider(&world);
        taken(&photographer).await;
        assert_eq!(load(&log, 9).await, world);
        assert_eq!(load(&log, 5).await, world);
        // The log that was vouched for ends before it.
        assert_eq!(load(&log, 4).await, World::default());
    }

    /// An older copy of the stream was put back, without the bucket of the snapshots, and a person accepted it.
    #[tokio::test]
    async fn a_snapshot_of_a_history_that_is_lost_is_not_used() {
        let nats = stheno_local::testing::nats().await.unwrap();
        let log = open(&nats).await;
        let mut photographer = Photographer::new(&log, 0);
        photographer.messages = 2;
        let mut world = World::default();
        append(&log, &mut world, "1").await;
        append(&log, &mut world, "2").await;
        photographer.consider(&world);
        taken(&photographer).await;
        // What was written behind it then, and was lost again.
        let mut lost = world.clone();
        message(&mut lost, "lost-3");
        message(&mut lost, "lost-4");
        photographer.consider(&lost);
        taken(&photographer).await;
        for id in ["3", "4", "5"] {
            append(&log, &mut world, id).await;
            let found = load(&log, world.position).await;
            assert_eq!(found.position, 2, "the one before serves");
        }
        // The first one of the new history takes its place.
        append(&log, &mut world, "6").await;
        photographer.consider(&world);
        taken(&photographer).await;
        assert_eq!(load(&log, 6).await, world);
    }

    /// Those of a lost history have higher numbers: they must not push the new ones out.
    #[tokio::test]
    async fn snapshots_of_a_lost_history_make_room() {
        let nats = stheno_local::testing::nats().await.unwrap();
        let log = open(&nats).await;
        let mut world = World::default();
        append(&log, &mut world, "1").await;
        let mut lost = world.clone();
        let mut photographer = Photographer::new(&log, 0);
        photographer.messages = 1;
        photographer.consider(&world);
        taken(&photographer).await;
        for id in ["lost-2", "lost-3", "lost-4", "lost-5"] {
            message(&mut lost, id);
            photographer.consider(&lost);
            taken(&photographer).await;
        }
        for id in ["2", "3"] {
            append(&log, &mut world, id).await;
            let mut anew = Photographer::new(&log, world.position - 1);
            anew.messages = 1;
            anew.consider(&world);
            taken(&anew).await;
        }
        assert_eq!(load(&log, 3).await, world);
    }
}
