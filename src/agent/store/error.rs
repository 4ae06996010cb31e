//! What goes wrong with a bucket, in the server's own words.

use std::path::PathBuf;

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
    /// The store's own authority.
    #[error("cannot use the certificates in {}, which AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE names", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
            Self::Open { .. }
            | Self::Authority { .. }
            | Self::Denied { .. }
            | Self::NoBucket { .. }
            | Self::Key { .. } => false,
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
