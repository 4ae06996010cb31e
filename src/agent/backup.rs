//! One node backup, from nothing or from where a stopped sidecar left it: Medusa's objects in Medusa's order.
//!
//! schema.cql first (it marks the backup as begun), then tokenmap.json, server_version.json, the differential marker and
//! the index's start files; the snapshot; the data; manifest.json last (it marks the node as done), then the index's
//! finish files. Every step may be repeated: what a stopped or failed attempt left is continued or cleaned, never mixed in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use crate::digests::{DIGESTS, Digests};
use crate::known::Known;
use crate::layout::{self, BackupName, Entry, Layout};
use crate::manifest;
use crate::presence::{CLAIM, ClaimObject, Presence, presence};
use crate::snapshot::{self, Extent, Service, Table};
use crate::state::{self, Done, Phase, Record, StateDir};
use crate::store::{self, Found, Store};
use crate::upload::Uploader;
use crate::{cql, snapshot::scan};

mod transfer;

use transfer::Noted;

/// Snapshots that are taken until one has the same schema before and after it.
const SCHEMAS: u32 = 3;

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// CQL.
    #[error(transparent)]
    Cql(#[from] cql::Error),
    /// The name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// The volume.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The name is taken.
    #[error("backup {name} already exists in the bucket, begun by {owner}: choose another name or delete it first")]
    Exists {
        /// Name.
        name: BackupName,
        /// Who began it.
        owner: String,
    },
    /// Somebody wanted it to end.
    #[error("the backup was cancelled")]
    Cancelled,
    /// Ours, but no JSON.
    #[error("cannot read or write {key:?} as JSON")]
    Json {
        /// Which object.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An object that was just written is not there.
    #[error("{key:?} was written to the bucket and is not there: does somebody else delete in it?")]
    Vanished {
        /// Which object.
        key: String,
    },
}

impl Error {
    /// A name that somebody else has begun.
    pub(crate) fn taken(name: &BackupName, owner: Option<String>) -> Self {
        let owner = owner.map_or_else(|| "another program".to_owned(), |owner| format!("operation {owner}"));
        Self::Exists { name: name.clone(), owner }
    }

    /// Whether another attempt may succeed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.retryable(),
            Self::Snapshot(error) => error.retryable(),
            Self::Cql(error) => error.retryable(),
            Self::State(_) | Self::Vanished { .. } => true,
            Self::Name(_) | Self::Exists { .. } | Self::Cancelled | Self::Json { .. } => false,
        }
    }
}

/// How far the files of the running backup are.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files of the snapshot.
    pub files_total: AtomicU64,
    /// Files that are in the bucket.
    pub files_done: AtomicU64,
    /// Of these, files that were there already.
    pub files_reused: AtomicU64,
    /// Bytes of the snapshot.
    pub bytes_total: AtomicU64,
    /// Bytes that are in the bucket.
    pub bytes_done: AtomicU64,
}

impl Progress {
    pub(crate) fn begin(&self, extent: Extent) {
        self.files_total.store(extent.files, Ordering::Relaxed);
        self.bytes_total.store(extent.bytes, Ordering::Relaxed);
        for counter in [&self.files_done, &self.files_reused, &self.bytes_done] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn one(&self, size: u64, reused: bool) {
        self.bytes_done.fetch_add(size, Ordering::Relaxed);
        self.files_reused.fetch_add(u64::from(reused), Ordering::Relaxed);
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where a backup writes down how far it is.
#[async_trait::async_trait]
pub trait Journal: Sync {
    /// Makes a phase durable.
    async fn phase(&self, phase: Phase) -> Result<(), state::Error>;
    /// Makes durable that a snapshot must be cleared one day.
    async fn owe(&self, tag: &str) -> Result<(), state::Error>;
}

/// What a backup works with.
#[derive(Debug)]
pub struct Tools {
    /// What the sidecar was told.
    pub config: Config,
    /// Keys.
    pub layout: Layout,
    /// The bucket, with patience.
    pub store: Store,
    /// The way of files into it.
    pub uploader: Uploader,
    /// Snapshots.
    pub snapshots: Service,
    /// The folder on the volume.
    pub dir: StateDir,
}

/// One backup of this node.
pub struct Backup<'a> {
    tools: &'a Tools,
    journal: &'a dyn Journal,
    progress: &'a Progress,
    name: BackupName,
    record: Record,
    /// What older manifests say of objects.
    noted: tokio::sync::OnceCell<BTreeMap<String, Noted>>,
}

impl<'a> Backup<'a> {
    /// The backup that a record asks for, from the phase that the record is in.
    pub fn new(
        tools: &'a Tools,
        journal: &'a dyn Journal,
        progress: &'a Progress,
        record: Record,
    ) -> Result<Self, layout::Error> {
        Ok(Self { name: BackupName::parse(&record.name)?, tools, journal, progress, record, noted: Default::default() })
    }

    /// Runs to the end and says what is in the bucket then. Dropping it leaves something that can be continued.
    pub async fn run(self) -> Result<Phase, Error> {
        if let Some(manifest) = self.left_manifest().await? {
            let key = self.tools.layout.meta(&self.name, "manifest.json");
            let totals = manifest::totals(&manifest).map_err(|source| Error::Json { key, source })?;
            return self.finish(manifest.into(), totals.into()).await;
        }
        let (started_ms, tables) = match self.left_snapshot().await? {
            Some(left) => left,
            None => self.begin().await?,
        };
        self.progress.begin(snapshot::extent(&tables));
        let (sections, digests, reused) = self.upload(&tables).await?;
        if self.record.full {
            self.drop_strays(&sections).await?;
        }
        self.write_digests(&digests).await?;
        self.tools.store.settle().await?;
        let key = self.tools.layout.meta(&self.name, "manifest.json");
        let json = manifest::encode(&sections).map_err(|source| Error::Json { key, source })?;
        let extent = snapshot::extent(&tables);
        tracing::info!(name = %self.name, started_ms, files = extent.files, bytes = extent.bytes, reused, "all files are in the bucket");
        self.finish(json, Done { files: extent.files, bytes: extent.bytes, reused }).await
    }

    /// The manifest that an earlier run of this operation wrote: only what comes after it is missing then. Refuses a name
    /// that is somebody else's.
    async fn left_manifest(&self) -> Result<Option<bytes::Bytes>, Error> {
        let Tools { layout, store, .. } = self.tools;
        let found = presence(store, layout, &self.name).await?;
        let ours = self.record.phase.touched() || found.owner() == Some(self.record.operation.as_str());
        match found {
            Presence::Absent => Ok(None),
            Presence::Begun { .. } if ours => Ok(None),
            Presence::Complete { .. } if ours => Ok(store.get(&layout.meta(&self.name, "manifest.json")).await?),
            Presence::Begun { owner, .. } | Presence::Complete { owner, .. } => Err(Error::taken(&self.name, owner)),
        }
    }

    /// The snapshot of a stopped sidecar, if it is whole: then the rest goes up.
    async fn left_snapshot(&self) -> Result<Option<(i64, Vec<Table>)>, Error> {
        let Phase::Uploading { started_ms, snapshot: Some(extent) } = self.record.phase else {
            return Ok(None);
        };
        let tables = scan(self.tools.config.cassandra.yaml.dirs(), &self.name.snapshot_tag()).await?;
        let begun = self.tools.store.head(&self.tools.layout.meta(&self.name, "schema.cql")).await?;
        Ok((snapshot::extent(&tables) == extent && begun.is_some()).then_some((started_ms, tables)))
    }

    /// Everything before the data, from nothing.
    async fn begin(&self) -> Result<(i64, Vec<Table>), Error> {
        let Tools { config, layout, store, snapshots, .. } = self.tools;
        if !self.record.phase.touched() {
            let others = store.names(&layout.index()).await?;
            self.name.beside(others.iter().map(String::as_str))?;
        }
        let mut attempt = 1;
        let (started_ms, tables) = loop {
            self.make_room().await?;
            let facts = cql::facts(&config.cassandra, layout.node().as_str()).await?;
            self.journal.phase(Phase::Starting { touched: true }).await?;
            let started_ms = self.announce(&facts).await?;
            self.journal.phase(Phase::Uploading { started_ms, snapshot: None }).await?;

            let tag = self.name.snapshot_tag();
            self.journal.owe(&tag).await?;
            // Whatever an earlier attempt left under this tag holds older data.
            snapshots.clear(&tag).await?;
            snapshots.take(&tag).await?;
            let again = cql::facts(&config.cassandra, layout.node().as_str());
            let (tables, again) =
                tokio::try_join!(async { Ok::<_, Error>(scan(config.cassandra.yaml.dirs(), &tag).await?) }, async {
                    Ok(again.await?)
                })?;
            if tables.is_empty() {
                return Err(snapshot::Error::Nothing { tag, path: config.cassandra.yaml.data.clone() }.into());
            }
            if again.schema == facts.schema {
                break (started_ms, tables);
            }
            // The schema in the bucket must be that of the files.
            if attempt == SCHEMAS {
                tracing::warn!(name = %self.name, "the schema changes all the time: it may differ from that of the snapshot");
                break (started_ms, tables);
            }
            tracing::info!(name = %self.name, attempt, "the schema changed while the snapshot was taken: once more");
            attempt += 1;
        };
        let extent = snapshot::extent(&tables);
        self.journal.phase(Phase::Uploading { started_ms, snapshot: Some(extent) }).await?;
        Ok((started_ms, tables))
    }

    /// Removes what an earlier attempt of this operation left under the name.
    async fn make_room(&self) -> Result<(), Error> {
        let Tools { layout, store, dir, .. } = self.tools;
        let index = store.list(&layout.index_of(&self.name)).await?;
        let node = layout.node().as_str();
        let own = index.into_iter().map(|found| found.key);
        let own = own.filter(|key| layout.read_index(key).is_some_and(|(_, of, _)| of == node)).collect();
        store.delete(own).await?;
        let left = store.list(&layout.backup_root(&self.name)).await?;
        // The claim goes last, so that a stop on the way leaves something that is known to be ours.
        let (claim, rest): (Vec<String>, Vec<String>) =
            left.into_iter().map(|found| found.key).partition(|key| *key == layout.meta(&self.name, CLAIM));
        store.delete(rest).await?;
        store.delete(claim).await?;
        let mut known = Known::load(dir);
        known.forget_private();
        Ok(known.save(dir)?)
    }

    /// Writes what marks the backup as begun, in Medusa's order; gives the time that the store recorded.
    async fn announce(&self, facts: &cql::Facts) -> Result<i64, Error> {
        let Tools { layout, store, .. } = self.tools;
        let json = |key: &str, source| Error::Json { key: key.to_owned(), source };
        let tokens = serde_json::to_vec(&facts.tokens).map_err(|source| json("tokenmap.json", source))?;
        let server = serde_json::to_vec(&facts.server).map_err(|source| json("server_version.json", source))?;
        let claim = ClaimObject { operation: self.record.operation.clone() };
        let claim = serde_json::to_vec(&claim).map_err(|source| json(CLAIM, source))?;
        let meta = |file| layout.meta(&self.name, file);
        let index = |entry| layout.index_entry(&self.name, entry);

        store.put(&meta(CLAIM), claim).await?;
        store.put(&meta("schema.cql"), facts.schema.clone()).await?;
        store.put(&meta("tokenmap.json"), tokens.clone()).await?;
        store.put(&meta("server_version.json"), server).await?;
        if !self.record.full {
            store.put(&meta("differential"), "differential").await?;
        }
        let started = self.written(&meta("schema.cql")).await?;
        store.put(&index(Entry::Tokenmap), tokens).await?;
        store.put(&index(Entry::Schema), facts.schema.clone()).await?;
        let epoch = started.modified.timestamp();
        store.put(&index(Entry::Started(epoch)), epoch.to_string()).await?;
        if !self.record.full {
            store.put(&index(Entry::Differential), "differential").await?;
        }
        Ok(started.modified.timestamp_millis())
    }

    /// Writes what marks the node as done, in Medusa's order; the same again after a stop in between.
    async fn finish(&self, manifest: Vec<u8>, totals: Done) -> Result<Phase, Error> {
        let Tools { layout, store, .. } = self.tools;
        let meta = |file| layout.meta(&self.name, file);
        let index = |entry| layout.index_entry(&self.name, entry);
        let done = match store.head(&meta("manifest.json")).await? {
            Some(done) => done,
            None => {
                store.put(&meta("manifest.json"), manifest.clone()).await?;
                self.written(&meta("manifest.json")).await?
            }
        };
        let started = self.written(&meta("schema.cql")).await?;
        let tokens = store.get(&meta("tokenmap.json")).await?;
        let tokens = tokens.ok_or_else(|| Error::Vanished { key: meta("tokenmap.json") })?;
        let epoch = done.modified.timestamp();
        store.put(&index(Entry::Manifest), manifest).await?;
        store.put(&index(Entry::Finished(epoch)), epoch.to_string()).await?;
        store.put(&layout.latest("tokenmap.json"), tokens).await?;
        store.put(&layout.latest("backup_name.txt"), self.name.as_str().to_owned()).await?;
        Ok(Phase::Finished {
            started_ms: started.modified.timestamp_millis(),
            finished_ms: done.modified.timestamp_millis(),
            totals,
        })
    }

    /// Writes what the manifest cannot say of contents.
    async fn write_digests(&self, digests: &Digests) -> Result<(), Error> {
        let key = self.tools.layout.meta(&self.name, DIGESTS);
        match digests.encode() {
            Some(json) => {
                let json = json.map_err(|source| Error::Json { key: key.clone(), source })?;
                Ok(self.tools.store.put(&key, json).await?)
            }
            None => Ok(()),
        }
    }

    async fn written(&self, key: &str) -> Result<Found, Error> {
        self.tools.store.head(key).await?.ok_or_else(|| Error::Vanished { key: key.to_owned() })
    }
}
