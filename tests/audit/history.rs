//! What people read: the log, an object's life, the objects of a moment.

use crate::story::{Story, audit, dc, two_backups};
use insta::assert_snapshot;
use stheno_events::{Event, Fact, Process, examples};

#[tokio::test]
async fn the_log_reads_like_a_story() {
    assert_snapshot!(audit(&two_backups().source(), &["log"]).await.unwrap());
}

#[tokio::test]
async fn filters_all_have_to_fit() {
    let mut story = two_backups();
    let led = stheno_events::datacenter::Led { epoch: story.epoch, quiet_until: None };
    story.say(&dc("dc2"), Process::Observed, vec![led.into()]);
    let source = story.source();
    let lines = async |arguments: &[&str]| audit(&source, arguments).await.unwrap().lines().count() - 1;
    assert_eq!(lines(&["log", "--type", "backup.node_*"]).await, 9);
    assert_eq!(lines(&["log", "--type", "backup.node_started,observed.*"]).await, 13);
    assert_eq!(lines(&["log", "--type", "backup.node_*", "--from-sequence", "9"]).await, 5);
    assert_eq!(lines(&["log", "--type", "backup.node_*", "--from-sequence", "13", "--to-sequence", "15"]).await, 3);
    assert_eq!(lines(&["log", "--datacenter", "dc2"]).await, 1);
    assert_eq!(lines(&["log", "--namespace", "prod", "--datacenter", "dc1", "--type", "*.led"]).await, 1);
    assert_eq!(lines(&["log", "--namespace", "dev"]).await, 0);
    assert_eq!(lines(&["log", "--since", "2026-03-01T02:01Z", "--type", "backup.queued"]).await, 2);
    assert_eq!(lines(&["log", "--since", "100m", "--type", "backup.queued"]).await, 0);
}

/// A job is named in its first event only; the name is known to a reader who begins later.
#[tokio::test]
async fn a_late_reader_knows_the_names() {
    let text = audit(&two_backups().source(), &["log", "--from-sequence", "7", "--to-sequence", "7"]).await.unwrap();
    assert!(text.contains("job/nightly-1"), "{text}");
}

#[tokio::test]
async fn programs_read_stable_fields() {
    let source = two_backups().source();
    let text = audit(&source, &["log", "-o", "json", "--type", "backup.node_failed"]).await.unwrap();
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&text).unwrap());
    let yaml = audit(&source, &["log", "-o", "yaml", "--type", "backup.node_*"]).await.unwrap();
    let json = audit(&source, &["log", "-o", "json", "--type", "backup.node_*"]).await.unwrap();
    assert_eq!(
        serde_yaml_ng::from_str::<serde_json::Value>(&yaml).unwrap(),
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    );
    assert_eq!(audit(&source, &["log", "-o", "json", "--namespace", "none"]).await.unwrap(), "[]\n");
}

#[tokio::test]
async fn every_event_has_its_sentence() {
    let mut story = Story::new();
    for event in examples::all() {
        story.say(&dc("dc1"), Process::Backup, vec![event]).wait(1);
    }
    for critical in [true, false] {
        let fact = Fact::Unknown {
            name: "backup.teleported".into(),
            version: 7,
            critical,
            data: rmpv::Value::Map(vec![(rmpv::Value::from(1), rmpv::Value::Binary(vec![0, 255]))]),
        };
        let payload = story.envelope(&dc("dc1"), vec![fact]).encode().unwrap();
        story.append(&dc("dc1"), Process::Backup, payload).wait(1);
    }
    story.append(&dc("dc1"), Process::Backup, b"\xc1 not ours".to_vec()).wait(1);
    story.messages.push(("orders.new".into(), story.now, "{}".into()));
    let text = audit(&story.source(), &["log"]).await.unwrap();
    assert_eq!(text.lines().count(), 1 + Event::kinds().count() + 4);
    assert_snapshot!(text);
    let json = audit(&story.source(), &["log", "-o", "json", "--type", "*teleported"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["data"], serde_json::json!({"1": [0, 255]}));
}

#[tokio::test]
async fn objects_have_lives() {
    let source = two_backups().source();
    let show = async |kind, name| audit(&source, &["show", kind, name]).await.unwrap();
    assert_snapshot!("job_that_ended_well", show("medusabackupjob", "prod/nightly-1").await);
    assert_snapshot!("job_that_failed", show("jobs", "prod/nightly-2").await);
    assert_snapshot!("backup", show("MedusaBackup", "prod/nightly-1").await);
    assert_snapshot!("datacenter", show("cassdc", "prod/dc1").await);
    assert_snapshot!("pod", show("pods", "prod/c1-dc1-r2-sts-0").await);
    let json = audit(&source, &["show", "job", "prod/nightly-2", "-o", "json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = json.as_array().unwrap().last().unwrap();
    assert_eq!((&last["type"], &last["state"]), (&"backup.failed".into(), &"partial, not restorable".into()));
}

#[tokio::test]
async fn objects_as_they_stood() {
    let source = two_backups().source();
    let at = async |arguments: &[&str]| audit(&source, &[&["at"], arguments].concat()).await.unwrap();
    assert_snapshot!("jobs_in_the_middle", at(&["12", "medusabackupjobs"]).await);
    assert_snapshot!("everything_while_waiting", at(&["3"]).await);
    assert_snapshot!("one_backup", at(&["2026-03-01T03:00Z", "backup", "prod/nightly-1"]).await);
    assert_snapshot!("tables", at(&["2026-03-01T03:00Z", "-o", "text", "-n", "prod"]).await);
    assert_eq!(at(&["2026-03-01T03:00Z", "backups", "-n", "dev"]).await, "No objects.\n");
    let list: serde_json::Value = serde_json::from_str(&at(&["9", "-o", "json"]).await).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
}

/// One message of two facts: behind it both count, before it none.
#[tokio::test]
async fn a_moment_lies_behind_the_messages_at_it() {
    let story = two_backups();
    let source = story.source();
    let (_, time, _) = &story.messages[2];
    let at = audit(&source, &["at", &time.to_rfc3339(), "jobs"]).await.unwrap();
    assert!(at.contains("nightly-1"), "{at}");
    let before = (*time - chrono::TimeDelta::milliseconds(1)).to_rfc3339();
    assert_eq!(audit(&source, &["at", &before, "jobs"]).await.unwrap(), "No objects.\n");
}

#[tokio::test]
async fn what_changed_between_two_points() {
    let source = two_backups().source();
    let diff = async |arguments: &[&str]| audit(&source, &[&["diff"], arguments].concat()).await;
    let mut all = String::new();
    for points in [["2", "3"], ["4", "5"], ["7", "10"], ["10", "17"], ["17", "17"]] {
        all.push_str(&format!("$ stheno audit diff {}\n{}\n", points.join(" "), diff(&points).await.unwrap()));
    }
    assert_snapshot!("differences", all);
    assert_eq!(
        diff(&["5", "2"]).await.unwrap_err(),
        "the first point (message 5) lies behind the second (message 2): name the earlier one first"
    );
    let json = diff(&["4", "5", "-o", "json"]).await.unwrap();
    let differences: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(differences[0]["change"], "changed");
    assert_eq!(diff(&["1", "17", "-n", "dev"]).await.unwrap(), "0 objects changed between message 1 and message 17.\n");
}
