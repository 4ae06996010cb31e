//! Filling an empty stream with the messages of a log that was: the same sequences, subjects and bytes.

use super::Log;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use std::collections::VecDeque;
use stheno_events::EventId;

/// Messages under way at a time: the server waits for the disk, and we do not for the server.
const WINDOW: usize = 256;

/// Why the stream cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is a log already.
    #[error(
        "stream {stream} holds messages up to {last}: a log is imported into an empty stream only; choose another name \
         with --stream, or delete that one"
    )]
    NotEmpty {
        /// Its name.
        stream: String,
        /// The sequence of its last message.
        last: u64,
    },
    /// The server did not take a message: the stream holds a part of the log.
    #[error(
        "NATS did not take message {sequence}; stream {stream} holds a part of the log: delete it and import again"
    )]
    Interrupted {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// What the server or the connection said.
        #[source]
        source: PublishError,
    },
    /// Somebody else writes there.
    #[error(
        "somebody else wrote to stream {stream} before message {sequence}: stop the operator, delete the stream and \
         import again"
    )]
    Disturbed {
        /// The stream.
        stream: String,
        /// The message that was not taken.
        sequence: u64,
    },
    /// The stream cannot be read.
    #[error(transparent)]
    Stream(#[from] super::stream::Error),
}

/// A stream that is being filled.
pub struct Refill {
    log: Log,
    last: u64,
    under_way: VecDeque<(u64, PublishAckFuture)>,
}

impl Log {
    /// Begins to fill the stream, which must never have held a message.
    ///
    /// # Errors
    /// When it has.
    pub async fn refill(&self) -> Result<Refill, Error> {
        let last = self.facts().await?.last_sequence;
        if last > 0 {
            return Err(Error::NotEmpty { stream: self.stream_name().to_owned(), last });
        }
        Ok(Refill { log: self.clone(), last, under_way: VecDeque::new() })
    }
}

impl Refill {
    /// Sends the next message; `id` is that of its envelope, where it has one. The server takes it only directly behind
    /// the one before, so that nothing is doubled, swapped or mixed with what somebody else writes.
    ///
    /// # Errors
    /// When this one or an earlier one was not taken.
    pub async fn put(&mut self, subject: String, id: Option<&EventId>, payload: Bytes) -> Result<(), Error> {
        if self.under_way.len() >= WINDOW {
            self.settle().await?;
        }
        let mut message = PublishMessage::build()
            .payload(payload)
            .expected_last_sequence(self.last)
            .expected_stream(self.log.stream_name());
        if let Some(id) = id.filter(|id| id.as_str().chars().all(|c| c.is_ascii_graphic())) {
            message = message.message_id(id.as_str());
        }
        self.last += 1;
        let sent = self.log.inner.jetstream.send_publish(subject, message).await;
        let sent = sent.map_err(|error| self.failed(self.last, error))?;
        self.under_way.push_back((self.last, sent));
        Ok(())
    }

    /// Waits until the server holds everything; the last sequence, 0 for none.
    ///
    /// # Errors
    /// When a message was not taken.
    pub async fn finish(mut self) -> Result<u64, Error> {
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        Ok(self.last)
    }

    async fn settle(&mut self) -> Result<(), Error> {
        let Some((sequence, sent)) = self.under_way.pop_front() else { return Ok(()) };
        match sent.await {
            Ok(ack) if ack.sequence == sequence => Ok(()),
            // The server knows the id of a message that somebody else sent.
            Ok(_) => Err(Error::Disturbed { stream: self.log.stream_name().to_owned(), sequence }),
            Err(error) => Err(self.failed(sequence, error)),
        }
    }

    fn failed(&self, sequence: u64, source: PublishError) -> Error {
        let stream = self.log.stream_name().to_owned();
        if source.kind() == PublishErrorKind::WrongLastSequence {
            Error::Disturbed { stream, sequence }
        } else {
            Error::Interrupted { stream, sequence, source }
        }
    }
}
