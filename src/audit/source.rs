//! Where history is read from: a stream on NATS, an exported file, or messages in memory; all of them one at a time.

use super::archive;
use super::entry::Entry;
use crate::log::{self, Clock, Credentials, Endpoint, Filter, Follow, Log, Patience, Settings};
use clap::Args;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use stheno_events::{Aggregate, DcKey, LogId, Time};
use tokio_util::sync::CancellationToken;

/// How long a reader of history waits for the server's next word: a command that hangs explains nothing.
const SILENCE: Duration = Duration::from_secs(20);

/// Which log is read.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Read an exported log instead of NATS.
    #[arg(long, global = true, value_name = "FILE", env = "STHENO_FILE")]
    pub file: Option<PathBuf>,
    /// The NATS server; without it the private one of the data folder is used.
    #[arg(long, global = true, value_name = "URL", env = "STHENO_NATS_URL", hide_env_values = true)]
    pub nats_url: Option<String>,
    /// Credentials file for the NATS server.
    #[arg(long, global = true, value_name = "FILE", env = "STHENO_NATS_CREDS")]
    pub nats_creds: Option<PathBuf>,
    /// The stream that holds the log.
    #[arg(long, global = true, value_name = "NAME", env = "STHENO_STREAM", default_value = "STHENO")]
    pub stream: String,
    /// Where the private server keeps its store; the user's state folder by default.
    #[arg(long, global = true, value_name = "DIR", env = "STHENO_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl SourceArgs {
    /// How the stream that they name is opened, for reading: whichever cluster's it is, and as it is. A data folder
    /// that is not there is an error unless `make` says that one may be made.
    pub(super) fn settings(&self, clock: Clock, make: bool) -> Result<Settings, Error> {
        let endpoint = match &self.nats_url {
            Some(url) => Endpoint::External {
                url: url.clone(),
                credentials: self.nats_creds.clone().map_or(Credentials::None, Credentials::File),
            },
            None => {
                let data_dir = self.data_dir.clone().or_else(crate::runtime::data_dir).ok_or(Error::NoHome)?;
                if !make && !data_dir.is_dir() {
                    return Err(Error::NoData(data_dir));
                }
                Endpoint::Embedded { data_dir, program: None }
            }
        };
        let (stream, patience) = (self.stream.clone(), Patience::default());
        Ok(Settings { endpoint, stream, cluster: None, allow_relaxed: true, clock, patience })
    }
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

    /// What the server is asked for: at least what is meant.
    #[must_use]
    pub fn filter(&self) -> Filter {
        match (self.aggregate(), &self.namespace) {
            (Some(aggregate), _) => Filter::Aggregates(vec![aggregate]),
            (None, Some(namespace)) => Filter::Namespace(namespace.clone()),
            (None, None) => self.datacenter.clone().map_or(Filter::All, Filter::Datacenter),
        }
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
    /// The log on NATS cannot be opened.
    #[error(transparent)]
    Open(#[from] log::settings::Error),
    /// The log on NATS cannot be read.
    #[error(transparent)]
    Read(#[from] log::follow::Error),
    /// Nothing says where the log is.
    #[error("there is no log: the data folder {} does not exist; name a log with --nats-url, --data-dir or --file", .0.display())]
    NoData(PathBuf),
    /// Nothing says where the data folder is.
    #[error(
        "there is no log: neither HOME nor XDG_STATE_HOME is set; name a log with --nats-url, --data-dir or --file"
    )]
    NoHome,
    /// Only a stream grows.
    #[error("an exported log does not grow, so there is nothing to follow and nothing to resume: leave out --file")]
    Still,
    /// Its hashes are void.
    #[error(
        "the log was redacted: its hashes are void, so it cannot be verified; verify the log that it was exported from"
    )]
    Redacted,
    /// The server does not answer any more.
    #[error("NATS went away: nothing came for {} s behind message {after}", SILENCE.as_secs())]
    Away {
        /// The last message that came, 0 for none.
        after: u64,
    },
}

impl Error {
    /// The message at which the log itself is at fault, where that is the reason.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        match self {
            Self::File(error) => error.sequence(),
            Self::Read(log::follow::Error::Gap { from, .. }) => Some(*from),
            Self::Read(
                log::follow::Error::Backwards { .. } | log::follow::Error::Recreated(_) | log::follow::Error::Stream(_),
            )
            | Self::Open(_)
            | Self::NoData(_)
            | Self::NoHome
            | Self::Still
            | Self::Redacted
            | Self::Away { .. } => None,
        }
    }
}

/// A log that is there to be read.
pub enum Source {
    /// A stream on NATS.
    Nats(Log),
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
    /// Opens what the options name. Nothing is created: a stream that is not there is an error.
    ///
    /// # Errors
    /// When it is not there, or is no log.
    pub async fn open(args: &SourceArgs, clock: Clock) -> Result<Self, Error> {
        if let Some(path) = &args.file {
            return Self::file(path.clone());
        }
        let settings = args.settings(clock, false)?;
        Ok(Self::Nats(Log::open(settings).await?))
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
            Self::Nats(log) => log.id(),
            Self::File { header, .. } => &header.log,
            Self::Memory { log, .. } => log,
        }
    }

    /// Which stream it is, or was when it was exported; none of messages in memory.
    #[must_use]
    pub fn identity(&self) -> Option<log::Identity> {
        match self {
            Self::Nats(log) => Some(log.identity().clone()),
            Self::File { header, .. } => Some(log::Identity {
                stream: header.stream.clone(),
                stream_id: header.stream_id.clone(),
                created: header.created,
                cluster: header.cluster.clone(),
                log: header.log.clone(),
            }),
            Self::Memory { .. } => None,
        }
    }

    /// Whether it is an exported log whose names are pseudonyms and whose hashes are void.
    #[must_use]
    pub const fn redacted(&self) -> bool {
        match self {
            Self::File { header, .. } => header.redacted,
            Self::Nats(_) | Self::Memory { .. } => false,
        }
    }

    /// Ends the use of the log; of a private server perhaps the last one.
    pub async fn close(self) {
        match self {
            Self::Nats(log) => log.close().await,
            Self::File { .. } | Self::Memory { .. } => {}
        }
    }

    /// Reads what is there now of `scope`, from the sequence `from` on.
    ///
    /// # Errors
    /// When the file is not there any more.
    pub async fn read(&self, from: u64, scope: Scope) -> Result<Reader, Error> {
        let inner = match self {
            Self::Nats(log) => {
                let cancel = CancellationToken::new();
                Inner::Nats(Box::new(log.read(from..=u64::MAX, &scope.filter(), cancel)), Some(SILENCE))
            }
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

impl Source {
    /// Reads `scope` from the sequence `from` on, and stays for what comes. An exported log does not grow.
    ///
    /// # Errors
    /// When there is nothing to follow.
    pub fn follow(&self, from: u64, scope: Scope) -> Result<Reader, Error> {
        match self {
            Self::Nats(log) => {
                let follow = log.follow_matching(from, &scope.filter(), CancellationToken::new());
                Ok(Reader { inner: Inner::Nats(Box::new(follow), None), from, scope })
            }
            Self::File { .. } | Self::Memory { .. } => Err(Error::Still),
        }
    }
}

/// Delivers messages in the order of the stream.
pub struct Reader {
    inner: Inner,
    from: u64,
    scope: Scope,
}

enum Inner {
    /// With how long silence may last: for ever where there is no end.
    Nats(Box<Follow>, Option<Duration>),
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
                Inner::Nats(follow, silence) => match within(*silence, follow.next()).await {
                    Some(item) => match item.transpose()?.map(Entry::delivered) {
                        Some(Some(entry)) => Some(entry),
                        Some(None) => continue,
                        None => None,
                    },
                    None => return Err(Error::Away { after: follow.position() }),
                },
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
            Inner::Nats(..) | Inner::Memory(_) => None,
        }
    }
}

/// What comes within a time, if it is bounded.
pub(crate) async fn within<T>(patience: Option<Duration>, coming: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, coming).await.ok(),
        None => Some(coming.await),
    }
}
