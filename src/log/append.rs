//! Appending: one message, three outcomes, fenced by what the writer has seen of the aggregate.
//!
//! Acknowledgements of all appends arrive on one inbox subscription, so that many aggregates are written at once without
//! a task or a subscription each. An append that the caller drops while it waits is Indeterminate for the caller.

use super::Log;
use super::connection::Link;
use super::resolve::Resolution;
use async_nats::header::{
    HeaderMap, HeaderValue, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID,
};
use async_nats::{Client, StatusCode};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stheno_events::{Aggregate, Envelope, EventId, Process, envelope::EncodeError};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The filter that the expected sequence is compared for; async-nats has no constant for it.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message is in, with this stream sequence.
    Committed(u64),
    /// The message is not in: the aggregate's last message has this sequence (0: it has none), not the expected one.
    Conflict(u64),
    /// The message may be in, now or later. [`Log::resolve`] says so; nothing may happen on the strength of it before.
    Indeterminate,
}

/// An append that was not made: the message is not in the log, and the same append may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not fit.
    #[error("the message has {bytes} bytes and the NATS server takes {limit}: split it, or raise max_payload there")]
    TooLarge {
        /// Headers and payload.
        bytes: usize,
        /// What the server says it takes.
        limit: usize,
    },
    /// A second append to an aggregate while one is under way: a fault of the program.
    #[error("an append to {0} is already in flight: wait for its outcome first")]
    InFlight(String),
    /// The server says no.
    #[error("the NATS server refuses the message (error {code}): {description}")]
    Refused {
        /// The JetStream error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// A disk or a limit is exhausted.
    #[error(
        "the NATS server has no room for the message (error {code}: {description}): free space on its disk or raise its limits"
    )]
    Full {
        /// The JetStream error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The envelope has no encoding.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An id that would break the message's headers: a fault of the program.
    #[error("{0:?} cannot stand in a message's headers")]
    Header(String),
    /// The client was closed.
    #[error("the connection to the log is closed")]
    Closed,
}

enum Answer {
    Stored(u64),
    Refused { code: u64, description: String },
    Unknown,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    // Ordered, so that failing them all has an order.
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
    in_flight: BTreeSet<String>,
    closed: bool,
}

/// The one inbox on which all acknowledgements arrive.
pub(super) struct Acks {
    inbox: String,
    waiting: Arc<Mutex<Waiting>>,
    _stop: DropGuard,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Nothing panics while it holds the lock; the state is whole even if something did.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acks {
    pub(super) async fn subscribe(
        client: &Client,
        mut link: watch::Receiver<Link>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(format!("{inbox}.*")).await?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let stop = CancellationToken::new();
        let (stopped, state, prefix) = (stop.clone(), Arc::clone(&waiting), inbox.len() + 1);
        tokio::spawn(async move {
            let mut losses = link.borrow_and_update().losses;
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => break,
                    message = answers.next() => {
                        let Some(message) = message else { break };
                        let token = message.subject.get(prefix..).and_then(|token| token.parse::<u64>().ok());
                        let waiter = token.and_then(|token| lock(&state).answers.remove(&token));
                        if let Some(waiter) = waiter {
                            // A waiter that went away has read its outcome as Indeterminate.
                            let _ = waiter.send(read(&message));
                        }
                    }
                    changed = link.changed() => {
                        if changed.is_err() { break }
                        let now = link.borrow_and_update().losses;
                        if now != losses {
                            losses = now;
                            // What was sent on the lost connection may or may not have arrived.
                            for (_, waiter) in std::mem::take(&mut lock(&state).answers) {
                                let _ = waiter.send(Answer::Unknown);
                            }
                        }
                    }
                }
            }
            let mut state = lock(&state);
            state.closed = true;
            for (_, waiter) in std::mem::take(&mut state.answers) {
                let _ = waiter.send(Answer::Unknown);
            }
        });
        Ok(Self { inbox, waiting, _stop: stop.drop_guard() })
    }
}

fn read(message: &async_nats::Message) -> Answer {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        // No stream listens now; an earlier attempt with this id may still be in.
        return Answer::Unknown;
    }
    match serde_json::from_slice::<Ack>(&message.payload) {
        Ok(Ack { error: Some(AckError { err_code, description }), .. }) => {
            Answer::Refused { code: err_code, description }
        }
        Ok(Ack { seq, error: None }) if seq > 0 => Answer::Stored(seq),
        Ok(_) | Err(_) => Answer::Unknown,
    }
}

/// Marks an aggregate as being written until it is dropped.
struct InFlight<'a> {
    waiting: &'a Mutex<Waiting>,
    filter: &'a str,
    token: u64,
}

impl<'a> InFlight<'a> {
    fn enter(waiting: &'a Mutex<Waiting>, filter: &'a str) -> Result<(Self, oneshot::Receiver<Answer>), Error> {
        let mut state = lock(waiting);
        if state.closed {
            return Err(Error::Closed);
        }
        if !state.in_flight.insert(filter.to_owned()) {
            return Err(Error::InFlight(filter.to_owned()));
        }
        let token = state.next;
        state.next += 1;
        let (sender, receiver) = oneshot::channel();
        state.answers.insert(token, sender);
        Ok((Self { waiting, filter, token }, receiver))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.waiting);
        state.in_flight.remove(self.filter);
        state.answers.remove(&self.token);
    }
}

impl Log {
    /// Appends a message to an aggregate whose last message, as far as the writer has seen, has the sequence
    /// `expected` (0: none).
    ///
    /// # Errors
    /// When the append was not made: the message is not in.
    pub async fn append(
        &self,
        aggregate: &Aggregate,
        process: Process,
        expected: u64,
        envelope: &Envelope,
    ) -> Result<Outcome, Error> {
        self.append_encoded(aggregate, process, expected, &envelope.id, envelope.encode()?.into()).await
    }

    /// As [`Log::append`], for a writer that has encoded the message already, to know its digest.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_encoded(
        &self,
        aggregate: &Aggregate,
        process: Process,
        expected: u64,
        id: &EventId,
        payload: Bytes,
    ) -> Result<Outcome, Error> {
        let subject = aggregate.subject(self.id(), process);
        let filter = aggregate.filter(self.id());
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, value(id.as_str())?);
        headers.insert(NATS_EXPECTED_STREAM, value(self.stream_name())?);
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(expected));
        headers.insert(EXPECTED_SUBJECT, value(&filter)?);
        let (bytes, limit) = (wire_len(&headers, payload.len()), self.max_message());
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }

        let acks = &self.inner.acks;
        let (in_flight, answer) = InFlight::enter(&acks.waiting, &filter)?;
        let reply = format!("{}.{}", acks.inbox, in_flight.token);
        self.inner.gauge.sending(id);
        let exchange = async {
            let client = &self.inner.client;
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await.ok()?;
            answer.await.ok()
        };
        let answer = tokio::time::timeout(self.inner.patience.ack, exchange).await;
        let outcome = match answer.ok().flatten() {
            Some(Answer::Stored(sequence)) => Ok(Outcome::Committed(sequence)),
            Some(Answer::Refused { code, description }) => {
                self.refused(aggregate, expected, id, code, description).await
            }
            Some(Answer::Unknown) | None => Ok(Outcome::Indeterminate),
        };
        drop(in_flight);
        outcome
    }

    async fn refused(
        &self,
        aggregate: &Aggregate,
        expected: u64,
        id: &EventId,
        code: u64,
        description: String,
    ) -> Result<Outcome, Error> {
        match code {
            // Wrong last sequence. An unreplicated stream says so of a message that it has stored itself, because it
            // compares before it looks for duplicates.
            10071 => {
                let bound = CancellationToken::new();
                let found = self.resolve(aggregate, expected, id, &bound);
                match tokio::time::timeout(self.inner.patience.request, found).await {
                    Ok(Ok(Resolution::In(sequence))) => Ok(Outcome::Committed(sequence)),
                    // The server's number where reading shows nothing newer: the log is shorter than the writer believes.
                    Ok(Ok(Resolution::NotIn { last })) if last == expected => {
                        let told = trailing_number(&description).unwrap_or(last);
                        // A leader that was elected a moment ago may compare before it holds all that its predecessor
                        // acknowledged (seen on three servers with one killed): it knows less than was read just now.
                        if told < expected && self.inner.replicas > 1 {
                            return Ok(Outcome::Indeterminate);
                        }
                        Ok(Outcome::Conflict(told))
                    }
                    Ok(Ok(Resolution::NotIn { last })) => Ok(Outcome::Conflict(last)),
                    Ok(Err(_)) | Err(_) => Ok(Outcome::Indeterminate),
                }
            }
            // A message for the same filter, or with the same id, is in flight on a replicated stream; an unavailable
            // cluster may have accepted what it does not acknowledge.
            10164 | 10158 | 10008 | 10009 => Ok(Outcome::Indeterminate),
            // Resources, storage, store failed.
            10002 | 10023 | 10028 | 10047 | 10077 => Err(Error::Full { code, description }),
            code => Err(Error::Refused { code, description }),
        }
    }

    /// The largest message, headers included, in bytes: the smaller of what server and stream take.
    #[must_use]
    pub fn max_message(&self) -> usize {
        let server = self.inner.client.max_payload();
        self.inner.max_message.map_or(server, |stream| stream.min(server))
    }

    /// How long an append waits for its acknowledgement.
    #[must_use]
    pub fn ack_patience(&self) -> Duration {
        self.inner.patience.ack
    }
}

/// async-nats would panic on a line break.
fn value(text: &str) -> Result<HeaderValue, Error> {
    text.parse().map_err(|_| Error::Header(text.to_owned()))
}

/// Bytes that the server counts against its limit: the header block and the payload.
fn wire_len(headers: &HeaderMap, payload: usize) -> usize {
    let block = headers.iter().fold("NATS/1.0\r\n\r\n".len(), |sum, (name, values)| {
        let name: &str = name.as_ref();
        values.iter().fold(sum, |sum, value| sum + name.len() + value.as_str().len() + ": \r\n".len())
    });
    block + payload
}

fn trailing_number(text: &str) -> Option<u64> {
    text.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_number_is_read_from_its_sentence() {
        assert_eq!(trailing_number("wrong last sequence: 12"), Some(12));
        assert_eq!(trailing_number("wrong last sequence"), None);
    }

    #[test]
    fn one_append_at_a_time_in_an_aggregate() {
        let waiting = Mutex::new(Waiting::default());
        let first = InFlight::enter(&waiting, "a.>").unwrap();
        assert!(matches!(InFlight::enter(&waiting, "a.>"), Err(Error::InFlight(filter)) if filter == "a.>"));
        assert!(InFlight::enter(&waiting, "b.>").is_ok());
        drop(first);
        assert!(InFlight::enter(&waiting, "a.>").is_ok());
        assert!(lock(&waiting).answers.is_empty());
    }
}
