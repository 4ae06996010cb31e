//! The process's own health: conditions that are shown in readiness, in ConfigMap `stheno-status`, as Kubernetes Events
//! and on stderr. It lies outside the log: it can say that the log is away.

use crate::http::Ready;
use crate::runtime;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use stheno_crds::condition;
use stheno_events::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the ConfigMap, in the operator's namespace.
pub(super) const CONFIG_MAP: &str = "stheno-status";
/// Who writes it, for server-side apply.
const MANAGER: &str = "stheno";
/// Changes within this time are one write.
const SETTLE: Duration = Duration::from_millis(500);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Whether the connection to the log stands; not one of the custom resources' conditions.
pub(super) const LOG_CONNECTED: &str = "LogConnected";
/// Whether every kind can be listed.
pub(super) const OBSERVABLE: &str = "Observable";
/// Whether some process leads, as far as those that cannot know.
pub(super) const LED: &str = "Led";
/// Whether the log takes what is written.
pub(super) const LOG_WRITABLE: &str = "LogWritable";

/// The reason of a condition that is bad and still not in the way.
pub(super) const TOLERATED: &str = "Tolerated";
/// The reason where one message is refused, and others are not.
pub(super) const REFUSED: &str = "Refused";

/// The reason of a condition for which this process may not lead.
pub(super) const CANNOT_LEAD: &str = "CannotLead";

/// One condition of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
    last_transition_time: Time,
    /// Whether it is as it should be.
    #[serde(skip)]
    good: bool,
}

/// What is shown of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Board {
    conditions: BTreeMap<&'static str, Condition>,
    /// Whether the log was followed to its end.
    caught_up: bool,
    leader: Option<(String, u64)>,
}

/// The process's own health.
#[derive(Debug)]
pub(super) struct Health {
    board: Board,
    ready: watch::Sender<Ready>,
    shown: watch::Sender<Option<Board>>,
}

/// The conditions that are good when they are false.
fn is_alarm(kind: &str) -> bool {
    matches!(kind, condition::CLOCK_SKEW | condition::LOG_NEWER_THAN_OPERATOR)
}

/// The conditions without which nothing can be done.
fn blocks(kind: &str, reason: &str) -> bool {
    let vital = matches!(kind, condition::LOG_INTEGRITY | condition::CLOCK_SKEW | LOG_CONNECTED | LOG_WRITABLE);
    (vital && ![TOLERATED, REFUSED].contains(&reason)) || reason == CANNOT_LEAD
}

impl Health {
    /// Health that readiness follows. Nothing is written to the API server before [`Self::show`].
    pub(super) fn new() -> (Self, watch::Receiver<Ready>) {
        let (ready, receiver) = watch::channel(Ready::No("starting".into()));
        let shown = watch::Sender::new(None);
        (Self { board: Board::default(), ready, shown }, receiver)
    }

    /// Writes what is shown from now on, while the board is this process's to write ([`Self::lead`]).
    pub(super) fn show(&self, client: Client, namespace: &str, identity: &str, stop: CancellationToken) {
        let scribe = Scribe {
            maps: Api::namespaced(client.clone(), namespace),
            recorder: Recorder::new(
                client,
                Reporter { controller: "stheno".into(), instance: Some(identity.to_owned()) },
            ),
            reference: ObjectReference {
                api_version: Some(ConfigMap::api_version(&()).into_owned()),
                kind: Some(ConfigMap::kind(&()).into_owned()),
                name: Some(CONFIG_MAP.into()),
                namespace: Some(namespace.to_owned()),
                ..ObjectReference::default()
            },
            announced: BTreeMap::new(),
        };
        tokio::spawn(scribe.run(self.shown.subscribe(), stop));
    }

    /// States a condition. A change is said once on stderr.
    pub(super) fn set(&mut self, kind: &'static str, status: bool, reason: &str, message: &str) {
        let good = status != is_alarm(kind);
        let word = if status { "True" } else { "False" };
        let before = self.board.conditions.get(kind);
        if before.is_some_and(|before| before.status == word && before.reason == reason && before.message == message) {
            return;
        }
        let since = before.filter(|before| before.status == word).map(|before| before.last_transition_time);
        if !good && blocks(kind, reason) {
            tracing::error!(condition = kind, reason, "{message}");
        } else if !good {
            tracing::warn!(condition = kind, reason, "{message}");
        } else if before.is_some_and(|before| !before.good) {
            tracing::info!(condition = kind, reason, "{message}");
        }
        let condition = Condition {
            kind,
            status: word,
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.unwrap_or_else(runtime::wall),
            good,
        };
        self.board.conditions.insert(kind, condition);
        self.changed();
    }

    /// Whether the log was followed to its end.
    pub(super) fn caught_up(&mut self) {
        self.board.caught_up = true;
        self.changed();
    }

    /// Who leads, when it is this process: the board is its to write.
    pub(super) fn lead(&mut self, leader: Option<(String, u64)>) {
        if self.board.leader != leader {
            self.board.leader = leader;
            self.changed();
        }
    }

    /// Writes the board although nobody leads: the holder of the Lease that may not lead says why.
    pub(super) fn speak(&self, holds: bool) {
        let bad = self.board.conditions.values().any(|condition| !condition.good);
        let board = (self.board.leader.is_some() || (holds && bad)).then_some(&self.board);
        self.shown.send_if_modified(|shown| {
            let changed = shown.as_ref() != board;
            if changed {
                *shown = board.cloned();
            }
            changed
        });
    }

    fn changed(&self) {
        let bad = self
            .board
            .conditions
            .values()
            .find(|condition| !condition.good && blocks(condition.kind, &condition.reason));
        let ready = match (bad, self.board.caught_up, &self.board.leader) {
            (Some(bad), ..) => Ready::No(format!("{}: {}", bad.kind, bad.message)),
            (None, false, _) => Ready::No("the log is being read".into()),
            (None, true, Some((_, epoch))) => Ready::Yes(format!("leading in term {epoch}")),
            (None, true, None) => Ready::Yes("following; another process leads, or none yet".into()),
        };
        self.ready.send_if_modified(|shown| {
            let changed = *shown != ready;
            *shown = ready;
            changed
        });
    }
}

/// Writes the board to the API server.
struct Scribe {
    maps: Api<ConfigMap>,
    recorder: Recorder,
    reference: ObjectReference,
    /// What was announced last of each condition.
    announced: BTreeMap<&'static str, Condition>,
}

impl Scribe {
    async fn run(mut self, mut shown: watch::Receiver<Option<Board>>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = shown.changed(), if !failing => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(SETTLE).await;
                }
                () = tokio::time::sleep(RETRY), if failing => {}
            }
            let Some(board) = shown.borrow_and_update().clone() else {
                failing = false;
                continue;
            };
            match self.write(&board).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "ConfigMap {CONFIG_MAP} cannot be written: trying again");
                    }
                    failing = true;
                }
            }
        }
    }

    async fn write(&mut self, board: &Board) -> Result<(), kube::Error> {
        let conditions: Vec<&Condition> = board.conditions.values().collect();
        // Our own texts: they always have a JSON form.
        let conditions = serde_json::to_string_pretty(&conditions).unwrap_or_default();
        let mut data = BTreeMap::from([("conditions", conditions), ("version", env!("CARGO_PKG_VERSION").to_owned())]);
        if let Some((leader, epoch)) = &board.leader {
            data.insert("leader", leader.clone());
            data.insert("epoch", epoch.to_string());
        }
        let map = serde_json::json!({
            "apiVersion": ConfigMap::api_version(&()),
            "kind": ConfigMap::kind(&()),
            "metadata": { "name": CONFIG_MAP, "labels": { "app.kubernetes.io/managed-by": MANAGER } },
            "data": data,
        });
        self.maps.patch(CONFIG_MAP, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map)).await?;
        for condition in board.conditions.values() {
            let before = self.announced.get(condition.kind);
            let news = match before {
                Some(before) => before.status != condition.status || before.reason != condition.reason,
                // What is good from the beginning is no news.
                None => !condition.good,
            };
            if news {
                self.announce(condition).await?;
            }
            self.announced.insert(condition.kind, condition.clone());
        }
        Ok(())
    }

    async fn announce(&self, condition: &Condition) -> Result<(), kube::Error> {
        let event = Event {
            type_: if condition.good { EventType::Normal } else { EventType::Warning },
            reason: format!("{}{}", condition.kind, condition.reason),
            note: Some(condition.message.chars().take(1_000).collect()),
            action: condition.kind.to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, &self.reference).await
    }
}
