//! The envelope of a message: who decided what, when, having seen what. It is frozen: golden logs hold it.

use crate::{Digest, Epoch, EventId, Fact, Process, Time, Uid};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version of the envelope that this build writes.
pub const LAYOUT: u8 = 1;

/// One message of the log: all facts of one decision, all or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Layout of the envelope itself.
    pub v: u8,
    /// Identity of the message (UUIDv7).
    pub id: EventId,
    /// The `now` that was given to the decision: never earlier than that of the message before it.
    #[serde(deserialize_with = "crate::text::time")]
    pub at: Time,
    /// The writer's wall clock.
    #[serde(deserialize_with = "crate::text::time")]
    pub wall: Time,
    /// The stream sequence up to which the writer had folded the log when it decided.
    pub seen: u64,
    /// The writer's term.
    pub epoch: Epoch,
    /// Namespace, empty for the operator's own and for locations.
    #[serde(deserialize_with = "crate::text::shared")]
    pub ns: Arc<str>,
    /// Datacenter, empty where there is none; a location's digest for locations.
    #[serde(deserialize_with = "crate::text::shared")]
    pub dc: Arc<str>,
    /// UID of the CassandraDatacenter, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dc_uid: Option<Uid>,
    /// Digest of the aggregate's message before this one; none for its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// The message that led to this one, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    /// UID of the custom resource that started it all, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corr: Option<Uid>,
    /// Who wrote it: the pod or process, and the version.
    #[serde(deserialize_with = "crate::text::shared")]
    pub by: Arc<str>,
    /// What happened, in order.
    pub events: Vec<Fact>,
}

/// Why a payload is not a message of ours.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack of this form.
    #[error("the payload is not an envelope of this log")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// An envelope of a later layout.
    #[error("envelope layout {0} is newer than this program (it knows {LAYOUT}): use a newer stheno")]
    Newer(u64),
    /// A message of a process that this build does not know, whatever it says.
    #[error("its subject names no process that this program knows: use a newer stheno")]
    Process,
}

/// A payload that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be encoded")]
pub struct EncodeError(#[from] rmp_serde::encode::Error);

impl Envelope {
    /// The stored bytes: a MessagePack map with named fields.
    ///
    /// # Errors
    /// When a value has no MessagePack form, which no event of ours has.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(rmp_serde::to_vec_named(self)?)
    }

    /// Reads stored bytes.
    ///
    /// An event of a known type whose data this build cannot read (a newer one may have given an enum another value) is
    /// kept as [`Fact::Unknown`]: it concerns its aggregate, not the whole message.
    ///
    /// # Errors
    /// When the bytes are no envelope, or one of a later layout.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let error = match whole::<Self>(payload) {
            Ok(envelope) if envelope.v == LAYOUT => return Ok(envelope),
            Ok(_) => malformed("a layout that was never written"),
            Err(error) => error,
        };
        // A later layout may not even have our fields: say so rather than "malformed".
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        match whole::<Version>(payload) {
            Ok(Version { v }) if v > u64::from(LAYOUT) => Err(DecodeError::Newer(v)),
            Ok(Version { v }) if v == u64::from(LAYOUT) => Self::decode_by_value(payload).ok_or(error.into()),
            Ok(_) | Err(_) => Err(error.into()),
        }
    }

    /// As [`Envelope::decode`], of a message whose subject names `process`: one that is not known may mean anything.
    ///
    /// # Errors
    /// As [`Envelope::decode`], and when the process is not known.
    pub fn decode_of(process: Option<Process>, payload: &[u8]) -> Result<Self, DecodeError> {
        process.map_or(Err(DecodeError::Process), |_| Self::decode(payload))
    }

    /// The detour over a generic value, by which one unreadable fact does not take the others with it.
    fn decode_by_value(payload: &[u8]) -> Option<Self> {
        let mut value = whole::<rmpv::Value>(payload).ok()?;
        let rmpv::Value::Map(fields) = &mut value else { return None };
        let mut lists = fields.iter_mut().filter(|(key, _)| key.as_str() == Some("events")).map(|(_, list)| list);
        let (Some(list), None) = (lists.next(), lists.next()) else { return None };
        let rmpv::Value::Array(facts) = std::mem::replace(list, rmpv::Value::Array(Vec::new())) else { return None };
        let events = facts.into_iter().map(Fact::from_value).collect::<Option<Vec<_>>>()?;
        let envelope = whole::<Self>(&bytes(&value)?).ok()?;
        Some(Self { events, ..envelope })
    }
}

/// How deeply values may be nested: far more than any event is, and far less than what would exhaust a thread's stack
/// (one strange message in the stream must not end the program).
const DEPTH: usize = 64;

fn malformed(what: &'static str) -> rmp_serde::decode::Error {
    serde::de::Error::custom(what)
}

/// The bytes of a generic value. Typed values are read from these, never from the value itself: rmpv reads an enum in
/// another form than rmp-serde writes it.
pub(crate) fn bytes(value: &rmpv::Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).ok()?;
    Some(bytes)
}

/// Reads a map that the bytes hold exactly: an envelope is never an array of positions, and nothing follows it.
pub(crate) fn whole<'de, T: Deserialize<'de>>(payload: &'de [u8]) -> Result<T, rmp_serde::decode::Error> {
    if !matches!(payload.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(malformed("not a map"));
    }
    let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
    reader.set_max_depth(DEPTH);
    let value = T::deserialize(&mut reader)?;
    // The reader does not tell what is left; reading on fails at the first byte only when there is none.
    match <()>::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(()) | Err(_) => Err(malformed("bytes behind the envelope")),
    }
}
