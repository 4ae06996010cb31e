//! What the log delivers: folded, compared with what was witnessed, shown.

use super::{Operator, Watches, witness};
use crate::log::{Integrity, Item, Stored, follow};
use stheno_decide::engine::Role;
use stheno_events::{Aggregate, Digest};

impl Operator {
    /// Takes what the log delivers.
    pub(super) fn read(&mut self, item: Option<Result<Item, follow::Error>>) {
        match item {
            Some(Ok(Item::Message(message))) => self.delivered(&message),
            Some(Ok(Item::Foreign(foreign))) => {
                tracing::warn!(sequence = foreign.sequence, subject = foreign.subject, "a message is none of ours");
            }
            Some(Ok(Item::CaughtUp(sequence))) => {
                tracing::info!(sequence, "the log was read");
                self.engine.caught_up();
                if let Some(missed) = self.expected.take() {
                    // It lies in what was read, and no message of ours is there.
                    let integrity = Integrity::Rewritten { sequence: missed.last_sequence };
                    self.distrust(witness::fault(integrity));
                }
                self.health.caught_up();
                let frozen = self.engine.world().datacenters.iter().find(|(_, dc)| dc.frozen.is_some());
                if let Some(key) = frozen.map(|(key, _)| key.clone()) {
                    self.frozen(&key);
                }
                self.frozen_whole();
                self.watch();
            }
            Some(Err(error)) => {
                self.follow = None;
                self.distrust(error.to_string());
            }
            None => self.follow = None,
        }
    }

    fn delivered(&mut self, message: &Stored) {
        let digest = Digest::of(&message.payload);
        let own = match (&message.envelope, self.engine.role()) {
            (Ok(envelope), Role::Leading { epoch, .. }) => envelope.by == self.by && envelope.epoch == *epoch,
            (Ok(_) | Err(_), _) => false,
        };
        if let Ok(envelope) = &message.envelope {
            self.appends.read(&envelope.id, message.sequence);
        }
        self.engine.delivered(message.sequence, &message.aggregate, digest, message.envelope.as_ref());
        self.metrics.folded.inc();
        let world = self.engine.world();
        if self.expected.as_ref().is_some_and(|expected| expected.last_sequence == message.sequence)
            && let Some(expected) = self.expected.take()
        {
            let integrity = expected.judge_root(&witness::root(world));
            if integrity != Integrity::Ok {
                return self.distrust(witness::fault(integrity));
            }
        }
        if self.engine.leads() {
            self.publisher.folded(world, &message.aggregate);
            if let (true, Ok(envelope)) = (own, &message.envelope) {
                self.publisher.announce(world, envelope);
            }
        }
        match &message.aggregate {
            Aggregate::Datacenter(key) => self.frozen(key),
            Aggregate::Operator => self.frozen_whole(),
            Aggregate::Location(_) => {}
        }
    }

    /// The log is whole in memory: from here on the API server is watched.
    fn watch(&mut self) {
        let highest = crate::observe::highest(self.engine.world());
        self.watches = match std::mem::replace(&mut self.watches, Watches::Ended) {
            Watches::Waiting(start) if self.ending.is_none() => Watches::Running(start(highest)),
            Watches::Waiting(_) | Watches::Ended => Watches::Ended,
            Watches::Running(sights) => Watches::Running(sights),
        };
    }
}
