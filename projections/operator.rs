//! The operator as the log tells it: whose log it is, which term runs, what cannot be observed.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_events::observed::{self, ObjectKind};
use stheno_events::operator::{Event, Genesis};
use stheno_events::{Epoch, Time};

/// The operator's own aggregate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Operator {
    /// The log's first moment.
    pub genesis: Option<Genesis>,
    /// The term that runs, or ran last; 0 before the first.
    pub epoch: Epoch,
    /// The highest term that a sidecar has served, where the log knew of none so high: it had been put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtaken: Option<Epoch>,
    /// Who leads, or led last.
    pub identity: Option<Arc<str>>,
    /// When the term began.
    pub since: Option<Time>,
    /// Terms that ended with nothing in flight: their aggregates can be taken over at once.
    pub stepped_down: BTreeSet<Epoch>,
    /// Kinds that cannot be listed, and why: what depends on them waits.
    pub unobservable: BTreeMap<ObjectKind, Arc<str>>,
    /// The API server's store went back to an older state: no effects until a person accepts it.
    pub api_backwards: Option<Backwards>,
    /// Why nobody may lead: the operator's own history holds what this build does not understand.
    pub frozen: Option<Arc<str>>,
    /// Sequence of the last checkpoint.
    pub checkpoint: u64,
    /// When the last checkpoint was written.
    pub checkpoint_at: Option<Time>,
}

/// An API server whose store went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backwards {
    /// The message of the log that says so last: what a person names to accept it.
    pub message: u64,
    /// From where to where.
    pub text: Arc<str>,
}

impl Operator {
    pub(crate) fn apply(&mut self, event: &Event, at: Time) {
        match event {
            Event::Genesis(e) => self.genesis = Some(e.clone()),
            Event::Leading(e) => {
                self.epoch = e.epoch;
                self.identity = Some(e.identity.clone());
                self.since = Some(at);
            }
            Event::SteppedDown(e) => {
                self.stepped_down.insert(e.epoch);
            }
            Event::ApiAccepted(e) => {
                self.api_backwards.take_if(|backwards| backwards.message <= e.until);
            }
            Event::Checkpoint(e) => {
                self.checkpoint = e.sequence;
                self.checkpoint_at = Some(at);
            }
        }
    }

    /// `sequence` is that of the message.
    pub(crate) fn observe(&mut self, event: &observed::Event, sequence: u64) {
        match event {
            observed::Event::Unobservable(e) => {
                self.unobservable.insert(e.kind, e.reason.clone());
            }
            observed::Event::Observable(e) => {
                self.unobservable.remove(&e.kind);
            }
            observed::Event::Gap(e) if e.backwards => {
                let text = format!(
                    "the API server went back from resourceVersion {} to {} for {}",
                    e.from,
                    e.to,
                    e.kind.as_str()
                );
                self.api_backwards = Some(Backwards { message: sequence, text: text.into() });
            }
            observed::Event::Gap(_)
            | observed::Event::BackupJob(_)
            | observed::Event::Backup(_)
            | observed::Event::Schedule(_)
            | observed::Event::Task(_)
            | observed::Event::Datacenter(_)
            | observed::Event::Pod(_)
            | observed::Event::Gone(_)
            | observed::Event::Adopted(_)
            | observed::Event::Malformed(_) => {}
        }
    }
}
