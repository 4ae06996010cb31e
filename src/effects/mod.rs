//! The runner: starts and stops claimed effects, and hands in what they find out. It decides nothing and edits no state.

pub mod agent;
mod channel;
mod ours;
mod stock;
mod summary;
mod task;

pub use channel::{Pace, Sidecars};

use futures::FutureExt as _;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use stheno_decide::{Effect, EffectKey};
use stheno_events::{DcKey, Event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Reports that may wait for the operator's loop; effects wait when it is full.
const WAITING: usize = 1_024;

/// What an effect hands in.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Facts, now.
    Facts {
        /// The effect.
        key: EffectKey,
        /// The datacenter that the facts belong to.
        dc: DcKey,
        /// The facts, in order.
        events: Vec<Event>,
    },
    /// The effect has ended; all that it found out was handed in before.
    Ended(EffectKey),
}

/// Runs effects.
#[derive(Debug)]
pub struct Runner {
    sidecars: Sidecars,
    running: BTreeMap<EffectKey, CancellationToken>,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

impl Default for Runner {
    fn default() -> Self {
        Self::new(Sidecars::default())
    }
}

impl Runner {
    /// A runner that calls through these connections.
    #[must_use]
    pub fn new(sidecars: Sidecars) -> Self {
        let (sender, reports) = mpsc::channel(WAITING);
        Self { sidecars, running: BTreeMap::new(), sender, reports }
    }

    /// Starts a claimed effect; one of the same key that runs already goes on.
    pub fn start(&mut self, effect: Effect) {
        if self.running.contains_key(&effect.key) {
            return;
        }
        let stop = CancellationToken::new();
        self.running.insert(effect.key.clone(), stop.clone());
        let errand = Errand { effect, stop, sender: self.sender.clone() };
        let sidecars = self.sidecars.clone();
        tokio::spawn(async move {
            let run = AssertUnwindSafe(agent::run(&errand, &sidecars)).catch_unwind();
            if run.await.is_err() {
                // A defect here must not leave a claim without an outcome.
                errand.unanswered(true, None, "the call ended by a defect of stheno: see its logs").await;
            }
            let _ = errand.sender.send(Report::Ended(errand.effect.key.clone())).await;
        });
    }

    /// Stops an effect: following and reading end at once; a command that is out comes back first, bounded by its
    /// deadline, and its outcome is handed in.
    pub fn stop(&mut self, key: &EffectKey) {
        if let Some(stop) = self.running.get(key) {
            stop.cancel();
        }
    }

    /// Stops all effects.
    pub fn stop_all(&mut self) {
        self.running.values().for_each(CancellationToken::cancel);
    }

    /// Effects that have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The next report. Waits for ever while nothing runs; cancellation loses none.
    pub async fn next(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => {
                if let Report::Ended(key) = &report {
                    self.running.remove(key);
                }
                report
            }
            // The runner itself holds a sender: the channel never closes.
            None => std::future::pending().await,
        }
    }
}

/// One effect under way: what is asked for, whether it is still wanted, and where facts go.
#[derive(Debug)]
struct Errand {
    effect: Effect,
    stop: CancellationToken,
    sender: mpsc::Sender<Report>,
}
