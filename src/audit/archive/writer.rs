//! Writing an exported log: a part file that gets its name when it is whole.

use super::{Error, Frame, Header, StoredMessage, Tally, Trailer, summed};
use crate::audit::entry::Entry;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use stheno_events::LogId;

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
