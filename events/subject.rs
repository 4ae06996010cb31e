//! Aggregate -> subject and back: where a message lies in the stream, and the one filter that fences an aggregate.

use crate::{DcKey, Digest};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Write as _;

/// A short id of the Kubernetes cluster whose log this is, from the UID of namespace kube-system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(String);

impl LogId {
    /// The id of the cluster with this kube-system UID: its first eight characters that fit a subject; of a text that has
    /// fewer, eight digits of its digest.
    #[must_use]
    pub fn of_cluster(kube_system_uid: &str) -> Self {
        let id: String = kube_system_uid.chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9')).take(8).collect();
        Self(if id.len() == 8 { id } else { Digest::of(kube_system_uid.as_bytes()).short(8) })
    }

    /// The id as it stands in subjects.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The module of `events/` whose process decided a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// Only observations, nothing decided.
    Observed,
    /// The backup process.
    Backup,
    /// The restore process.
    Restore,
    /// The schedule process.
    Schedule,
    /// Tasks: sync, purge, prepare.
    Task,
    /// Configuration and deployment.
    Configuration,
    /// The datacenter itself: epochs, incarnations.
    Datacenter,
    /// A storage location.
    Location,
    /// The operator itself.
    Operator,
}

impl Process {
    const ALL: [Self; 9] = [
        Self::Observed,
        Self::Backup,
        Self::Restore,
        Self::Schedule,
        Self::Task,
        Self::Configuration,
        Self::Datacenter,
        Self::Location,
        Self::Operator,
    ];

    /// The token in subjects.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Schedule => "schedule",
            Self::Task => "task",
            Self::Configuration => "configuration",
            Self::Datacenter => "datacenter",
            Self::Location => "location",
            Self::Operator => "operator",
        }
    }
}

/// A unit of consistency: what one append is compared against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// All that decides about a datacenter.
    Datacenter(DcKey),
    /// A storage location, by the digest of (provider, host, bucket, prefix).
    Location(String),
    /// Epochs, checkpoints, eras.
    Operator,
}

/// A subject that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subject {0:?} is not one of this log: expected stheno.v1.<log>.<namespace>.<datacenter>.<process>")]
pub struct ForeignSubject(pub String);

const ROOT: &str = "stheno.v1";

impl Aggregate {
    fn tokens(&self) -> (String, String) {
        match self {
            Self::Datacenter(key) => (escape(&key.namespace), escape(&key.name)),
            Self::Location(digest) => ("_loc".into(), escape(digest)),
            Self::Operator => ("_".into(), "_".into()),
        }
    }

    /// The subject of a message of this aggregate.
    #[must_use]
    pub fn subject(&self, log: &LogId, process: Process) -> String {
        let (first, second) = self.tokens();
        format!("{ROOT}.{}.{first}.{second}.{}", log.as_str(), process.token())
    }

    /// The filter of the aggregate's subtree. A replicated stream compares the *text* of this filter for messages in
    /// flight, so every expectation must come from here.
    #[must_use]
    pub fn filter(&self, log: &LogId) -> String {
        let (first, second) = self.tokens();
        format!("{ROOT}.{}.{first}.{second}.>", log.as_str())
    }

    /// Reads a subject of the log `log`. Whatever lies below an aggregate's subtree is the aggregate's, because the next
    /// append is compared with it: a process that this build does not know is `None`.
    ///
    /// # Errors
    /// When the subject lies in no aggregate of this log.
    pub fn parse(log: &LogId, subject: &str) -> Result<(Self, Option<Process>), ForeignSubject> {
        let foreign = || ForeignSubject(subject.to_owned());
        let rest = subject.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('.')).ok_or_else(foreign)?;
        let rest = rest.strip_prefix(log.as_str()).and_then(|rest| rest.strip_prefix('.')).ok_or_else(foreign)?;
        let mut tokens = rest.splitn(3, '.');
        let (Some(first), Some(second), Some(process)) = (tokens.next(), tokens.next(), tokens.next()) else {
            return Err(foreign());
        };
        let process = Process::ALL.into_iter().find(|p| p.token() == process);
        let aggregate = match (first, second) {
            ("_", "_") => Self::Operator,
            ("_loc", digest) => Self::Location(unescape(digest).ok_or_else(foreign)?.into_owned()),
            (namespace, dc) => Self::Datacenter(DcKey::new(
                unescape(namespace).ok_or_else(foreign)?,
                unescape(dc).ok_or_else(foreign)?,
            )),
        };
        Ok((aggregate, process))
    }
}

/// What every subject of a log matches: its stream's own subject list. It names the log, so that the streams of several
/// clusters, and an import beside the live log, can live in one account.
#[must_use]
pub fn all(log: &LogId) -> String {
    format!("{ROOT}.{}.>", log.as_str())
}

/// What every subject of a namespace's datacenters matches.
#[must_use]
pub fn namespace(log: &LogId, namespace: &str) -> String {
    format!("{ROOT}.{}.{}.>", log.as_str(), escape(namespace))
}

/// What every subject of the datacenters of a name matches, in all namespaces.
#[must_use]
pub fn datacenter(log: &LogId, name: &str) -> String {
    let key = DcKey::new("", name);
    format!("{ROOT}.{}.*.{}.>", log.as_str(), escape(&key.name))
}

/// Writes every character but `[a-z0-9-]` as `~hh` for each of its bytes. An empty text is `~`, so no token is empty;
/// tokens that begin with `_` stay reserved.
#[must_use]
pub fn escape(text: &str) -> String {
    if text.is_empty() {
        return "~".into();
    }
    text.bytes().fold(String::with_capacity(text.len()), |mut token, byte| {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => token.push(char::from(byte)),
            byte => {
                // Writing to a String cannot fail.
                let _ = write!(token, "~{byte:02x}");
            }
        }
        token
    })
}

/// The inverse of [`escape`]; `None` for a token that it never writes.
#[must_use]
pub fn unescape(token: &str) -> Option<Cow<'_, str>> {
    if token == "~" {
        return Some(Cow::Borrowed(""));
    }
    if token.is_empty() {
        return None;
    }
    if token.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        // Almost every name.
        return Some(Cow::Borrowed(token));
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => bytes.push(byte),
            b'~' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            _ => return None,
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    // One text, one token: a token that would be written otherwise is foreign.
    (escape(&text) == token).then_some(Cow::Owned(text))
}
