//! What an Indeterminate append came to: the aggregate is read behind the writer's last seen message until it can be said.

use super::Log;
use super::stream::{self, Fetched};
use std::time::Duration;
use stheno_events::{Aggregate, EventId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Whether a message is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It is in, with this stream sequence.
    In(u64),
    /// It is not in now. A copy on its way may still arrive, and would be refused once anything else was appended with
    /// the expectation `last`; so the next step is an append, never an effect.
    NotIn {
        /// The last sequence of the aggregate: what the next append expects.
        last: u64,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller gave up.
    #[error("the outcome of the append was not found out before the program was told to stop")]
    Cancelled,
    /// The stream is there no more, or says no for good.
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

impl Log {
    /// Looks for the message `id` in `aggregate` behind the sequence `after`. While the server is away it waits and
    /// tries again, until `cancel`.
    ///
    /// # Errors
    /// When cancelled, or when the stream is gone.
    pub async fn resolve(
        &self,
        aggregate: &Aggregate,
        after: u64,
        id: &EventId,
        cancel: &CancellationToken,
    ) -> Result<Resolution, Error> {
        let filter = aggregate.filter(self.id());
        let mut last = after;
        let mut pause = Duration::from_millis(20);
        loop {
            // Of the stream's leader, never of a replica: a stale answer would say "not in" of what is.
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::Cancelled),
                step = self.next_of(&filter, last.saturating_add(1)) => step,
            };
            match step {
                Ok(Fetched::Message { sequence, id: found }) => {
                    if found.as_deref() == Some(id.as_str()) {
                        return Ok(Resolution::In(sequence));
                    }
                    last = sequence;
                    pause = Duration::from_millis(20);
                }
                Ok(Fetched::End) => return Ok(Resolution::NotIn { last }),
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, "the log cannot be read now: trying again");
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(Error::Cancelled),
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
