//! What a manifest calls MD5, compared with content: hex or base64 of the whole, or S3's tag of an upload in parts.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use stheno_md5::{Md5, md5};

use crate::manifest::Object;
use crate::upload::{self, hex, within};

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
    whole: Option<Md5>,
    parts: Vec<Parts>,
    length: u64,
}

/// The hash of an upload in parts. Parts are hashed beside one another.
pub(crate) struct Parts {
    size: u64,
    left: u64,
    one: Md5,
    done: Vec<Md5>,
}

impl Parts {
    /// Parts of so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self { size, left: size, one: Md5::new(), done: Vec::new() }
    }

    pub(crate) fn update(&mut self, mut piece: Bytes) {
        while !piece.is_empty() {
            if self.left == 0 {
                self.close();
            }
            let now = piece.split_to(piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
            self.left -= now.len() as u64;
            self.one.update(now);
        }
    }

    fn close(&mut self) {
        self.done.push(std::mem::replace(&mut self.one, Md5::new()));
        self.left = self.size;
    }

    /// As S3 tags it.
    pub(crate) fn tag(mut self) -> String {
        self.close();
        let count = self.done.len();
        let sums: Vec<u8> = self.done.into_iter().flat_map(Md5::finish).collect();
        format!("{}-{count}", hex(&md5(&sums)))
    }
}

impl<'a> Hasher<'a> {
    pub(crate) fn new(expected: &'a Expected) -> Self {
        let (whole, sizes) = match expected {
            Expected::Whole(_) => (Some(Md5::new()), [].as_slice()),
            Expected::Parts { sizes, .. } => (None, sizes.as_slice()),
            Expected::Nothing => (None, [].as_slice()),
        };
        Self { expected, whole, parts: sizes.iter().copied().map(Parts::new).collect(), length: 0 }
    }

    pub(crate) fn update(&mut self, piece: Bytes) {
        self.length += piece.len() as u64;
        for parts in &mut self.parts {
            parts.update(piece.clone());
        }
        if let Some(whole) = &mut self.whole {
            whole.update(piece);
        }
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is the expected content; `None` when that cannot be told.
    pub(crate) fn finish(self) -> Option<bool> {
        match self.expected {
            Expected::Nothing => None,
            Expected::Whole(md5) => self.whole.map(|whole| *md5 == hex(&whole.finish())),
            Expected::Parts { tag, part_size, .. } => {
                let ours = [*part_size, within(*part_size)];
                let configured = self.parts.first().is_some_and(|parts| ours.contains(&parts.size));
                match self.parts.into_iter().any(|parts| *tag == parts.tag()) {
                    true => Some(true),
                    // It was made with parts of another size, perhaps; of the configured one it certainly is not.
                    false => configured.then_some(false),
                }
            }
        }
    }
}

/// Whether a local file certainly has the expected content.
pub(crate) fn file_has(path: &Path, size: u64, expected: &Expected) -> Result<bool, crate::store::Error> {
    let io = |source| crate::store::Error::File { path: path.to_owned(), source };
    let there = std::fs::symlink_metadata(path).map_err(io)?;
    if !there.is_file() || there.len() != size || *expected == Expected::Nothing {
        return Ok(false);
    }
    let mut hasher = Hasher::new(expected);
    upload::pump(&mut std::fs::File::open(path).map_err(io)?, size, path, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finish() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(md5: Option<&str>, size: u64, part_size: u64, content: &[u8]) -> Option<bool> {
        let object = Object { path: "p".into(), md5: md5.map(str::to_owned), size };
        let expected = Expected::of(&object, part_size);
        let mut hasher = Hasher::new(&expected);
        content.chunks(2).for_each(|piece| hasher.update(Bytes::copy_from_slice(piece)));
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
    /// The tag of an upload in parts of this size, by way of the reference.
    fn tag(content: &[u8], part: usize) -> String {
        use md5::{Digest as _, Md5};
        let sums: Vec<u8> = content.chunks(part).flat_map(|part| Md5::digest(part).to_vec()).collect();
        format!("{}-{}", hex(&Md5::digest(sums)), content.len().div_ceil(part))
    }

    /// Medusa makes parts of any size; this sidecar, told the same, makes them as large as its memory allows.
    #[test]
    fn parts_beyond_our_limits_are_compared_in_both_sizes() {
        const MIB: usize = 1 << 20;
        let check = |tag: &str, configured: usize, content: &Bytes| {
            let object = Object { path: "p".into(), md5: Some(tag.to_owned()), size: content.len() as u64 };
            let expected = Expected::of(&object, configured as u64);
            let mut hasher = Hasher::new(&expected);
            (0..content.len())
                .step_by(MIB)
                .for_each(|at| hasher.update(content.slice(at..content.len().min(at + MIB))));
            hasher.finish()
        };
        let content: Bytes = (0..101 * MIB).map(|at| (at >> 10) as u8).collect::<Vec<u8>>().into();
        let (theirs, ours) = (tag(&content, 100 * MIB), tag(&content, within(100 << 20) as usize));
        // As many parts in both cases, and others.
        assert!(theirs.ends_with("-2") && ours.ends_with("-2") && theirs != ours);
        for tag in [&theirs, &ours] {
            assert_eq!(check(tag, 100 * MIB, &content), Some(true), "{tag}");
            assert_eq!(check(tag, 100 * MIB, &content.slice(..101 * MIB - 1)), Some(false), "{tag}");
        }
        // Of a size that nobody told us of, nothing can be said.
        assert_eq!(check(&tag(&content, 99 * MIB), 50 * MIB, &content), None);
        // Below the least that S3 takes.
        let small = content.slice(..3 * MIB);
        assert_eq!(check(&tag(&small, MIB), MIB, &small), Some(true));
    }
}
