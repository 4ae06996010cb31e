//! `audit verify` finds what was changed, at the message where it was changed.

use crate::story::{Story, audit, dc, two_backups, uid};
use bytes::Bytes;
use stheno::audit::verify::{Fault, Report, verify};
use stheno_events::backup::Completed;
use stheno_events::datacenter::Led;
use stheno_events::{Envelope, Epoch, Fact, Process};

async fn report(story: &Story) -> Report {
    verify(&story.source()).await.unwrap()
}

async fn fault(story: &Story) -> Fault {
    report(story).await.fault.expect("a fault")
}

fn edit(payload: &Bytes, change: impl FnOnce(&mut Envelope)) -> Bytes {
    let mut envelope = Envelope::decode(payload).unwrap();
    change(&mut envelope);
    envelope.encode().unwrap().into()
}

#[tokio::test]
async fn a_whole_log_is_whole() {
    let story = two_backups();
    let report = report(&story).await;
    assert_eq!((report.messages, report.last, report.aggregates, report.fault), (17, 17, 2, None));
    let said = audit(&story.source(), &["verify"]).await.unwrap();
    assert_eq!(said, "The log is whole: 17 messages up to 17 with 38 events in 2 aggregates.\n");
}

/// Whoever edits a message makes its successor name another one; whoever edits only the name of the predecessor is
/// told from that by the message behind.
#[tokio::test]
async fn an_edited_message_is_named_exactly() {
    // The first two lie at the beginnings of their aggregates, the last one is confirmed by nobody.
    for target in 2..16 {
        let mut story = two_backups();
        let payload = &mut story.messages[target].2;
        *payload = edit(payload, |envelope| envelope.by = "somebody else".into());
        let fault = fault(&story).await;
        assert_eq!(fault.sequence, target as u64 + 1, "{}", fault.what);
    }
    for target in 3..16 {
        let mut story = two_backups();
        let payload = &mut story.messages[target].2;
        *payload = edit(payload, |envelope| envelope.prev = Some(stheno_events::Digest::of(b"another")));
        let fault = fault(&story).await;
        assert_eq!(fault.sequence, target as u64 + 1, "{}", fault.what);
    }
}

#[tokio::test]
async fn swapped_and_dropped_and_doubled_messages() {
    for target in 2..16 {
        let mut story = two_backups();
        story.messages.swap(target, target + 1 - usize::from(target == 16));
        assert_eq!(fault(&story).await.sequence, target as u64 + 1);

        let mut story = two_backups();
        let doubled = story.messages[target].clone();
        story.messages.insert(target, doubled);
        let sequence = fault(&story).await.sequence;
        assert!((target as u64 + 1..=target as u64 + 2).contains(&sequence), "{sequence} for {target}");
    }
    // Dropped with the sequences closed up, as a forger would.
    for target in 2..16 {
        let mut story = two_backups();
        story.messages.remove(target);
        let sequence = fault(&story).await.sequence;
        assert!((target as u64..=target as u64 + 1).contains(&sequence), "{sequence} for {target}");
    }
}

#[tokio::test]
async fn what_no_lawful_writer_writes() {
    let what = async |change: &dyn Fn(&mut Story)| {
        let mut story = two_backups();
        change(&mut story);
        fault(&story).await
    };
    let append = |story: &mut Story, change: &dyn Fn(&mut Envelope)| {
        let led = Led { epoch: story.epoch, quiet_until: None };
        let mut envelope = story.envelope(&dc("dc1"), vec![led.into()]);
        change(&mut envelope);
        story.append(&dc("dc1"), Process::Backup, envelope.encode().unwrap());
    };
    let backwards = what(&|story| append(story, &|e| e.at -= chrono::TimeDelta::hours(9))).await;
    assert_eq!(backwards.sequence, 18);
    assert!(backwards.what.contains("lies before that of message 17"), "{}", backwards.what);

    let prophetic = what(&|story| append(story, &|e| e.seen = 18)).await;
    assert_eq!(prophetic.what, "its writer claims to have seen the log up to 18");

    let blind = what(&|story| append(story, &|e| e.seen = 3)).await;
    assert_eq!(blind.what, "its writer had seen the log up to 3 only, not message 17");

    let former = what(&|story| {
        append(story, &|e| e.epoch = Epoch(2));
        append(story, &|e| e.epoch = Epoch(1));
    })
    .await;
    assert_eq!(
        (former.sequence, former.what.as_str()),
        (19, "the leader of term 1 wrote it after that of term 2 had taken over")
    );

    let misplaced = what(&|story| append(story, &|e| e.dc = "dc2".into())).await;
    assert_eq!(misplaced.what, "it lies in another aggregate than it speaks of (prod/dc2)");

    let after_the_end = what(&|story| {
        let completed = Completed { job: uid(12), message: "after all".into() };
        story.say(&dc("dc1"), Process::Backup, vec![completed.into()]);
    })
    .await;
    assert_eq!(after_the_end.what, "it breaks a law: backup.completed cannot follow what came before");

    let stored = what(&|story| {
        append(story, &|_| {});
        story.messages[17].1 -= chrono::TimeDelta::hours(9);
    })
    .await;
    assert!(stored.what.starts_with("it was stored at "), "{}", stored.what);

    let foreign = what(&|story| story.messages[7].0 = "orders.new".into()).await;
    assert_eq!((foreign.sequence, foreign.what.as_str()), (8, "its subject orders.new is none of this log's"));

    let unreadable = what(&|story| {
        story.append(&dc("dc1"), Process::Backup, b"\xc1".to_vec());
    })
    .await;
    assert_eq!((unreadable.sequence, unreadable.what.as_str()), (18, "the payload is not an envelope of this log"));
}

#[tokio::test]
async fn events_of_a_newer_build_are_no_fault() {
    let mut story = two_backups();
    let fact = Fact::Unknown { name: "backup.new".into(), version: 1, critical: true, data: rmpv::Value::Nil };
    let payload = story.envelope(&dc("dc1"), vec![fact]).encode().unwrap();
    story.append(&dc("dc1"), Process::Backup, payload);
    let said = audit(&story.source(), &["verify"]).await.unwrap();
    assert!(said.ends_with("1 event of other versions of stheno cannot be judged by this one.\n"), "{said}");
}

#[tokio::test]
async fn programs_get_the_fault_too() {
    let mut story = two_backups();
    story.messages[4].2 = edit(&story.messages[4].2.clone(), |envelope| envelope.by = "somebody".into());
    let error = audit(&story.source(), &["verify", "-o", "json"]).await.unwrap_err();
    assert_eq!(
        error,
        "the log is at fault at message 5: it was changed: message 6 names another one as its predecessor"
    );
}
