//! What a manifest calls MD5, compared with content: hex or base64 of the whole, or S3's tag of an upload in parts.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::manifest::Object;
use crate::upload::{hex, within};

/// Part sizes in use: ours and Medusa's default first, then those of common tools.
const PART_MIB: [u64; 8] = [50, 8, 5, 16, 25, 64, 100, 128];

/// A hash that content can be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Hex md5 of the whole.
    Whole(String),
    /// Hex md5 over the md5s of the parts, and the part sizes that give this number of parts.
    Parts {
        /// Hex, with the number of parts behind it.
        tag: String,
        /// Bytes of each part but the last.
        sizes: Vec<u64>,
        /// The configured size, in bytes.
        part_size: u64,
    },
    /// Nothing that follows from the content: none, an encrypted object's tag, `no-md5-hash`.
    Nothing,
}

impl Expected {
    /// What the manifest says of an object. `part_size` is the configured one in bytes, before any limit: who wrote the
    /// object may have had another one.
    pub(crate) fn of(object: &Object, part_size: u64) -> Self {
        let Some(tag) = object.md5.as_deref().map(|tag| tag.trim_matches('"')) else {
            return Self::Nothing;
        };
        let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex(tag) {
            return Self::Whole(tag.to_lowercase());
        }
        if let Some((digest, parts)) = tag.split_once('-')
            && is_hex(digest)
            && let Ok(parts) = parts.parse::<u64>()
        {
            let common = PART_MIB.into_iter().map(|mib| mib << 20);
            let mut sizes: Vec<u64> = [part_size, within(part_size)].into_iter().chain(common).collect();
            sizes.retain(|size| *size > 0 && object.size.div_ceil(*size).max(1) == parts);
            let mut seen = BTreeSet::new();
            sizes.retain(|size| seen.insert(*size));
            return if sizes.is_empty() {
                Self::Nothing
            } else {
                Self::Parts { tag: tag.to_lowercase(), sizes, part_size }
            };
        }
        match STANDARD.decode(tag) {
            Ok(bytes) if bytes.len() == 16 => Self::Whole(hex(&bytes)),
            Ok(_) | Err(_) => Self::Nothing,
        }
    }
}

/// Hashes content as it comes, in every way that may give the expected hash.
pub(crate) struct Hasher<'a> {
    expected: &'a Expected,
    whole: Md5,
    parts: Vec<Parts>,
    length: u64,
}

struct Parts {
    size: u64,
    left: u64,
    count: u64,
    one: Md5,
    all: Md5,
}

impl Parts {
    fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.left == 0 {
                self.close();
            }
            let (now, rest) = piece.split_at(piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
            self.one.update(now);
            self.left -= now.len() as u64;
            piece = rest;
        }
    }

    fn close(&mut self) {
        self.all.update(self.one.finalize_reset());
        self.count += 1;
        self.left = self.size;
    }
}

impl<'a> Hasher<'a> {
    pub(crate) fn new(expected: &'a Expected) -> Self {
        let parts = match expected {
            Expected::Parts { sizes, .. } => sizes.as_slice(),
            Expected::Whole(_) | Expected::Nothing => &[],
        };
        let parts =
            parts.iter().map(|size| Parts { size: *size, left: *size, count: 0, one: Md5::new(), all: Md5::new() });
        Self { expected, whole: Md5::new(), parts: parts.collect(), length: 0 }
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        if matches!(self.expected, Expected::Whole(_)) {
            self.whole.update(piece);
        }
        self.parts.iter_mut().for_each(|parts| parts.update(piece));
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is the expected content; `None` when that cannot be told.
    pub(crate) fn finish(self) -> Option<bool> {
        match self.expected {
            Expected::Nothing => None,
            Expected::Whole(md5) => Some(*md5 == hex(&self.whole.finalize())),
            Expected::Parts { tag, part_size, .. } => {
                let same = |mut parts: Parts| {
                    parts.close();
                    *tag == format!("{}-{}", hex(&parts.all.finalize()), parts.count)
                };
                let ours = [*part_size, within(*part_size)];
                let configured = self.parts.first().is_some_and(|parts| ours.contains(&parts.size));
                match self.parts.into_iter().any(same) {
                    true => Some(true),
                    // It was made with parts of another size, perhaps; of the configured one it certainly is not.
                    false => configured.then_some(false),
                }
            }
        }
    }
}

/// Whether a local file certainly has the expected content.
pub(crate) fn file_has(path: &Path, size: u64, expected: &Expected) -> std::io::Result<bool> {
    let there = std::fs::symlink_metadata(path)?;
    if !there.is_file() || there.len() != size || *expected == Expected::Nothing {
        return Ok(false);
    }
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut hasher = Hasher::new(expected);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.length() == size && hasher.finish() == Some(true)),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(md5: Option<&str>, size: u64, part_size: u64, content: &[u8]) -> Option<bool> {
        let object = Object { path: "p".into(), md5: md5.map(str::to_owned), size };
        let expected = Expected::of(&object, part_size);
        let mut hasher = Hasher::new(&expected);
        content.chunks(2).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    #[test]
    fn every_kind_of_hash_is_compared() {
        assert_eq!(check(Some("ab56b4d92b40713acc5af89985d4b786"), 5, 8, b"abcde"), Some(true));
        assert_eq!(check(Some("q1a02StAcTrMWviZhdS3hg=="), 5, 8, b"abcde"), Some(true));
        assert_eq!(check(Some("ab56b4d92b40713acc5af89985d4b786"), 5, 8, b"abcdf"), Some(false));
        assert_eq!(check(Some("fd279fa64fe1fa9a3551a4a88ae83424-2"), 5, 3, b"abcde"), Some(true));
        assert_eq!(check(Some("fd279fa64fe1fa9a3551a4a88ae83424-2"), 5, 3, b"abcdf"), Some(false));
        assert_eq!(check(Some("fd279fa64fe1fa9a3551a4a88ae83424-7"), 5, 3, b"abcde"), None);
        for nothing in [None, Some("no-md5-hash"), Some(""), Some("0x8D4BCC2E4835CD0")] {
            assert_eq!(check(nothing, 5, 8, b"abcde"), None, "{nothing:?}");
        }
        assert_eq!(check(Some("d41d8cd98f00b204e9800998ecf8427e"), 0, 8, b""), Some(true));
    }
}
