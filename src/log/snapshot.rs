//! Snapshots of the folded world, in an object store of the same NATS: a shortcut for starts, never a truth.
//!
//! A snapshot that is missing, damaged, of another layout or of another stream means a replay, never an error.

use super::Log;
use async_nats::jetstream::object_store::{self, ObjectInfo, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream as js;
use chrono::Datelike as _;
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stheno_events::{Digest, Time};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// How long one operation on the object store may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the next chunk of a snapshot may take.
const STALL: Duration = Duration::from_secs(5);
/// The newest that are kept, beside one for each month.
const KEPT: usize = 2;
/// A chunk below the server's smallest usual max_payload.
const CHUNK: usize = 128 * 1024;

/// What is known of a snapshot without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The stream sequence up to which the world is folded.
    pub sequence: u64,
    /// The layout of the world that wrote it.
    pub layout: u32,
    /// Digest of its bytes.
    pub digest: Digest,
    /// When it was taken: the `at` of the last message folded.
    pub at: Time,
    /// Events that its writer did not know, as (type, version): a program that knows one of them must not use it.
    pub skipped: BTreeSet<(String, u16)>,
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket is not there and cannot be made, or does not take it.
    #[error("the snapshot at message {sequence} was not stored: {reason}")]
    Put {
        /// Of which sequence.
        sequence: u64,
        /// The server's words.
        reason: String,
    },
}

/// The snapshots of a log.
#[derive(Clone, Debug)]
pub struct Snapshots {
    log: Log,
}

impl Log {
    /// The snapshots that lie beside this log.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { log: self.clone() }
    }
}

impl Snapshots {
    /// Stores a snapshot, then drops what is kept no longer.
    ///
    /// # Errors
    /// When the server does not take it; the log is not affected.
    pub async fn put(&self, meta: &Meta, world: &[u8]) -> Result<(), Error> {
        let failed = |reason: String| Error::Put { sequence: meta.sequence, reason };
        let put = async {
            let bucket = self.bucket(true).await.ok_or_else(|| failed("its bucket cannot be made".into()))?;
            let object = ObjectMetadata {
                name: name(meta.sequence),
                chunk_size: Some(CHUNK),
                metadata: self.write(meta),
                ..ObjectMetadata::default()
            };
            bucket.put(object, &mut &*world).await.map_err(|error| failed(error.to_string()))?;
            self.prune(&bucket, meta.sequence).await;
            Ok(())
        };
        timeout(PATIENCE, put).await.unwrap_or_else(|_| Err(failed("the server does not answer".into())))
    }

    /// The newest snapshot at or before `until` whose description `usable` accepts and whose bytes are whole.
    pub async fn latest(&self, until: u64, usable: impl Fn(&Meta) -> bool) -> Option<(Meta, Vec<u8>)> {
        let search = async {
            let bucket = self.bucket(false).await?;
            for (name, meta) in self.list(&bucket).await.into_iter().rev() {
                if meta.sequence > until || !usable(&meta) {
                    continue;
                }
                match fetch(&bucket, &name).await {
                    Some(world) if Digest::of(&world) == meta.digest => return Some((meta, world)),
                    Some(_) | None => tracing::warn!(name, "a snapshot is damaged: an older one or a replay serves"),
                }
            }
            None
        };
        timeout(PATIENCE, search).await.ok().flatten()
    }

    /// All snapshots of this stream, oldest first.
    pub async fn all(&self) -> Vec<Meta> {
        let search = async {
            let bucket = self.bucket(false).await?;
            Some(self.list(&bucket).await.into_iter().map(|(_, meta)| meta).collect())
        };
        timeout(PATIENCE, search).await.ok().flatten().unwrap_or_default()
    }

    async fn bucket(&self, create: bool) -> Option<ObjectStore> {
        let jetstream = &self.log.inner.jetstream;
        let bucket = format!("{}-snapshots", self.log.stream_name());
        if let Ok(found) = jetstream.get_object_store(&bucket).await {
            return Some(found);
        }
        if !create {
            return None;
        }
        let config = object_store::Config {
            bucket,
            description: Some("Snapshots of what stheno has folded; may be deleted".into()),
            storage: js::StorageType::File,
            num_replicas: self.log.inner.replicas,
            max_bytes: -1,
            ..object_store::Config::default()
        };
        jetstream.create_object_store(config).await.inspect_err(|error| tracing::warn!(%error, "no bucket")).ok()
    }

    /// What is in the bucket and of this stream, in the order of its sequences.
    async fn list(&self, bucket: &ObjectStore) -> Vec<(String, Meta)> {
        let Ok(mut objects) = bucket.list().await else { return Vec::new() };
        let mut found = Vec::new();
        while let Some(object) = objects.next().await {
            if let Ok(object) = object
                && let Some(meta) = self.parse(&object)
            {
                found.push((object.name, meta));
            }
        }
        found.sort_by_key(|(_, meta)| meta.sequence);
        found
    }

    /// `newest` is the one that was just stored: what lies behind it is of a history that was lost.
    async fn prune(&self, bucket: &ObjectStore, newest: u64) {
        let all = self.list(bucket).await;
        let metas: Vec<&Meta> = all.iter().map(|(_, meta)| meta).filter(|meta| meta.sequence <= newest).collect();
        let kept = kept(&metas);
        for (name, meta) in &all {
            if !kept.contains(&meta.sequence)
                && let Err(error) = bucket.delete(name).await
            {
                tracing::warn!(%error, name, "an old snapshot cannot be deleted");
            }
        }
    }

    fn write(&self, meta: &Meta) -> std::collections::HashMap<String, String> {
        let skipped = meta.skipped.iter().map(|(name, version)| format!("{name}@{version}")).collect::<Vec<_>>();
        [
            ("stream-id", self.log.identity().stream_id.clone()),
            ("sequence", meta.sequence.to_string()),
            ("layout", meta.layout.to_string()),
            ("digest", meta.digest.to_string()),
            ("at", meta.at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            ("skipped", skipped.join(" ")),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    fn parse(&self, object: &ObjectInfo) -> Option<Meta> {
        let field = |key: &str| object.metadata.get(key);
        if object.deleted || field("stream-id")? != &self.log.identity().stream_id {
            return None;
        }
        let skipped = field("skipped")?
            .split_whitespace()
            .map(|one| one.rsplit_once('@').and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?))))
            .collect::<Option<_>>()?;
        Some(Meta {
            sequence: field("sequence")?.parse().ok()?,
            layout: field("layout")?.parse().ok()?,
            digest: field("digest")?.parse().ok()?,
            at: field("at")?.parse().ok()?,
            skipped,
        })
    }
}

/// Reads an object; `None` when it is damaged, also when a chunk is missing, for which the client would wait for ever.
async fn fetch(bucket: &ObjectStore, name: &str) -> Option<Vec<u8>> {
    let mut object = timeout(STALL, bucket.get(name)).await.ok()?.ok()?;
    let mut world = Vec::with_capacity(object.info().size);
    while timeout(STALL, object.read_buf(&mut world)).await.ok()?.ok()? > 0 {}
    Some(world)
}

fn name(sequence: u64) -> String {
    // Wide enough for every sequence, so that names sort as numbers.
    format!("world-{sequence:020}")
}

/// The sequences that are kept: the last ones, and the first of each month.
fn kept(oldest_first: &[&Meta]) -> BTreeSet<u64> {
    let mut months = BTreeMap::new();
    for meta in oldest_first {
        months.entry((meta.at.year(), meta.at.month())).or_insert(meta.sequence);
    }
    let last = oldest_first.iter().rev().take(KEPT).map(|meta| meta.sequence);
    months.into_values().chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sequence: u64, at: &str) -> Meta {
        Meta { sequence, layout: 1, digest: Digest::of(b""), at: at.parse().unwrap(), skipped: BTreeSet::new() }
    }

    #[test]
    fn two_last_and_one_a_month_are_kept() {
        let all = [
            meta(1, "2026-01-31T23:59:59Z"),
            meta(2, "2026-02-01T00:00:00Z"),
            meta(3, "2026-02-02T00:00:00Z"),
            meta(4, "2026-02-03T00:00:00Z"),
            meta(5, "2027-02-03T00:00:00Z"),
            meta(6, "2027-02-04T00:00:00Z"),
            meta(7, "2027-02-05T00:00:00Z"),
        ];
        assert_eq!(kept(&all.iter().collect::<Vec<_>>()), BTreeSet::from([1, 2, 5, 6, 7]));
        assert!(kept(&[]).is_empty());
    }
}
