//! Purges: on all nodes at once, asked again without harm, one at a time, never beside a backup; and preparations.

use crate::scenario::{Scenario, at, pod};
use stheno_decide::effect::TaskWork;
use stheno_decide::{policy, wake};
use stheno_events::backup::{Outcome, SidecarKind};
use stheno_events::datacenter::Led;
use stheno_events::observed::{Adopted, Gone, ObjectKind, TaskOperation};
use stheno_events::{Epoch, PodName, Time, observed};
use stheno_projections::task::{NodeState, Stage};

fn purging() -> Scenario {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    scenario.then();
    scenario
}

#[test]
fn a_purge_is_on_all_nodes_at_once_counts_as_they_come_and_asks_for_a_sync() {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    insta::assert_yaml_snapshot!(scenario.then());
    assert_eq!(scenario.called().len(), 3);
    scenario.when(5).purged("weekly", 1);
    assert!(scenario.then().is_empty());
    insta::assert_yaml_snapshot!("a_purge_on_its_way", scenario.status("weekly"));
    scenario.purged("weekly", 0);
    scenario.when(9).purged("weekly", 2);
    insta::assert_yaml_snapshot!(scenario.then());
    insta::assert_yaml_snapshot!("a_purge_that_is_done", scenario.status("weekly"));
    assert!(scenario.effects().is_empty() && scenario.dc.pods.is_empty(), "nothing more is needed of the pods");
    let wanted = &scenario.dc.follow_ups["weekly-sync"];
    let key = stheno_events::DcKey::new("prod", "dc1");
    let sync = stheno_projections::status::follow_up("weekly-sync", wanted, &key);
    insta::assert_yaml_snapshot!("the_sync_that_follows_a_purge", serde_json::to_value(sync).unwrap());
}

#[test]
fn only_so_many_nodes_purge_at_one_time() {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    for index in 3..40 {
        scenario.and(pod(index));
    }
    scenario.then();
    assert_eq!(scenario.called().len(), policy::TASKS_AT_ONCE);
    scenario.purged("weekly", 0);
    assert_eq!(scenario.then().len(), 1, "the next one begins where one has ended");
}

#[test]
fn a_node_that_does_not_answer_is_asked_again() {
    let mut scenario = purging();
    scenario.when(10).breaks(0, true, Some(SidecarKind::Stheno));
    assert!(scenario.then().is_empty());
    assert_eq!(
        scenario.when(11).then(),
        ["task.effect_claimed Purge(PodName(\"shop-dc1-r1-sts-0\")) attempt 2 serial 2 epoch 1"]
    );
    // One that was never reached costs no attempt.
    scenario.when(12).breaks(0, false, None);
    assert_eq!(
        scenario.when(14).then(),
        ["task.effect_claimed Purge(PodName(\"shop-dc1-r1-sts-0\")) attempt 2 serial 3 epoch 1"]
    );
}

#[test]
fn a_stock_purge_whose_answer_was_lost_is_left_to_settle() {
    let mut scenario = purging();
    scenario.when(300).breaks(0, true, Some(SidecarKind::Medusa));
    let again = |scenario: &mut Scenario, seconds: i64| scenario.when(seconds).then();
    assert!(again(&mut scenario, 599).is_empty());
    assert_eq!(wake(&scenario.dc, scenario.context()).unwrap(), at(600));
    assert_eq!(again(&mut scenario, 600).len(), 1);
    let settles = |scenario: &Scenario| {
        let effects = scenario.effects();
        effects.iter().find_map(|effect| match effect.task {
            Some(TaskWork::Purge { settles }) if effect.key.serial > 1 => settles,
            _ => None,
        })
    };
    assert_eq!(settles(&scenario), Some(at(600)), "the runner knows until when not to ask");
}

#[test]
fn a_new_leader_asks_anew_after_the_quiet_time() {
    let mut scenario = purging();
    scenario.when(20).purged("weekly", 2);
    scenario.epoch = Epoch(2);
    scenario.when(30).and(Led { epoch: Epoch(2), quiet_until: Some(at(40)) });
    assert!(scenario.then().is_empty(), "a paused former leader may still be at work");
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(40)));
    insta::assert_yaml_snapshot!(scenario.when(40).then());
    // Whether the former leader's call arrived nobody knows.
    let in_doubt = scenario
        .effects()
        .iter()
        .all(|effect| matches!(effect.task, Some(TaskWork::Purge { settles: Some(until) }) if until == at(600)));
    assert!(in_doubt);
    scenario.purged("weekly", 0);
    scenario.purged("weekly", 1);
    assert!(scenario.then().last().unwrap().starts_with("task.completed"));
}

#[test]
fn what_fails_three_times_or_is_silent_for_ten_minutes_is_given_up() {
    let mut scenario = purging();
    scenario.purged("weekly", 1);
    let mut said = Vec::new();
    let mut now = 0;
    for _ in 0..3 {
        scenario.when(now).fails("weekly", 0, true);
        now += 60;
        said.extend(scenario.when(now).then());
    }
    // The pod of another one goes away and does not come back.
    let gone = |index: usize| {
        let (uid, name) = (pod(index).meta.uid, pod(index).meta.name);
        Gone { kind: ObjectKind::Pod, uid, name, inferred: false }
    };
    scenario.breaks(2, true, Some(SidecarKind::Stheno));
    scenario.and(gone(2));
    said.extend(scenario.when(now + policy::SILENCE.num_seconds()).then());
    insta::assert_yaml_snapshot!(said);
    let Stage::Ended { outcome, .. } = &scenario.task("weekly").stage else { panic!() };
    assert_eq!(*outcome, Outcome::Partial);
    assert!(scenario.dc.follow_ups.contains_key("weekly-sync"), "what was removed is to be known");
    insta::assert_yaml_snapshot!("a_purge_that_failed_in_part", scenario.status("weekly"));
}

#[test]
fn what_is_refused_for_good_is_not_tried_again() {
    let mut scenario = purging();
    (0..3).for_each(|index| scenario.fails("weekly", index, false));
    let said = scenario.then();
    assert_eq!(
        said.last().unwrap(),
        "task.failed Failed: 3 of 3 nodes failed; shop-dc1-r1-sts-0: the bucket answers 403"
    );
}

#[test]
fn a_purge_waits_for_a_backup_and_a_backup_for_a_purge_in_order_of_request() {
    let mut scenario = Scenario::ready();
    scenario.job("first");
    scenario.then();
    scenario.when(10).asks("weekly", TaskOperation::Purge);
    scenario.when(20).job("second");
    scenario.when(30).asks("other", TaskOperation::Purge);
    let mut said = scenario.then();
    scenario.when(40).job_ends("first");
    said.extend(scenario.then());
    assert!(scenario.task("weekly").running(), "{said:?}");
    (0..3).for_each(|index| scenario.purged("weekly", index));
    said.extend(scenario.when(50).then());
    assert!(!scenario.task("other").running(), "the backup was asked for before");
    scenario.when(60).job_ends("second");
    said.extend(scenario.then());
    assert!(scenario.task("other").running());
    said.retain(|said| said.contains("queued") || said.contains("task.started") || said == "backup.started");
    insta::assert_yaml_snapshot!(said);
}

#[test]
fn a_purge_that_cannot_start_holds_no_backup_up() {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    let mut unready = pod(1);
    unready.sidecar.as_mut().unwrap().ready = false;
    scenario.and(unready);
    assert_eq!(
        scenario.then(),
        [
            "task.queued SidecarNotReady: the sidecar of pod shop-dc1-r1-sts-1 is not ready: see the logs of its container medusa"
        ]
    );
    scenario.when(5).job("nightly");
    assert!(
        scenario.then().iter().any(|said| said == "backup.started"),
        "by then all are ready, and it is first in line"
    );
    let mut late = Scenario::ready();
    late.asks("weekly", TaskOperation::Purge);
    late.and(Gone { kind: ObjectKind::Pod, uid: pod(2).meta.uid, name: pod(2).meta.name, inferred: false });
    late.then();
    let end = policy::WAIT_FOR_DATACENTER.num_seconds();
    assert_eq!(
        late.when(end).then(),
        ["task.failed Refused: refused after waiting 10 minutes: datacenter dc1 has 2 of 3 pods"]
    );
    assert!(late.dc.follow_ups.is_empty(), "nothing was removed");
}

fn adopted(started: Option<Time>, finished: Option<Time>) -> Adopted {
    let pods = |names: &[&str]| names.iter().map(|name| PodName::from(*name)).collect();
    Adopted {
        kind: ObjectKind::MedusaTask,
        uid: "uid-weekly".into(),
        started,
        finished,
        in_progress: pods(&["shop-dc1-r1-sts-0"]),
        finished_pods: Vec::new(),
        failed_pods: Vec::new(),
    }
}

#[test]
fn a_purge_of_another_program_is_never_commanded_and_does_not_hold_the_datacenter_for_ever() {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    scenario.and(adopted(Some(at(-3_600)), None));
    scenario.when(5).job("nightly");
    assert_eq!(scenario.then(), ["backup.queued OperationRunning: waits for purge weekly of the same datacenter"]);
    assert!(scenario.effects().is_empty() && scenario.status("weekly").is_null());
    let end = policy::SILENCE.num_seconds();
    let said = scenario.when(end).then();
    assert!(said[0].starts_with("task.failed Failed: started by another program"), "{said:?}");
    assert!(said.iter().any(|said| said == "backup.started"));
}

#[test]
fn a_purge_that_had_ended_is_left_alone_and_one_that_nobody_began_asks_first() {
    let mut scenario = Scenario::ready();
    scenario.asks("weekly", TaskOperation::Purge);
    scenario.and(adopted(Some(at(-3_600)), Some(at(-3_000))));
    assert!(scenario.then().is_empty() && scenario.status("weekly").is_null());

    let mut scenario = Scenario::ready();
    let task = scenario.asks("weekly", TaskOperation::Purge);
    scenario.and(Adopted { in_progress: Vec::new(), ..adopted(None, None) });
    scenario.when(5).job("nightly");
    let said = scenario.then();
    assert!(said.iter().any(|said| said == "backup.started"), "it is in nobody's way: {said:?}");
    insta::assert_yaml_snapshot!("a_purge_older_than_the_log", scenario.status("weekly"));
    scenario.job_ends("nightly");
    scenario.then();
    scenario.approves(&task, "uid-weekly");
    scenario.pods();
    assert!(scenario.then()[0].starts_with("task.started on 3"));
}

#[test]
fn one_that_is_deleted_before_it_starts_ends_and_one_that_runs_goes_on() {
    let mut scenario = Scenario::ready();
    scenario.job("nightly");
    scenario.then();
    scenario.asks("weekly", TaskOperation::Purge);
    scenario.then();
    let gone = Gone { kind: ObjectKind::MedusaTask, uid: "uid-weekly".into(), name: "weekly".into(), inferred: false };
    scenario.and(gone.clone());
    assert_eq!(scenario.then(), ["task.failed Refused: the task was deleted before it started"]);
    assert!(scenario.dc.tasks.is_empty(), "what has ended and is gone leaves the world");

    let mut scenario = purging();
    scenario.and(gone);
    (0..3).for_each(|index| scenario.purged("weekly", index));
    assert!(scenario.then().last().unwrap().starts_with("task.completed"));
    assert!(scenario.dc.tasks.is_empty());
    // It comes back from an older copy of the API server's store: it is not done again.
    scenario.when(0).asks("weekly", TaskOperation::Purge);
    assert!(scenario.when(100).then().is_empty() && scenario.task("weekly").ended());
}

#[test]
fn another_datacenter_of_the_same_name_ends_what_ran_on_the_former() {
    let mut scenario = purging();
    let mut other = scenario.dc.object.as_deref().unwrap().clone();
    other.meta.uid = "dc-2".into();
    scenario.and(other);
    let said = scenario.then();
    assert_eq!(said[0], "datacenter.incarnation");
    assert!(said[1].starts_with("task.failed DatacenterReplaced"), "{said:?}");
}

#[test]
fn a_preparation_is_on_all_nodes_and_says_what_is_missing() {
    let mut scenario = Scenario::ready();
    scenario.asks("without", TaskOperation::PrepareRestore);
    assert_eq!(
        scenario.then(),
        ["task.failed Refused: spec.backupName is missing: name the backup whose restore is to be prepared"]
    );
    let task = scenario.asks("prepare", TaskOperation::PrepareRestore);
    scenario.and(observed::Task { backup: Some("nightly".into()), restore_key: Some("key-1".into()), ..task });
    insta::assert_yaml_snapshot!(scenario.then());
    let effects = scenario.effects();
    assert!(effects.iter().all(|effect| {
        &*effect.backup == "nightly"
            && matches!(&effect.task, Some(TaskWork::Prepare { restore_key }) if &**restore_key == "key-1")
    }));
    for index in 0..3 {
        let (task, pod) = ("uid-prepare".into(), pod(index).name());
        scenario.and(stheno_events::task::NodeFinished { task, pod, attempt: 1, purged: None });
    }
    assert_eq!(scenario.then(), ["task.completed: 3 of 3 nodes prepared"]);
    assert!(scenario.dc.follow_ups.is_empty());
}

#[test]
fn late_answers_of_a_claim_that_is_out_no_more_change_nothing() {
    let mut scenario = purging();
    let first = scenario.effects().remove(0);
    scenario.when(10).breaks(0, true, Some(SidecarKind::Stheno));
    scenario.when(11).then();
    let stheno_decide::Call::Task(call) = first.key.call else { panic!() };
    scenario.and(stheno_events::task::NodeUnanswered {
        task: first.key.job,
        call,
        attempt: first.key.attempt,
        serial: first.key.serial,
        epoch: first.key.epoch,
        in_doubt: true,
        sidecar: None,
        error: "late".into(),
    });
    let node = &scenario.task("weekly").nodes[&pod(0).name()];
    assert!(matches!(&node.state, NodeState::Called { claim, .. } if claim.serial == 2), "{node:?}");
}

/// A retention that was mistyped would remove nearly everything.
#[test]
fn a_purge_that_would_remove_much_asks_first_and_keeps_nobody_off_meanwhile() {
    let mut scenario = Scenario::ready();
    ["a", "b", "c", "d", "e"].iter().for_each(|name| scenario.foreign(name));
    scenario.plan = Some(vec!["a", "b", "c", "d", "of-another"]);
    let task = scenario.asks("weekly", TaskOperation::Purge);
    let said = scenario.then();
    assert!(said.last().unwrap().starts_with("task.approval_needed"), "{said:?}");
    assert!(scenario.called().is_empty());
    insta::assert_yaml_snapshot!("a_purge_that_needs_approval", scenario.status("weekly"));
    // A backup goes on meanwhile, and the purge comes after it; what begins later waits for the purge.
    scenario.when(600).job("nightly");
    assert!(scenario.then().iter().any(|said| said == "backup.started"));
    let token = scenario.task("weekly").approval.clone().unwrap().token;
    scenario.approves(&task, &token);
    assert!(scenario.when(700).then().iter().all(|said| !said.contains("Purge(")), "the backup still runs");
    scenario.when(710).job("later");
    scenario.job_ends("nightly");
    let said = scenario.then();
    assert_eq!(said.iter().filter(|said| said.contains("Purge(")).count(), 3, "{said:?}");
    assert!(said.iter().all(|said| said != "backup.started"), "{said:?}");
    // Twelve hours later than it was asked for it is not too late: the time counts from the plan.
    assert_eq!(scenario.called().len(), 3);
    (0..3).for_each(|index| scenario.purged("weekly", index));
    assert!(scenario.then().iter().any(|said| said == "backup.started"));
}

#[test]
fn a_purge_that_removes_something_else_by_now_asks_anew() {
    let mut scenario = Scenario::ready();
    ["a", "b", "c", "d", "e"].iter().for_each(|name| scenario.foreign(name));
    scenario.plan = Some(vec!["a", "b", "c", "d"]);
    let task = scenario.asks("weekly", TaskOperation::Purge);
    scenario.then();
    let token = scenario.task("weekly").approval.clone().unwrap().token;
    scenario.approves(&task, &token);
    scenario.plan = Some(vec!["a", "b", "c", "d", "e"]);
    scenario.when(86_400).pods();
    let said = scenario.then();
    assert!(said.last().unwrap().starts_with("task.approval_needed") && scenario.called().is_empty(), "{said:?}");
    // Three of five may go.
    scenario.plan = Some(vec!["a", "b", "c"]);
    let token = scenario.task("weekly").approval.clone().unwrap().token;
    scenario.approves(&task, &token);
    scenario.when(2 * 86_400).then();
    assert_eq!(scenario.called().len(), 3);
}

#[test]
fn two_purges_that_waited_for_consent_go_one_after_the_other() {
    let mut scenario = Scenario::ready();
    ["a", "b", "c", "d", "e"].iter().for_each(|name| scenario.foreign(name));
    scenario.plan = Some(vec!["a", "b", "c", "d"]);
    let one = scenario.asks("one", TaskOperation::Purge);
    scenario.then();
    let two = scenario.when(10).asks("two", TaskOperation::Purge);
    scenario.then();
    let token = scenario.task("two").approval.clone().unwrap().token;
    scenario.approves(&one, &token);
    scenario.approves(&two, &token);
    scenario.when(20).then();
    let of = |scenario: &Scenario, name: &str| {
        scenario.effects().iter().filter(|effect| effect.key.job.as_str() == format!("uid-{name}")).count()
    };
    assert_eq!((of(&scenario, "one"), of(&scenario, "two")), (3, 0));
    (0..3).for_each(|index| scenario.purged("one", index));
    scenario.then();
    assert_eq!(of(&scenario, "two"), 3);
}

#[test]
fn a_plan_that_nobody_tells_ends_the_purge() {
    let mut scenario = Scenario::ready();
    scenario.plan = None;
    scenario.asks("weekly", TaskOperation::Purge);
    scenario.then();
    let mut now = 0;
    while scenario.task("weekly").running() && now < 3_600 {
        if let Some(pod) = scenario.called().first().cloned() {
            scenario.breaks(pod.rsplit('-').next().unwrap().parse().unwrap(), false, None);
        }
        now += 1;
        scenario.when(now).then();
    }
    assert_eq!(now, policy::LISTING_DEADLINE.num_seconds());
    assert!(scenario.dc.follow_ups.is_empty(), "nothing was removed");
}
