//! The bucket: objects by key on a local directory or S3, with errors that never pass for absence.

use std::collections::BTreeSet;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions, PutResult};

use crate::config::{Place, Storage};
use crate::upload::base64;

mod again;
mod error;
mod pace;
mod reading;
mod remote;
mod transport;

pub(crate) use again::{ATTEMPTS, BRIEF, pause};
pub use error::{Cause, Error};
use transport::Opaque;

/// How long the store is given before a failure is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For a backup: minutes.
    Long,
    /// For an answer that somebody waits for: seconds.
    Short,
}

/// What a listing or a look at an object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub modified: DateTime<Utc>,
    /// S3's ETag without quotes; `None` of other stores, whose tags say nothing of the content.
    pub etag: Option<String>,
}

/// What a store's tags of objects say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    /// S3: the ETag follows from the content, and is what manifests hold.
    Etag,
    /// A local store: nothing; manifests hold the hex md5.
    Hex,
    /// Azure and Google: nothing; manifests hold the md5 in base64.
    Base64,
}

/// A bucket.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) tags: Tags,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) attributes: Attributes,
    /// Whether the tags of what is written are not made of its content.
    pub(crate) opaque: Arc<AtomicBool>,
}

impl Store {
    /// Sets the store up; nothing is asked of S3 yet.
    pub fn open(config: &Storage, patience: Patience) -> Result<Self, Error> {
        match &config.place {
            Place::Local { base } => {
                let root = base.join(&config.bucket);
                std::fs::create_dir_all(&root).map_err(|source| Error::Directory { path: root.clone(), source })?;
                let objects = LocalFileSystem::new_with_prefix(&root)
                    .map_err(|source| Error::Open { bucket: config.bucket.clone(), source })?
                    .with_fsync(true)
                    .with_automatic_cleanup(true);
                Ok(Self {
                    objects: Arc::new(objects),
                    root: Some(root),
                    attributes: Attributes::new(),
                    tags: Tags::Hex,
                    opaque: Arc::default(),
                })
            }
            Place::S3(s3) => {
                let objects = remote::amazon(s3, &config.bucket, remote::client(config, patience)?).build();
                let store = Self::remote(objects, config, s3.storage_class.clone(), Tags::Etag)?;
                // Where the bucket does it by itself, its answers tell.
                store.opaque.store(s3.kms_id.is_some() || s3.sse_c_key.is_some(), Ordering::Relaxed);
                Ok(store)
            }
            Place::Azure(azure) => {
                let objects = remote::azure(azure, &config.bucket, remote::client(config, patience)?).build();
                Self::remote(objects, config, azure.tier.clone(), Tags::Base64)
            }
            Place::Google(google) => {
                let objects = remote::google(google, &config.bucket, remote::client(config, patience)?).build();
                Self::remote(objects, config, None, Tags::Base64)
            }
        }
    }

    fn remote<O: ObjectStore>(
        built: object_store::Result<O>,
        config: &Storage,
        class: Option<String>,
        tags: Tags,
    ) -> Result<Self, Error> {
        let objects = built.map_err(|source| Error::Open { bucket: config.bucket.clone(), source })?;
        let mut attributes = Attributes::new();
        if let Some(class) = class {
            attributes.insert(Attribute::StorageClass, class.into());
        }
        Ok(Self { objects: Arc::new(objects), root: None, attributes, tags, opaque: Arc::default() })
    }

    /// Whether objects lie in a local directory, so that ETags are no hashes.
    pub fn is_local(&self) -> bool {
        self.root.is_some()
    }

    /// Writes a small object.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<(), Error> {
        let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
        let (at, content) = (path(key)?, content.into());
        let put = || {
            async {
                let put = self.objects.put_opts(&at, content.clone().into(), options.clone()).await;
                let put = put.map_err(|source| Error::of("put", key, source))?;
                self.is_opaque(&put);
                Ok(())
            }
            .boxed()
        };
        self.again(put).await
    }

    /// Reads a whole object; `None` only when the store says that it is not there.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let at = path(key)?;
        let get = || {
            async {
                match self.objects.get(&at).await {
                    Ok(found) => found.bytes().await.map(Some).map_err(|source| Error::of("get", key, source)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(source) => Err(Error::of("get", key, source)),
                }
            }
            .boxed()
        };
        self.again(get).await
    }

    /// Looks at an object; `None` only when the store says that it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<Found>, Error> {
        let at = path(key)?;
        let head = || {
            async {
                match self.objects.head(&at).await {
                    Ok(meta) => Ok(Some(self.found(meta))),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(source) => Err(Error::of("get", key, source)),
                }
            }
            .boxed()
        };
        self.again(head).await
    }

    /// All objects below `root` (whole segments: `a/b` does not list `a/bc`), in the order of their keys.
    pub async fn list(&self, root: &str) -> Result<Vec<Found>, Error> {
        let at = path(root)?;
        let list = || {
            async {
                let found = self.objects.list(Some(&at)).map_ok(|meta| self.found(meta));
                found.try_collect::<Vec<Found>>().await.map_err(|source| Error::of("list", root, source))
            }
            .boxed()
        };
        let mut found = self.again(list).await?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// The segments right below `root`: the backups in an index, for example.
    pub async fn names(&self, root: &str) -> Result<BTreeSet<String>, Error> {
        if self.is_local() {
            // Directories outlive their last file: only objects count.
            let below = root.len() + 1;
            let first = |found: &Found| found.key.get(below..)?.split_once('/').map(|(name, _)| name.to_owned());
            return Ok(self.list(root).await?.iter().filter_map(first).collect());
        }
        let at = path(root)?;
        let list = || {
            async {
                let listed = self.objects.list_with_delimiter(Some(&at)).await;
                listed.map_err(|source| Error::of("list", root, source))
            }
            .boxed()
        };
        let listed = self.again(list).await?;
        Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    /// The segments right below `root`, of directories that hold nothing too: cheaper than `names` on a local store.
    pub async fn segments(&self, root: &str) -> Result<BTreeSet<String>, Error> {
        let Some(path) = self.local_path(root) else {
            return self.names(root).await;
        };
        let failed = path.clone();
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<BTreeSet<String>> {
            let mut names = BTreeSet::new();
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.extend(entry.file_name().into_string().ok());
                }
            }
            Ok(names)
        });
        match read.await.map_err(std::io::Error::other).and_then(|outcome| outcome) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            outcome => outcome.map_err(|source| Error::File { path: failed, source }),
        }
    }

    /// Deletes objects; one that is not there is deleted already.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), Error> {
        let paths = keys.iter().map(|key| path(key)).collect::<Result<Vec<_>, _>>()?;
        let what = keys.first().cloned().unwrap_or_default();
        let delete = || {
            async {
                let all = futures::stream::iter(paths.clone().into_iter().map(Ok)).boxed();
                let mut done = self.objects.delete_stream(all);
                while let Some(outcome) = done.next().await {
                    match outcome {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(source) => return Err(Error::of("delete", &what, source)),
                    }
                }
                Ok(())
            }
            .boxed()
        };
        self.again(delete).await
    }

    /// What a manifest calls MD5 of an object that was put, by the hex md5 of its content.
    pub(crate) fn tag(&self, md5: &str, etag: Option<String>) -> String {
        match (self.tags, etag) {
            (Tags::Etag, Some(etag)) => unquoted(&etag),
            (Tags::Etag, None) | (Tags::Hex, _) => md5.to_owned(),
            (Tags::Base64, _) => base64(md5),
        }
    }

    /// Whether the tag of what was written is not made of its content. What one answer told holds for those that tell
    /// nothing: the end of an upload in parts, with a customer's key.
    pub(crate) fn is_opaque(&self, put: &PutResult) -> bool {
        if put.extensions.get::<Opaque>().is_some() {
            self.opaque.store(true, Ordering::Relaxed);
        }
        self.writes_opaque()
    }

    /// Whether tags of what will be written are not made of its content, as far as is known.
    pub(crate) fn writes_opaque(&self) -> bool {
        self.opaque.load(Ordering::Relaxed)
    }

    /// Whether the tag of an object that is there is not made of its content.
    pub(crate) async fn has_opaque(&self, key: &str) -> Result<bool, Error> {
        let at = path(key)?;
        let head = || {
            async {
                match self.objects.get_opts(&at, GetOptions { head: true, ..GetOptions::default() }).await {
                    Ok(got) => Ok(got.extensions.get::<Opaque>().is_some()),
                    Err(object_store::Error::NotFound { .. }) => Ok(false),
                    Err(source) => Err(Error::of("get", key, source)),
                }
            }
            .boxed()
        };
        self.again(head).await
    }

    /// Makes what was written durable. S3 has done so when it answered; a local file system is asked once for all files.
    pub async fn settle(&self) -> Result<(), Error> {
        let Some(root) = self.root.clone() else {
            return Ok(());
        };
        let path = root.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let dir = std::fs::File::open(&root)?;
            nix::unistd::syncfs(&dir).map_err(std::io::Error::from)
        });
        let synced = synced.await.map_err(std::io::Error::other).and_then(|outcome| outcome);
        synced.map_err(|source| Error::File { path, source })
    }

    /// The file behind a key of a local store.
    pub(crate) fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.root.as_deref().map(|root: &FsPath| root.join(key))
    }

    fn found(&self, meta: ObjectMeta) -> Found {
        let etag = meta.e_tag.filter(|_| self.tags == Tags::Etag).map(|tag| unquoted(&tag));
        Found { key: meta.location.to_string(), size: meta.size, modified: meta.last_modified, etag }
    }
}

pub(crate) fn path(key: &str) -> Result<Path, Error> {
    Path::parse(key).map_err(|source| Error::Key { key: key.to_owned(), source })
}

/// A text that is one segment of a key, or an error.
pub(crate) fn segment(text: &str) -> Result<&str, Error> {
    let one = path(text)?.parts().count() == 1;
    one.then_some(text).ok_or_else(|| Error::Key {
        key: text.to_owned(),
        source: object_store::path::Error::EmptySegment { path: text.to_owned() },
    })
}

pub(crate) fn unquoted(tag: &str) -> String {
    tag.trim_start_matches("W/").trim_matches('"').to_owned()
}
