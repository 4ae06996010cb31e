//! Reading an exported log, one message at a time, trusting nothing that it says of itself.

use super::{Error, Frame, Header, LAYOUT, LONGEST, MAGIC, StoredMessage, Tally, Trailer, summed};
use crate::audit::entry::Entry;
use lz4_flex::frame::FrameDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use stheno_events::Time;

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
