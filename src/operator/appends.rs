//! Appends under way: one an aggregate, all aggregates at once, each to a certain end.

use crate::log::{Log, Outcome, Resolution};
use crate::operator::metrics::{AppendEnd, Metrics};
use crate::runtime;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use stheno_decide::engine::{Append, Appended};
use stheno_events::{Aggregate, EventId};
use tokio_util::sync::CancellationToken;

/// How an append ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its fate is certain.
    Certain {
        aggregate: Aggregate,
        id: EventId,
        appended: Appended,
        /// Why it was refused, for a condition; the same will be composed again.
        refused: Option<String>,
    },
    /// The log cannot be written at all, for good.
    Lost(String),
    /// The process ends first.
    Cancelled,
}

/// A message that is refused is composed again; not at once, because its cause stays.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The appends under way.
pub(super) struct Appends {
    log: Log,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
}

impl Appends {
    pub(super) fn new(log: Log, metrics: Arc<Metrics>, cancel: CancellationToken) -> Self {
        Self { log, metrics, cancel, running: FuturesUnordered::new() }
    }

    pub(super) fn push(&self, append: Append) {
        let (log, metrics, cancel) = (self.log.clone(), self.metrics.clone(), self.cancel.clone());
        self.running.push(Box::pin(async move {
            let begun = runtime::boot_ms();
            let ended = run(&log, append, &cancel).await;
            let end = match &ended {
                Ended::Certain { appended: Appended::Committed(_), .. } => AppendEnd::Committed,
                Ended::Certain { refused: Some(_), .. } => AppendEnd::Refused,
                Ended::Certain { .. } => AppendEnd::Conflict,
                Ended::Lost(_) | Ended::Cancelled => AppendEnd::Lost,
            };
            metrics.appended(end, runtime::boot_ms().saturating_sub(begun));
            ended
        }));
    }

    /// The next one that ends; waits for ever when none is under way.
    pub(super) async fn next(&mut self) -> Ended {
        match self.running.next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }
}

async fn run(log: &Log, append: Append, cancel: &CancellationToken) -> Ended {
    let Append { aggregate, process, expected, envelope } = append;
    let id = envelope.id.clone();
    match log.append(&aggregate, process, expected, &envelope).await {
        Ok(Outcome::Committed(sequence)) => certain(aggregate, id, Appended::Committed(sequence)),
        Ok(Outcome::Conflict(last)) => certain(aggregate, id, Appended::NotIn { last }),
        Ok(Outcome::Indeterminate) => match log.resolve(&aggregate, expected, &id, cancel).await {
            Ok(Resolution::In(sequence)) => certain(aggregate, id, Appended::Committed(sequence)),
            Ok(Resolution::NotIn { last }) => certain(aggregate, id, Appended::NotIn { last }),
            Err(crate::log::resolve::Error::Cancelled) => Ended::Cancelled,
            Err(error) => Ended::Lost(error.to_string()),
        },
        Err(error) => {
            tracing::error!(%error, ?aggregate, "a message was refused: it is composed again");
            tokio::select! {
                () = cancel.cancelled() => return Ended::Cancelled,
                () = tokio::time::sleep(REFUSED_PAUSE) => {}
            }
            let appended = Appended::NotIn { last: expected };
            Ended::Certain { aggregate, id, appended, refused: Some(error.to_string()) }
        }
    }
}

fn certain(aggregate: Aggregate, id: EventId, appended: Appended) -> Ended {
    Ended::Certain { aggregate, id, appended, refused: None }
}
