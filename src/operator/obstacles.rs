//! What stands in the way of doing anything, and what is merely not as it should be.

use super::{Operator, health};
use crate::log::{Durability, Skew};
use chrono::TimeDelta;
use stheno_crds::condition;
use stheno_events::DcKey;
use tokio::time::Instant;

/// What stands in the way of doing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    /// The log is not the one that was witnessed, or not whole.
    Integrity,
    /// The wall clock cannot be trusted.
    Clock,
}

impl Operator {
    /// The log is not what it was: nothing is done until a person decides.
    pub(super) fn distrust(&mut self, fault: String) {
        self.obstacles.insert(Obstacle::Integrity, fault.into());
        self.obstacles_changed();
    }

    pub(super) fn clock(&mut self) {
        let skew = *self.skew.borrow_and_update();
        let seconds = |offset: TimeDelta| {
            let direction = if offset < TimeDelta::zero() { "behind" } else { "ahead of" };
            format!("The clock here is {} s {direction} that of the NATS server.", offset.abs().num_seconds())
        };
        match skew {
            Skew::Fine => {
                self.health.set(condition::CLOCK_SKEW, false, "InStep", "The clocks agree.");
                self.obstacles.remove(&Obstacle::Clock);
            }
            Skew::Warn(offset) => {
                self.health.set(condition::CLOCK_SKEW, true, health::TOLERATED, &seconds(offset));
                self.obstacles.remove(&Obstacle::Clock);
            }
            Skew::Stop(offset) => {
                let sentence = format!("{} Nothing is done until the clocks are set right.", seconds(offset));
                self.health.set(condition::CLOCK_SKEW, true, "TooFar", &sentence);
                self.obstacles.insert(Obstacle::Clock, sentence.into());
            }
        }
        self.obstacles_changed();
    }

    pub(super) fn obstacles_changed(&mut self) {
        match self.obstacles.get(&Obstacle::Integrity).cloned() {
            Some(fault) => self.health.set(condition::LOG_INTEGRITY, false, "Doubtful", &fault),
            None => {
                let good = "The log is the one that was witnessed.";
                self.health.set(condition::LOG_INTEGRITY, true, "Witnessed", good);
            }
        }
        self.engine.block(self.obstacles.values().next().cloned());
    }

    /// Says why nobody leads, where this is one of those that cannot.
    pub(super) fn unled(&mut self) {
        let frozen = self.engine.world().operator.frozen.as_ref();
        match self.obstacles.values().next().or(frozen).filter(|_| self.candidate.vacant()) {
            Some(why) => {
                let message = format!("No process leads. {} cannot: {why}", self.identity);
                self.health.set(health::LED, false, "Hindered", &message);
            }
            None => self.health.set(health::LED, true, "Led", "A process leads, or may."),
        }
    }

    pub(super) fn health_of_log(&mut self) {
        let up = self.link.borrow_and_update().up;
        self.metrics.connected.set(i64::from(up));
        self.away = if up { None } else { self.away.or_else(|| Some(Instant::now())) };
        if up {
            self.health.set(health::LOG_CONNECTED, true, "Connected", "The NATS server answers.");
        } else {
            let away = "The NATS server is away: nothing is lost, and work goes on when it is back.";
            self.health.set(health::LOG_CONNECTED, false, "Disconnected", away);
        }
        match self.log.durability() {
            Durability::Safe => self.health.set(condition::DURABILITY, true, "Safe", "What the log has stays."),
            Durability::Relaxed(reasons) => {
                let word = reasons.first().map_or("Relaxed", |reason| reason.word());
                let all: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let message = format!("What the log has may be lost: {}.", all.join("; "));
                self.health.set(condition::DURABILITY, false, word, &message);
            }
        }
    }

    /// Says so where nothing may be decided because a newer program wrote.
    pub(super) fn frozen(&mut self, key: &DcKey) {
        if let Some(frozen) = self.engine.world().datacenter(key).and_then(|dc| dc.frozen.as_deref()) {
            let message = format!("{key}: {frozen}");
            self.health.set(condition::LOG_NEWER_THAN_OPERATOR, true, "UnknownEvents", &message);
        }
    }

    /// Says so where this process may not even lead because a newer program wrote.
    pub(super) fn frozen_whole(&mut self) {
        if let Some(frozen) = self.engine.world().operator.frozen.as_deref() {
            let message = format!("This process cannot lead: {frozen}");
            self.health.set(condition::LOG_NEWER_THAN_OPERATOR, true, health::CANNOT_LEAD, &message);
        }
    }
}
