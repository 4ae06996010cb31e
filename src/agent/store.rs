//! The bucket: objects by key on a local directory or S3, with errors that never pass for absence.

use std::collections::BTreeSet;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions,
    RetryConfig,
};

use crate::config::{Place, S3, Storage};

/// Why the bucket did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be set up.
    #[error("cannot open the bucket {bucket:?}")]
    Open {
        /// Bucket.
        bucket: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The directory of a local store cannot be made.
    #[error("cannot make the bucket's directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store refuses us: another attempt changes nothing.
    #[error("the bucket refuses to {action} {key:?}: check the credentials and their rights")]
    Denied {
        /// put, get, list, delete.
        action: &'static str,
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The bucket itself is not there.
    #[error("the bucket is not there: cannot {action} {key:?}")]
    NoBucket {
        /// put, get, list, delete.
        action: &'static str,
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Anything else: network, overload, a full disk.
    #[error("cannot {action} {key:?} in the bucket")]
    Failed {
        /// put, get, list, delete.
        action: &'static str,
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A key that the store cannot hold.
    #[error("{key:?} cannot be an object's key")]
    Key {
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: object_store::path::Error,
    },
    /// A local file that is being uploaded.
    #[error("cannot copy {} to the bucket", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of a snapshot is never written to, so something else wrote.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
}

impl Error {
    /// Whether the same thing may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::File { .. } | Self::Changed { .. } | Self::Directory { .. } => true,
            Self::Open { .. } | Self::Denied { .. } | Self::NoBucket { .. } | Self::Key { .. } => false,
        }
    }

    pub(crate) fn of(action: &'static str, key: &str, source: object_store::Error) -> Self {
        let (key, status) = (key.to_owned(), status(&source));
        let denied = matches!(
            source,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
        );
        // Only asking for an object may find it absent; whatever else is "not found" is the bucket.
        let absent = matches!(source, object_store::Error::NotFound { .. });
        let source = Cause::of(source);
        if denied || matches!(status, Some(401 | 403)) {
            Self::Denied { action, key, source }
        } else if absent || status == Some(404) {
            Self::NoBucket { action, key, source }
        } else {
            Self::Failed { action, key, source }
        }
    }
}

/// Why the store failed, for people: the server's own words instead of the whole exchange.
#[derive(Debug)]
pub struct Cause {
    brief: String,
    error: Box<object_store::Error>,
}

impl Cause {
    fn of(error: object_store::Error) -> Self {
        let text = error.to_string();
        let between = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once(&format!("</{tag}>"))?.0)
        };
        let brief = match (between("Code"), between("Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => {
                let mut innermost: &dyn std::error::Error = &error;
                while let Some(source) = innermost.source() {
                    innermost = source;
                }
                innermost.to_string()
            }
        };
        Self { brief, error: Box::new(error) }
    }

    /// The whole exchange, for the log.
    pub fn whole(&self) -> &object_store::Error {
        &self.error
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.brief)
    }
}

impl std::error::Error for Cause {}

/// The HTTP status of a failed request. Listings and deletions carry it in their text only.
fn status(error: &object_store::Error) -> Option<u16> {
    let text = error.to_string();
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

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
    /// S3's ETag without quotes; `None` on a local store, whose tags say nothing of the content.
    pub etag: Option<String>,
}

/// A bucket.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) attributes: Attributes,
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
                Ok(Self { objects: Arc::new(objects), root: Some(root), attributes: Attributes::new() })
            }
            Place::S3(s3) => {
                let mut attributes = Attributes::new();
                if let Some(class) = &s3.storage_class {
                    attributes.insert(Attribute::StorageClass, class.clone().into());
                }
                let objects = amazon(s3, &config.bucket, patience)
                    .build()
                    .map_err(|source| Error::Open { bucket: config.bucket.clone(), source })?;
                Ok(Self { objects: Arc::new(objects), root: None, attributes })
            }
        }
    }

    /// Whether objects lie in a local directory, so that ETags are no hashes.
    pub fn is_local(&self) -> bool {
        self.root.is_some()
    }

    /// Writes a small object.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<(), Error> {
        let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
        let put = self.objects.put_opts(&path(key)?, content.into().into(), options).await;
        put.map(drop).map_err(|source| Error::of("put", key, source))
    }

    /// Reads a whole object; `None` only when the store says that it is not there.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self.objects.get(&path(key)?).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|source| Error::of("get", key, source)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::of("get", key, source)),
        }
    }

    /// Looks at an object; `None` only when the store says that it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<Found>, Error> {
        match self.objects.head(&path(key)?).await {
            Ok(meta) => Ok(Some(self.found(meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::of("get", key, source)),
        }
    }

    /// All objects below `root` (whole segments: `a/b` does not list `a/bc`), in the order of their keys.
    pub async fn list(&self, root: &str) -> Result<Vec<Found>, Error> {
        let found = self.objects.list(Some(&path(root)?)).map_ok(|meta| self.found(meta));
        let mut found: Vec<Found> = found.try_collect().await.map_err(|source| Error::of("list", root, source))?;
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
        let listed = self.objects.list_with_delimiter(Some(&path(root)?)).await;
        let listed = listed.map_err(|source| Error::of("list", root, source))?;
        Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    /// Deletes objects; one that is not there is deleted already.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), Error> {
        let paths = keys.iter().map(|key| path(key)).collect::<Result<Vec<_>, _>>()?;
        let what = keys.first().cloned().unwrap_or_default();
        let mut done = self.objects.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(outcome) = done.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(Error::of("delete", &what, source)),
            }
        }
        Ok(())
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
        let etag = meta.e_tag.filter(|_| !self.is_local()).map(|tag| unquoted(&tag));
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

fn amazon(s3: &S3, bucket: &str, patience: Patience) -> AmazonS3Builder {
    let (retries, limit, request) = match patience {
        Patience::Long => (10, 170, 300),
        Patience::Short => (3, 10, 30),
    };
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(15),
            base: 2.0,
        },
        max_retries: retries,
        retry_timeout: Duration::from_secs(limit),
    };
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(10))
        .with_timeout(Duration::from_secs(request))
        .with_allow_http(true)
        .with_allow_invalid_certificates(!s3.verify_tls);
    let mut builder = match &s3.credentials {
        Some(keys) => {
            let builder = AmazonS3Builder::new().with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
            match &keys.token {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
        None => AmazonS3Builder::from_env(),
    };
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = &s3.kms_id {
        builder = builder.with_sse_kms_encryption(key);
    }
    if let Some(key) = &s3.sse_c_key {
        builder = builder.with_ssec_encryption(key);
    }
    builder
        .with_bucket_name(bucket)
        .with_region(&s3.region)
        .with_virtual_hosted_style_request(s3.virtual_host)
        .with_client_options(client)
        .with_retry(retry)
}
