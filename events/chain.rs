//! The hash chain: each message of an aggregate names the digest of the one before it.

use crate::Aggregate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// SHA-256 over the stored bytes of a message: bytes in MessagePack, hex in text formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of a message's payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(Sha256::digest(payload).into())
    }

    /// The root over the heads of all aggregates, in the order of their subjects: what a checkpoint vouches for.
    #[must_use]
    pub fn root<'a>(heads: impl IntoIterator<Item = (&'a str, &'a Digest)>) -> Self {
        let mut hash = Sha256::new();
        for (subject, head) in heads {
            hash.update((subject.len() as u64).to_be_bytes());
            hash.update(subject.as_bytes());
            hash.update(head.0);
        }
        Self(hash.finalize().into())
    }

    /// The first hexadecimal digits.
    #[must_use]
    pub fn short(&self, digits: usize) -> String {
        self.hex().chars().take(digits).collect()
    }

    fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex()[..12])
    }
}

impl std::str::FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(ParseError);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseError)?;
        }
        Ok(Self(digest))
    }
}

/// The last message of each aggregate, while a log is read: finds the first link that does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<Aggregate, Digest>);

/// A message that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message names {named:?} as its predecessor, and its predecessor is {found:?}")]
pub struct Broken {
    /// What it names.
    pub named: Option<Digest>,
    /// What it should name.
    pub found: Option<Digest>,
}

impl Heads {
    /// Adds the next message of an aggregate: its stored bytes, and the predecessor that it names. The bytes become the
    /// head either way, so that one broken link is reported once.
    ///
    /// # Errors
    /// When it names another predecessor.
    pub fn link(&mut self, aggregate: &Aggregate, named: Option<Digest>, payload: &[u8]) -> Result<(), Broken> {
        let found = self.push(aggregate, payload);
        if named == found { Ok(()) } else { Err(Broken { named, found }) }
    }

    /// Adds a message that names nothing, because it is none of ours or cannot be read; returns its predecessor.
    pub fn push(&mut self, aggregate: &Aggregate, payload: &[u8]) -> Option<Digest> {
        self.0.insert(aggregate.clone(), Digest::of(payload))
    }

    /// The last message of an aggregate: what the next one names.
    #[must_use]
    pub fn head(&self, aggregate: &Aggregate) -> Option<&Digest> {
        self.0.get(aggregate)
    }

    /// The root over all of them, as a checkpoint holds it.
    #[must_use]
    pub fn root(&self, log: &crate::LogId) -> Digest {
        // Ordered by subject, which is not the order of the aggregates.
        let heads: BTreeMap<String, &Digest> = self.0.iter().map(|(one, head)| (one.filter(log), head)).collect();
        Digest::root(heads.iter().map(|(subject, head)| (subject.as_str(), *head)))
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct ParseError;

impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A SHA-256 digest: 64 hexadecimal digits in JSON, 32 bytes in the log.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.hex())
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Digest;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("32 bytes or 64 hexadecimal digits")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                bytes.try_into().map(Digest).map_err(|_| E::invalid_length(bytes.len(), &"32 bytes"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
