//! A log in a file: what `audit export` writes and every verb reads with `--file`.
//!
//! The file is one LZ4 frame. Inside, each frame is a MessagePack `bin` that holds a MessagePack map of one entry:
//! `header`, then a `message` for each message of the stream, then the `trailer`. Each message carries a running sum over
//! everything before it, so that an edit is found at the message where it was made; the trailer says how many messages
//! there are and where each aggregate ends, so that a cut is found too.

use super::entry::Entry;
use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
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

/// Writes an exported log. Nothing bears the final name before [`Writer::finish`].
pub struct Writer {
    path: PathBuf,
    log: LogId,
    part: tempfile::NamedTempFile,
    encoder: FrameEncoder<io::BufWriter<File>>,
    tally: Tally,
}

impl Writer {
    /// Begins a file at `path`.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn create(path: &Path, header: Header) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let part = tempfile::Builder::new()
            .prefix(".export-")
            .tempfile_in(folder)
            // Its own words name the temporary file, which nobody asked for.
            .map_err(|source| failed(source.kind().into()))?;
        let info = FrameInfo::new()
            .block_size(BlockSize::Max256KB)
            .block_mode(BlockMode::Linked)
            .block_checksums(true)
            .content_checksum(true);
        let file = io::BufWriter::new(part.reopen().map_err(failed)?);
        let log = header.log.clone();
        let mut writer = Self {
            path: path.to_owned(),
            log,
            part,
            encoder: FrameEncoder::with_frame_info(info, file),
            tally: Tally::default(),
        };
        let bytes = writer.frame(&Frame::Header(header))?;
        writer.tally = Tally::begin(&bytes);
        Ok(writer)
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        let stored = entry.stored.timestamp_nanos_opt().unwrap_or_default();
        let sum = summed(&self.tally.trailer.sum, entry.sequence, &entry.subject, stored, &entry.payload);
        let (sequence, subject, payload) = (entry.sequence, entry.subject.clone(), entry.payload.clone());
        let frame = Frame::Message(StoredMessage { sequence, subject, stored, payload, sum });
        self.frame(&frame)?;
        if let Frame::Message(message) = &frame {
            self.tally.add(message, entry.aggregate().map(|aggregate| aggregate.filter(&self.log)));
        }
        Ok(())
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<Trailer, Error> {
        let trailer = std::mem::take(&mut self.tally).finish();
        self.frame(&Frame::Trailer(trailer.clone()))?;
        let path = self.path;
        let failed = |source| Error::Write { path: path.clone(), source };
        let file = self.encoder.finish().map_err(|error| failed(io::Error::other(error)))?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        self.part.persist(&path).map_err(|error| failed(error.error))?;
        Ok(trailer)
    }

    fn frame(&mut self, frame: &Frame) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let bytes = rmp_serde::to_vec_named(frame).map_err(|error| failed(io::Error::other(error)))?;
        let length = u32::try_from(bytes.len()).map_err(|error| failed(io::Error::other(error)))?;
        let mut prefix = [0xc6; 5];
        prefix[1..].copy_from_slice(&length.to_be_bytes());
        self.encoder.write_all(&prefix).and_then(|()| self.encoder.write_all(&bytes)).map_err(failed)?;
        Ok(bytes)
    }
}

/// The file, which knows whether more was asked for than it holds: the decoder takes a missing end for an end.
struct Input {
    file: BufReader<File>,
    ended: bool,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

/// Reads an exported log from its beginning to its end, one message at a time.
pub struct Reader {
    path: PathBuf,
    header: Header,
    decoder: FrameDecoder<Input>,
    tally: Tally,
    trailer: Option<Trailer>,
    failed: bool,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it is not there, or is no exported log that this build can read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unopened = |source| Error::Open { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unopened)?;
        let mut magic = [0; 4];
        let begins = file.read_exact(&mut magic);
        match begins {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => return Err(Error::NotAnExport(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::NotAnExport(path.to_owned()));
            }
            Err(error) => return Err(unopened(error)),
        }
        io::Seek::rewind(&mut file).map_err(unopened)?;
        let mut decoder = FrameDecoder::new(Input { file: BufReader::new(file), ended: false });
        let bytes = match next_frame(&mut decoder) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(_) => return Err(Error::Truncated { path: path.to_owned(), after: 0 }),
        };
        // The layout is read first: a later one may not have our fields.
        #[derive(Deserialize)]
        struct Layout {
            layout: u32,
        }
        let layout = rmp_serde::from_slice::<BTreeMap<String, Layout>>(&bytes).ok();
        let Some(Layout { layout }) = layout.and_then(|mut map| map.remove("header")) else {
            return Err(Error::NotAnExport(path.to_owned()));
        };
        if layout > LAYOUT {
            return Err(Error::Newer { path: path.to_owned(), layout });
        }
        let Ok(Frame::Header(header)) = rmp_serde::from_slice(&bytes) else {
            return Err(Error::NotAnExport(path.to_owned()));
        };
        let tally = Tally::begin(&bytes);
        Ok(Self { path: path.to_owned(), header, decoder, tally, trailer: None, failed: false })
    }

    /// Where the log came from.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the file amounts to, once it was read to its end.
    #[must_use]
    pub const fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), after: self.tally.trailer.last, what: what.into() }
    }

    fn step(&mut self) -> Result<Option<Entry>, Error> {
        let bytes = match next_frame(&mut self.decoder) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Error::Truncated { path: self.path.clone(), after: self.tally.trailer.last }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Truncated { path: self.path.clone(), after: self.tally.trailer.last });
            }
            Err(_) => return Err(self.damaged("its checksum does not fit its bytes")),
        };
        match rmp_serde::from_slice(&bytes) {
            Ok(Frame::Message(message)) => self.message(message).map(Some),
            Ok(Frame::Trailer(trailer)) => self.end(trailer),
            Ok(Frame::Header(_)) | Err(_) => Err(self.damaged("a frame is none of an exported log")),
        }
    }

    fn message(&mut self, message: StoredMessage) -> Result<Entry, Error> {
        let before = &self.tally.trailer;
        let sum = summed(&before.sum, message.sequence, &message.subject, message.stored, &message.payload);
        if sum != message.sum {
            return Err(self.damaged(format!("message {} is not as it was written", message.sequence)));
        }
        let stored = Time::from_timestamp_nanos(message.stored);
        let entry =
            Entry::read(&self.header.log, message.sequence, message.subject.clone(), stored, message.payload.clone());
        self.tally.add(&message, entry.aggregate().map(|aggregate| aggregate.filter(&self.header.log)));
        Ok(entry)
    }

    fn end(&mut self, trailer: Trailer) -> Result<Option<Entry>, Error> {
        let (last, path) = (self.tally.trailer.last, self.path.clone());
        if std::mem::take(&mut self.tally).finish() != trailer {
            let what = format!("its trailer speaks of {} messages up to {}", trailer.count, trailer.last);
            return Err(Error::Damaged { path, after: last, what });
        }
        let rest = self.decoder.read(&mut [0; 1]);
        if self.decoder.get_ref().ended {
            return Err(Error::Truncated { path, after: last });
        }
        let file_rest = self.decoder.get_mut().read(&mut [0; 1]);
        if !matches!((rest, file_rest), (Ok(0), Ok(0))) {
            return Err(Error::Damaged { path, after: last, what: "something follows its trailer".into() });
        }
        self.trailer = Some(trailer);
        Ok(None)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.trailer.is_some() {
            return None;
        }
        let step = self.step().transpose();
        self.failed = matches!(step, Some(Err(_)));
        step
    }
}

/// The next frame's content; `None` at the end of the file.
fn next_frame(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 5];
    let mut filled = 0;
    while filled < prefix.len() {
        match reader.read(&mut prefix[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let [marker, length @ ..] = prefix;
    let length = u32::from_be_bytes(length);
    if marker != 0xc6 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
    reader.read_exact(&mut bytes)?;
    Ok(Some(bytes))
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
