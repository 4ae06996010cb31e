//! What the server says of the stream: its identity, its ends, the next message of a subtree.

use super::Log;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::{self, ErrorCode, context::RequestErrorKind, response::Response};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stheno_events::{LogId, Time, Uid};

/// Metadata key of the stream: UID of namespace kube-system.
pub(super) const CLUSTER_UID: &str = "stheno.io/cluster-uid";
/// Metadata key of the stream: the log's id in subjects.
pub(super) const LOG_ID: &str = "stheno.io/log-id";
/// Metadata key of the stream: drawn once when it is created, so that a re-created stream is another one.
pub(super) const STREAM_ID: &str = "stheno.io/stream-id";

/// Which stream this is. Name and content may be equal; these are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub stream: String,
    /// Drawn at its creation.
    pub stream_id: String,
    /// When it was created, by the server's clock.
    pub created: Time,
    /// UID of namespace kube-system of the cluster that it is about.
    pub cluster: Uid,
    /// That cluster's id in subjects.
    pub log: LogId,
}

/// What the server says of the stream now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which stream it is.
    pub identity: Identity,
    /// Sequence of its first message (1 while it is empty).
    pub first_sequence: u64,
    /// Sequence of its last message, 0 when it never had one.
    pub last_sequence: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Wall clock minus server clock, as far as they must differ ([`super::clock::offset`]).
    pub clock_offset: TimeDelta,
}

/// The stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, for now.
    #[error("NATS JetStream does not answer")]
    Request(#[source] jetstream::context::RequestError),
    /// An answer that says no.
    #[error("stream {stream} cannot be read: {answer}")]
    Refused {
        /// The stream.
        stream: String,
        /// The server's words.
        answer: jetstream::Error,
    },
    /// The stream is not there.
    #[error("stream {0} does not exist on this NATS server")]
    Missing(String),
    /// The stream lacks our metadata.
    #[error("stream {0} is not a log of stheno: it does not say of which cluster it is")]
    Foreign(String),
}

impl Error {
    /// Whether JetStream is off, for the server or for our account.
    pub(super) fn is_disabled(&self) -> bool {
        matches!(self, Self::Refused { answer, .. } if matches!(
            answer.error_code(),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::JETSTREAM_NOT_ENABLED
        ))
    }

    /// Whether it may go away by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Request(error) => match error.kind() {
                RequestErrorKind::NoResponders | RequestErrorKind::TimedOut | RequestErrorKind::Other => true,
                RequestErrorKind::InvalidSubject => false,
            },
            Self::Refused { answer, .. } => answer.code() >= 500,
            Self::Missing(_) | Self::Foreign(_) => false,
        }
    }
}

/// `STREAM.INFO` with the server's time of the answer, which async-nats drops.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Info {
    pub(super) config: jetstream::stream::Config,
    created: Time,
    pub(super) state: State,
    pub(super) cluster: Option<Cluster>,
    ts: Option<Time>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cluster {
    /// Set where the server is part of a cluster.
    #[serde(default)]
    pub(super) name: Option<String>,
}

impl Info {
    /// Reads our metadata out of the configuration.
    pub(super) fn identity(&self) -> Result<Identity, Error> {
        let field =
            |key: &str| self.config.metadata.get(key).cloned().ok_or_else(|| Error::Foreign(self.config.name.clone()));
        let cluster = field(CLUSTER_UID)?;
        let log = LogId::of_cluster(&cluster);
        if field(LOG_ID)? != log.as_str() {
            return Err(Error::Foreign(self.config.name.clone()));
        }
        Ok(Identity {
            stream: self.config.name.clone(),
            stream_id: field(STREAM_ID)?,
            created: self.created,
            cluster: Uid::from(cluster),
            log,
        })
    }

    pub(super) fn facts(&self, before: Time, after: Time) -> Result<Facts, Error> {
        Ok(Facts {
            identity: self.identity()?,
            first_sequence: self.state.first_seq.max(1),
            last_sequence: self.state.last_seq,
            messages: self.state.messages,
            bytes: self.state.bytes,
            clock_offset: self.ts.map_or_else(TimeDelta::zero, |ts| super::clock::offset(before, ts, after)),
        })
    }
}

pub(super) async fn info(jetstream: &jetstream::Context, stream: &str) -> Result<Info, Error> {
    let answer: Response<Info> =
        jetstream.request(format!("STREAM.INFO.{stream}"), &serde_json::json!({})).await.map_err(Error::Request)?;
    match answer {
        Response::Ok(info) => Ok(info),
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Err(Error::Missing(stream.to_owned()))
        }
        Response::Err { error } => Err(Error::Refused { stream: stream.to_owned(), answer: error }),
    }
}

/// What lies behind a sequence in a subtree.
pub(super) enum Fetched {
    Message { sequence: u64, id: Option<String> },
    End,
}

#[derive(Deserialize)]
struct MessageAnswer {
    message: RawMessage,
}

#[derive(Deserialize)]
struct RawMessage {
    seq: u64,
    #[serde(default)]
    hdrs: Option<String>,
}

impl Log {
    /// What the stream's leader says of it now.
    ///
    /// # Errors
    /// When it does not answer in time, or the stream is gone.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let before = (self.inner.clock)();
        let info = info(&self.inner.jetstream, self.stream_name()).await?;
        let facts = info.facts(before, (self.inner.clock)())?;
        self.inner.gauge.measured(facts.clock_offset);
        Ok(facts)
    }

    /// The first message of a subtree at or after a sequence, from the stream's leader.
    pub(super) async fn next_of(&self, filter: &str, from: u64) -> Result<Fetched, Error> {
        let request =
            BTreeMap::from([("seq", serde_json::Value::from(from)), ("next_by_subj", serde_json::Value::from(filter))]);
        let answer: Response<MessageAnswer> = self
            .inner
            .jetstream
            .request(format!("STREAM.MSG.GET.{}", self.stream_name()), &request)
            .await
            .map_err(Error::Request)?;
        match answer {
            Response::Ok(MessageAnswer { message }) => {
                Ok(Fetched::Message { sequence: message.seq, id: message.hdrs.as_deref().and_then(message_id) })
            }
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(Fetched::End),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(Error::Missing(self.stream_name().to_owned()))
            }
            Response::Err { error } => Err(Error::Refused { stream: self.stream_name().to_owned(), answer: error }),
        }
    }
}

/// The message id in a stored header block, which comes in base64.
fn message_id(base64: &str) -> Option<String> {
    use base64::Engine as _;
    let block = base64::engine::general_purpose::STANDARD.decode(base64).ok()?;
    let block = std::str::from_utf8(&block).ok()?;
    block.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == AsRef::<str>::as_ref(&NATS_MESSAGE_ID)).then(|| value.trim().to_owned())
    })
}
