//! `audit why`: what a tired person reads at night, in at most 15 lines.

use crate::story::{Story, audit, dc, pod, pod_seen, start, two_backups, uid};
use chrono::TimeDelta;
use stheno_events::backup::{
    Call, EffectClaimed, Failed, NodeFailed, NodeFinished, NodeStarted, NodeUnanswered, Outcome, OutcomeDecided,
    Queued, SidecarKind, Started, WaitReason,
};
use stheno_events::datacenter::Led;
use stheno_events::observed::{
    BackupJob, BackupType, CatchUp, JobRules, Meta, Schedule, ScheduledOperation, Task, TaskOperation,
};
use stheno_events::schedule::{
    Accepted, MissReason, Missed, ObjectCreated, Postponed, Ran, RanLate, Rejected, Requested, SkipReason, Skipped,
};
use stheno_events::{Digest, Epoch, Event, Fact, PodName, Process, Time, Uid, task};

async fn why(story: &Story, name: &str) -> String {
    why_of(story, "job", name).await
}

async fn why_of(story: &Story, kind: &str, name: &str) -> String {
    let said = audit(&story.source(), &["why", kind, name]).await.unwrap();
    assert!(said.lines().count() <= 15, "{said}");
    said
}

fn asked_too(story: &mut Story, name: &str, job: u32) {
    let request = BackupJob {
        meta: Meta {
            uid: uid(job),
            name: name.into(),
            resource_version: "1".into(),
            generation: 1,
            created: story.now,
            deleting: None,
        },
        dc: "dc1".into(),
        backup_type: BackupType::Full,
        owned: true,
        schedule: None,
        rules: JobRules::default(),
        annotations: Default::default(),
    };
    let message = "waits for backup nightly-1 of the same datacenter".into();
    let queued = Queued { job: uid(job), reason: WaitReason::OperationRunning, message };
    story.say(&dc("dc1"), Process::Backup, vec![request.into(), queued.into()]).wait(5);
}

/// The second node does not answer any more, and is asked again by another leader.
fn changed_hands(story: &mut Story) {
    let unanswered = NodeUnanswered {
        job: uid(11),
        call: Call::Start("c1-dc1-r2-sts-0".into()),
        attempt: 1,
        serial: 1,
        epoch: story.epoch,
        in_doubt: true,
        not_found: false,
        heard: Some(story.now),
        error: "the connection broke during Watch: connection reset by peer".into(),
    };
    story.say(&dc("dc1"), Process::Backup, vec![unanswered.into()]).wait(9);
    story.epoch = Epoch(2);
    let led = Led { epoch: Epoch(2), quiet_until: None };
    let call = Call::Resume("c1-dc1-r2-sts-0".into());
    let claim = EffectClaimed { job: uid(11), call, attempt: 1, serial: 2, epoch: Epoch(2) };
    story.say(&dc("dc1"), Process::Backup, vec![led.into(), claim.into()]).wait(1);
}

#[tokio::test]
async fn a_tired_person_reads_why() {
    let mut all = String::new();
    let mut tell = async |title: &str, story: &Story, name: &str| {
        all.push_str(&format!("# {title}\n{}\n", why(story, name).await));
    };
    tell("it ended well", &two_backups(), "prod/nightly-1").await;
    tell("one node of two failed: wrong credentials", &two_backups(), "prod/nightly-2").await;
    let mut story = Story::new();
    story.opening().asked("nightly-1", 11);
    tell("a sidecar is not ready", &story, "prod/nightly-1").await;
    story.started(11);
    tell("it runs", &story, "prod/nightly-1").await;
    asked_too(&mut story, "weekly", 12);
    tell("it waits behind another", &story, "prod/weekly").await;
    changed_hands(&mut story);
    tell("the operator changed hands in the middle", &story, "prod/nightly-1").await;
    let fact = Fact::Unknown { name: "backup.teleported".into(), version: 2, critical: true, data: rmpv::Value::Nil };
    let payload = story.envelope(&dc("dc1"), vec![fact]).encode().unwrap();
    story.append(&dc("dc1"), Process::Backup, payload);
    tell("a newer build wrote here", &story, "prod/weekly").await;
    insta::assert_snapshot!("why", all);
}

fn task_asked(story: &Story, name: &str, uid: Uid, operation: TaskOperation) -> Event {
    let meta = Meta {
        uid,
        name: name.into(),
        resource_version: "1".into(),
        generation: 1,
        created: story.now,
        deleting: None,
    };
    let (backup, restore_key, owned) = (None, None, false);
    let (labels, annotations) = Default::default();
    Task { meta, dc: "dc1".into(), operation, backup, restore_key, owned, labels, annotations }.into()
}

/// A purge of which one node failed, and the sync that follows it and would remove much.
fn purged() -> Story {
    let (mut story, purge, sync) = (Story::new(), uid(31), uid(32));
    let pods = ["c1-dc1-r1-sts-0", "c1-dc1-r2-sts-0"].map(PodName::from);
    story.opening();
    let claim = |task: &Uid, call: task::Call| -> Event {
        task::EffectClaimed { task: task.clone(), call, attempt: 1, serial: 1, epoch: Epoch(1) }.into()
    };
    let events = vec![
        task_asked(&story, "weekly", purge.clone(), TaskOperation::Purge),
        task::Started { task: purge.clone(), nodes: pods.to_vec() }.into(),
        claim(&purge, task::Call::Purge(pods[0].clone())),
        claim(&purge, task::Call::Purge(pods[1].clone())),
    ];
    story.say(&dc("dc1"), Process::Task, events).wait(30);
    let counted = task::Purged { backups: 1, objects: 40, bytes: 1_288_490_188, within_grace: 3 };
    let (task, pod) = (purge.clone(), pods[0].clone());
    let done = task::NodeFinished { task, pod, attempt: 1, purged: Some(counted) };
    let reason = "PurgeBackups failed: the bucket answers 403: AccessDenied".into();
    let (task, pod) = (purge.clone(), pods[1].clone());
    let failed = task::NodeFailed { task, pod, attempt: 1, reason, retryable: false };
    let message = "1 of 2 nodes failed; c1-dc1-r2-sts-0: the bucket answers 403: AccessDenied".into();
    let events = vec![
        done.into(),
        failed.into(),
        task::SyncRequested { task: purge.clone(), name: "weekly-sync".into() }.into(),
        task::Failed { task: purge, outcome: stheno_events::backup::Outcome::Partial, message }.into(),
    ];
    story.say(&dc("dc1"), Process::Task, events).wait(1);
    let events = vec![
        task_asked(&story, "weekly-sync", sync.clone(), TaskOperation::Sync),
        task::Started { task: sync.clone(), nodes: Vec::new() }.into(),
        claim(&sync, task::Call::List(pods[0].clone())),
    ];
    story.say(&dc("dc1"), Process::Task, events).wait(2);
    let listed = task::Listed {
        task: sync.clone(),
        pod: pods[0].clone(),
        serial: 1,
        epoch: Epoch(1),
        page: 0,
        last: true,
        digest: Digest::of(b"nothing"),
        total: 9,
        ours: 0,
        found: Vec::new(),
        missing: vec!["nightly-1".into(), "nightly-2".into()],
    };
    let needed = task::ApprovalNeeded {
        task: sync,
        token: "3f0a7c11d2b54e90".into(),
        removes: 2,
        known: 2,
        names: vec!["nightly-1".into(), "nightly-2".into()],
        message: "2 of 2 known backups are not in the bucket".into(),
    };
    story.say(&dc("dc1"), Process::Task, vec![listed.into(), needed.into()]).wait(5);
    story
}

#[tokio::test]
async fn of_a_task_too() {
    let story = purged();
    let mut all = String::new();
    for name in ["prod/weekly", "prod/weekly-sync"] {
        for verb in ["why", "show"] {
            let said = audit(&story.source(), &[verb, "task", name]).await.unwrap();
            all.push_str(&format!("# {verb} {name}\n{said}\n"));
        }
    }
    insta::assert_snapshot!("why_task", all);
    let unknown = audit(&story.source(), &["why", "medusatask", "prod/weekl"]).await.unwrap_err();
    assert_eq!(unknown, "the log has never met MedusaTask prod/weekl; similar: prod/weekly, prod/weekly-sync");
}

#[tokio::test]
async fn what_it_is_not_asked_for() {
    let story = two_backups();
    let said = async |kind, name| audit(&story.source(), &["why", kind, name]).await.unwrap_err();
    assert_eq!(
        said("job", "prod/nightly-3").await,
        "the log has never met MedusaBackupJob prod/nightly-3; similar: prod/nightly-1, prod/nightly-2"
    );
    assert!(said("pod", "prod/c1-dc1-r1-sts-0").await.starts_with("nothing is decided about a Pod"));
    let json = audit(&story.source(), &["why", "backup", "prod/nightly-1", "-o", "json"]).await.unwrap();
    let lines: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(lines[0]["about"], "asked");
    assert_eq!(lines[0]["sequence"], 3);
}

/// Every kind of event may lie between.
#[tokio::test]
async fn whatever_lies_between() {
    let mut story = two_backups();
    for event in stheno_events::examples::all() {
        story.say(&dc("dc1"), Process::Backup, vec![event]);
    }
    why(&story, "prod/nightly-2").await;
}

fn asked(story: &Story, name: &str, job: u32) -> BackupJob {
    let meta = Meta {
        uid: uid(job),
        name: name.into(),
        resource_version: "1".into(),
        generation: 1,
        created: story.now,
        deleting: None,
    };
    let (backup_type, annotations) = (BackupType::Full, Default::default());
    let rules = JobRules::default();
    BackupJob { meta, dc: "dc1".into(), backup_type, rules, owned: false, schedule: None, annotations }
}

/// A pod without the container.
fn without_sidecar() -> Story {
    let mut story = Story::new();
    story.opening();
    let mut second = pod_seen(2, true);
    second.sidecar = None;
    let message = "pod c1-dc1-r2-sts-0 has no container \"medusa\": add the medusa section to the cluster".into();
    let queued = Queued { job: uid(11), reason: WaitReason::SidecarMissing, message };
    let request = asked(&story, "nightly-1", 11);
    story.say(
        &dc("dc1"),
        Process::Backup,
        vec![request.into(), pod_seen(1, true).into(), second.into(), queued.into()],
    );
    story
}

/// Three nodes are called; the third one as `third` says.
fn three(third: impl Fn(&mut Story) -> Vec<Event>) -> Story {
    let mut story = Story::new();
    story.opening();
    let nodes: Vec<_> = (1..=3).map(pod).collect();
    let mut events: Vec<Event> = vec![asked(&story, "nightly-1", 11).into()];
    events.extend((1..=3).map(|number| Event::from(pod_seen(number, true))));
    events.push(Started { job: uid(11), nodes: nodes.clone() }.into());
    events.extend(nodes.iter().map(|pod| {
        let (job, call) = (uid(11), Call::Start(pod.clone()));
        EffectClaimed { job, call, attempt: 1, serial: 1, epoch: Epoch(1) }.into()
    }));
    story.say(&dc("dc1"), Process::Backup, events).wait(1);
    let accepted = nodes
        .iter()
        .take(2)
        .map(|pod| NodeStarted { job: uid(11), pod: pod.clone(), attempt: 1, sidecar: SidecarKind::Stheno }.into());
    let accepted = accepted.collect();
    story.say(&dc("dc1"), Process::Backup, accepted).wait(1);
    let events = third(&mut story);
    story.say(&dc("dc1"), Process::Backup, events);
    story
}

/// Nothing listens there.
fn unreachable() -> Story {
    three(|story| {
        let unanswered = NodeUnanswered {
            job: uid(11),
            call: Call::Start(pod(3)),
            attempt: 1,
            serial: 1,
            epoch: story.epoch,
            in_doubt: false,
            not_found: false,
            heard: None,
            error: "no connection to 10.0.0.3:50051: connection refused".into(),
        };
        vec![unanswered.into()]
    })
}

/// One of three cannot write.
fn one_of_three() -> Story {
    three(|story| {
        let reason = "cannot copy data/orders/nb-1-big-Data.db to the bucket: no space left on device";
        let message = format!("1 of 3 nodes failed; c1-dc1-r3-sts-0: {reason}");
        let done = |number| {
            let (bytes, files, reused) = (Some(1 << 30), Some(40), Some(0));
            Event::from(NodeFinished { job: uid(11), pod: pod(number), attempt: 1, bytes, files, reused })
        };
        story.wait(60);
        vec![
            done(1),
            done(2),
            NodeFailed { job: uid(11), pod: pod(3), attempt: 1, reason: reason.into(), retryable: false }.into(),
            OutcomeDecided { job: uid(11), outcome: Outcome::Partial, message: message.as_str().into() }.into(),
            Failed { job: uid(11), outcome: Outcome::Partial, message: message.into() }.into(),
        ]
    })
}

#[tokio::test]
async fn what_goes_wrong_with_nodes() {
    let mut all = String::new();
    for (title, story) in [
        ("a pod without sidecar", without_sidecar()),
        ("a sidecar is not reachable", unreachable()),
        ("one node of three failed", one_of_three()),
    ] {
        all.push_str(&format!("# {title}\n{}\n", why(&story, "prod/nightly-1").await));
    }
    insta::assert_snapshot!("why_nodes", all);
}

/// The slot of an hour of the day.
fn slot(hour: i64) -> Time {
    start() + TimeDelta::hours(hour - 2)
}

fn hourly() -> Uid {
    uid(21)
}

fn requested(hour: i64) -> Requested {
    let name = format!("hourly-{}", slot(hour).timestamp()).into();
    let (operation, backup_type, rules) = (ScheduledOperation::Backup, BackupType::Full, JobRules::default());
    Requested { name, operation, dc: "dc1".into(), backup_type, rules }
}

/// A schedule whose first time, at three, runs.
fn scheduled() -> Story {
    let mut story = Story::new();
    story.opening();
    let request = schedule(&story, "0 * * * *", false);
    let accepted = Accepted { schedule: hourly(), generation: 1, next: Some(slot(3)) };
    story.say(&dc("dc1"), Process::Schedule, vec![request.into(), accepted.into()]);
    story.now = slot(3);
    let ran = Ran { schedule: hourly(), slot: slot(3), object: requested(3), next: Some(slot(4)) };
    story.say(&dc("dc1"), Process::Schedule, vec![ran.into()]).wait(1);
    let created = ObjectCreated { schedule: hourly(), name: requested(3).name, uid: uid(31), foreign: false };
    let mut job = asked(&story, &requested(3).name, 31);
    job.schedule = Some(hourly());
    let started = Started { job: uid(31), nodes: vec![pod(1), pod(2)] };
    story.say(&dc("dc1"), Process::Schedule, vec![created.into(), job.into(), started.into()]);
    story
}

fn schedule(story: &Story, cron: &str, suspended: bool) -> Schedule {
    Schedule {
        meta: asked(story, "hourly", 21).meta,
        dc: "dc1".into(),
        backup_type: BackupType::Full,
        rules: JobRules::default(),
        cron: cron.into(),
        time_zone: Some("Europe/Berlin".into()),
        suspended,
        operation: ScheduledOperation::Backup,
        concurrency: Some("Forbid".into()),
        catch_up: CatchUp::Latest,
        starting_deadline: None,
        keep_complete: None,
        keep_failed: None,
        owned: false,
    }
}

/// The time at four waits.
fn postponed(story: &mut Story) {
    story.now = slot(4);
    let message = format!("waits for backup {} of the same datacenter", requested(3).name).into();
    let postponed = Postponed { schedule: hourly(), slot: slot(4), until: Some(slot(5)), message };
    story.say(&dc("dc1"), Process::Schedule, vec![postponed.into()]);
}

#[tokio::test]
async fn a_tired_person_reads_why_of_a_schedule() {
    let mut all = String::new();
    let mut tell = async |title: &str, story: &Story| {
        all.push_str(&format!("# {title}\n{}\n", why_of(story, "schedule", "prod/hourly").await));
    };
    let mut story = scheduled();
    tell("its last backup runs", &story).await;
    postponed(&mut story);
    tell("a time waits", &story).await;
    story.now = slot(5);
    let (first, reason, next) = (slot(4), SkipReason::OperationRunning, Some(slot(5)));
    let skipped = Skipped { schedule: hourly(), first, last: first, count: 1, reason, next };
    story.say(&dc("dc1"), Process::Schedule, vec![skipped.into()]);
    tell("a time was skipped: Forbid", &story).await;

    let mut story = scheduled();
    story.now = slot(8) + TimeDelta::minutes(5);
    story.epoch = Epoch(2);
    let led = Led { epoch: Epoch(2), quiet_until: None };
    let (first, last, reason, next) = (slot(4), slot(7), MissReason::Superseded, Some(slot(8)));
    let missed = Missed { schedule: hourly(), first, last, count: 4, reason, next };
    let late = RanLate { schedule: hourly(), slot: slot(8), object: requested(8), next: Some(slot(9)) };
    story.say(&dc("dc1"), Process::Schedule, vec![led.into(), missed.into(), late.into()]);
    tell("times were missed while the operator was down", &story).await;
    let (slot, object) = (slot(9), requested(9));
    story.now = slot;
    let ran = Ran { schedule: hourly(), slot, object, next: None };
    let edited = schedule(&story, "0 0 30 2 *", false);
    story.say(&dc("dc1"), Process::Schedule, vec![ran.into(), edited.into()]);
    let accepted = Accepted { schedule: hourly(), generation: 1, next: None };
    story.say(&dc("dc1"), Process::Schedule, vec![accepted.into()]);
    tell("it never comes again", &story).await;
    let edited = schedule(&story, "whenever", false);
    let message = "spec.cronSchedule: 1 fields where five are needed".into();
    let rejected = Rejected { schedule: hourly(), generation: 2, message };
    story.say(&dc("dc1"), Process::Schedule, vec![edited.into(), rejected.into()]);
    tell("it cannot be followed", &story).await;
    let edited = schedule(&story, "0 * * * *", true);
    let accepted = Accepted { schedule: hourly(), generation: 3, next: Some(slot + TimeDelta::hours(1)) };
    story.say(&dc("dc1"), Process::Schedule, vec![edited.into(), accepted.into()]);
    tell("it is suspended", &story).await;
    insta::assert_snapshot!("why_schedule", all);
    assert_eq!(
        audit(&story.source(), &["why", "schedule", "prod/hourli"]).await.unwrap_err(),
        "the log has never met MedusaBackupSchedule prod/hourli; similar: prod/hourly"
    );
}
