//! Connections to sidecars: one channel for each address while somebody uses it, and a deadline for every call.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use stheno_decide::policy;
use stheno_rpc::medusa::medusa_client::MedusaClient;
use stheno_rpc::sidecar::keeper_client::KeeperClient;
use stheno_rpc::sidecar::sidecar_client::SidecarClient;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long each step may take. Nothing here waits without an end.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Until a connection stands.
    pub connect: Duration,
    /// One question.
    pub unary: Duration,
    /// Medusa answers AsyncBackup at once, but its process may be busy with a backup that it just began.
    pub async_backup: Duration,
    /// A backup that is broken off clears its snapshot before it says that it has ended.
    pub stop: Duration,
    /// A listing reads the whole index of the bucket.
    pub listing: Duration,
    /// The listing of all backups, for a sync: stock Medusa reads every manifest of every node.
    pub listing_all: Duration,
    /// A purge of one node: those that are well take minutes.
    pub purge: Duration,
    /// A stream that says nothing for this long is checked by a question: a half-open connection looks the same.
    pub quiet: Duration,
    /// Progress of one node is handed in at most this often.
    pub progress: Duration,
    /// The first wait between polls.
    pub first_poll: Duration,
    /// The longest wait between polls.
    pub longest_poll: Duration,
    /// How long after a start stock Medusa may still know nothing of the backup.
    pub visible: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            unary: Duration::from_secs(10),
            async_backup: Duration::from_secs(30),
            stop: Duration::from_secs(60),
            listing: Duration::from_secs(60),
            listing_all: Duration::from_secs(600),
            purge: Duration::from_secs(3_600),
            quiet: Duration::from_secs(30),
            progress: Duration::from_secs(1),
            first_poll: Duration::from_millis(500),
            longest_poll: Duration::from_secs(10),
            visible: policy::START_VISIBLE.to_std().unwrap_or_default(),
        }
    }
}

/// Listings of large buckets: k8ssandra-operator's limit.
const LARGEST_REPLY: usize = 512 * 1024 * 1024;

/// Sentences of sidecars are cut here: some send whole stack traces.
const LONGEST_SENTENCE: usize = 400;

type Address = (Arc<str>, u16);
type Slot = OnceCell<Channel>;

/// The connections that are in use. An idle one is closed with its last user.
#[derive(Debug, Clone)]
pub struct Sidecars {
    pace: Arc<Pace>,
    boot_ms: fn() -> u64,
    slots: Arc<Mutex<BTreeMap<Address, Weak<Slot>>>>,
}

impl Default for Sidecars {
    fn default() -> Self {
        Self::new(Pace::default())
    }
}

impl Sidecars {
    /// Connections that take their time as given.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace: Arc::new(pace), boot_ms: crate::runtime::boot_ms, slots: Arc::default() }
    }

    /// By this clock (milliseconds, suspended time counts) instead of the machine's, so that a test can suspend it.
    #[must_use]
    pub fn with_clock(self, boot_ms: fn() -> u64) -> Self {
        Self { boot_ms, ..self }
    }

    /// A connection to a sidecar, shared with whoever uses it now.
    pub(super) async fn connect(&self, address: &Address) -> Result<Sidecar, Failure> {
        let slot = self.slot(address);
        let channel = slot.get_or_try_init(|| connect(address, self.pace.connect)).await?.clone();
        Ok(Sidecar { channel, pace: self.pace.clone(), boot_ms: self.boot_ms, _slot: slot })
    }

    fn slot(&self, address: &Address) -> Arc<Slot> {
        // Nothing panics while it holds the lock; the map is whole even if something did.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.strong_count() > 0);
        if let Some(slot) = slots.get(address).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(Slot::new());
        slots.insert(address.clone(), Arc::downgrade(&slot));
        slot
    }
}

/// A connection, for as long as this is held.
#[derive(Debug, Clone)]
pub(super) struct Sidecar {
    channel: Channel,
    pub(super) pace: Arc<Pace>,
    pub(super) boot_ms: fn() -> u64,
    _slot: Arc<Slot>,
}

impl Sidecar {
    pub(super) fn medusa(&self) -> MedusaClient<Channel> {
        MedusaClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_REPLY)
    }

    pub(super) fn ours(&self) -> SidecarClient<Channel> {
        SidecarClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_REPLY)
    }

    pub(super) fn keeper(&self) -> KeeperClient<Channel> {
        KeeperClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_REPLY)
    }
}

async fn connect(address: &Address, patience: Duration) -> Result<Channel, Failure> {
    let uri = uri(address);
    let unreachable = |why: &str| Failure::Unreachable(format!("no connection to the sidecar at {uri}: {why}"));
    let endpoint = Endpoint::from_shared(uri.clone())
        .map_err(|_| unreachable("this is no address"))?
        .connect_timeout(patience)
        .tcp_keepalive(Some(Duration::from_secs(15)))
        // Listings are large: one round trip for each 64 KiB would be slow.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20);
    match tokio::time::timeout(patience, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(unreachable(&root(&error))),
        Err(_) => Err(unreachable(&format!("none came about within {} s", patience.as_secs_f32()))),
    }
}

/// The address as a URI: IPv6 in brackets.
fn uri((host, port): &Address) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(host)) => format!("http://[{host}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("http://{host}:{port}"),
    }
}

/// Why a call gave no answer that counts.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Unreachable(String),
    /// Sent, perhaps, and no answer.
    Silent(String),
    /// The sidecar answered with an error.
    Answered(Code, String),
}

impl Failure {
    /// One sentence.
    pub(super) fn sentence(&self) -> &str {
        match self {
            Self::Unreachable(text) | Self::Silent(text) | Self::Answered(_, text) => text,
        }
    }

    /// Whether the sidecar understood and declined: nothing was done, and the same request is declined again.
    pub(super) const fn declined(&self) -> bool {
        matches!(
            self,
            Self::Answered(
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::Unimplemented
                    | Code::Unauthenticated,
                _
            )
        )
    }

    /// Whether the sidecar answered with this code.
    pub(super) fn is(&self, code: Code) -> bool {
        matches!(self, Self::Answered(answered, _) if *answered == code)
    }
}

/// The answer of `call`, if it comes within `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    call: &str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure(call, &status)),
        Err(_) => Err(Failure::Silent(format!("{call} was not answered within {} s", limit.as_secs_f32()))),
    }
}

/// What an error status means. One that the sidecar sent has no source; one that was made here has the transport's.
pub(super) fn failure(call: &str, status: &Status) -> Failure {
    match status.source() {
        Some(source) => Failure::Silent(format!("the connection broke during {call}: {}", root(source))),
        None if status.message().is_empty() => {
            Failure::Answered(status.code(), format!("{call} failed: {}", status.code()))
        }
        None => Failure::Answered(status.code(), format!("{call} failed: {}", sentence(status.message()))),
    }
}

/// The innermost cause: what lies around it says the same in general words.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    sentence(&innermost.to_string())
}

/// The first line, and not too much of it.
pub(super) fn sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(LONGEST_SENTENCE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_uris() {
        assert_eq!(uri(&("10.0.0.1".into(), 50051)), "http://10.0.0.1:50051");
        assert_eq!(uri(&("fd00::1".into(), 50051)), "http://[fd00::1]:50051");
    }

    #[test]
    fn long_and_many_lined_texts_are_cut() {
        assert_eq!(sentence("  one\ntwo"), "one");
        assert_eq!(sentence(&"é".repeat(500)).chars().count(), LONGEST_SENTENCE + 1);
    }

    #[tokio::test]
    async fn an_idle_connection_is_forgotten() {
        let sidecars = Sidecars::default();
        let address: Address = ("127.0.0.1".into(), 1);
        assert!(matches!(sidecars.connect(&address).await, Err(Failure::Unreachable(_))));
        let held = sidecars.slot(&("127.0.0.1".into(), 2));
        let slots = sidecars.slots.lock().unwrap();
        assert_eq!(slots.len(), 1, "{slots:?}");
        drop(held);
    }
}
