//! Local files, read once and hashed on the way, off the async threads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::Sum;
use crate::store::Error;

/// Copies on one machine: small buffers stay in the caches.
const COPY: usize = 256 << 10;

/// Hashes a file: the whole, and with `part` as S3 tags an upload in parts.
pub(super) async fn digest(source: PathBuf, size: u64, part: Option<u64>) -> Result<Sum, Error> {
    blocking(source.clone(), move || {
        let mut input = open(&source, size)?;
        let (mut whole, mut parts, mut count) = (Md5::new(), Md5::new(), 0_u64);
        let mut left = size;
        let length = part.unwrap_or(size);
        loop {
            let mut one = Md5::new();
            let now = length.min(left);
            pump(&mut input, now, &source, |piece| {
                whole.update(piece);
                if part.is_some() {
                    one.update(piece);
                }
                Ok(())
            })?;
            parts.update(one.finalize());
            count += 1;
            left -= now;
            if left == 0 {
                break;
            }
        }
        let md5 = hex(&whole.finalize());
        let tag = if part.is_some() { format!("{}-{count}", hex(&parts.finalize())) } else { md5.clone() };
        Ok(Sum { size, md5, tag })
    })
    .await
}

/// The hex md5 of a local file.
pub async fn md5_of(source: PathBuf, size: u64) -> Result<String, Error> {
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

pub(super) fn pump(
    input: &mut File,
    size: u64,
    source: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; COPY.min(size as usize)];
    let mut left = size as usize;
    while left > 0 {
        let piece = &mut buffer[..COPY.min(left)];
        input.read_exact(piece).map_err(|error| short(source, error))?;
        sink(piece)?;
        left -= piece.len();
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
