//! Local files, read once and hashed on the way, off the async threads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use stheno_md5::Md5;

use super::Sum;
use super::blocks::Blocks;
use crate::hash::Parts;
use crate::store::Error;

/// Copies on one machine: small buffers stay in the caches.
const COPY: usize = 256 << 10;
/// Their memory, of all copies of this process.
static COPIES: LazyLock<Arc<Blocks>> = LazyLock::new(|| Arc::new(Blocks::of(COPY)));

/// Hashes a file: the whole, and with `part` as S3 tags an upload in parts.
pub(super) async fn digest(source: PathBuf, size: u64, part: Option<u64>) -> Result<Sum, Error> {
    blocking(source.clone(), move || {
        let mut input = open(&source, size)?;
        let (mut whole, mut parts) = (Md5::new(), part.map(Parts::new));
        pump(&mut input, size, &source, |piece| {
            if let Some(parts) = &mut parts {
                parts.update(piece.clone());
            }
            whole.update(piece);
            Ok(())
        })?;
        let md5 = hex(&whole.finish());
        let tag = parts.map_or_else(|| md5.clone(), Parts::tag);
        Ok(Sum { size, md5, tag })
    })
    .await
}

/// The hex md5 of a local file.
pub(crate) async fn md5_of(source: PathBuf, size: u64) -> Result<String, Error> {
    digest(source, size, None).await.map(|sum| sum.md5)
}

pub(super) fn open(source: &Path, size: u64) -> Result<File, Error> {
    let io = |error| Error::File { path: source.to_owned(), source: error };
    let file = File::open(source).map_err(io)?;
    if file.metadata().map_err(io)?.len() != size {
        return Err(Error::Changed { path: source.to_owned() });
    }
    Ok(file)
}

/// Reads a file of this size, piece by piece.
pub(crate) fn pump(
    input: &mut File,
    size: u64,
    source: &Path,
    mut sink: impl FnMut(Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = size as usize;
    while left > 0 {
        let mut block = COPIES.take(COPY.min(left));
        input.read_exact(&mut block.content).map_err(|error| short(source, error))?;
        left -= block.content.len();
        sink(Bytes::from_owner(block))?;
    }
    Ok(())
}

pub(super) fn short(source: &Path, error: std::io::Error) -> Error {
    let path = source.to_owned();
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        Error::Changed { path }
    } else {
        Error::File { path, source: error }
    }
}

/// A hex md5 in base64, as Azure and Google have it.
pub(crate) fn base64(hex: &str) -> String {
    let byte = |at: usize| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    STANDARD.encode((0..hex.len()).step_by(2).filter_map(byte).collect::<Vec<u8>>())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::File { path, source: std::io::Error::other(error) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tags_are_what_s3_makes_of_parts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"abcde").unwrap();
        let plain = digest(file.clone(), 5, None).await.unwrap();
        assert_eq!(plain.tag, "ab56b4d92b40713acc5af89985d4b786");
        assert_eq!(base64(&plain.md5), "q1a02StAcTrMWviZhdS3hg==");
        // md5(md5("abc") md5("de")) over the raw digests.
        let parted = digest(file.clone(), 5, Some(3)).await.unwrap();
        assert_eq!(parted.md5, plain.md5);
        assert_eq!(parted.tag, "fd279fa64fe1fa9a3551a4a88ae83424-2");
        assert!(matches!(digest(file, 6, None).await, Err(Error::Changed { .. })));
    }
}
