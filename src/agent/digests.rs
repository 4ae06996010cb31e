//! What objects hold whose tags do not say: the md5 of each, beside a backup's manifest.
//!
//! S3's ETag of an object that is encrypted with a key of KMS or of the customer looks like an md5 and is none
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>). Medusa writes it into the manifest, and compares it
//! with what the bucket says now; so the manifest keeps it, and what the content is stands in an object of our own. Of
//! backups that Medusa made nothing but sizes can be compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::Expected;
use crate::manifest::Object;
use crate::store::{self, Store, Tags};

/// Its name, among a backup's meta objects. Medusa deletes it with the rest of the backup.
pub(crate) const DIGESTS: &str = "stheno-md5.json";

/// Hex md5 of contents, by key.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Digests(BTreeMap<String, String>);

impl Digests {
    /// What is written at `key`; nothing where nothing is.
    pub(crate) async fn read(store: &Store, key: &str) -> Result<Self, store::Error> {
        if store.tags != Tags::Etag {
            return Ok(Self::default());
        }
        let json = store.get(key).await?.unwrap_or_default();
        if json.is_empty() {
            return Ok(Self::default());
        }
        Ok(serde_json::from_slice(&json).unwrap_or_else(|error| {
            tracing::warn!(%error, key, "is not read: sizes are compared where tags say nothing");
            Self::default()
        }))
    }

    /// As JSON; `None` when there is nothing to say.
    pub(crate) fn encode(&self) -> Option<Result<Vec<u8>, serde_json::Error>> {
        (!self.0.is_empty()).then(|| serde_json::to_vec(&self.0))
    }

    pub(crate) fn insert(&mut self, key: String, md5: String) {
        self.0.insert(key, md5);
    }

    /// What an object of a manifest must be. `part_size` is as in [`Expected::of`]; `opaque` says that the object's store
    /// told that its tag is not made of its content.
    pub(crate) fn expected(&self, object: &Object, part_size: u64, opaque: bool) -> Expected {
        match self.0.get(&object.path) {
            // By the rules of manifests: what is no md5 says nothing.
            Some(md5) => Expected::of(&Object { md5: Some(md5.clone()), ..object.clone() }, part_size),
            None if opaque => Expected::Nothing,
            None => Expected::of(object, part_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_word_comes_before_the_tag() {
        let tag = "ab56b4d92b40713acc5af89985d4b786";
        let object = |path: &str| Object { path: path.into(), md5: Some(tag.into()), size: 5 };
        let mut digests = Digests::default();
        assert!(digests.encode().is_none());
        digests.insert("ours".into(), "d41d8cd98f00b204e9800998ecf8427e".into());
        digests.insert("odd".into(), "?".into());
        let digests: Digests = serde_json::from_slice(&digests.encode().unwrap().unwrap()).unwrap();
        let whole = |md5: &str| Expected::Whole(md5.into());
        for opaque in [false, true] {
            let ours = digests.expected(&object("ours"), 8, opaque);
            assert_eq!(ours, whole("d41d8cd98f00b204e9800998ecf8427e"), "{opaque}");
            assert_eq!(digests.expected(&object("odd"), 8, opaque), Expected::Nothing, "{opaque}");
        }
        assert_eq!(digests.expected(&object("theirs"), 8, false), whole(tag));
        assert_eq!(digests.expected(&object("theirs"), 8, true), Expected::Nothing);
    }
}
