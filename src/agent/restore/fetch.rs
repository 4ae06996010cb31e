//! Brings a backup's files to the volume, beside the node's own: kept from an interrupted run, linked from the node's own
//! data, or downloaded; each one verified before it counts.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ground::{self, Ground};
use super::plan::{Incoming, Plan, Wanted};
use super::report::Report;
use super::request::Mode;
use super::{Error, Sums, switch};
use crate::config::Config;
use crate::digests::Digests;
use crate::hash::{self, Expected, Hasher};
use crate::store::{self, Store};
use crate::throttle::Throttle;
use crate::upload::{self, blocking, kib};

/// Local files that are hashed at once.
const HASHES: usize = 2;
/// Bytes that are received and not written yet, of all objects. Pieces are as large as connections make them.
const RECEIVED: u64 = 24 << 20;
/// The same in pieces of one object: small ones have a price of their own.
const PIECES: usize = 64;
/// Attempts for one object, and the wait between them.
const ATTEMPTS: u32 = 4;
const WAIT: Duration = Duration::from_secs(2);
/// How often the log hears of the progress, and how often a watcher.
const LOG: Duration = Duration::from_secs(10);
const TELL: Duration = Duration::from_millis(500);

pub(super) struct Fetch<'a> {
    store: &'a Store,
    grounds: &'a [Ground],
    /// The ground of each file of the plan.
    homes: Vec<usize>,
    plan: &'a Plan,
    mode: Mode,
    digests: &'a Digests,
    part_size: u64,
    at_once: usize,
    throttle: Option<Throttle>,
    /// Room for what is received, in KiB.
    room: Arc<Semaphore>,
    bytes_done: AtomicU64,
    files_done: AtomicU64,
    /// Files of which nothing but the size could be compared.
    unproved: AtomicU64,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        config: &'a Config,
        store: &'a Store,
        grounds: &'a [Ground],
        plan: &'a Plan,
        digests: &'a Digests,
        mode: Mode,
    ) -> Result<Self, Error> {
        // It comes last.
        let system = config.cassandra.yaml.system.as_ref().and_then(|_| grounds.len().checked_sub(1));
        // In each data directory: what lies there of the table goes, wherever its new files are.
        for (at, ground) in grounds.iter().enumerate() {
            for place in plan.tables.iter().map(Incoming::place) {
                if system == Some(at) && !ground::is_local(&format!("{}/{}", place.keyspace, place.table)) {
                    continue;
                }
                let dir = ground.incoming().join(&place.keyspace).join(&place.table);
                fs::create_dir_all(&dir).map_err(|source| Error::File { path: dir, source })?;
            }
        }
        let homes = ground::spread(grounds, &plan.files, mode == Mode::InPlace, system)?;
        Ok(Self {
            store,
            grounds,
            homes,
            plan,
            mode,
            digests,
            part_size: config.storage.part_size,
            at_once: config.storage.transfers * config.storage.part_transfers,
            throttle: config.storage.bandwidth.map(Throttle::new),
            room: Arc::new(Semaphore::new(kib(RECEIVED) as usize)),
            bytes_done: AtomicU64::new(0),
            files_done: AtomicU64::new(0),
            unproved: AtomicU64::new(0),
        })
    }

    /// Until everything is on the volume, verified and durable.
    pub(super) async fn run(&self, report: &Report) -> Result<Sums, Error> {
        let (mut log, mut tell) = (tokio::time::interval(LOG), tokio::time::interval(TELL));
        log.reset();
        let work = self.all();
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                _ = tell.tick() => report.set(|state| {
                    (state.files_total, state.bytes_total) = (self.plan.files.len() as u64, self.plan.bytes());
                    state.files_done = self.files_done.load(Ordering::Relaxed);
                    state.bytes_done = self.bytes_done.load(Ordering::Relaxed);
                }),
                _ = log.tick() => tracing::info!(
                    files = self.files_done.load(Ordering::Relaxed),
                    of_files = self.plan.files.len(),
                    bytes = self.bytes_done.load(Ordering::Relaxed),
                    of_bytes = self.plan.bytes(),
                    "restoring"
                ),
            }
        }
    }

    async fn all(&self) -> Result<Sums, Error> {
        let mut sums = Sums { files: self.plan.files.len() as u64, bytes: self.plan.bytes(), ..Sums::default() };
        let all = self.plan.files.iter().zip(self.homes.iter().copied());
        let looked =
            all.map(|(wanted, home)| async move { Ok::<_, Error>((wanted, home, self.here(wanted, home).await?)) });
        let mut looked = futures::stream::iter(looked.collect::<Vec<_>>()).buffered(HASHES);
        let mut missing = Vec::new();
        while let Some((wanted, home, here)) = looked.try_next().await? {
            match here {
                Here::Resumed => sums.resumed += 1,
                Here::Kept => sums.kept += 1,
                Here::Missing => {
                    missing.push((wanted, home));
                    continue;
                }
            }
            self.one(wanted);
        }
        let needed: Vec<(usize, u64)> = missing.iter().map(|(wanted, home)| (*home, wanted.object.size)).collect();
        ground::fits(self.grounds, &needed)?;
        let fetched = missing.into_iter().map(|(wanted, home)| self.fetch(wanted, home));
        let mut fetched = futures::stream::iter(fetched.collect::<Vec<_>>()).buffer_unordered(self.at_once);
        while let Some(wanted) = fetched.try_next().await? {
            self.one(wanted);
        }
        let unproved = self.unproved.load(Ordering::Relaxed);
        if unproved > 0 {
            tracing::warn!(files = unproved, "the backup has no hash of their content: only their sizes were compared");
        }
        self.settle().await?;
        Ok(sums)
    }

    fn one(&self, wanted: &Wanted) {
        self.bytes_done.fetch_add(wanted.object.size, Ordering::Relaxed);
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    fn target(&self, wanted: &Wanted, home: usize) -> PathBuf {
        self.grounds.get(home).map(|ground| ground.incoming().join(&wanted.to)).unwrap_or_default()
    }

    /// Looks for a file's content on the volume. Only a hash of the whole proves it.
    async fn here(&self, wanted: &Wanted, home: usize) -> Result<Here, Error> {
        let target = self.target(wanted, home);
        let (size, expected) = (wanted.object.size, self.digests.expected(&wanted.object, self.part_size, false));
        let same = async |path: &Path| {
            let (path, expected) = (path.to_owned(), expected.clone());
            // A file that cannot be read is as good as none.
            let looked = tokio::task::spawn_blocking(move || hash::file_has(&path, size, &expected));
            matches!(looked.await, Ok(Ok(true)))
        };
        if same(&target).await {
            return Ok(Here::Resumed);
        }
        let own = self.grounds.get(home).map(|ground| ground.data.join(&wanted.to)).unwrap_or_default();
        if self.mode == Mode::InPlace && same(&own).await {
            let failed = |source| Error::File { path: target.clone(), source };
            // Whatever an interrupted run left under this name is not it.
            let _ = fs::remove_file(&target);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            // SSTables are never written to in place, so that two names may share one.
            return match fs::hard_link(&own, &target) {
                Ok(()) => Ok(Here::Kept),
                Err(error) => {
                    tracing::debug!(%error, path = %own.display(), "cannot be linked: brought from the bucket");
                    Ok(Here::Missing)
                }
            };
        }
        Ok(Here::Missing)
    }

    async fn fetch(&self, wanted: &'a Wanted, home: usize) -> Result<&'a Wanted, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(wanted, home).await {
                Ok(()) => return Ok(wanted),
                Err(error) => error,
            };
            let again =
                matches!(&error, Error::Damaged { .. }) || matches!(&error, Error::Store(error) if error.retryable());
            if !again || attempt == ATTEMPTS {
                return Err(error);
            }
            tracing::warn!(%error, key = wanted.object.path, attempt, "once more");
            tokio::time::sleep(WAIT * attempt).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, wanted: &Wanted, home: usize) -> Result<(), Error> {
        let (key, size, target) = (&wanted.object.path, wanted.object.size, self.target(wanted, home));
        let damaged = |what: String| Error::Damaged { key: key.clone(), what };
        let part = target
            .with_file_name(format!("{}.part", target.file_name().and_then(|name| name.to_str()).unwrap_or_default()));
        if let Some(source) = self.store.local_path(key) {
            return match fs::metadata(&source).map(|found| found.len()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(damaged("it is not there".to_owned()))
                }
                Ok(length) if length != size => Err(damaged(format!("it has {length} bytes instead of {size}"))),
                Ok(_) | Err(_) => {
                    let sum = upload::copy(source, part, target.clone(), size).await?;
                    match Expected::of(&wanted.object, self.part_size) {
                        Expected::Whole(md5) if sum.md5 != md5 => {
                            let _ = fs::remove_file(&target);
                            Err(damaged("its content has another hash".to_owned()))
                        }
                        Expected::Whole(_) | Expected::Parts { .. } | Expected::Nothing => Ok(()),
                    }
                }
            };
        }
        let failed = |source| Error::File { path: part.clone(), source };
        if let Some(parent) = target.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        }
        let Some(mut content) = self.store.read(key).await? else {
            return Err(damaged("it is not there".to_owned()));
        };
        let expected = self.digests.expected(&wanted.object, self.part_size, content.opaque());
        let unproved = expected == Expected::Nothing;
        // Hashed and written off the async threads, while more comes.
        let (sender, mut pieces) = mpsc::channel::<(Bytes, Option<OwnedSemaphorePermit>)>(PIECES);
        let path = part.clone();
        let writer = tokio::task::spawn_blocking(move || -> std::io::Result<(u64, Option<bool>)> {
            let (mut output, mut hasher) = (fs::File::create(path)?, Hasher::new(&expected));
            while let Some((piece, _room)) = pieces.blocking_recv() {
                hasher.update(piece.clone());
                output.write_all(&piece)?;
            }
            Ok((hasher.length(), hasher.finish()))
        });
        while let Some(piece) = content.next().await? {
            if let Some(throttle) = &self.throttle {
                throttle.wait(piece.len() as u64).await;
            }
            let room = kib((piece.len() as u64).min(RECEIVED)) as u32;
            // The semaphore is never closed.
            let room = Arc::clone(&self.room).acquire_many_owned(room).await.ok();
            if sender.send((piece, room)).await.is_err() {
                // The writer says why.
                break;
            }
        }
        drop(sender);
        let written = writer.await.map_err(std::io::Error::other).and_then(|outcome| outcome);
        let (length, fits) = written.map_err(failed)?;
        if length != size {
            return Err(damaged(format!("it has {length} bytes instead of {size}")));
        }
        if fits == Some(false) {
            return Err(damaged("its content has another hash".to_owned()));
        }
        tokio::fs::rename(&part, &target).await.map_err(failed)?;
        self.unproved.fetch_add(u64::from(unproved), Ordering::Relaxed);
        Ok(())
    }

    /// Gives everything to the owner of the data, and makes it durable: the next step is written down as decided.
    async fn settle(&self) -> Result<(), Error> {
        let all = self.plan.files.iter().zip(self.homes.iter().copied());
        let wanted: BTreeSet<PathBuf> = all.map(|(wanted, home)| self.target(wanted, home)).collect();
        let grounds = self.grounds.to_vec();
        let path = grounds.first().map(Ground::incoming).unwrap_or_default();
        let settled = blocking(path, move || {
            for ground in &grounds {
                let new = ground.incoming();
                let settle = || -> std::io::Result<()> {
                    if !new.exists() {
                        return Ok(());
                    }
                    switch::keep_only(&new, &wanted)?;
                    switch::give(&new, &ground.data)?;
                    Ok(nix::unistd::syncfs(&fs::File::open(&new)?)?)
                };
                settle().map_err(|source| store::Error::File { path: new.clone(), source })?;
            }
            Ok(())
        });
        Ok(settled.await?)
    }
}

/// Where a file's content is found.
enum Here {
    /// An interrupted run brought it.
    Resumed,
    /// The node has it.
    Kept,
    Missing,
}
