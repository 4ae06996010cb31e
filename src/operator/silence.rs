//! A NATS server that answers and stores nothing: it says nothing when a write to its disk fails, and writes no more until
//! it is started again (seen with nats-server 2.15 on a full disk).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Messages in a row that were neither acknowledged nor stored, by a server that was there all the time, before it is
/// said: a cluster that elects a leader may lose one.
const SILENT: u32 = 2;

/// A disk with less room than this, in bytes, is full.
const ROOM: u64 = 1 << 20;

/// Counts them.
#[derive(Debug)]
pub(super) struct Silence {
    count: AtomicU32,
    /// Where the private server keeps its store.
    data_dir: Option<PathBuf>,
}

impl Silence {
    pub(super) const fn new(data_dir: Option<PathBuf>) -> Self {
        Self { count: AtomicU32::new(0), data_dir }
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

    fn sentence(&self) -> String {
        let Some(folder) = &self.data_dir else {
            return "the NATS server answers, but stores nothing: its disk is full or broken, as its log says; make room \
                    and start it again"
                .to_owned();
        };
        let room = nix::sys::statvfs::statvfs(folder).map(|disk| disk.blocks_available() * disk.fragment_size());
        let folder = folder.display();
        if room.is_ok_and(|room| room < ROOM) {
            format!(
                "the private nats-server stores nothing, because the disk of the data folder {folder} is full: make room \
                 and start stheno again"
            )
        } else {
            format!(
                "the private nats-server stores nothing since the disk of the data folder {folder} was full or failed: \
                 start stheno again"
            )
        }
    }
}
