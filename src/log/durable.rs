//! A named reader that resumes where it stopped: its position is a durable consumer on the server.
//!
//! Delivery is at least once and in order. What was delivered and not acknowledged when a reader ended comes first when
//! the next one begins: the consumer is reset to its last acknowledgement (ADR-60), not left to a time-out. The same is done
//! when messages went to somebody else's request: to that of a reader which ended a moment ago, or whose machine is gone.

use super::Log;
use super::follow::{Filter, Item};
use super::stream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, ErrorCode, stream::ConsumerErrorKind};
use futures::StreamExt as _;
use std::time::Duration;
use tokio::time::Instant;

/// Messages asked for at once.
const BATCH: usize = 1_000;
/// The server says at least this often that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A request for messages is open for so long: as long can a reader that is gone without a word be sent any.
const EXPIRES: Duration = Duration::from_secs(5);
/// So long nothing comes before the server is asked whether it sent something.
const IDLE: Duration = Duration::from_millis(500);
/// A reader may be as slow as whoever reads what it writes: the server repeats nothing by itself within this time.
const ACK_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Why a named reader cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not fit.
    #[error("{0:?} is no name for a durable reader: use letters, digits, - and _")]
    Name(String),
    /// The reader was made with other filters.
    #[error(
        "the durable reader {name} reads {found}, not {wanted}: give the filters with which it was made, or another name"
    )]
    OtherFilter {
        /// Its name.
        name: String,
        /// What it reads.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Somebody else's consumer.
    #[error("a consumer named {0} is there already and is no durable reader of stheno: choose another name")]
    Taken(String),
    /// The server does not do it.
    #[error("the durable reader {name} cannot be used: {reason}")]
    Refused {
        /// Its name.
        name: String,
        /// The server's words.
        reason: String,
    },
    /// The stream is gone.
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// A named reader.
pub struct Durable {
    log: Log,
    consumer: PullConsumer,
    messages: pull::Stream,
    /// The server's number of the last message that came, counted from the last reset: the next one is one more.
    number: u64,
    /// The server had sent more than came, when it was asked last.
    suspected: bool,
    /// When the server was last asked to send anew: what it sent before may still come.
    reset: Instant,
    /// The last message delivered: acknowledging it acknowledges all before it.
    last: Option<jetstream::Message>,
    /// Its sequence, or the one at which reading began.
    position: u64,
    /// The last sequence of the log when reading began.
    end: u64,
    /// Nothing lies before `end` that was not delivered.
    drained: bool,
}

impl Log {
    /// Reads as `name`: from where it stopped, or from the sequence `from` when it is new.
    ///
    /// # Errors
    /// When the name is taken or the server refuses.
    pub async fn durable(&self, name: &str, from: u64, filter: &Filter) -> Result<Durable, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
            return Err(Error::Name(name.to_owned()));
        }
        let subjects = match filter.subjects(self.id()) {
            all if all.is_empty() => vec![stheno_events::subject::all(self.id())],
            some => some,
        };
        let end = self.facts().await?.last_sequence;
        let refused =
            |error: &dyn std::fmt::Display| Error::Refused { name: name.to_owned(), reason: error.to_string() };
        let jetstream = &self.inner.jetstream;
        let found = match jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, self.stream_name()).await {
            Ok(consumer) => Some(consumer),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::CONSUMER_NOT_FOUND => None,
                ConsumerErrorKind::InvalidConsumerType => return Err(Error::Taken(name.to_owned())),
                ConsumerErrorKind::TimedOut
                | ConsumerErrorKind::Request
                | ConsumerErrorKind::InvalidName
                | ConsumerErrorKind::JetStream(_)
                | ConsumerErrorKind::Other => return Err(refused(&error)),
            },
        };
        let consumer = match found {
            Some(mut consumer) => {
                let config = &consumer.cached_info().config;
                if config.ack_policy != AckPolicy::All {
                    return Err(Error::Taken(name.to_owned()));
                }
                let reads = filters(config);
                if reads != subjects {
                    let (found, wanted) = (reads.join(", "), subjects.join(", "));
                    return Err(Error::OtherFilter { name: name.to_owned(), found, wanted });
                }
                consumer.reset(None).await.map_err(|error| refused(&error))?;
                consumer
            }
            None => {
                // One filter stands in the request's subject too, where a server can allow it to a user by itself.
                let (filter_subject, filter_subjects) = match subjects.as_slice() {
                    [one] => (one.clone(), Vec::new()),
                    _ => (String::new(), subjects),
                };
                let config = pull::Config {
                    durable_name: Some(name.to_owned()),
                    description: Some("stheno events --durable".into()),
                    deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
                    ack_policy: AckPolicy::All,
                    ack_wait: ACK_WAIT,
                    max_ack_pending: -1,
                    filter_subject,
                    filter_subjects,
                    ..pull::Config::default()
                };
                jetstream
                    .create_consumer_on_stream(config, self.stream_name())
                    .await
                    .map_err(|error| refused(&error))?
            }
        };
        let info = consumer.cached_info();
        let position = info.ack_floor.stream_sequence.max(from.max(1) - 1);
        let drained = info.num_pending == 0;
        let messages = messages(&consumer).await.map_err(|reason| refused(&reason))?;
        let (log, number, suspected, reset, last) = (self.clone(), 0, false, Instant::now(), None);
        Ok(Durable { log, consumer, messages, number, suspected, reset, last, position, end, drained })
    }
}

impl Durable {
    /// The last sequence delivered; in the beginning the one before the first to come.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Whether everything that was in the log when reading began has been delivered.
    #[must_use]
    pub const fn drained(&self) -> bool {
        self.drained
    }

    /// The next message; waits for it. May be dropped at any time without losing a message.
    ///
    /// # Errors
    /// When the reader is gone.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            let Ok(coming) = tokio::time::timeout(IDLE, self.messages.next()).await else {
                if self.sent_elsewhere().await {
                    self.again().await?;
                }
                continue;
            };
            match coming {
                Some(Ok(message)) => {
                    let Ok(info) = message.info() else { continue };
                    let (sequence, time, pending) = (info.stream_sequence, info.published, info.pending);
                    if info.consumer_sequence != self.number + 1 {
                        // What lies between went elsewhere: acknowledged with this one, it would be lost.
                        if self.reset.elapsed() > IDLE {
                            self.again().await?;
                        }
                        continue;
                    }
                    self.suspected = false;
                    self.number += 1;
                    if sequence <= self.position {
                        // Sent again after a reset.
                        continue;
                    }
                    self.position = sequence;
                    self.drained |= pending == 0 || sequence >= self.end;
                    let item =
                        Item::read(self.log.id(), sequence, message.subject.as_str(), time, message.payload.clone());
                    self.last = Some(message);
                    return Ok(item);
                }
                Some(Err(_)) | None => self.reopen().await?,
            }
        }
    }

    /// Everything delivered so far is dealt with: a reader of this name does not get it again.
    ///
    /// # Errors
    /// When the server does not take it; then it comes again.
    pub async fn done(&mut self) -> Result<(), Error> {
        if let Some(last) = self.last.take() {
            let name = self.consumer.cached_info().name.clone();
            last.double_ack().await.map_err(|error| Error::Refused { name, reason: error.to_string() })?;
        }
        Ok(())
    }

    /// Whether the server has sent more than came, twice in a row.
    async fn sent_elsewhere(&mut self) -> bool {
        let behind = self.consumer.info().await.is_ok_and(|info| info.delivered.consumer_sequence > self.number);
        behind && std::mem::replace(&mut self.suspected, behind)
    }

    /// Has everything behind the last acknowledgement sent again.
    async fn again(&mut self) -> Result<(), Error> {
        let name = self.consumer.cached_info().name.clone();
        loop {
            match self.consumer.reset(None).await {
                Ok(_) => {
                    (self.number, self.suspected, self.reset) = (0, false, Instant::now());
                    return Ok(());
                }
                Err(error) => self.or_gone(&name, &error).await?,
            }
        }
    }

    /// Asks for messages anew.
    async fn reopen(&mut self) -> Result<(), Error> {
        let name = self.consumer.cached_info().name.clone();
        loop {
            match messages(&self.consumer).await {
                Ok(messages) => {
                    self.messages = messages;
                    return self.again().await;
                }
                Err(error) => self.or_gone(&name, &error).await?,
            }
        }
    }

    /// Gone, or merely away: the stream itself tells. Away, it may be tried again after a while.
    async fn or_gone(&mut self, name: &str, error: &(dyn std::fmt::Display + Sync)) -> Result<(), Error> {
        tracing::debug!(%error, "the durable reader cannot be read now: trying again");
        match (self.log.facts().await, self.consumer.info().await) {
            (Err(gone), _) if !gone.is_passing() => return Err(gone.into()),
            (Ok(_), Err(error)) => return Err(Error::Refused { name: name.to_owned(), reason: error.to_string() }),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => {}
        }
        tokio::time::sleep(IDLE).await;
        Ok(())
    }
}

async fn messages(consumer: &PullConsumer) -> Result<pull::Stream, String> {
    consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .heartbeat(HEARTBEAT)
        .expires(EXPIRES)
        .messages()
        .await
        .map_err(|error| error.to_string())
}

fn filters(config: &jetstream::consumer::Config) -> Vec<String> {
    if config.filter_subject.is_empty() { config.filter_subjects.clone() } else { vec![config.filter_subject.clone()] }
}
