//! The data of a backup: every file of the snapshot finds or makes its object, across tables, none overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, TryStreamExt};
use tokio::time::Instant;

use super::{Backup, Error, Tools};
use crate::digests::{DIGESTS, Digests};
use crate::hash::{Expected, Hasher, file_has};
use crate::known::{self, Known};
use crate::layout::FilePath;
use crate::manifest::{self, Section};
use crate::snapshot::{SnapshotFile, Table};
use crate::store::{Found, Tags};
use crate::upload::{self, Stored, Sum, blocking};

/// How often what is known of the bucket is kept while files go up.
const KEEP_KNOWN: Duration = Duration::from_secs(30);

impl Backup<'_> {
    /// Brings every file of the snapshot into the bucket, across tables.
    pub(super) async fn upload(&self, tables: &[Table]) -> Result<(Vec<Section>, Digests, u64), Error> {
        let Tools { config, layout, store, dir, .. } = self.tools;
        let root = if self.record.full { layout.private(&self.name) } else { layout.pool() };
        let there = store.list(&root).await?;
        let there: BTreeMap<&str, &Found> = there.iter().map(|found| (found.key.as_str(), found)).collect();
        let known = Mutex::new(Known::load(dir));
        // As many connections as Medusa opens with the same settings.
        let at_once = config.storage.transfers * config.storage.part_transfers;
        let mut waiting = Vec::new();
        for (at, table) in tables.iter().enumerate() {
            waiting.extend(table.files.iter().map(|file| (at, table, file)));
        }
        let mut waiting = waiting.into_iter();
        let mut in_flight = FuturesUnordered::new();
        let mut sections: Vec<Section> = tables.iter().map(Section::of).collect();
        let (mut digests, mut all_reused, mut kept) = (Digests::default(), 0, Instant::now());
        loop {
            while in_flight.len() < at_once
                && let Some((at, table, file)) = waiting.next()
            {
                in_flight.push(self.place(at, table, file, &there, &known).boxed());
            }
            let Some(placed) = in_flight.try_next().await? else {
                break;
            };
            self.progress.one(placed.object.size, placed.reused);
            all_reused += u64::from(placed.reused);
            if let Some(md5) = placed.md5 {
                digests.insert(placed.object.path.clone(), md5);
            }
            if let Some(section) = sections.get_mut(placed.at) {
                section.objects.push(placed.object);
            }
            if kept.elapsed() > KEEP_KNOWN {
                lock(&known).save(dir)?;
                kept = Instant::now();
            }
        }
        drop(in_flight);
        for section in &mut sections {
            section.objects.sort_by(|a, b| a.path.cmp(&b.path));
        }
        let mut known = known.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.record.full {
            known.keep_only(tables);
        }
        known.save(dir)?;
        Ok((sections, digests, all_reused))
    }

    /// Finds or makes the object that holds a file's content. An object that is there is never overwritten with other content:
    /// an older manifest may refer to it.
    async fn place(
        &self,
        section: usize,
        table: &Table,
        file: &SnapshotFile,
        there: &BTreeMap<&str, &Found>,
        known: &Mutex<Known>,
    ) -> Result<Placed, Error> {
        let Tools { layout, uploader, .. } = self.tools;
        let full = self.record.full;
        let at = FilePath { keyspace: &table.keyspace, table: &table.table, file: &file.name };
        let (size, place) = (file.identity.size, known::place(table, &file.name));
        let same = |object: &known::Object| {
            let found = there.get(object.key.as_str())?;
            let tagged = found.etag.as_deref().is_none_or(|etag| etag == object.tag);
            (found.size == size && tagged).then(|| object.clone())
        };
        let unchanged = lock(known).get(full, &place, file.identity).and_then(same);
        let placed = |of: known::Object, reused| Placed {
            at: section,
            object: manifest::Object { path: of.key, md5: Some(of.tag), size },
            md5: of.md5,
            reused,
        };
        if let Some(object) = unchanged {
            return Ok(placed(object, true));
        }
        let key = if full { layout.privately(&self.name, &at) } else { layout.pooled(&at) };
        let (key, stored, reused) = match there.get(key.as_str()).filter(|_| !full) {
            Some(found) => self.beside(file, &at, found, there).await?,
            // In a private copy, whatever an interrupted upload left is replaced.
            None => {
                let stored = uploader.upload(&file.path, size, &key).await?;
                (key, stored, false)
            }
        };
        let object = known::Object { identity: file.identity, key, tag: stored.tag, md5: stored.md5 };
        lock(known).insert(full, place, object.clone());
        Ok(placed(object, reused))
    }

    /// For a file whose name in the pool is taken: the same content is used, other content gets a key of its own.
    async fn beside(
        &self,
        file: &SnapshotFile,
        at: &FilePath<'_>,
        found: &Found,
        there: &BTreeMap<&str, &Found>,
    ) -> Result<(String, Stored, bool), Error> {
        let Tools { layout, uploader, .. } = self.tools;
        let size = file.identity.size;
        let sum = uploader.sum(&file.path, size).await?;
        let as_stored = |found: &Found| {
            let tag = found.etag.clone().unwrap_or_else(|| sum.tag.clone());
            let md5 = (tag != sum.tag && tag != sum.md5).then(|| sum.md5.clone());
            Stored { tag, md5 }
        };
        if found.size == size && self.same(file, found, &sum).await? {
            return Ok((found.key.clone(), as_stored(found), true));
        }
        let key = layout.variant(&sum.md5, at);
        match there.get(key.as_str()).filter(|variant| variant.size == size) {
            Some(variant) => Ok((key, as_stored(variant), true)),
            None => {
                tracing::info!(
                    file = at.file,
                    table = at.table,
                    key,
                    "the pool holds other content under this name: kept beside it"
                );
                let stored = uploader.upload(&file.path, size, &key).await?;
                Ok((key, stored, false))
            }
        }
    }

    /// Whether an object of a file's size has its content.
    async fn same(&self, file: &SnapshotFile, found: &Found, sum: &Sum) -> Result<bool, Error> {
        let Tools { config, store, .. } = self.tools;
        if let Some(path) = store.local_path(&found.key) {
            return Ok(upload::md5_of(path, sum.size).await? == sum.md5);
        }
        if let Some(etag) = &found.etag {
            if *etag == sum.tag || *etag == sum.md5 {
                return Ok(true);
            }
            // Who wrote it may have made parts of another size.
            let object = manifest::Object { path: found.key.clone(), md5: Some(etag.clone()), size: sum.size };
            let (path, expected) = (file.path.clone(), Expected::of(&object, config.storage.part_size));
            if matches!(expected, Expected::Parts { .. })
                && blocking(path.clone(), move || file_has(&path, object.size, &expected)).await?
            {
                return Ok(true);
            }
            if !store.has_opaque(&found.key).await? {
                return Ok(false);
            }
        }
        // The store does not say what is in it. An older backup may; else it is read, which costs no more than to write it.
        match self.noted(found).await? {
            Some(Expected::Whole(md5)) => Ok(md5 == sum.md5),
            Some(Expected::Parts { .. } | Expected::Nothing) | None => self.holds(&found.key, sum).await,
        }
    }

    /// Reads an object: whether it has this content.
    async fn holds(&self, key: &str, sum: &Sum) -> Result<bool, Error> {
        let Tools { store, uploader, .. } = self.tools;
        let expected = Expected::Whole(sum.md5.clone());
        let mut hasher = Hasher::new(&expected);
        let Some(mut content) = store.read(key).await? else {
            return Ok(false);
        };
        while let Some(piece) = content.next().await? {
            uploader.wait(piece.len() as u64).await;
            hasher.update(piece);
        }
        Ok(hasher.length() == sum.size && hasher.finish() == Some(true))
    }

    /// What earlier manifests of this node say of an object of the pool. They are read once, when a file is met that is not
    /// known: after a volume was lost, or when another program wrote the pool.
    async fn noted(&self, found: &Found) -> Result<Option<Expected>, Error> {
        let read = async || {
            let Tools { layout, store, .. } = self.tools;
            let mut noted = BTreeMap::new();
            for name in store.segments(&layout.node_root()).await? {
                let meta = |file| layout.meta_of(layout.node().as_str(), &name, file);
                let Ok(json) = store.get(&meta("manifest.json")).await else {
                    continue;
                };
                // One that cannot be read says nothing; nothing of the pool is overwritten anyway.
                let sections: Vec<Section> = serde_json::from_slice(&json.unwrap_or_default()).unwrap_or_default();
                let digests = Digests::read(store, &meta(DIGESTS)).await.unwrap_or_default();
                for object in sections.into_iter().flat_map(|section| section.objects) {
                    let expected = digests.expected(&object, 0, store.tags == Tags::Etag);
                    noted.insert(object.path, Noted { tag: object.md5, expected });
                }
            }
            Ok::<_, Error>(noted)
        };
        let noted = self.noted.get_or_try_init(read).await?.get(&found.key);
        // Where the store has tags, one that is another by now is of what was written over it.
        let still = |noted: &&Noted| found.etag.is_none() || found.etag == noted.tag;
        Ok(noted.filter(still).map(|noted| noted.expected.clone()))
    }

    /// Removes from a full backup's private copy what an earlier snapshot of it had brought there.
    pub(super) async fn drop_strays(&self, sections: &[Section]) -> Result<(), Error> {
        let Tools { layout, store, .. } = self.tools;
        let wanted: BTreeSet<&str> =
            sections.iter().flat_map(|section| &section.objects).map(|object| object.path.as_str()).collect();
        let there = store.list(&layout.private(&self.name)).await?;
        let strays = there.into_iter().map(|found| found.key).filter(|key| !wanted.contains(key.as_str()));
        Ok(store.delete(strays.collect()).await?)
    }
}

impl Section {
    fn of(table: &Table) -> Self {
        Self { keyspace: table.keyspace.clone(), columnfamily: table.table.clone(), objects: Vec::new() }
    }
}

/// What an earlier manifest says of an object.
pub(super) struct Noted {
    tag: Option<String>,
    expected: Expected,
}

/// A file that is in the bucket.
struct Placed {
    /// Which section of the manifest.
    at: usize,
    object: manifest::Object,
    /// Hex md5 of its content, where the manifest does not say it.
    md5: Option<String>,
    reused: bool,
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    // Nothing panics while it is held.
    known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
