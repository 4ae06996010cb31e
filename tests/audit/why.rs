//! `audit why`: what a tired person reads at night, in at most 15 lines.

use crate::story::{Story, audit, dc, two_backups, uid};
use stheno_events::backup::{Call, EffectClaimed, NodeUnanswered, Queued, WaitReason};
use stheno_events::datacenter::Led;
use stheno_events::observed::{BackupJob, BackupType, Meta};
use stheno_events::{Epoch, Fact, Process};

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
