//! The texts of schedules' slots, of datacenters' terms, and of the operator's own.

use super::{Field, Kind, Walk};
use stheno_events::{datacenter, operator, schedule};

impl Walk<'_> {
    pub(super) fn schedule(&mut self, event: &mut schedule::Event) {
        match event {
            schedule::Event::Accepted(e) => {
                let schedule::Accepted { schedule, generation: _, next: _ } = e;
                self.uid(schedule);
            }
            schedule::Event::Rejected(e) => {
                let schedule::Rejected { schedule, generation: _, message } = e;
                self.uid(schedule);
                self.text(Field::Text, message);
            }
            schedule::Event::Postponed(e) => {
                let schedule::Postponed { schedule, slot: _, until: _, message } = e;
                self.uid(schedule);
                self.text(Field::Text, message);
            }
            schedule::Event::Ran(e) => {
                let schedule::Ran { schedule, slot: _, object, next: _ } = e;
                self.uid(schedule);
                self.requested(object);
            }
            schedule::Event::RanLate(e) => {
                let schedule::RanLate { schedule, slot: _, object, next: _ } = e;
                self.uid(schedule);
                self.requested(object);
            }
            schedule::Event::Skipped(e) => {
                let schedule::Skipped { schedule, first: _, last: _, count: _, reason: _, next: _ } = e;
                self.uid(schedule);
            }
            schedule::Event::Missed(e) => {
                let schedule::Missed { schedule, first: _, last: _, count: _, reason: _, next: _ } = e;
                self.uid(schedule);
            }
            schedule::Event::ObjectCreated(e) => {
                let schedule::ObjectCreated { schedule, name, uid, foreign: _ } = e;
                self.uid(schedule);
                self.name(Kind::Backup, name);
                self.uid(uid);
            }
            schedule::Event::Expired(e) => {
                let schedule::Expired { schedule, name, job } = e;
                self.uid(schedule);
                self.name(Kind::Backup, name);
                self.uid(job);
            }
        }
    }

    fn requested(&mut self, object: &mut schedule::Requested) {
        let schedule::Requested { name, operation: _, dc, backup_type: _, rules: _ } = object;
        self.name(Kind::Backup, name);
        self.name(Kind::Datacenter, dc);
    }

    pub(super) fn datacenter(&mut self, event: &mut datacenter::Event) {
        match event {
            datacenter::Event::Led(e) => {
                let datacenter::Led { epoch: _, quiet_until: _ } = e;
            }
            datacenter::Event::Incarnation(e) => {
                let datacenter::Incarnation { former, uid } = e;
                self.uid(former);
                self.uid(uid);
            }
            datacenter::Event::Overtaken(e) => {
                let datacenter::Overtaken { pod, epoch: _ } = e;
                self.pod(pod);
            }
        }
    }

    pub(super) fn operator(&mut self, event: &mut operator::Event) {
        match event {
            operator::Event::Genesis(e) => {
                let operator::Genesis { cluster, at: _ } = e;
                self.uid(cluster);
            }
            operator::Event::Leading(e) => {
                let operator::Leading { epoch: _, identity } = e;
                self.name(Kind::Operator, identity);
            }
            operator::Event::SteppedDown(e) => {
                let operator::SteppedDown { epoch: _ } = e;
            }
            operator::Event::ApiAccepted(e) => {
                let operator::ApiAccepted { until: _ } = e;
            }
            // Subjects and hashes: the caller's.
            operator::Event::Checkpoint(e) => {
                let operator::Checkpoint { sequence: _, heads: _, root: _, signature: _ } = e;
            }
        }
    }
}
