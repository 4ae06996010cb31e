//! An API server whose store is put back to an older copy, and the person who accepts it.

use super::{Happening, Sim, time};
use crate::api::Change;
use crate::process::Input;
use stheno_events::observed::{Gap, ObjectKind};

impl Sim {
    /// A copy is made while the job is there, the user deletes the job, and later the copy is put back.
    pub(super) fn plan_put_back(&mut self, job: &Change) {
        let Change::Is(body) = job else { return };
        let uid = body.meta().uid.clone();
        let copied = 2_000 + self.below(60_000);
        let deleted = copied + 1 + self.below(60_000);
        let put_back = deleted + 1 + self.below(60_000);
        self.after(copied, Happening::Copy);
        self.after(deleted, Happening::UserDeletes(uid));
        self.after(put_back, Happening::PutBack);
        let accepted = put_back + 1_000 + self.below(60_000);
        self.after(accepted, Happening::Accept);
    }

    pub(super) fn put_back(&mut self) {
        let Some(copy) = self.copy.clone() else { return };
        self.note(|| "the API server's store is put back".into());
        let before = self.api.version;
        self.api.put_back(copy);
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            process.highest = Some(before);
            self.show_all(index);
        }
    }

    /// What a list that begins now says of the versions before it.
    pub(super) fn backwards(&mut self, index: usize, kind: ObjectKind) -> Option<Gap> {
        let now = self.api.version;
        let from = self.processes[index].highest.filter(|highest| *highest > now)?;
        Some(Gap { kind, from: from.to_string().into(), to: now.to_string().into(), backwards: true })
    }

    /// A person accepts what the log tells of, and looks again later.
    pub(super) fn accept(&mut self) {
        if let Some(backwards) = self.replay(None).operator.api_backwards {
            self.note(|| format!("a person accepts what message {} tells of", backwards.message));
            for index in 0..self.processes.len() {
                self.send(index, 7, Input::Accept(backwards.message));
            }
        }
        if time(self.now) < time(1_200_000) {
            let later = 2_000 + self.below(10_000);
            self.after(later, Happening::Accept);
        }
    }
}
