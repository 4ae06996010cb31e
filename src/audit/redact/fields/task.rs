//! The texts of a task's life. Hashes of listings stay: consents name them.

use super::{Field, Kind, Walk};
use stheno_events::task::{self, Call, Found};

impl Walk<'_> {
    fn task_call(&mut self, call: &mut Call) {
        match call {
            Call::Purge(pod) | Call::Prepare(pod) | Call::List(pod) | Call::Plan(pod) => self.pod(pod),
        }
    }

    fn found(&mut self, found: &mut Found) {
        let Found {
            name,
            backup_type: _,
            started: _,
            finished: _,
            total_nodes: _,
            finished_nodes: _,
            nodes,
            files: _,
            bytes: _,
            completeness: _,
        } = found;
        self.name(Kind::Backup, name);
        self.nodes(nodes);
    }

    pub(super) fn task(&mut self, event: &mut task::Event) {
        match event {
            task::Event::Queued(e) => {
                let task::Queued { task, reason: _, message } = e;
                self.uid(task);
                self.text(Field::Text, message);
            }
            task::Event::ApprovalNeeded(e) => {
                let task::ApprovalNeeded { task, token, removes: _, known: _, names, message } = e;
                self.uid(task);
                self.text(Field::Token, token);
                self.names(Kind::Backup, names);
                self.text(Field::Text, message);
            }
            task::Event::Started(e) => {
                let task::Started { task, nodes } = e;
                self.uid(task);
                self.pods(nodes);
            }
            task::Event::EffectClaimed(e) => {
                let task::EffectClaimed { task, call, attempt: _, serial: _, epoch: _ } = e;
                self.uid(task);
                self.task_call(call);
            }
            task::Event::ClaimAbandoned(e) => {
                let task::ClaimAbandoned { task, call, attempt: _, serial: _, epoch: _ } = e;
                self.uid(task);
                self.task_call(call);
            }
            task::Event::NodeFinished(e) => {
                let task::NodeFinished { task, pod, attempt: _, purged: _ } = e;
                self.uid(task);
                self.pod(pod);
            }
            task::Event::NodeFailed(e) => {
                let task::NodeFailed { task, pod, attempt: _, reason, retryable: _ } = e;
                self.uid(task);
                self.pod(pod);
                self.text(Field::Text, reason);
            }
            task::Event::NodeUnanswered(e) => {
                let task::NodeUnanswered {
                    task,
                    call,
                    attempt: _,
                    serial: _,
                    epoch: _,
                    in_doubt: _,
                    sidecar: _,
                    error,
                } = e;
                self.uid(task);
                self.task_call(call);
                self.text(Field::Text, error);
            }
            task::Event::NodeLost(e) => {
                let task::NodeLost { task, pod, reason } = e;
                self.uid(task);
                self.pod(pod);
                self.text(Field::Text, reason);
            }
            task::Event::Listed(e) => {
                let task::Listed {
                    task,
                    pod,
                    serial: _,
                    epoch: _,
                    page: _,
                    last: _,
                    digest: _,
                    total: _,
                    ours: _,
                    found,
                    missing,
                } = e;
                self.uid(task);
                self.pod(pod);
                found.iter_mut().for_each(|found| self.found(found));
                self.names(Kind::Backup, missing);
            }
            task::Event::Planned(e) => {
                let task::Planned { task, pod, serial: _, epoch: _, digest: _, backups } = e;
                self.uid(task);
                self.pod(pod);
                backups.iter_mut().for_each(|names| self.names(Kind::Backup, names));
            }
            task::Event::Reconciled(e) => {
                let task::Reconciled { task, created, corrected, removed } = e;
                self.uid(task);
                [created, corrected, removed].into_iter().for_each(|names| self.names(Kind::Backup, names));
            }
            task::Event::SyncRequested(e) => {
                let task::SyncRequested { task, name } = e;
                self.uid(task);
                self.name(Kind::Task, name);
            }
            task::Event::Completed(e) => {
                let task::Completed { task, message } = e;
                self.uid(task);
                self.text(Field::Text, message);
            }
            task::Event::Failed(e) => {
                let task::Failed { task, outcome: _, message } = e;
                self.uid(task);
                self.text(Field::Text, message);
            }
            task::Event::SyncCreated(e) => {
                let task::SyncCreated { task, name, uid, foreign: _ } = e;
                self.uid(task);
                self.name(Kind::Task, name);
                self.uid(uid);
            }
            task::Event::BackupCreated(e) => {
                let task::BackupCreated { task, name, uid, foreign: _ } = e;
                self.uid(task);
                self.name(Kind::Backup, name);
                self.uid(uid);
            }
        }
    }
}
