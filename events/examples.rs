//! One example of each event: for the catalogue of events, for tests, and for whoever writes a consumer.

use crate::backup::{
    self, BackupNode, Call, ClaimAbandoned, Completed, EffectClaimed, NodeFailed, NodeFinished, NodeLost, NodeProgress,
    NodeStarted, NodeUnanswered, ObjectCreated, Outcome, OutcomeDecided, Progress, Queued, SidecarKind, Started,
    Summarised, SummaryFailed, WaitReason,
};
use crate::datacenter::{Incarnation, Led, Overtaken};
use crate::observed::{
    self, Adopted, BackupJob, BackupType, CatchUp, Gap, Gone, JobRules, Malformed, Meta, ObjectKind, Observable, Pod,
    ScheduledOperation, Sidecar, TaskOperation, Unobservable,
};
use crate::operator::{ApiAccepted, Checkpoint, Genesis, Leading, SteppedDown};
use crate::schedule::{
    self, Accepted, Expired, MissReason, Missed, Postponed, Ran, RanLate, Rejected, SkipReason, Skipped,
};
use crate::task;
use crate::{Digest, Epoch, Event, PodName, Time, Uid};
use std::collections::BTreeMap;

const EPOCH: Epoch = Epoch(3);

fn time(second: i64) -> Time {
    // 2026-03-01T02:00:00Z.
    Time::from_timestamp(1_772_330_400 + second, 0).unwrap_or_default()
}

fn job() -> Uid {
    "5f8c4a1e-0f8e-4f57-9a52-3b8c2f1d7e60".into()
}

fn pod() -> PodName {
    "c1-dc1-r1-sts-0".into()
}

fn meta(name: &str, uid: Uid) -> Meta {
    Meta { uid, name: name.into(), resource_version: "4711".into(), generation: 1, created: time(0), deleting: None }
}

/// One example of each kind of event, in the order of [`Event::kinds`].
#[must_use]
pub fn all() -> Vec<Event> {
    observed().chain(backup()).chain(schedule()).chain(tasks()).chain(others()).collect()
}

fn observed() -> impl Iterator<Item = Event> {
    let uid = || Uid::from("0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a001");
    let ready = BTreeMap::from([("Ready".into(), "True".into())]);
    [
        BackupJob {
            meta: meta("nightly-1", job()),
            dc: "dc1".into(),
            backup_type: BackupType::Differential,
            owned: false,
            schedule: None,
            rules: JobRules { parallelism: Some(1), ..JobRules::default() },
            annotations: BTreeMap::new(),
        }
        .into(),
        observed::Backup {
            meta: meta("nightly-1", uid()),
            dc: "dc1".into(),
            backup_type: BackupType::Differential,
            operation: Some(job()),
        }
        .into(),
        observed::Schedule {
            meta: meta("nightly", nightly()),
            dc: "dc1".into(),
            backup_type: BackupType::Differential,
            cron: "0 2 * * *".into(),
            time_zone: Some("Europe/Berlin".into()),
            suspended: false,
            operation: ScheduledOperation::Backup,
            concurrency: None,
            catch_up: CatchUp::Latest,
            starting_deadline: Some(3_600),
            rules: JobRules::default(),
            keep_complete: Some(7),
            keep_failed: None,
            owned: true,
        }
        .into(),
        observed::Task {
            meta: meta("weekly-purge", cleaning()),
            dc: "dc1".into(),
            operation: TaskOperation::Purge,
            backup: None,
            restore_key: None,
            owned: true,
            labels: BTreeMap::from([("cassandra.datastax.com/datacenter".into(), "dc1".into())]),
            annotations: BTreeMap::new(),
        }
        .into(),
        observed::Datacenter {
            meta: meta("dc1", uid()),
            cluster: "c1".into(),
            datacenter_name: None,
            size: 3,
            racks: vec!["r1".into(), "r2".into(), "r3".into()],
            stopped: false,
            observed_generation: 1,
            progress: Some("Ready".into()),
            conditions: ready,
        }
        .into(),
        Pod {
            meta: Meta { generation: 0, ..meta("c1-dc1-r1-sts-0", uid()) },
            cluster: "c1".into(),
            ip: Some("10.0.0.11".into()),
            sidecar: Some(Sidecar { port: 50_051, ready: true }),
        }
        .into(),
        Gone { kind: ObjectKind::MedusaBackupJob, uid: job(), name: "nightly-1".into(), inferred: false }.into(),
        Adopted {
            kind: ObjectKind::MedusaBackupJob,
            uid: job(),
            started: Some(time(-7_200)),
            finished: Some(time(-3_600)),
            in_progress: Vec::new(),
            finished_pods: vec![pod()],
            failed_pods: Vec::new(),
        }
        .into(),
        Malformed {
            kind: ObjectKind::MedusaBackupJob,
            uid: job(),
            name: "nightly-1".into(),
            reason: "spec.cassandraDatacenter is missing".into(),
        }
        .into(),
        Gap { kind: ObjectKind::Pod, from: "4711".into(), to: "4790".into(), backwards: false }.into(),
        Unobservable { kind: ObjectKind::MedusaBackup, reason: "the API server answers 403 Forbidden".into() }.into(),
        Observable { kind: ObjectKind::MedusaBackup }.into(),
    ]
    .into_iter()
}

fn backup() -> impl Iterator<Item = Event> {
    let (job, pod) = (job(), pod());
    [
        Queued {
            job: job.clone(),
            reason: WaitReason::SidecarNotReady,
            message: "the sidecar of c1-dc1-r1-sts-0 is not ready".into(),
        }
        .into(),
        Started { job: job.clone(), nodes: vec![pod.clone()] }.into(),
        EffectClaimed { job: job.clone(), call: Call::Start(pod.clone()), attempt: 1, serial: 1, epoch: EPOCH }.into(),
        ClaimAbandoned { job: job.clone(), call: Call::Start(pod.clone()), attempt: 1, serial: 1, epoch: EPOCH }.into(),
        NodeStarted { job: job.clone(), pod: pod.clone(), attempt: 1, sidecar: SidecarKind::Stheno }.into(),
        Progress {
            job: job.clone(),
            nodes: vec![NodeProgress {
                pod: pod.clone(),
                bytes: 450_000_000,
                bytes_total: 1_288_490_188,
                files: 12,
                files_total: 40,
            }],
        }
        .into(),
        NodeFinished {
            job: job.clone(),
            pod: pod.clone(),
            attempt: 1,
            bytes: Some(1_288_490_188),
            files: Some(40),
            reused: Some(30),
        }
        .into(),
        NodeFailed {
            job: job.clone(),
            pod: pod.clone(),
            attempt: 1,
            reason: "the bucket answers 403: AccessDenied".into(),
            retryable: true,
        }
        .into(),
        NodeUnanswered {
            job: job.clone(),
            call: Call::Start(pod.clone()),
            attempt: 1,
            serial: 1,
            epoch: EPOCH,
            in_doubt: true,
            not_found: false,
            heard: None,
            error: "the connection was closed".into(),
        }
        .into(),
        NodeLost { job: job.clone(), pod: pod.clone(), reason: "it gave no sign of life for 10 min".into() }.into(),
        OutcomeDecided { job: job.clone(), outcome: Outcome::Complete, message: "all 3 nodes are complete".into() }
            .into(),
        Summarised {
            job: job.clone(),
            started: Some(time(5)),
            finished: Some(time(300)),
            total_nodes: 3,
            finished_nodes: 3,
            nodes: vec![BackupNode {
                host: "c1-dc1-r1-sts-0".into(),
                tokens: vec![-9_223_372_036_854_775_808],
                datacenter: "dc1".into(),
                rack: "r1".into(),
            }],
            files: 120,
            bytes: 3_865_470_566,
            complete: true,
        }
        .into(),
        SummaryFailed {
            job: job.clone(),
            pod,
            attempt: 1,
            epoch: EPOCH,
            error: "the sidecar answers: no such backup".into(),
        }
        .into(),
        Completed { job: job.clone(), message: "all 3 nodes are complete".into() }.into(),
        backup::Failed { job: job.clone(), outcome: Outcome::Partial, message: "2 of 3 nodes are complete".into() }
            .into(),
        ObjectCreated { job: job.clone(), uid: "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a002".into(), foreign: false }.into(),
        backup::Expired { job }.into(),
    ]
    .into_iter()
}

fn nightly() -> Uid {
    "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a005".into()
}

fn schedule() -> impl Iterator<Item = Event> {
    let (schedule, day) = (nightly(), 86_400);
    let object = schedule::Requested {
        name: "nightly-1772330400".into(),
        operation: ScheduledOperation::Backup,
        dc: "dc1".into(),
        backup_type: BackupType::Differential,
        rules: JobRules { backoff_limit: Some(5), ..JobRules::default() },
    };
    [
        Accepted { schedule: schedule.clone(), generation: 1, next: Some(time(0)) }.into(),
        Rejected {
            schedule: schedule.clone(),
            generation: 2,
            message: "spec.cronSchedule: 6 fields where five are needed".into(),
        }
        .into(),
        Postponed {
            schedule: schedule.clone(),
            slot: time(0),
            until: Some(time(day)),
            message: "waits for backup nightly-1772244000 of the same datacenter".into(),
        }
        .into(),
        Ran { schedule: schedule.clone(), slot: time(0), object: object.clone(), next: Some(time(day)) }.into(),
        RanLate { schedule: schedule.clone(), slot: time(0), object, next: Some(time(day)) }.into(),
        Skipped {
            schedule: schedule.clone(),
            first: time(0),
            last: time(0),
            count: 1,
            reason: SkipReason::OperationRunning,
            next: Some(time(day)),
        }
        .into(),
        Missed {
            schedule: schedule.clone(),
            first: time(0),
            last: time(2 * day),
            count: 3,
            reason: MissReason::Superseded,
            next: Some(time(3 * day)),
        }
        .into(),
        schedule::ObjectCreated {
            schedule: schedule.clone(),
            name: "nightly-1772330400".into(),
            uid: job(),
            foreign: false,
        }
        .into(),
        Expired { schedule, name: "nightly-1772330400".into(), job: job() }.into(),
    ]
    .into_iter()
}

fn cleaning() -> Uid {
    "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a006".into()
}

fn tasks() -> impl Iterator<Item = Event> {
    let (task, pod) = (cleaning(), pod());
    let call = || task::Call::Purge(pod.clone());
    let counted = task::Purged { backups: 1, objects: 40, bytes: 1_288_490_188, within_grace: 3 };
    let node = BackupNode { host: pod.as_str().into(), tokens: vec![0], datacenter: "dc1".into(), rack: "r1".into() };
    let found = task::Found {
        name: "nightly-1".into(),
        backup_type: BackupType::Differential,
        started: Some(time(5)),
        finished: Some(time(300)),
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![node],
        files: 40,
        bytes: 1_288_490_188,
        completeness: task::Completeness::Complete,
    };
    [
        task::Queued {
            task: task.clone(),
            reason: WaitReason::OperationRunning,
            message: "waits for backup nightly-1 of the same datacenter".into(),
        }
        .into(),
        task::ApprovalNeeded {
            task: task.clone(),
            token: "3f0a7c11d2b54e90".into(),
            removes: 5,
            known: 5,
            names: vec!["nightly-1".into()],
            message: "5 of 5 known backups are not in the bucket".into(),
        }
        .into(),
        task::Started { task: task.clone(), nodes: vec![pod.clone()] }.into(),
        task::EffectClaimed { task: task.clone(), call: call(), attempt: 1, serial: 1, epoch: EPOCH }.into(),
        task::ClaimAbandoned { task: task.clone(), call: call(), attempt: 1, serial: 1, epoch: EPOCH }.into(),
        task::NodeFinished { task: task.clone(), pod: pod.clone(), attempt: 1, purged: Some(counted) }.into(),
        task::NodeFailed {
            task: task.clone(),
            pod: pod.clone(),
            attempt: 1,
            reason: "the bucket answers 403: AccessDenied".into(),
            retryable: true,
        }
        .into(),
        task::NodeUnanswered {
            task: task.clone(),
            call: call(),
            attempt: 1,
            serial: 1,
            epoch: EPOCH,
            in_doubt: true,
            sidecar: Some(SidecarKind::Medusa),
            error: "the connection was closed".into(),
        }
        .into(),
        task::NodeLost { task: task.clone(), pod: pod.clone(), reason: "no answer for 10 minutes".into() }.into(),
        task::Listed {
            task: task.clone(),
            pod: pod.clone(),
            serial: 1,
            epoch: EPOCH,
            page: 0,
            last: true,
            digest: Digest::of(b"what the bucket holds"),
            total: 12,
            ours: 7,
            found: vec![found],
            missing: vec!["nightly-0".into()],
        }
        .into(),
        task::Planned {
            task: task.clone(),
            pod,
            serial: 1,
            epoch: EPOCH,
            digest: Digest::of(b"what would go"),
            backups: Some(vec!["nightly-0".into()]),
        }
        .into(),
        task::Reconciled {
            task: task.clone(),
            created: vec!["nightly-1".into()],
            corrected: Vec::new(),
            removed: vec!["nightly-0".into()],
        }
        .into(),
        task::SyncRequested { task: task.clone(), name: "weekly-purge-sync".into() }.into(),
        task::Completed { task: task.clone(), message: "3 of 3 nodes purged".into() }.into(),
        task::Failed { task: task.clone(), outcome: Outcome::Partial, message: "1 of 3 nodes failed".into() }.into(),
        task::SyncCreated {
            task: task.clone(),
            name: "weekly-purge-sync".into(),
            uid: "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a007".into(),
            foreign: false,
        }
        .into(),
        task::BackupCreated {
            task,
            name: "nightly-1".into(),
            uid: "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a002".into(),
            foreign: false,
        }
        .into(),
    ]
    .into_iter()
}

fn others() -> impl Iterator<Item = Event> {
    let head = Digest::of(b"the last message of prod/dc1");
    let (former, uid) = ("0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a003".into(), "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a004".into());
    [
        Led { epoch: EPOCH, quiet_until: Some(time(10)) }.into(),
        Incarnation { former, uid }.into(),
        Overtaken { pod: pod(), epoch: Epoch(5) }.into(),
        Genesis { cluster: "7e1c0d5a-33d2-4f0a-8a53-1f2f6b0c9e11".into(), at: time(0) }.into(),
        Leading { epoch: EPOCH, identity: "stheno-0".into() }.into(),
        SteppedDown { epoch: EPOCH }.into(),
        ApiAccepted { until: 4_217 }.into(),
        Checkpoint {
            sequence: 812,
            heads: BTreeMap::from([("prod/dc1".into(), head)]),
            root: Digest::root([("prod/dc1", &head)]),
            signature: None,
        }
        .into(),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_example() {
        let kinds: Vec<_> = Event::kinds().map(|kind| (kind.name, kind.version)).collect();
        let examples: Vec<_> = all().iter().map(|event| (event.kind().name, event.kind().version)).collect();
        assert_eq!(examples, kinds);
    }

    #[test]
    fn every_kind_says_when_it_is_written() {
        for kind in Event::kinds() {
            assert!(kind.summary.ends_with('.') && !kind.summary.starts_with(' '), "{}: {:?}", kind.name, kind.summary);
        }
    }
}
