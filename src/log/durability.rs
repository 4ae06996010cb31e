//! Whether what the server keeps of the log is kept: settings asked for against settings found.

use super::stream::Info;
use async_nats::jetstream::{account::Account, stream as js};

/// The oldest server that is accepted: earlier ones lack what the log rests on.
pub const OLDEST: (u64, u64) = (2, 14);
/// A limit is near exhaustion from here on, in hundredths.
const NEAR: u64 = 90;

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// What is acknowledged stays.
    Safe,
    /// It may be lost, for these reasons.
    Relaxed(Vec<Reason>),
}

/// Why an acknowledged message may be lost, or a next one refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Too old a server.
    #[error("the NATS server has version {0}, and 2.14 or later is needed")]
    OldServer(String),
    /// Gone with the process.
    #[error("the stream is kept in memory")]
    MemoryStorage,
    /// A limit is nearly reached.
    #[error("{what} is nearly exhausted ({used} of {limit})")]
    NearLimit {
        /// Which limit.
        what: &'static str,
        /// What is used.
        used: u64,
        /// What there is.
        limit: u64,
    },
    /// Old messages vanish.
    #[error("the stream forgets: {0} is set")]
    Forgets(&'static str),
    /// A limit is set at all.
    #[error("the stream is limited: {0} is set")]
    Limited(&'static str),
    /// One copy, on a server whose way of writing to disk is not known.
    #[error("there is one copy, and a power cut may take what the NATS server has not yet written to disk")]
    OneReplica,
    /// Fewer copies than a loss needs.
    #[error("there are {0} copies, and three are needed to lose a server")]
    FewReplicas(usize),
    /// Messages may be deleted.
    #[error("messages can be deleted (deny_delete is off)")]
    Deletable,
    /// The stream may be emptied.
    #[error("the stream can be purged (deny_purge is off)")]
    Purgeable,
    /// Acknowledged before it is written.
    #[error("messages are acknowledged before they are written (persist_mode is async)")]
    Asynchronous,
}

impl Reason {
    /// Whether the log is refused for it unless the user allows a relaxed one.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self {
            Self::OldServer(_) | Self::MemoryStorage | Self::NearLimit { .. } | Self::Forgets(_) => true,
            Self::Limited(_)
            | Self::OneReplica
            | Self::FewReplicas(_)
            | Self::Deletable
            | Self::Purgeable
            | Self::Asynchronous => false,
        }
    }

    /// The same as a word, for a condition's reason.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::OldServer(_) => "OldServer",
            Self::MemoryStorage => "MemoryStorage",
            Self::NearLimit { .. } => "NearLimit",
            Self::Forgets(_) => "Forgets",
            Self::Limited(_) => "Limited",
            Self::OneReplica => "OneReplica",
            Self::FewReplicas(_) => "FewReplicas",
            Self::Deletable => "Deletable",
            Self::Purgeable => "Purgeable",
            Self::Asynchronous => "Asynchronous",
        }
    }
}

impl super::Log {
    /// Judges anew what the server says now: limits come nearer, replicas are added.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn judge(&self) -> Result<Durability, super::stream::Error> {
        let inner = &self.inner;
        let info = super::stream::info(&inner.jetstream, self.stream_name()).await?;
        let account = inner.jetstream.query_account().await.ok();
        let version = inner.client.server_info().version;
        Ok(Durability::of(reasons(&version, &info, account.as_ref(), inner.embedded.is_some())))
    }
}

impl Durability {
    pub(super) fn of(reasons: Vec<Reason>) -> Self {
        if reasons.is_empty() { Self::Safe } else { Self::Relaxed(reasons) }
    }
}

/// All that keeps the log from being [`Durability::Safe`]. The embedded server writes every message to disk before it
/// acknowledges it, so one copy there is safe.
pub(super) fn reasons(version: &str, info: &Info, account: Option<&Account>, embedded: bool) -> Vec<Reason> {
    let config = &info.config;
    let clustered = info.cluster.as_ref().is_some_and(|cluster| cluster.name.is_some());
    let mut reasons = Vec::new();
    if is_old(version) {
        reasons.push(Reason::OldServer(version.to_owned()));
    }
    if config.storage == js::StorageType::Memory {
        reasons.push(Reason::MemoryStorage);
    }
    if !config.max_age.is_zero() {
        reasons.push(Reason::Forgets("max_age"));
    }
    if config.max_messages_per_subject > 0 {
        reasons.push(Reason::Forgets("max_msgs_per_subject"));
    }
    if config.allow_message_ttl {
        reasons.push(Reason::Limited("allow_msg_ttl"));
    }
    for (what, used, limit) in
        [("max_bytes", info.state.bytes, config.max_bytes), ("max_msgs", info.state.messages, config.max_messages)]
    {
        let Some(limit) = u64::try_from(limit).ok().filter(|limit| *limit > 0) else { continue };
        if is_near(used, limit) {
            reasons.push(Reason::NearLimit { what, used, limit });
        } else if config.discard == js::DiscardPolicy::Old {
            reasons.push(Reason::Forgets(what));
        } else {
            reasons.push(Reason::Limited(what));
        }
    }
    // Where an account has tiers, its limits stand there, by the number of copies.
    let tier = account.and_then(|account| account.tiers.get(&format!("R{}", config.num_replicas)));
    let (used, limits) = match (tier, account) {
        (Some(tier), _) => (tier.storage, Some(&tier.limits)),
        (None, Some(account)) => (account.storage, Some(&account.limits)),
        (None, None) => (0, None),
    };
    let account_limit = limits.and_then(|limits| limits.max_storage).map(|limit| (used, limit));
    if let Some((used, limit)) = account_limit.and_then(|(used, limit)| Some((used, u64::try_from(limit).ok()?)))
        && limit > 0
        && is_near(used, limit)
    {
        reasons.push(Reason::NearLimit { what: "the account's storage", used, limit });
    }
    match config.num_replicas {
        0 | 1 if clustered => reasons.push(Reason::FewReplicas(1)),
        0 | 1 if embedded => {}
        0 | 1 => reasons.push(Reason::OneReplica),
        2 => reasons.push(Reason::FewReplicas(2)),
        _ => {}
    }
    if !config.deny_delete {
        reasons.push(Reason::Deletable);
    }
    if !config.deny_purge {
        reasons.push(Reason::Purgeable);
    }
    if config.persist_mode == Some(js::PersistenceMode::Async) {
        reasons.push(Reason::Asynchronous);
    }
    reasons
}

fn is_near(used: u64, limit: u64) -> bool {
    u128::from(used) * 100 >= u128::from(limit) * u128::from(NEAR)
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']).map(|number| number.parse::<u64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        // A version that cannot be read is not known to be good.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for old in ["2.13.9", "2.9.10", "1.99.0", "", "next"] {
            assert!(is_old(old), "{old}");
        }
        for good in ["2.14.0", "2.15.1", "v2.14.2-RC.1", "3.0.0"] {
            assert!(!is_old(good), "{good}");
        }
    }

    #[test]
    fn near_means_nine_tenths() {
        assert!(!is_near(89, 100));
        assert!(is_near(90, 100));
        assert!(is_near(u64::MAX, u64::MAX));
    }
}
