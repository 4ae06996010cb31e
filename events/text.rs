//! Reading text without a detour over owned strings: a replay reads millions of them.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

struct Shared;

impl Visitor<'_> for Shared {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(Arc::from(text))
    }
}

/// Text that is kept: one allocation (serde's own way makes a `String` first).
pub(crate) fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    deserializer.deserialize_str(Shared)
}

/// Text that is only looked at: borrowed where the bytes can be (serde's own way always copies).
pub(crate) struct Glance<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Glance<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Glancing;
        impl<'de> Visitor<'de> for Glancing {
            type Value = Glance<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Glance<'de>, E> {
                Ok(Glance(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Glance<'de>, E> {
                Ok(Glance(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Glancing)
    }
}
