//! Appends under way: one an aggregate, all aggregates at once, each to a certain end.
//!
//! A message may be read before its acknowledgement arrives, and then the engine goes on: what is read is in. The next
//! append of the aggregate waits its turn here.

use crate::log::append::Error;
use crate::log::{Log, Outcome, Resolution};
use crate::operator::metrics::{AppendEnd, Metrics};
use crate::operator::silence::Silence;
use crate::runtime;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stheno_decide::engine::{Append, Appended};
use stheno_events::{Aggregate, EventId};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
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
        refused: Option<Refusal>,
    },
    /// The log cannot be written at all, for good.
    Lost(String),
    /// The process ends first.
    Cancelled,
}

/// Why a message is not in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The log takes this message not: one sentence.
    Message(String),
    /// The log takes none: one sentence.
    Everything(String),
}

/// A message that is refused is composed again; not at once, because its cause stays.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The appends under way.
pub(super) struct Appends {
    log: Log,
    silence: Arc<Silence>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    running: FuturesUnordered<BoxFuture<'static, (EventId, Ended)>>,
    /// Since when each of them is under way.
    since: BTreeMap<EventId, Instant>,
    /// Whose turn it is in each aggregate that is written.
    turns: BTreeMap<Aggregate, Arc<Mutex<()>>>,
    /// Where to say that a message was read.
    unread: BTreeMap<EventId, oneshot::Sender<u64>>,
}

impl Appends {
    pub(super) fn new(log: Log, silence: Silence, metrics: Arc<Metrics>, cancel: CancellationToken) -> Self {
        let (turns, unread, since) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            log,
            silence: Arc::new(silence),
            metrics,
            cancel,
            running: FuturesUnordered::new(),
            since,
            turns,
            unread,
        }
    }

    pub(super) fn push(&mut self, append: Append) {
        let (log, metrics, cancel) = (self.log.clone(), self.metrics.clone(), self.cancel.clone());
        let silence = self.silence.clone();
        self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        self.unread.retain(|_, reader| !reader.is_closed());
        let turn = self.turns.entry(append.aggregate.clone()).or_default().clone();
        let (reader, read) = oneshot::channel();
        self.unread.insert(append.envelope.id.clone(), reader);
        self.since.insert(append.envelope.id.clone(), Instant::now());
        self.running.push(Box::pin(async move {
            let _turn = turn.lock().await;
            let begun = runtime::boot_ms();
            let (aggregate, id) = (append.aggregate.clone(), append.envelope.id.clone());
            let ended = tokio::select! {
                ended = run(&log, append, &silence, &cancel) => ended,
                // An acknowledgement that is held up, or lost, is not waited for.
                Ok(sequence) = read => certain(aggregate, id.clone(), Appended::Committed(sequence)),
            };
            let end = match &ended {
                Ended::Certain { appended: Appended::Committed(_), .. } => AppendEnd::Committed,
                Ended::Certain { refused: Some(_), .. } => AppendEnd::Refused,
                Ended::Certain { .. } => AppendEnd::Conflict,
                Ended::Lost(_) | Ended::Cancelled => AppendEnd::Lost,
            };
            metrics.appended(end, runtime::boot_ms().saturating_sub(begun));
            (id, ended)
        }));
    }

    /// A message was read: it is in, whatever becomes of its acknowledgement.
    pub(super) fn read(&mut self, id: &EventId, sequence: u64) {
        if let Some(reader) = self.unread.remove(id) {
            // One that has ended already knows.
            let _ = reader.send(sequence);
        }
    }

    /// The next one that ends; waits for ever when none is under way.
    pub(super) async fn next(&mut self) -> Ended {
        match self.running.next().await {
            Some((id, ended)) => {
                self.since.remove(&id);
                ended
            }
            None => std::future::pending().await,
        }
    }

    /// Since when the oldest of those under way is: a connection may stand, and nobody behind it answer.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.since.values().min().copied()
    }
}

async fn run(log: &Log, append: Append, silence: &Silence, cancel: &CancellationToken) -> Ended {
    let losses = log.link().borrow().losses;
    let Append { aggregate, process, expected, envelope } = append;
    let id = envelope.id.clone();
    match log.append(&aggregate, process, expected, &envelope).await {
        Ok(Outcome::Committed(sequence)) => {
            silence.broken();
            certain(aggregate, id, Appended::Committed(sequence))
        }
        Ok(Outcome::Conflict(last)) => certain(aggregate, id, Appended::NotIn { last }),
        Ok(Outcome::Indeterminate) => match log.resolve(&aggregate, expected, &id, cancel).await {
            Ok(Resolution::In(sequence)) => certain(aggregate, id, Appended::Committed(sequence)),
            Ok(Resolution::NotIn { last }) => {
                // The server was there all the time, and nobody else wrote instead.
                let silent = last == expected && log.link().borrow().losses == losses;
                let refused = if silent { silence.again().map(Refusal::Everything) } else { None };
                if silent && silence.restarts() {
                    tracing::warn!("the private nats-server stores nothing though there is room: it is started again");
                    log.restart_server().await;
                }
                Ended::Certain { aggregate, id, appended: Appended::NotIn { last }, refused }
            }
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
            let sentence = error.to_string();
            let refusal = match error {
                Error::Full { .. } => Refusal::Everything(sentence),
                Error::InFlight(_)
                | Error::Closed
                | Error::Refused { .. }
                | Error::TooLarge { .. }
                | Error::Header(_)
                | Error::Encode(_) => Refusal::Message(sentence),
            };
            Ended::Certain { aggregate, id, appended, refused: Some(refusal) }
        }
    }
}

fn certain(aggregate: Aggregate, id: EventId, appended: Appended) -> Ended {
    Ended::Certain { aggregate, id, appended, refused: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Credentials, Endpoint, Patience, Settings};
    use prometheus_client::registry::Registry;
    use stheno_events::datacenter::Led;
    use stheno_events::{DcKey, Digest, Envelope, Epoch, LAYOUT, Process};

    fn append(id: &str, expected: u64, prev: Option<Digest>) -> Append {
        let (ns, dc) = ("prod".into(), "dc1".into());
        let aggregate = Aggregate::Datacenter(DcKey::new("prod", "dc1"));
        let at = stheno_events::to_millis(runtime::wall());
        let envelope = Envelope {
            v: LAYOUT,
            id: EventId::from(id),
            at,
            wall: at,
            seen: expected,
            epoch: Epoch(1),
            ns,
            dc,
            dc_uid: None,
            prev,
            cause: None,
            corr: None,
            by: "test".into(),
            events: vec![Led { epoch: Epoch(1), quiet_until: None }.into()],
        };
        Append { aggregate, process: Process::Backup, expected, envelope }
    }

    async fn appends(nats: &stheno_local::nats::Server) -> Appends {
        let settings = Settings {
            endpoint: Endpoint::External { url: nats.url(), credentials: Credentials::None },
            stream: "STHENO".into(),
            cluster: Some("cafe".into()),
            allow_relaxed: false,
            clock: Arc::new(runtime::wall),
            patience: Patience::default(),
        };
        let log = Log::open(settings).await.unwrap();
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        Appends::new(log, Silence::new(None), metrics, CancellationToken::new())
    }

    async fn soon(appends: &mut Appends) -> Appended {
        let ended = tokio::time::timeout(Duration::from_secs(3), appends.next()).await.expect("it ends soon");
        match ended {
            Ended::Certain { appended, refused: None, .. } => appended,
            Ended::Certain { .. } | Ended::Lost(_) | Ended::Cancelled => panic!("{ended:?}"),
        }
    }

    /// The engine goes on when it has read its own message, and that may be before the acknowledgement.
    #[tokio::test]
    async fn the_next_append_waits_its_turn() {
        let nats = stheno_local::testing::nats().await.unwrap();
        let mut appends = appends(&nats).await;
        appends.push(append("one", 0, None));
        appends.push(append("two", 1, None));
        appends.push(append("three", 2, None));
        for sequence in 1..=3 {
            assert_eq!(soon(&mut appends).await, Appended::Committed(sequence));
        }
        appends.push(append("four", 3, None));
        assert_eq!(soon(&mut appends).await, Appended::Committed(4));
        assert_eq!(appends.turns.len(), 1, "what is not written any more is forgotten");
    }

    #[tokio::test]
    async fn what_was_read_is_in_though_its_acknowledgement_is_held_up() {
        let mut nats = stheno_local::testing::nats().await.unwrap();
        let mut appends = appends(&nats).await;
        nats.pause().unwrap();
        appends.push(append("one", 0, None));
        assert!(tokio::time::timeout(Duration::from_millis(200), appends.next()).await.is_err(), "nobody answers");
        assert!(appends.oldest().is_some_and(|since| since.elapsed() >= Duration::from_millis(200)));
        appends.read(&EventId::from("one"), 1);
        assert_eq!(soon(&mut appends).await, Appended::Committed(1));
        assert_eq!(appends.oldest(), None);
        nats.resume().unwrap();
    }
}
