//! The log: everything that knows NATS JetStream, and nothing that decides.
//!
//! [`Log::open`] connects (or starts a private server), makes the stream with the settings it needs and judges what the
//! server says of it. [`Log::append`] writes one message with one of three outcomes, [`Log::resolve`] finds out what an
//! indeterminate one came to, [`Log::follow`] reads everything in order and then stays, [`Log::read`] reads a part.

pub mod append;
pub mod checkpoint;
pub mod clock;
pub mod connection;
pub mod durability;
pub mod durable;
pub mod embedded;
pub mod follow;
pub mod refill;
pub mod resolve;
pub mod settings;
pub mod snapshot;
pub mod stream;
pub mod witness;

pub use append::Outcome;
pub use clock::{Clock, Skew};
pub use connection::{Credentials, Link, Patience};
pub use durability::{Durability, Reason};
pub use durable::Durable;
pub use follow::{Filter, Follow, Item, Stored};
pub use resolve::Resolution;
pub use settings::{Endpoint, Settings};
pub use stream::{Facts, Identity};
pub use witness::{Integrity, Witness};

use std::sync::Arc;
use stheno_events::LogId;
use tokio::sync::watch;

/// An open log; clones share its connection.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    client: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
    link: watch::Receiver<Link>,
    acks: append::Acks,
    identity: Identity,
    durability: Durability,
    replicas: usize,
    max_message: Option<usize>,
    clock: Clock,
    gauge: clock::Gauge,
    patience: Patience,
    embedded: Option<embedded::Embedded>,
}

impl Log {
    /// The log's id in subjects.
    #[must_use]
    pub fn id(&self) -> &LogId {
        &self.inner.identity.log
    }

    /// The stream's name.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        &self.inner.identity.stream
    }

    /// Which stream it was when it was opened.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Whether what is acknowledged stays.
    #[must_use]
    pub fn durability(&self) -> &Durability {
        &self.inner.durability
    }

    /// Whether the connection stands, to wait for changes.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// Wall clock minus server clock, as far as they must differ: measured when the log was opened, at each
    /// [`Log::facts`], and of own messages when they are read. [`Skew::of`] judges it.
    #[must_use]
    pub fn clock_offset(&self) -> watch::Receiver<chrono::TimeDelta> {
        self.inner.gauge.watch()
    }

    /// Starts the private server anew, where this log has one: after a failed write it stores nothing until then.
    pub async fn restart_server(&self) {
        if let Some(server) = &self.inner.embedded {
            server.restart().await;
        }
    }

    /// Waits until everything that was handed over is sent (at most the patience of a request), and ends the private
    /// server when this was its last user. Clones must not be used afterwards.
    pub async fn close(self) {
        let flushed = tokio::time::timeout(self.inner.patience.request, self.inner.client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!("the connection to the log was closed before everything was sent");
        }
        if let Some(server) = &self.inner.embedded {
            server.close().await;
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}
