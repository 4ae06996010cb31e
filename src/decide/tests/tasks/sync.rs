//! Syncs: what the bucket holds is taken in, corrected and let go; what would remove much asks first.

use crate::scenario::{Scenario, at, pod};
use std::sync::Arc;
use stheno_decide::{Call, Effect, policy};
use stheno_events::backup::BackupNode;
use stheno_events::observed::{self, BackupType, ObjectKind, TaskOperation};
use stheno_events::task::{self, Completeness, Found, Listed};
use stheno_events::{Digest, Event};
use stheno_projections::datacenter::Object;
use stheno_projections::status::backup_object;

fn found(name: &str) -> Found {
    let host = pod(0).meta.name;
    Found {
        name: name.into(),
        backup_type: BackupType::Full,
        started: Some(at(-100)),
        finished: Some(at(-50)),
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![BackupNode { host, tokens: vec![1], datacenter: "dc1".into(), rack: "r1".into() }],
        files: 3,
        bytes: 130_734,
        completeness: Completeness::Complete,
    }
}

/// The listing that is asked for comes in.
fn listed(scenario: &mut Scenario, ours: u64, found: Vec<Found>, missing: &[&str]) {
    let listing = |effect: &Effect| matches!(effect.key.call, Call::Task(task::Call::List(_)));
    let effect = scenario.effects().into_iter().find(listing).expect("a listing is asked for");
    let Call::Task(call) = &effect.key.call else { panic!("{:?}", effect.key) };
    let names: Vec<Arc<str>> = missing.iter().map(|name| Arc::from(*name)).collect();
    let digest = Digest::of(format!("{ours} {names:?}").as_bytes());
    scenario.and(Listed {
        task: effect.key.job,
        pod: call.pod().clone(),
        serial: effect.key.serial,
        epoch: effect.key.epoch,
        page: 0,
        last: true,
        digest,
        total: ours + 2,
        ours,
        found,
        missing: names,
    });
}

fn syncing(known: &[&str]) -> Scenario {
    let mut scenario = Scenario::ready();
    known.iter().for_each(|name| scenario.foreign(name));
    scenario.asks("look", TaskOperation::Sync);
    scenario.then();
    scenario
}

#[test]
fn a_sync_asks_one_pod_takes_in_corrects_and_lets_go() {
    let mut scenario = Scenario::ready();
    ["stale", "lost", "same"].iter().for_each(|name| scenario.foreign(name));
    scenario.asks("look", TaskOperation::Sync);
    insta::assert_yaml_snapshot!(scenario.then());
    assert_eq!(scenario.called().len(), 1);
    insta::assert_yaml_snapshot!("a_sync_on_its_way", scenario.status("look"));
    listed(&mut scenario, 3, vec![found("new"), found("stale")], &["lost"]);
    insta::assert_yaml_snapshot!(scenario.when(5).then());
    insta::assert_yaml_snapshot!("a_sync_that_is_done", scenario.status("look"));

    // The new one is to be created, and says what the bucket says; so does the one that said nothing that counts.
    let key = stheno_events::DcKey::new("prod", "dc1");
    let object = |name: &str| backup_object(name, &scenario.dc.backups[name], &key).unwrap();
    insta::assert_yaml_snapshot!("what_a_sync_creates", serde_json::to_value(object("new")).unwrap());
    assert_eq!(scenario.dc.backups["new"].object, Object::Wanted);
    assert_eq!(scenario.dc.backups["stale"].object, Object::Ours { uid: "object-stale".into() });
    assert_eq!(object("stale").status.unwrap().total_size.as_deref(), Some("127.67 KB"));
    // The lost one is to be deleted; seen as long as it is there, it does not come back.
    assert!(!scenario.dc.backups.contains_key("lost"));
    assert_eq!(scenario.dc.removals[&"object-lost".into()].kind, ObjectKind::MedusaBackup);
    let gone = observed::Gone {
        kind: ObjectKind::MedusaBackup,
        uid: "object-lost".into(),
        name: "lost".into(),
        inferred: false,
    };
    scenario.and(gone);
    assert!(scenario.dc.removals.is_empty());
}

#[test]
fn what_is_not_whole_is_nobodys_backup_and_what_became_so_says_it() {
    let mut scenario = syncing(&["broken"]);
    let broken = Found { completeness: Completeness::Unfinished, finished_nodes: 0, ..found("broken") };
    let begun = Found { completeness: Completeness::Unfinished, ..found("begun") };
    listed(&mut scenario, 2, vec![broken, begun], &[]);
    let said = scenario.then();
    assert_eq!(said[0], "task.reconciled created [] corrected [\"broken\"] removed []");
    let key = stheno_events::DcKey::new("prod", "dc1");
    let object = backup_object("broken", &scenario.dc.backups["broken"], &key).unwrap();
    assert_eq!(object.status.unwrap().status.as_deref(), Some("IN_PROGRESS"));
    assert!(!scenario.dc.backups.contains_key("begun"));
}

#[test]
fn three_may_go_unasked_and_a_fifth_of_many() {
    for (known, missing, asks) in [(5, 3, false), (5, 4, true), (30, 6, false), (30, 7, true)] {
        let names: Vec<String> = (0..known).map(|number| format!("b{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut scenario = syncing(&names);
        listed(&mut scenario, known - missing, Vec::new(), &names[..usize::try_from(missing).unwrap()]);
        let said = scenario.then();
        assert_eq!(said[0].starts_with("task.approval_needed"), asks, "{missing} of {known}: {said:?}");
        assert_eq!(scenario.dc.removals.len() as u64, if asks { 0 } else { missing });
    }
}

/// Contract, section 5, 6: an empty listing (a wrong prefix) deleted every MedusaBackup of the datacenter.
#[test]
fn an_empty_listing_removes_nothing_until_a_person_consents_to_it() {
    let mut scenario = Scenario::ready();
    ["one", "two"].iter().for_each(|name| scenario.foreign(name));
    let task = scenario.asks("look", TaskOperation::Sync);
    scenario.then();
    listed(&mut scenario, 0, Vec::new(), &["one", "two"]);
    let said = scenario.then();
    assert_eq!(said.len(), 1);
    insta::assert_yaml_snapshot!("a_sync_that_needs_approval", scenario.status("look"));
    assert!(scenario.when(86_400).then().is_empty() && scenario.effects().is_empty(), "it waits, and asks once");
    assert_eq!((scenario.dc.backups.len(), scenario.dc.removals.len()), (2, 0));

    let token = scenario.task("look").approval.clone().unwrap().token;
    scenario.approves(&task, "another");
    assert!(scenario.then().is_empty(), "a consent to something else is none");
    scenario.approves(&task, &token);
    // The bucket is looked at again: it may have been mended meanwhile.
    let said = scenario.then();
    assert!(said.len() == 1 && said[0].contains("List("), "{said:?}");
    let mut mended = Scenario { dc: scenario.dc.clone(), ..Scenario::ready() };
    mended.now = scenario.now;
    listed(&mut scenario, 0, Vec::new(), &["one", "two"]);
    let said = scenario.then();
    assert_eq!(said[0], "task.reconciled created [] corrected [] removed [\"one\", \"two\"]");
    assert!(said[1].starts_with("task.completed"));
    assert_eq!(scenario.dc.removals.len(), 2);

    listed(&mut mended, 2, Vec::new(), &[]);
    assert!(mended.then()[0].starts_with("task.completed"));
    assert_eq!(mended.dc.backups.len(), 2, "nothing is missing any more");
}

#[test]
fn a_listing_of_something_else_asks_anew() {
    let names = ["a", "b", "c", "d", "e"];
    let mut scenario = Scenario::ready();
    names.iter().for_each(|name| scenario.foreign(name));
    let task = scenario.asks("look", TaskOperation::Sync);
    scenario.then();
    listed(&mut scenario, 1, Vec::new(), &names[..4]);
    scenario.then();
    let token = scenario.task("look").approval.clone().unwrap().token;
    scenario.approves(&task, &token);
    scenario.when(3_600).then();
    listed(&mut scenario, 0, Vec::new(), &names);
    let said = scenario.then();
    assert!(said[0].starts_with("task.approval_needed") && !said[0].contains(&*token), "{said:?}");
    assert_eq!(scenario.dc.backups.len(), 5);
}

#[test]
fn a_backup_that_is_being_made_is_left_to_its_job() {
    let mut scenario = Scenario::ready();
    scenario.foreign("nightly");
    scenario.job("nightly");
    scenario.then();
    scenario.asks("look", TaskOperation::Sync);
    scenario.then();
    listed(&mut scenario, 1, Vec::new(), &["nightly"]);
    let said = scenario.then();
    assert!(said.iter().all(|said| !said.contains("reconciled")), "{said:?}");
    assert!(scenario.dc.backups.contains_key("nightly"));
}

#[test]
fn the_job_of_a_backup_that_the_bucket_lost_goes_with_it() {
    let mut scenario = Scenario::ready();
    scenario.job("nightly");
    scenario.then();
    scenario.when(10).job_ends("nightly");
    scenario.then();
    ["other", "more"].iter().for_each(|name| scenario.foreign(name));
    scenario.asks("look", TaskOperation::Sync);
    scenario.then();
    listed(&mut scenario, 2, Vec::new(), &["nightly"]);
    scenario.then();
    let kinds: Vec<ObjectKind> = scenario.dc.removals.values().map(|removal| removal.kind).collect();
    assert_eq!(kinds, [ObjectKind::MedusaBackupJob], "its MedusaBackup was never created");
    assert!(scenario.dc.removals.contains_key(&"uid-nightly".into()));
}

#[test]
fn another_pod_is_asked_when_one_cannot_list_and_none_for_ever() {
    let mut scenario = syncing(&["one"]);
    let mut asked = Vec::new();
    let mut now = 0;
    while scenario.task("look").running() {
        asked.extend(scenario.called());
        if !scenario.called().is_empty() {
            let index = scenario.called()[0].rsplit('-').next().unwrap().parse().unwrap();
            scenario.breaks(index, false, None);
        }
        now += 1;
        scenario.when(now).then();
    }
    assert_eq!(now, policy::LISTING_DEADLINE.num_seconds());
    let pods: Vec<&str> = asked.iter().map(|pod| pod.rsplit('-').next().unwrap()).take(4).collect();
    assert_eq!(pods, ["0", "1", "2", "0"]);
    insta::assert_yaml_snapshot!("a_sync_without_a_listing", scenario.status("look"));
    assert_eq!(scenario.dc.backups.len(), 1);
}

#[test]
fn pages_count_in_order_and_only_once_they_are_all_there() {
    let mut scenario = syncing(&["one"]);
    let effect = scenario.effects().remove(0);
    let page = |page: u32, last: bool, found: Vec<Found>| Listed {
        task: effect.key.job.clone(),
        pod: effect.key.call.pod().clone(),
        serial: effect.key.serial,
        epoch: effect.key.epoch,
        page,
        last,
        digest: Digest::of(b"all"),
        total: 3,
        ours: 3,
        found,
        missing: Vec::new(),
    };
    scenario.and(page(0, false, vec![found("a")]));
    assert!(scenario.then().is_empty());
    scenario.and(page(2, true, vec![found("c")]));
    assert!(scenario.then().is_empty(), "a page is missing");
    scenario.and(page(1, false, vec![found("b")]));
    scenario.and(page(2, true, vec![found("c")]));
    // Repeated, it changes nothing.
    scenario.and(page(2, true, vec![found("d")]));
    assert_eq!(scenario.then()[0], "task.reconciled created [\"a\", \"b\", \"c\"] corrected [] removed []");
}

#[test]
fn many_differences_are_brought_in_line_bit_by_bit() {
    let mut scenario = syncing(&[]);
    let all: Vec<Found> = (0..450).map(|number| found(&format!("b{number:03}"))).collect();
    listed(&mut scenario, 450, all, &[]);
    let said = scenario.then();
    assert_eq!(said.len(), 4, "200, 200, 50, done");
    assert_eq!(scenario.dc.backups.len(), 450);
    assert!(said[3].ends_with("450 created, 0 corrected, 0 removed"));
}

/// What a user deletes comes back with a sync: the bucket still has it.
#[test]
fn what_a_sync_created_is_created_once() {
    let mut scenario = syncing(&[]);
    listed(&mut scenario, 1, vec![found("new")], &[]);
    scenario.then();
    let (task, name, uid) = ("uid-look".into(), "new".into(), "object-new".into());
    let created: Event = stheno_events::task::BackupCreated { task, name, uid, foreign: false }.into();
    scenario.and(created.clone());
    assert_eq!(scenario.dc.backups["new"].object, Object::Ours { uid: "object-new".into() });
    scenario.and(created);
    assert_eq!(scenario.dc.illegal, 0);
}
