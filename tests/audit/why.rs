//! `audit why`: what a tired person reads at night, in at most 15 lines.

use crate::story::{Story, audit, dc, two_backups, uid};
use stheno_events::backup::{Call, EffectClaimed, NodeUnanswered, Queued, WaitReason};
use stheno_events::datacenter::Led;
use stheno_events::observed::{BackupJob, BackupType, JobRules, Meta, Task, TaskOperation};
use stheno_events::{Digest, Epoch, Event, Fact, PodName, Process, Uid, task};

async fn why(story: &Story, name: &str) -> String {
    let said = audit(&story.source(), &["why", "job", name]).await.unwrap();
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
