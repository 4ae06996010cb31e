//! Given events, then what people see: statuses, objects and announcements.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use stheno_events::backup::{
    BackupNode, Call, Completed, EffectClaimed, Failed, NodeFailed, NodeFinished, NodeLost, NodeProgress, NodeStarted,
    NodeUnanswered, ObjectCreated, Outcome, OutcomeDecided, Progress, Queued, SidecarKind, Started, Summarised,
    SummaryFailed, WaitReason,
};
use stheno_events::observed::{Adopted, BackupJob, BackupType, Gone, JobRules, Malformed, Meta, ObjectKind};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Event, EventId, Fact, LAYOUT, PodName, Time, Uid};
use stheno_projections::operator::Operator;
use stheno_projections::status::{announcements, backup_object, job_status};
use stheno_projections::{Datacenter, Message, World};

/// A log in the making: each step is one message, one second and a bit after the last.
struct Story {
    world: World,
    now: Time,
    said: Vec<String>,
}

fn noon() -> Time {
    DateTime::parse_from_rfc3339("2026-03-01T12:00:00.250Z").map(|time| time.to_utc()).unwrap_or_default()
}

fn key() -> DcKey {
    DcKey::new("shop", "dc1")
}

fn uid() -> Uid {
    Uid::from("job-uid")
}

fn pod(number: usize) -> PodName {
    PodName::from(format!("c-dc1-r1-sts-{number}"))
}

fn request() -> BackupJob {
    BackupJob {
        meta: Meta {
            uid: uid(),
            name: "nightly".into(),
            resource_version: "100".into(),
            generation: 2,
            created: noon() - TimeDelta::seconds(5),
            deleting: None,
        },
        dc: "dc1".into(),
        backup_type: BackupType::Differential,
        schedule: None,
        owned: false,
        rules: JobRules::default(),
        annotations: Default::default(),
    }
}

impl Story {
    fn new() -> Self {
        Self { world: World::default(), now: noon(), said: Vec::new() }
    }

    fn begun() -> Self {
        let mut story = Self::new();
        story.then(vec![request().into()]);
        story
    }

    fn facts(&mut self, events: Vec<Fact>) -> &mut Self {
        self.now += TimeDelta::milliseconds(1_100);
        let sequence = self.world.position + 1;
        let envelope = Envelope {
            v: LAYOUT,
            id: EventId::from(format!("message-{sequence}")),
            at: self.now,
            wall: self.now,
            seen: self.world.position,
            epoch: Epoch(1),
            ns: key().namespace,
            dc: key().name,
            dc_uid: None,
            prev: None,
            cause: None,
            corr: None,
            by: "test".into(),
            events,
        };
        let aggregate = Aggregate::Datacenter(key());
        let digest = Digest::of(sequence.to_string().as_bytes());
        self.world.apply(Message { sequence, aggregate: &aggregate, digest, envelope: Ok(&envelope) });
        self.said.extend(announcements(&envelope, self.dc()).into_iter().map(|said| {
            assert_eq!(said.at, envelope.at);
            format!(
                "{}#{} {} {}/{} {} {}: {}",
                said.message,
                said.index,
                said.severity.as_str(),
                said.kind.as_str(),
                said.name,
                said.uid,
                said.reason,
                said.note
            )
        }));
        self
    }

    fn then(&mut self, events: Vec<Event>) -> &mut Self {
        self.facts(events.into_iter().map(Fact::Known).collect())
    }

    fn after(&mut self, pause: TimeDelta) -> &mut Self {
        self.now += pause;
        self
    }

    fn dc(&self) -> &Datacenter {
        self.world.datacenter(&key()).unwrap()
    }

    fn status(&self) -> Option<stheno_crds::MedusaBackupJobStatus> {
        let dc = self.dc();
        job_status(dc.operation(&uid()).unwrap(), dc, &self.world.operator)
    }

    fn claim(&self, node: usize, attempt: u32, serial: u32) -> Event {
        let call = if serial == attempt { Call::Start(pod(node)) } else { Call::Resume(pod(node)) };
        EffectClaimed { job: uid(), call, attempt, serial, epoch: Epoch(1) }.into()
    }

    /// Three nodes, all called and accepted.
    fn running() -> Self {
        let mut story = Self::begun();
        let mut events = vec![Started { job: uid(), nodes: (0..3).map(pod).collect() }.into()];
        events.extend((0..3).map(|node| story.claim(node, 1, 1)));
        story.then(events);
        let started =
            |node| NodeStarted { job: uid(), pod: pod(node), attempt: 1, sidecar: SidecarKind::Stheno }.into();
        story.then((0..3).map(started).collect());
        story
    }

    fn finish(&mut self, node: usize, bytes: Option<u64>) -> &mut Self {
        let finished = NodeFinished {
            job: uid(),
            pod: pod(node),
            attempt: 1,
            bytes,
            files: bytes.map(|bytes| bytes / 1_000_000),
            reused: None,
        };
        self.then(vec![finished.into()])
    }

    fn end(&mut self, outcome: Outcome, message: &str) -> &mut Self {
        let message: Arc<str> = message.into();
        self.then(vec![OutcomeDecided { job: uid(), outcome, message: message.clone() }.into()]);
        let last = if outcome == Outcome::Complete {
            Completed { job: uid(), message }.into()
        } else {
            Failed { job: uid(), outcome, message }.into()
        };
        self.then(vec![last])
    }
}

fn progress(node: usize, bytes: u64, total: u64) -> NodeProgress {
    NodeProgress { pod: pod(node), bytes, bytes_total: total, files: 7, files_total: 21 }
}

fn summary() -> Summarised {
    let node = |number: usize| BackupNode {
        host: pod(number).as_str().into(),
        tokens: vec![i64::try_from(number).unwrap() * 100 - 100],
        datacenter: "dc1".into(),
        rack: "r1".into(),
    };
    Summarised {
        job: uid(),
        started: Some(noon()),
        finished: Some(noon()),
        total_nodes: 3,
        finished_nodes: 3,
        nodes: (0..3).map(node).collect(),
        files: 63,
        bytes: 130_734,
        complete: true,
    }
}

#[test]
fn nothing_is_said_before_there_is_something_to_say() {
    assert_eq!(Story::begun().status(), None);
}

#[test]
fn waiting() {
    let mut story = Story::begun();
    let queued = |reason, message: &str| Queued { job: uid(), reason, message: message.into() }.into();
    story.then(vec![queued(WaitReason::DatacenterNotFound, "no CassandraDatacenter \"dc1\" in namespace shop")]);
    let first = story.status().unwrap();
    story
        .after(TimeDelta::minutes(1))
        .then(vec![queued(WaitReason::SidecarNotReady, "the sidecar of pod x is not ready")]);
    let second = story.status().unwrap();
    assert_eq!(
        first.conditions[0].last_transition_time, second.conditions[0].last_transition_time,
        "it waits since the same moment, for something else"
    );
    insta::assert_yaml_snapshot!("waiting", (second, &story.said));
}

#[test]
fn running_with_progress() {
    let mut story = Story::running();
    story.then(vec![
        Progress { job: uid(), nodes: vec![progress(0, 400_000_000, 1_300_000_000), progress(1, 0, 1_100_000_000)] }
            .into(),
    ]);
    story.finish(2, Some(1_200_000_000));
    insta::assert_yaml_snapshot!("running", story.status().unwrap());
}

#[test]
fn complete_with_its_backup() {
    let mut story = Story::running();
    for node in 0..3 {
        story.finish(node, Some(50_000_000 * (node as u64 + 1)));
    }
    story.then(vec![
        OutcomeDecided { job: uid(), outcome: Outcome::Complete, message: "3 of 3 nodes complete".into() }.into(),
    ]);
    let closing = story.status().unwrap();
    assert_eq!((closing.finish_time, closing.message), (None, None), "not over before the summary is read");
    assert_eq!(closing.conditions[0].reason, "ReadingSummary");
    story.then(vec![summary().into(), Completed { job: uid(), message: "3 of 3 nodes complete".into() }.into()]);
    let backup = &story.dc().backups["nightly"];
    let object = backup_object("nightly", backup, &key()).unwrap();
    insta::assert_yaml_snapshot!("complete", (story.status().unwrap(), object, &story.said));
    // Once its object is there it looks the same.
    story.then(vec![ObjectCreated { job: uid(), uid: Uid::from("backup-uid"), foreign: false }.into()]);
    assert!(backup_object("nightly", &story.dc().backups["nightly"], &key()).is_some());
}

#[test]
fn complete_without_a_summary_says_so() {
    let mut story = Story::running();
    for node in 0..3 {
        story.finish(node, None);
    }
    story.end(Outcome::Complete, "3 of 3 nodes complete; its summary could not be read: no such bucket");
    let object = backup_object("nightly", &story.dc().backups["nightly"], &key()).unwrap();
    insta::assert_yaml_snapshot!("complete-without-summary", (story.status().unwrap(), object.status));
}

#[test]
fn failed_lost_retried_and_unanswered_nodes() {
    let mut story = Story::running();
    let failed = |node, attempt, retryable| {
        NodeFailed { job: uid(), pod: pod(node), attempt, reason: "the bucket refused a write".into(), retryable }
            .into()
    };
    story.then(vec![failed(0, 1, true)]);
    let unanswered = |serial| {
        NodeUnanswered {
            job: uid(),
            call: if serial == 1 { Call::Start(pod(1)) } else { Call::Resume(pod(1)) },
            attempt: 1,
            serial,
            epoch: Epoch(1),
            in_doubt: true,
            not_found: false,
            heard: None,
            error: "connection reset".into(),
        }
        .into()
    };
    story.then(vec![unanswered(1)]);
    let between = story.status().unwrap();
    story.then(vec![story.claim(1, 1, 2)]);
    story.then(vec![unanswered(2)]);
    assert_eq!(
        story.said.iter().filter(|said| said.contains("NodeUnanswered")).count(),
        1,
        "told once: {:?}",
        story.said
    );
    story.then(vec![story.claim(0, 2, 2)]);
    story.then(vec![failed(0, 2, false)]);
    story.then(vec![
        NodeLost { job: uid(), pod: pod(1), reason: "no answer for 10 minutes: connection reset".into() }.into(),
    ]);
    story.finish(2, Some(10));
    story.end(Outcome::Partial, "2 of 3 nodes failed; c-dc1-r1-sts-0: the bucket refused a write");
    assert!(story.dc().backups.is_empty(), "nothing to restore from");
    insta::assert_yaml_snapshot!("failed", (between, story.status().unwrap(), &story.said));
}

#[test]
fn stopped_on_the_way() {
    let mut story = Story::running();
    story.finish(0, Some(10));
    story.then(vec![
        OutcomeDecided { job: uid(), outcome: Outcome::Cancelled, message: "cancelled: wrong bucket".into() }.into(),
    ]);
    let stopping = story.status().unwrap();
    for node in [1, 2] {
        let reason = "the backup was cancelled".into();
        story.then(vec![NodeFailed { job: uid(), pod: pod(node), attempt: 1, reason, retryable: false }.into()]);
    }
    let message = "cancelled: wrong bucket; 1 of 3 nodes are complete";
    story.then(vec![Failed { job: uid(), outcome: Outcome::Cancelled, message: message.into() }.into()]);
    insta::assert_yaml_snapshot!("stopped", (stopping, story.status().unwrap(), &story.said));
}

#[test]
fn refused_without_a_start() {
    let mut story = Story::begun();
    story.end(Outcome::Refused, "refused after waiting 10 minutes: datacenter dc1 is stopped (spec.stopped): start it");
    insta::assert_yaml_snapshot!("refused", (story.status().unwrap(), &story.said));
}

fn adopted(finished: Option<Time>) -> Event {
    Adopted {
        kind: ObjectKind::MedusaBackupJob,
        uid: uid(),
        started: Some(noon()),
        finished,
        in_progress: if finished.is_some() { vec![] } else { vec![pod(1)] },
        finished_pods: vec![pod(0)],
        failed_pods: vec![],
    }
    .into()
}

#[test]
fn what_another_program_did_is_not_ours_to_describe() {
    let mut ended = Story::new();
    ended.then(vec![request().into(), adopted(Some(noon()))]);
    assert_eq!(ended.status(), None, "ended before the log began");
    assert_eq!(ended.said, Vec::<String>::new());

    let mut foreign = Story::new();
    foreign.then(vec![request().into(), adopted(None)]);
    assert_eq!(foreign.status(), None, "still run by another program");
    foreign.then(vec![NodeLost { job: uid(), pod: pod(1), reason: "no answer for 10 minutes".into() }.into()]);
    foreign.end(Outcome::Partial, "1 of 2 nodes failed; c-dc1-r1-sts-1: no answer for 10 minutes");
    insta::assert_yaml_snapshot!("foreign-ended", foreign.status().unwrap());
}

#[test]
fn an_existing_backup_stays_as_it_is() {
    let mut story = Story::running();
    for node in 0..3 {
        story.finish(node, None);
    }
    story.end(Outcome::Complete, "3 of 3 nodes complete");
    story.then(vec![ObjectCreated { job: uid(), uid: Uid::from("theirs"), foreign: true }.into()]);
    assert_eq!(backup_object("nightly", &story.dc().backups["nightly"], &key()), None);
    assert!(
        story.said.last().unwrap().contains("Warning MedusaBackupJob/nightly job-uid BackupExists"),
        "{:?}",
        story.said
    );
}

#[test]
fn a_frozen_datacenter_says_why_nothing_goes_on() {
    let mut story = Story::running();
    let before = story.status().unwrap();
    story.facts(vec![unknown_critical()]);
    let frozen = story.status().unwrap();
    assert_eq!((&before.nodes, &before.progress), (&frozen.nodes, &frozen.progress));
    insta::assert_yaml_snapshot!("frozen", (&frozen.conditions, &frozen.message));
}

/// As a newer build would write it.
fn unknown_critical() -> Fact {
    let stored = serde_json::json!({"type": "restore.imagined", "v": 9, "critical": true, "data": {}});
    serde_json::from_value(stored).unwrap()
}

#[test]
fn an_api_server_that_went_back_or_cannot_be_seen_holds_everything() {
    let story = Story::running();
    let dc = story.dc();
    let operation = dc.operation(&uid()).unwrap();
    let mut operator = Operator {
        api_backwards: Some(stheno_projections::operator::Backwards {
            message: 7,
            text: "the API server went back from resourceVersion 900 to 300 for MedusaBackupJob".into(),
        }),
        ..Operator::default()
    };
    let back = job_status(operation, dc, &operator).unwrap();
    operator.api_backwards = None;
    operator.unobservable.insert(ObjectKind::Pod, "the operator may not see objects of kind Pod".into());
    let unseen = job_status(operation, dc, &operator).unwrap();
    insta::assert_yaml_snapshot!("held", (&back.conditions, &back.message, &unseen.conditions, &unseen.message));
    // A job that has not started says so too, although it waits for nothing of its own.
    let waiting = Story::begun();
    let dc = waiting.dc();
    let status = job_status(dc.operation(&uid()).unwrap(), dc, &operator).unwrap();
    assert_eq!(status.message.as_deref(), Some("the operator may not see objects of kind Pod"));
}

#[test]
fn malformed_objects_and_summaries_are_announced_once() {
    let mut story = Story::running();
    story.then(vec![
        Malformed {
            kind: ObjectKind::MedusaBackupJob,
            uid: Uid::from("bad-uid"),
            name: "bad".into(),
            reason: "MedusaBackupJob shop/bad cannot be read: spec.cassandraDatacenter must be a text, it is a number"
                .into(),
        }
        .into(),
    ]);
    story.then(vec![
        OutcomeDecided { job: uid(), outcome: Outcome::Complete, message: "3 of 3 nodes complete".into() }.into(),
    ]);
    for attempt in 1..=2 {
        let error = "access denied".into();
        let failed = SummaryFailed { job: uid(), pod: pod(0), attempt, epoch: Epoch(1), error };
        let call = Call::Summary(pod(0));
        story.then(vec![EffectClaimed { job: uid(), call, attempt, serial: attempt, epoch: Epoch(1) }.into()]);
        story.then(vec![failed.into()]);
    }
    insta::assert_yaml_snapshot!("announced", &story.said);
    // Of an object that is there no more nothing is announced.
    let said = story.said.len();
    let gone = Gone { kind: ObjectKind::MedusaBackupJob, uid: uid(), name: "nightly".into(), inferred: false };
    story.then(vec![gone.into(), Completed { job: uid(), message: "3 of 3 nodes complete".into() }.into()]);
    assert_eq!(story.said.len(), said);
}

/// Times are whole seconds, and nothing is `null`: the API server would keep it.
#[test]
fn statuses_are_as_kubernetes_writes_them() {
    let story = Story::running();
    let text = serde_json::to_string(&story.status().unwrap()).unwrap();
    assert!(text.contains("\"startTime\":\"2026-03-01T12:00:02Z\""), "{text}");
    assert!(!text.contains("null"), "{text}");
    let _: DateTime<Utc> = "2026-03-01T12:00:02Z".parse().unwrap();
}
