//! A NATS server that answers and stores nothing: it says nothing when a write to its disk fails, and writes no more until
//! it is started again (seen with nats-server 2.15 on a full disk). The private one is, once there is room.

use crate::runtime;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Messages in a row that were neither acknowledged nor stored, by a server that was there all the time, before it is
/// said: a cluster that elects a leader may lose one.
const SILENT: u32 = 2;

/// A disk with less room than this, in bytes, is full.
const ROOM: u64 = 1 << 20;

/// The private server is started again at most this often, in milliseconds: a disk that is broken stays broken.
const RESTART_EVERY_MS: u64 = 30_000;

/// Counts them.
#[derive(Debug)]
pub(super) struct Silence {
    count: AtomicU32,
    /// Where the private server keeps its store.
    data_dir: Option<PathBuf>,
    /// When it was last started again, by a clock of this machine.
    restarted_ms: AtomicU64,
}

impl Silence {
    pub(super) const fn new(data_dir: Option<PathBuf>) -> Self {
        Self { count: AtomicU32::new(0), data_dir, restarted_ms: AtomicU64::new(0) }
    }

    /// A message was stored.
    pub(super) fn broken(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// A message was not; the sentence for people, if it is time.
    pub(super) fn again(&self) -> Option<String> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        (count >= SILENT).then(|| self.sentence())
    }

    /// Whether the private server is to be started again now: it is silent, there is room, and it was not just done.
    pub(super) fn restarts(&self) -> bool {
        if self.count.load(Ordering::Relaxed) < SILENT || self.room().is_none_or(|room| room < ROOM) {
            return false;
        }
        let now = runtime::boot_ms().max(1);
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= RESTART_EVERY_MS).then_some(now);
        self.restarted_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }

    /// Free bytes on the disk of the private server's store.
    fn room(&self) -> Option<u64> {
        let disk = nix::sys::statvfs::statvfs(self.data_dir.as_ref()?).ok()?;
        Some(disk.blocks_available() * disk.fragment_size())
    }

    fn sentence(&self) -> String {
        let Some(folder) = &self.data_dir else {
            return "the NATS server answers, but stores nothing: its disk is full or broken, as its log says; make room \
                    and start it again"
                .to_owned();
        };
        let folder = folder.display();
        if self.room().is_some_and(|room| room < ROOM) {
            format!(
                "the private nats-server stores nothing, because the disk of the data folder {folder} is full: make room, \
                 and it goes on"
            )
        } else {
            format!(
                "the private nats-server stores nothing since the disk of the data folder {folder} was full or failed: \
                 it is started again"
            )
        }
    }
}
