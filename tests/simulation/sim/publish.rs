//! What the shell would publish.

use super::{Happening, Sim, dc};
use crate::api::JobStatus;
use stheno_events::{Event, Fact, Uid, backup};
use stheno_projections::backup::{Operation, Stage};
use stheno_projections::datacenter::Object;

impl Sim {
    /// Intent before effect: the log itself says that this job is to go, and its time was over by then.
    fn law_of_expiry(&mut self, uid: &Uid, operation: &Operation) {
        let said = self.log.messages.iter().find_map(|stored| {
            let says =
                |fact: &Fact| matches!(fact, Fact::Known(Event::Backup(backup::Event::Expired(e))) if e.job == *uid);
            stored.envelope.events.iter().any(says).then_some(stored.envelope.at)
        });
        let lapse = operation.lapse();
        if said.is_none() || lapse.is_none() || said < lapse {
            self.faults_found
                .push(format!("{uid:?} is deleted, its time ends at {lapse:?}, the log says so at {said:?}"));
        }
    }

    /// What the shell would publish: what differs from what it last saw, one write of an object at a time.
    pub(super) fn publish(&mut self, index: usize) {
        if !self.processes[index].engine.leads() {
            return;
        }
        let Some(dc) = self.processes[index].engine.world().datacenters.get(&dc()).cloned() else { return };
        let life = self.processes[index].life;
        for (uid, operation) in &dc.operations {
            let desired = JobStatus {
                started: operation.started(),
                finished: match &operation.stage {
                    Stage::Ended { finished, .. } => Some(*finished),
                    Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
                },
                outcome: match &operation.stage {
                    Stage::Ended { outcome, .. } => Some(format!("{outcome:?}")),
                    Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
                },
            };
            let Some((version, seen)) = self.processes[index].jobs.get(uid).cloned() else { continue };
            if seen == desired || self.processes[index].writing.contains(uid) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(uid.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::StatusArrives(index, life, uid.clone(), version, desired));
        }
        let creates = self.processes[index].creates;
        for (uid, operation) in
            dc.operations.iter().filter(|(_, operation)| creates && operation.expired && !operation.gone)
        {
            let process = &self.processes[index];
            if !process.jobs.contains_key(uid) || process.writing.contains(uid) {
                continue;
            }
            self.law_of_expiry(uid, operation);
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(uid.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::ExpireArrives(index, life, uid.clone()));
        }
        for (name, made) in dc.scheduled.iter().filter(|(_, made)| creates && made.object == Object::Wanted) {
            let process = &self.processes[index];
            let writing = stheno_events::Uid::from(name.clone());
            if process.job_names.contains(name) || process.writing.contains(&writing) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(writing);
            let delay = 1 + self.below(5);
            self.after(delay, Happening::ScheduledArrives(index, life, name.clone(), made.schedule.clone()));
        }
        for (name, backup) in &dc.backups {
            let Some(maker) = backup.maker().cloned().filter(|_| backup.object == Object::Wanted) else {
                continue;
            };
            let process = &self.processes[index];
            let writing = stheno_events::Uid::from(name.clone());
            if process.backups.contains(name) || process.writing.contains(&writing) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(writing);
            let delay = 1 + self.below(5);
            self.after(delay, Happening::CreateArrives(index, life, name.clone(), maker));
        }
        self.publish_tasks(index, life, &dc);
    }
}
