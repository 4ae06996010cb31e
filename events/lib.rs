//! What happened: the closed list of events, and nothing else. Decoding needs bytes only: no runtime, no Kubernetes.
//!
//! One message of the log is an [`Envelope`]: all facts of one decision, in order. [`Envelope::decode`] reads it;
//! events that this build does not know survive as [`Fact::Unknown`].

mod family;

pub mod backup;
pub mod chain;
pub mod datacenter;
pub mod envelope;
pub mod examples;
mod fact;
pub mod observed;
pub mod operator;
pub mod schedule;
pub mod schema;
mod size;
pub mod subject;
pub mod task;
mod text;

pub use chain::Digest;
pub use envelope::{Envelope, LAYOUT};
pub use fact::{Event, Fact, Kind};
pub use subject::{Aggregate, LogId, Process};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instant, UTC; the log keeps milliseconds.
pub type Time = chrono::DateTime<chrono::Utc>;

/// Cuts an instant to the milliseconds that the log keeps, so that what was decided live equals what is replayed.
#[must_use]
pub fn to_millis(time: Time) -> Time {
    chrono::SubsecRound::trunc_subsecs(time, 3)
}

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(deserialize_with = "text::shared")] std::sync::Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<std::sync::Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_id! {
    /// A Kubernetes UID: the identity of an object (a name is never a key by itself).
    Uid,
    /// The identity of one message of the log, a UUIDv7; also its `Nats-Msg-Id`.
    EventId,
    /// The name of a pod: how nodes of a datacenter are followed through restarts.
    PodName,
}

/// A leader's term; grows by one with each leader, starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// No term comes near it. A number behind it is none of ours: nothing may be counted up from it.
    pub const LAST: Self = Self(u64::MAX >> 1);
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A datacenter by where it is asked for: namespace and name of the CassandraDatacenter, or whatever text a user typed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
pub struct DcKey {
    /// Namespace of the custom resources.
    pub namespace: std::sync::Arc<str>,
    /// `metadata.name` of the CassandraDatacenter, or the text in `cassandraDatacenter`.
    pub name: std::sync::Arc<str>,
}

impl DcKey {
    /// Key of a datacenter. A text that is too long for the name of any object (a user may type a megabyte) is cut and
    /// told apart by its digest, so that it fits a subject.
    pub fn new(namespace: impl Into<std::sync::Arc<str>>, name: impl Into<std::sync::Arc<str>>) -> Self {
        Self { namespace: bounded(namespace.into()), name: bounded(name.into()) }
    }
}

/// The longest name of a Kubernetes object, in bytes.
const LONGEST_NAME: usize = 253;

fn bounded(text: std::sync::Arc<str>) -> std::sync::Arc<str> {
    if text.len() <= LONGEST_NAME {
        return text;
    }
    format!("{}~{}", &text[..text.floor_char_boundary(200)], Digest::of(text.as_bytes()).short(32)).into()
}

impl std::fmt::Display for DcKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
