//! Reading: every message in order without a gap, from a sequence on, through reconnects; or a part, filtered by the server.
//!
//! A pull consumer without acknowledgements delivers in large batches; it is made anew from the position whenever it is
//! lost. Nothing is dropped: what is none of our messages is delivered as foreign.

mod item;

pub use item::{Filter, Foreign, Item, Stored};

use super::Log;
use super::connection::Link;
use super::stream::{self, Info};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::{FutureExt as _, StreamExt as _};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Messages asked for at once.
const BATCH: usize = 10_000;
/// Bytes asked for at once: what may lie in memory unread is at most one and a half times this.
const BATCH_BYTES: usize = 16 << 20;
/// The server says at least this often that it is there; twice this without a word means that the consumer is lost.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Messages are missing.
    #[error("the log lacks the messages {from} to {to}: it was damaged, or somebody deleted them")]
    Gap {
        /// The first one that is missing.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The log ends before the reader's position.
    #[error("the log ends at {last}, and {position} was read already: it was put back to an older copy")]
    Backwards {
        /// What the reader has read.
        position: u64,
        /// Where the log ends now.
        last: u64,
    },
    /// Another stream of the same name.
    #[error("stream {0} was deleted and created again while it was read")]
    Recreated(String),
    /// The stream is gone.
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// Where a reader stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It stays.
    Never,
    /// At a sequence, or where the log ended when reading began.
    At(u64),
}

/// A reader of the log. [`Follow::next`] may be dropped at any time without losing a message.
pub struct Follow {
    log: Log,
    next: u64,
    filters: Vec<String>,
    end: End,
    /// Where the log ended when reading began; taken when that was said.
    caught_up_at: Option<u64>,
    opened: bool,
    source: Option<Source>,
    link: watch::Receiver<Link>,
    cancel: CancellationToken,
    /// A gap that was seen once; the consumer is made anew before it is believed.
    suspected: Option<u64>,
    pause: Duration,
    done: bool,
}

struct Source {
    messages: pull::Stream,
    losses: u64,
}

impl Log {
    /// Follows the whole log from the sequence `from` (0 and 1: from its beginning), for ever.
    #[must_use]
    pub fn follow(&self, from: u64, cancel: CancellationToken) -> Follow {
        self.reader(from, Vec::new(), End::Never, cancel)
    }

    /// Follows the messages that match `filter` from the sequence `from`, for ever. With a filter gaps cannot be told from
    /// what is left out.
    #[must_use]
    pub fn follow_matching(&self, from: u64, filter: &Filter, cancel: CancellationToken) -> Follow {
        let mut reader = self.reader(from, filter.subjects(self.id()), End::Never, cancel);
        reader.done = matches!(filter, Filter::Aggregates(list) if list.is_empty());
        reader
    }

    /// Reads the messages of a range, as far as the log reaches now, that match `filter`.
    #[must_use]
    pub fn read(&self, range: RangeInclusive<u64>, filter: &Filter, cancel: CancellationToken) -> Follow {
        let mut reader = self.reader(*range.start(), filter.subjects(self.id()), End::At(*range.end()), cancel);
        // An empty list of aggregates matches nothing, and no filter at all would match everything.
        reader.done = range.is_empty() || matches!(filter, Filter::Aggregates(list) if list.is_empty());
        reader
    }

    fn reader(&self, from: u64, filters: Vec<String>, end: End, cancel: CancellationToken) -> Follow {
        Follow {
            log: self.clone(),
            next: from.max(1),
            filters,
            end,
            caught_up_at: None,
            opened: false,
            source: None,
            link: self.link(),
            cancel,
            suspected: None,
            pause: Duration::from_millis(20),
            done: false,
        }
    }
}

impl Follow {
    /// The last sequence that was delivered (or lies before the beginning).
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next - 1
    }

    /// The next item; `None` when the range is read, after an error, or when cancelled.
    pub async fn next(&mut self) -> Option<Result<Item, Error>> {
        loop {
            if self.done || self.cancel.is_cancelled() {
                return None;
            }
            if let Some(end) = self.caught_up_at.filter(|end| self.next > *end) {
                self.caught_up_at = None;
                return Some(Ok(Item::CaughtUp(end)));
            }
            if matches!(self.end, End::At(end) if self.next > end) {
                self.done = true;
                return None;
            }
            let Some(source) = self.source.as_mut() else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(error) => {
                        self.done = true;
                        return Some(Err(error));
                    }
                }
            };
            // While messages are there, nothing else is looked at: this is the path of a replay.
            let message = match source.messages.next().now_or_never() {
                Some(message) => message,
                None => tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return None,
                    message = source.messages.next() => message,
                    changed = self.link.changed() => {
                        let link = *self.link.borrow_and_update();
                        if changed.is_err() || (link.up && link.losses != source.losses) {
                            // Requests of the lost connection are forgotten by the server: ask again at once.
                            self.source = None;
                        }
                        continue;
                    }
                },
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(result) = self.take(message) {
                        self.done |= result.is_err();
                        return Some(result);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, position = self.position(), "the consumer is lost: making another");
                    self.source = None;
                }
                None => self.source = None,
            }
        }
    }

    /// The reader as a stream.
    pub fn into_stream(self) -> impl futures::Stream<Item = Result<Item, Error>> + Send {
        futures::stream::unfold(self, |mut reader| async move { reader.next().await.map(|item| (item, reader)) })
    }

    /// Puts a delivered message in order; `None` when it is not for the reader.
    fn take(&mut self, message: jetstream::Message) -> Option<Result<Item, Error>> {
        let Ok(info) = message.info() else {
            // A message without a place in the stream is none of the consumer's.
            return None;
        };
        let (sequence, time, pending) = (info.stream_sequence, info.published, info.pending);
        if sequence < self.next {
            return None;
        }
        if sequence > self.next && self.filters.is_empty() {
            if self.suspected != Some(self.next) {
                self.suspected = Some(self.next);
                self.source = None;
                return None;
            }
            return Some(Err(Error::Gap { from: self.next, to: sequence - 1 }));
        }
        if let End::At(end) = self.end {
            if sequence > end {
                self.next = sequence;
                return None;
            }
            if pending == 0 && !self.filters.is_empty() {
                // Nothing that matches lies behind it.
                self.end = End::At(sequence);
            }
        }
        self.next = sequence.saturating_add(1);
        let message = message.message;
        let subject = message.subject.as_str();
        let item = Item::read(self.log.id(), sequence, subject, time, message.payload.clone());
        if let Item::Message(stored) = &item
            && let Ok(envelope) = &stored.envelope
        {
            self.log.inner.gauge.read(&envelope.id, time);
        }
        Some(Ok(item))
    }

    /// Makes a consumer at the position, waiting for the server as long as it takes.
    async fn open(&mut self) -> Result<(), Error> {
        let cancel = self.cancel.clone();
        loop {
            let attempt = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                attempt = self.attempt() => attempt,
            };
            match attempt {
                Ok(()) => {
                    self.pause = Duration::from_millis(20);
                    return Ok(());
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Passing(reason)) => {
                    // A short absence is a restart; a long one should be seen.
                    if self.pause < Duration::from_secs(1) {
                        tracing::debug!(reason, position = self.position(), "the log cannot be followed: trying again");
                    } else {
                        tracing::warn!(reason, position = self.position(), "the log still cannot be followed");
                    }
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Ok(()),
                        () = sleep(self.pause) => {}
                    }
                    self.pause = (self.pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), Attempt> {
        let losses = self.link.borrow_and_update().losses;
        let log = self.log.clone();
        let info = stream::info(&log.inner.jetstream, log.stream_name()).await?;
        self.compare(&info)?;
        let config = pull::Config {
            // It stands in the request's subject: whoever may send the one without a name may change any consumer.
            name: Some(format!("reads-{}", uuid::Uuid::new_v4().simple())),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(60),
            filter_subjects: self.filters.clone(),
            ..pull::Config::default()
        };
        let consumer = log
            .inner
            .jetstream
            .create_consumer_on_stream(config, log.stream_name())
            .await
            .map_err(|error| Attempt::Passing(error.to_string()))?;
        if matches!(self.end, End::At(_)) && consumer.cached_info().num_pending == 0 {
            self.end = End::At(self.next - 1);
            return Ok(());
        }
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .heartbeat(HEARTBEAT)
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(|error| Attempt::Passing(error.to_string()))?;
        self.source = Some(Source { messages, losses });
        Ok(())
    }

    /// Whether the stream is still the one that was read, and reaches as far.
    fn compare(&mut self, info: &Info) -> Result<(), Error> {
        let identity = info.identity()?;
        if identity != *self.log.identity() {
            return Err(Error::Recreated(identity.stream));
        }
        let last = info.state.last_seq;
        if self.position() > last && self.end == End::Never {
            return Err(Error::Backwards { position: self.position(), last });
        }
        if self.filters.is_empty() && info.state.messages > 0 && info.state.first_seq > self.next {
            return Err(Error::Gap { from: self.next, to: info.state.first_seq - 1 });
        }
        if self.filters.is_empty() && info.state.messages == 0 && last >= self.next {
            return Err(Error::Gap { from: self.next, to: last });
        }
        if !self.opened {
            self.opened = true;
            match self.end {
                End::Never => self.caught_up_at = Some(last),
                End::At(end) => self.end = End::At(end.min(last)),
            }
        }
        Ok(())
    }
}

enum Attempt {
    Final(Error),
    Passing(String),
}

impl From<stream::Error> for Attempt {
    fn from(error: stream::Error) -> Self {
        if error.is_passing() { Self::Passing(error.to_string()) } else { Self::Final(error.into()) }
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
