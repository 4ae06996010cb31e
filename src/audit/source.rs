//! Where history is read from: a stream on NATS, an exported file, or messages in memory; all of them one at a time.

use super::archive;
use super::entry::Entry;
use clap::Args;
use std::collections::VecDeque;
use std::path::PathBuf;
use stheno_events::{Aggregate, DcKey, LogId, Time};

/// Which log is read.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Read an exported log instead of NATS.
    #[arg(long, value_name = "FILE", env = "STHENO_FILE", conflicts_with_all = ["nats_url", "data_dir"])]
    pub file: Option<PathBuf>,
    /// The NATS server; without it the private one of the data folder is used.
    #[arg(long, value_name = "URL", env = "STHENO_NATS_URL")]
    pub nats_url: Option<String>,
    /// Credentials file for the NATS server.
    #[arg(long, value_name = "FILE", env = "STHENO_NATS_CREDS", requires = "nats_url")]
    pub nats_creds: Option<PathBuf>,
    /// The stream that holds the log.
    #[arg(long, value_name = "NAME", env = "STHENO_STREAM", default_value = "STHENO")]
    pub stream: String,
    /// Where the private server keeps its store; the user's state folder by default.
    #[arg(long, value_name = "DIR", env = "STHENO_DATA_DIR", conflicts_with = "nats_url")]
    pub data_dir: Option<PathBuf>,
}

/// Which part of the log is asked for. On NATS the server leaves out the rest, elsewhere the reader does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only datacenters of this name.
    pub datacenter: Option<String>,
}

impl Scope {
    /// Everything of a namespace.
    #[must_use]
    pub fn namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), datacenter: None }
    }

    /// Whether the whole log is meant, foreign and unreadable messages included.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.datacenter.is_none()
    }

    /// The one aggregate that is meant, where it is one.
    #[must_use]
    pub fn aggregate(&self) -> Option<Aggregate> {
        let key = DcKey::new(self.namespace.as_deref()?, self.datacenter.as_deref()?);
        Some(Aggregate::Datacenter(key))
    }

    /// Whether a message belongs to it.
    #[must_use]
    pub fn contains(&self, entry: &Entry) -> bool {
        let fits = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        match entry.datacenter() {
            Some(key) => fits(&self.namespace, &key.namespace) && fits(&self.datacenter, &key.name),
            None => self.is_everything(),
        }
    }
}

/// Why history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is at fault.
    #[error(transparent)]
    File(#[from] archive::Error),
}

/// A log that is there to be read.
pub enum Source {
    /// An exported log.
    File {
        /// Where it lies.
        path: PathBuf,
        /// Where it came from.
        header: archive::Header,
    },
    /// Messages in memory: their subjects, times and bytes.
    Memory {
        /// The log's id in subjects.
        log: LogId,
        /// The messages from sequence 1 on.
        messages: Vec<(String, Time, bytes::Bytes)>,
    },
}

impl Source {
    /// Opens what the options name.
    ///
    /// # Errors
    /// When it is not there, or is no log.
    pub async fn open(args: &SourceArgs) -> Result<Self, Error> {
        if let Some(path) = &args.file {
            return Self::file(path.clone());
        }
        todo!()
    }

    /// Opens an exported log.
    ///
    /// # Errors
    /// When it is not there, or is no log.
    pub fn file(path: PathBuf) -> Result<Self, Error> {
        let header = archive::Reader::open(&path)?.header().clone();
        Ok(Self::File { path, header })
    }

    /// The log's id in subjects.
    #[must_use]
    pub fn log(&self) -> &LogId {
        match self {
            Self::File { header, .. } => &header.log,
            Self::Memory { log, .. } => log,
        }
    }

    /// Reads what is there now of `scope`, from the sequence `from` on.
    ///
    /// # Errors
    /// When the file is not there any more.
    pub fn read(&self, from: u64, scope: Scope) -> Result<Reader, Error> {
        let inner = match self {
            Self::File { path, .. } => Inner::File(Box::new(archive::Reader::open(path)?)),
            Self::Memory { log, messages } => {
                let entries = (1..).zip(messages).map(|(sequence, (subject, stored, payload))| {
                    Entry::read(log, sequence, subject.clone(), *stored, payload.clone())
                });
                Inner::Memory(entries.collect())
            }
        };
        Ok(Reader { inner, from, scope })
    }
}

/// Delivers messages in the order of the stream.
pub struct Reader {
    inner: Inner,
    from: u64,
    scope: Scope,
}

enum Inner {
    File(Box<archive::Reader>),
    Memory(VecDeque<Entry>),
}

impl Reader {
    /// The next message; `None` at the end of what is there.
    ///
    /// # Errors
    /// When a message is missing or damaged, or the server is gone for good.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            let entry = match &mut self.inner {
                Inner::File(reader) => reader.next().transpose()?,
                Inner::Memory(entries) => entries.pop_front(),
            };
            match entry {
                Some(entry) if entry.sequence < self.from || !self.scope.contains(&entry) => {}
                entry => return Ok(entry),
            }
        }
    }

    /// What an exported log must amount to, once it was read to its end.
    #[must_use]
    pub fn trailer(&self) -> Option<&archive::Trailer> {
        match &self.inner {
            Inner::File(reader) => reader.trailer(),
            Inner::Memory(_) => None,
        }
    }
}
