//! A message in the making: facts first, then every decision that follows from them, all or nothing.

use crate::{Context, decide, policy};
use stheno_events::{Event, Process, Time, backup, datacenter, schedule, task};
use stheno_projections::Datacenter;

/// Rounds of deciding in one message; more would mean that decisions chase each other.
const ROUNDS: usize = 16;

/// What a message will say of a datacenter.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The state with everything folded that the message says.
    pub state: Datacenter,
    /// What it says.
    pub events: Vec<Event>,
    bytes: usize,
    now: Time,
}

impl Draft {
    /// A message that says nothing yet.
    #[must_use]
    pub const fn new(state: Datacenter, now: Time) -> Self {
        Self { state, events: Vec::new(), bytes: 0, now }
    }

    /// Says one thing more.
    pub fn push(&mut self, event: Event) {
        self.state.fold(&event, self.now);
        self.bytes += event.encoded_len();
        self.events.push(event);
    }

    /// Whether what else there is waits for the next message.
    #[must_use]
    pub const fn full(&self) -> bool {
        self.events.len() >= policy::FACTS_PER_MESSAGE || self.bytes >= policy::BYTES_PER_MESSAGE
    }

    /// Folds every decision that follows, as far as the message has room: what is left follows from the state again.
    /// Returns the process that decided, if one did.
    pub fn decide(&mut self, context: Context<'_>) -> Option<Process> {
        let mut process = None;
        for _ in 0..ROUNDS {
            let events = decide(&self.state, context);
            // Another datacenter of the name: it ends what ran on the former one in one breath.
            let whole = matches!(events.first(), Some(Event::Datacenter(_)));
            if events.is_empty() || (self.full() && !whole) {
                break;
            }
            for event in events {
                // Decisions about operations stand one by one, in their order.
                if self.full() && !whole {
                    break;
                }
                process = Some(match &event {
                    Event::Backup(_) => Process::Backup,
                    Event::Schedule(_) => Process::Schedule,
                    Event::Task(_) => Process::Task,
                    Event::Datacenter(_) => Process::Datacenter,
                    Event::Observed(_) => Process::Observed,
                    Event::Operator(_) => Process::Operator,
                });
                self.push(event);
            }
        }
        process
    }
}

/// Whether it is a decision, which follows from the state: not a fact, which comes from outside.
#[must_use]
pub const fn is_decision(event: &Event) -> bool {
    match event {
        Event::Backup(
            backup::Event::Queued(_)
            | backup::Event::Started(_)
            | backup::Event::EffectClaimed(_)
            | backup::Event::NodeLost(_)
            | backup::Event::OutcomeDecided(_)
            | backup::Event::Completed(_)
            | backup::Event::Failed(_)
            | backup::Event::Expired(_),
        )
        | Event::Schedule(
            schedule::Event::Accepted(_)
            | schedule::Event::Rejected(_)
            | schedule::Event::Postponed(_)
            | schedule::Event::Ran(_)
            | schedule::Event::RanLate(_)
            | schedule::Event::Skipped(_)
            | schedule::Event::Missed(_)
            | schedule::Event::Expired(_),
        )
        | Event::Task(
            task::Event::Queued(_)
            | task::Event::ApprovalNeeded(_)
            | task::Event::Started(_)
            | task::Event::EffectClaimed(_)
            | task::Event::NodeLost(_)
            | task::Event::Reconciled(_)
            | task::Event::SyncRequested(_)
            | task::Event::Completed(_)
            | task::Event::Failed(_),
        )
        | Event::Datacenter(datacenter::Event::Incarnation(_)) => true,
        Event::Backup(
            backup::Event::ClaimAbandoned(_)
            | backup::Event::NodeStarted(_)
            | backup::Event::Progress(_)
            | backup::Event::NodeFinished(_)
            | backup::Event::NodeFailed(_)
            | backup::Event::NodeUnanswered(_)
            | backup::Event::Summarised(_)
            | backup::Event::SummaryFailed(_)
            | backup::Event::ObjectCreated(_),
        )
        | Event::Schedule(schedule::Event::ObjectCreated(_))
        | Event::Task(
            task::Event::ClaimAbandoned(_)
            | task::Event::NodeFinished(_)
            | task::Event::NodeFailed(_)
            | task::Event::NodeUnanswered(_)
            | task::Event::Listed(_)
            | task::Event::Planned(_)
            | task::Event::SyncCreated(_)
            | task::Event::BackupCreated(_),
        )
        | Event::Datacenter(_)
        | Event::Observed(_)
        | Event::Operator(_) => false,
    }
}
