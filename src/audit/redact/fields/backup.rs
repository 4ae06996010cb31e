//! The texts of a backup's life.

use super::{Field, Kind, Walk};
use stheno_events::backup::{self, BackupNode, Call, NodeProgress};

impl Walk<'_> {
    fn call(&mut self, call: &mut Call) {
        match call {
            Call::Start(pod) | Call::Resume(pod) | Call::Stop(pod) | Call::Summary(pod) => self.pod(pod),
        }
    }

    /// Nodes as the bucket knows them.
    pub(super) fn nodes(&mut self, nodes: &mut [BackupNode]) {
        for BackupNode { host, tokens: _, datacenter, rack } in nodes {
            self.name(Kind::Node, host);
            self.name(Kind::Datacenter, datacenter);
            self.name(Kind::Rack, rack);
        }
    }

    pub(super) fn backup(&mut self, event: &mut backup::Event) {
        match event {
            backup::Event::Queued(e) => {
                let backup::Queued { job, reason: _, message } = e;
                self.uid(job);
                self.text(Field::Text, message);
            }
            backup::Event::Started(e) => {
                let backup::Started { job, nodes } = e;
                self.uid(job);
                self.pods(nodes);
            }
            backup::Event::EffectClaimed(e) => {
                let backup::EffectClaimed { job, call, attempt: _, serial: _, epoch: _ } = e;
                self.uid(job);
                self.call(call);
            }
            backup::Event::ClaimAbandoned(e) => {
                let backup::ClaimAbandoned { job, call, attempt: _, serial: _, epoch: _ } = e;
                self.uid(job);
                self.call(call);
            }
            backup::Event::NodeStarted(e) => {
                let backup::NodeStarted { job, pod, attempt: _, sidecar: _ } = e;
                self.uid(job);
                self.pod(pod);
            }
            backup::Event::Progress(e) => {
                let backup::Progress { job, nodes } = e;
                self.uid(job);
                for NodeProgress { pod, bytes: _, bytes_total: _, files: _, files_total: _ } in nodes {
                    self.pod(pod);
                }
            }
            backup::Event::NodeFinished(e) => {
                let backup::NodeFinished { job, pod, attempt: _, bytes: _, files: _, reused: _ } = e;
                self.uid(job);
                self.pod(pod);
            }
            backup::Event::NodeFailed(e) => {
                let backup::NodeFailed { job, pod, attempt: _, reason, retryable: _ } = e;
                self.uid(job);
                self.pod(pod);
                self.text(Field::Text, reason);
            }
            backup::Event::NodeUnanswered(e) => {
                let backup::NodeUnanswered {
                    job,
                    call,
                    attempt: _,
                    serial: _,
                    epoch: _,
                    in_doubt: _,
                    not_found: _,
                    heard: _,
                    error,
                } = e;
                self.uid(job);
                self.call(call);
                self.text(Field::Text, error);
            }
            backup::Event::NodeLost(e) => {
                let backup::NodeLost { job, pod, reason } = e;
                self.uid(job);
                self.pod(pod);
                self.text(Field::Text, reason);
            }
            backup::Event::OutcomeDecided(e) => {
                let backup::OutcomeDecided { job, outcome: _, message } = e;
                self.uid(job);
                self.text(Field::Text, message);
            }
            backup::Event::Summarised(e) => {
                let backup::Summarised {
                    job,
                    started: _,
                    finished: _,
                    total_nodes: _,
                    finished_nodes: _,
                    nodes,
                    files: _,
                    bytes: _,
                    complete: _,
                } = e;
                self.uid(job);
                self.nodes(nodes);
            }
            backup::Event::SummaryFailed(e) => {
                let backup::SummaryFailed { job, pod, attempt: _, epoch: _, error } = e;
                self.uid(job);
                self.pod(pod);
                self.text(Field::Text, error);
            }
            backup::Event::Completed(e) => {
                let backup::Completed { job, message } = e;
                self.uid(job);
                self.text(Field::Text, message);
            }
            backup::Event::Failed(e) => {
                let backup::Failed { job, outcome: _, message } = e;
                self.uid(job);
                self.text(Field::Text, message);
            }
            backup::Event::Expired(e) => {
                let backup::Expired { job } = e;
                self.uid(job);
            }
            backup::Event::ObjectCreated(e) => {
                let backup::ObjectCreated { job, uid, foreign: _ } = e;
                self.uid(job);
                self.uid(uid);
            }
        }
    }
}
