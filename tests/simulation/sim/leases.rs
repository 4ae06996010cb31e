//! The Lease, and what befalls the operators themselves.

use super::{CALM_AFTER, Happening, Sim};
use crate::process::Input;

impl Sim {
    /// Who holds the Lease; and, every second, what else goes wrong.
    pub(super) fn lease_round(&mut self) {
        if self.now < 2 * CALM_AFTER || self.lease.is_none() {
            self.after(1_000, Happening::Lease);
        } else {
            self.after(60_000, Happening::Lease);
        }
        let faults = self.plan.faults;
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.alive && !process.paused && self.chance(faults.pauses) {
                self.note(|| format!("operator {index} is suspended"));
                self.processes[index].paused = true;
                let long = 1_000 + self.below(40_000);
                self.after(long, Happening::Resume(index));
            }
        }
        for index in 0..self.processes.len() {
            if self.processes[index].alive && self.chance(faults.obstacles) {
                self.note(|| format!("something stands in the way of operator {index}"));
                let life = self.processes[index].life;
                self.arrive(index, life, Input::Block(true));
                let long = 1_000 + self.below(40_000);
                self.after(long, Happening::Clear(index));
            }
        }
        if let Some(holder) = self.lease {
            let process = &self.processes[holder];
            // A suspended or dead holder does not renew: after a while somebody else may have it.
            let silent = !process.alive || process.paused;
            // One that could do nothing gives it back.
            let idle = process.alive && !process.paused && !process.engine.fit();
            if idle || (silent && self.below(12) == 0) || self.chance(faults.lease_flaps) {
                self.lease = None;
                self.send(holder, 8, Input::Lease(false));
            } else if self.chance(faults.hands_over) {
                self.note(|| format!("operator {holder} is asked to end its term"));
                self.send(holder, 8, Input::Finish);
            }
        }
        if self.lease.is_none() {
            let free: Vec<usize> = (0..self.processes.len())
                .filter(|index| {
                    let process = &self.processes[*index];
                    process.alive && !process.paused && process.engine.fit()
                })
                .collect();
            if !free.is_empty() {
                let winner = free[usize::try_from(self.below(free.len() as u64)).expect("an index")];
                self.note(|| format!("operator {winner} holds the Lease"));
                self.lease = Some(winner);
                self.send(winner, 8, Input::Lease(true));
            }
        }
        self.disturb_sidecars(faults);
    }
}
