//! The envelope of a message: who decided what, when, having seen what. It is frozen: golden logs hold it.

use crate::{Digest, Epoch, EventId, Fact, Time, Uid};
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
    pub at: Time,
    /// The writer's wall clock.
    pub wall: Time,
    /// The stream sequence up to which the writer had folded the log when it decided.
    pub seen: u64,
    /// The writer's term.
    pub epoch: Epoch,
    /// Namespace, empty for the operator's own and for locations.
    pub ns: Arc<str>,
    /// Datacenter, empty where there is none; a location's digest for locations.
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
    Newer(u8),
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
    /// # Errors
    /// When the bytes are no envelope, or one of a later layout.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        match rmp_serde::from_slice::<Self>(payload) {
            Ok(envelope) if envelope.v <= LAYOUT => Ok(envelope),
            Ok(envelope) => Err(DecodeError::Newer(envelope.v)),
            Err(error) => {
                // A later layout may not even have our fields: say so rather than "malformed".
                #[derive(Deserialize)]
                struct Version {
                    v: u8,
                }
                match rmp_serde::from_slice::<Version>(payload) {
                    Ok(Version { v }) if v > LAYOUT => Err(DecodeError::Newer(v)),
                    Ok(_) | Err(_) => Err(error.into()),
                }
            }
        }
    }
}
