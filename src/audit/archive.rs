//! A log in a file: what `audit export` writes and every verb reads with `--file`.
//!
//! The file is one LZ4 frame. Inside, each frame is a MessagePack `bin` that holds a MessagePack map of one entry:
//! `header`, then a `message` for each message of the stream, then the `trailer`. Each message carries a running sum over
//! everything before it, so that an edit is found at the message where it was made; the trailer says how many messages
//! there are and where each aggregate ends, so that a cut is found too.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use stheno_events::{Digest, LogId, Time, Uid};

/// The layout that this build writes.
pub const LAYOUT: u32 = 1;
/// No frame is longer: messages of the stream are at most 1 MB. Guards against allocating what a damaged length says.
const LONGEST: u32 = 64 << 20;
/// How an LZ4 frame begins.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Where an exported log came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Layout of the file.
    pub layout: u32,
    /// The log's id in subjects.
    pub log: LogId,
    /// UID of namespace kube-system of the cluster that it is about.
    pub cluster: Uid,
    /// The stream's name.
    pub stream: String,
    /// Drawn at the stream's creation.
    pub stream_id: String,
    /// When the stream was created.
    pub created: Time,
    /// When it was exported.
    pub exported: Time,
    /// The program and version that exported it.
    pub by: String,
    /// Names are pseudonyms, and hashes void: it tells what happened, and proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// What the file must amount to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Messages.
    pub count: u64,
    /// Sequence of the first one, 0 when there is none.
    pub first: u64,
    /// Sequence of the last one, 0 when there is none.
    pub last: u64,
    /// The digest of each aggregate's last message, by the aggregate's subject filter.
    pub heads: BTreeMap<String, Digest>,
    /// The root over the heads.
    pub root: Digest,
    /// The running sum behind the last message.
    #[serde(with = "sum_bytes")]
    pub sum: Sum,
}

impl Default for Trailer {
    fn default() -> Self {
        let heads = BTreeMap::new();
        Self { count: 0, first: 0, last: 0, heads, root: Digest::root([]), sum: Sum::default() }
    }
}

/// The running sum.
pub type Sum = [u8; 16];

#[derive(Serialize, Deserialize)]
struct StoredMessage {
    sequence: u64,
    subject: String,
    /// Nanoseconds since 1970, by the server's clock.
    stored: i64,
    payload: Bytes,
    #[serde(with = "sum_bytes")]
    sum: Sum,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Frame {
    Header(Header),
    Message(StoredMessage),
    Trailer(Trailer),
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or not ours to read.
    #[error("{} cannot be opened", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not written.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{} is not an exported log: `stheno audit export` writes one", .0.display())]
    NotAnExport(PathBuf),
    /// A later layout.
    #[error("{} has layout {layout}, this program knows {LAYOUT}: use a newer stheno", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        layout: u32,
    },
    /// It ends too early.
    #[error("{} is cut off behind message {after}: it has no trailer", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The last message that could be read, 0 for none.
        after: u64,
    },
    /// Its bytes were changed.
    #[error("{} is damaged behind message {after}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The last message that is whole, 0 for none.
        after: u64,
        /// What shows it.
        what: String,
    },
}

impl Error {
    /// The message at which the file is at fault.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        match self {
            Self::Truncated { after, .. } | Self::Damaged { after, .. } => Some(*after + 1),
            Self::Open { .. } | Self::Write { .. } | Self::NotAnExport(_) | Self::Newer { .. } => None,
        }
    }
}

fn summed(before: &Sum, sequence: u64, subject: &str, stored: i64, payload: &[u8]) -> Sum {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(sequence.to_be_bytes());
    hash.update((subject.len() as u64).to_be_bytes());
    hash.update(subject.as_bytes());
    hash.update(stored.to_be_bytes());
    hash.update(payload);
    cut(hash)
}

fn cut(hash: Sha256) -> Sum {
    let whole: [u8; 32] = hash.finalize().into();
    let mut sum = Sum::default();
    sum.copy_from_slice(&whole[..16]);
    sum
}

fn begun(header: &[u8]) -> Sum {
    cut(Sha256::new_with_prefix(header))
}

/// What a reader or a writer has summed up so far.
#[derive(Default)]
struct Tally {
    trailer: Trailer,
}

impl Tally {
    fn begin(header: &[u8]) -> Self {
        Self { trailer: Trailer { sum: begun(header), ..Trailer::default() } }
    }

    fn add(&mut self, message: &StoredMessage, filter: Option<String>) {
        let trailer = &mut self.trailer;
        trailer.count += 1;
        if trailer.first == 0 {
            trailer.first = message.sequence;
        }
        (trailer.last, trailer.sum) = (message.sequence, message.sum);
        if let Some(filter) = filter {
            trailer.heads.insert(filter, Digest::of(&message.payload));
        }
    }

    fn finish(mut self) -> Trailer {
        self.trailer.root = Digest::root(self.trailer.heads.iter().map(|(name, head)| (name.as_str(), head)));
        self.trailer
    }
}

mod sum_bytes {
    use super::Sum;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(sum: &Sum, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(sum)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sum, D::Error> {
        let bytes = bytes::Bytes::deserialize(deserializer)?;
        Sum::try_from(bytes.as_ref()).map_err(|_| D::Error::invalid_length(bytes.len(), &"16 bytes"))
    }
}
