//! The rules of a backup job, in the words of the Kubernetes Job API: given events, when it is this time, then these
//! events and effects.

mod scenario;

use scenario::{Scenario, at};
use stheno_decide::{policy, wake};
use stheno_events::Epoch;
use stheno_events::backup::{Call, NodeUnanswered, SidecarKind};
use stheno_events::observed::{self, JobRules};

fn one_at_a_time() -> JobRules {
    JobRules { parallelism: Some(1), ..JobRules::default() }
}

#[test]
fn no_more_nodes_are_at_work_than_the_job_allows() {
    let mut scenario = Scenario::ruled(JobRules { parallelism: Some(2), ..JobRules::default() });
    insta::assert_yaml_snapshot!("two_of_three_start", scenario.then());
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.started("sts-1", SidecarKind::Stheno);
    assert!(scenario.when(10).then().is_empty(), "both are at work");
    scenario.finished("sts-0");
    insta::assert_yaml_snapshot!("the_third_follows_the_first_to_end", scenario.then());
}

/// What a call without an answer may have started is at work until that is found out.
#[test]
fn a_node_in_doubt_keeps_its_place() {
    let mut scenario = Scenario::ruled(one_at_a_time());
    scenario.then();
    scenario.when(30).and(NodeUnanswered {
        job: "job-1".into(),
        call: Call::Start("sts-0".into()),
        attempt: 1,
        serial: 1,
        epoch: Epoch(1),
        in_doubt: true,
        not_found: false,
        heard: None,
        error: "deadline exceeded".into(),
    });
    insta::assert_yaml_snapshot!("only_the_node_in_doubt_is_asked", scenario.when(31).then());
}

#[test]
fn fewer_at_work_than_now_stops_nobody_and_more_start_at_once() {
    let mut scenario = Scenario::ruled(JobRules { parallelism: Some(2), ..JobRules::default() });
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.started("sts-1", SidecarKind::Stheno);
    scenario.edit(|job| job.rules.parallelism = Some(1));
    assert!(scenario.when(10).then().is_empty());
    assert_eq!(scenario.effects().len(), 2, "both go on");
    scenario.finished("sts-0");
    assert!(scenario.then().is_empty(), "one is at work");
    scenario.edit(|job| job.rules.parallelism = None);
    assert_eq!(scenario.then().len(), 1, "the third starts");
}

/// A node waits for its turn for as long as others work: only the time in which it cannot be called counts against it.
#[test]
fn waiting_in_line_is_held_against_nobody() {
    let mut scenario = Scenario::ruled(one_at_a_time());
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    let (silence, hour) = (policy::SILENCE.num_seconds(), 3_600);
    scenario.when(hour).ready_is(1, false);
    let gone =
        observed::Gone { kind: observed::ObjectKind::Pod, uid: "pod-2".into(), name: "sts-2".into(), inferred: false };
    scenario.and(gone);
    assert!(scenario.then().is_empty(), "both went away this very moment");
    assert!(scenario.when(hour + silence - 1).then().is_empty());
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(hour + silence)));
    insta::assert_yaml_snapshot!("the_pod_that_is_gone_is_given_up", scenario.when(hour + silence).then());
    scenario.ready_is(1, true);
    scenario.finished("sts-0");
    assert_eq!(scenario.when(2 * hour).then().len(), 1, "the one that came back has its turn");
}

/// A node that failed and is to be tried again may have to wait for its turn, too.
#[test]
fn a_failure_does_not_age_in_line() {
    let mut scenario = Scenario::ruled(one_at_a_time());
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.failed("sts-0", 1, true);
    // Another one takes the place while the first rests.
    insta::assert_yaml_snapshot!("another_takes_the_place", scenario.then());
    scenario.when(5).and(stheno_events::backup::NodeStarted {
        job: "job-1".into(),
        pod: "sts-1".into(),
        attempt: 1,
        sidecar: SidecarKind::Stheno,
    });
    assert!(scenario.when(7_200).then().is_empty());
    scenario.finished("sts-1");
    insta::assert_yaml_snapshot!("then_it_is_tried_again", scenario.then());
}

#[test]
fn a_node_is_tried_again_as_often_as_the_job_says() {
    let mut scenario = Scenario::ruled(JobRules { backoff_limit: Some(0), ..JobRules::default() });
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.when(10).failed("sts-0", 1, true);
    insta::assert_yaml_snapshot!("not_tried_again", scenario.then());

    let mut scenario = Scenario::ruled(JobRules { backoff_limit: Some(1), ..JobRules::default() });
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.when(10).failed("sts-0", 1, true);
    assert!(scenario.then().is_empty(), "a moment's rest first");
    insta::assert_yaml_snapshot!("tried_once_more", scenario.when(11).then());
    scenario.when(20).failed("sts-0", 2, true);
    insta::assert_yaml_snapshot!("and_given_up", scenario.then());
}

fn for_a_minute() -> JobRules {
    JobRules { active_deadline: Some(60), ..JobRules::default() }
}

/// Ours are told to break off; a start that was not answered yet is waited for, and what was not begun is not begun.
#[test]
fn a_job_that_runs_too_long_is_stopped_and_ends_when_its_nodes_have() {
    let mut scenario = Scenario::ruled(JobRules { parallelism: Some(2), ..for_a_minute() });
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(60)));
    assert!(scenario.when(59).then().is_empty());
    insta::assert_yaml_snapshot!("too_long", scenario.when(60).then());
    insta::assert_yaml_snapshot!("too_long_calls", scenario.effects());
    scenario.failed("sts-0", 1, false);
    assert!(scenario.then().is_empty(), "the other one may have begun");
    scenario.when(62).started("sts-1", SidecarKind::Stheno);
    insta::assert_yaml_snapshot!("told_once_it_has_answered", scenario.then());
    // It had ended before it was told to.
    scenario.finished("sts-1");
    insta::assert_yaml_snapshot!("too_long_ended", scenario.then());
}

#[test]
fn stock_sidecars_are_followed_to_their_end_and_hold_the_datacenter() {
    let mut scenario = Scenario::ruled(for_a_minute());
    scenario.then();
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.started(pod, SidecarKind::Medusa);
    }
    let calls = scenario.effects();
    insta::assert_yaml_snapshot!("stock_too_long", scenario.when(60).then());
    assert_eq!(scenario.effects(), calls, "they are polled as before");
    scenario.and(scenario::job("job-2", "weekly"));
    insta::assert_yaml_snapshot!("the_next_waits_for_their_end", scenario.when(70).then());
    // The next leader asks about them, and starts nothing.
    scenario.epoch = Epoch(2);
    scenario.and(stheno_events::datacenter::Led { epoch: Epoch(2), quiet_until: None });
    insta::assert_yaml_snapshot!("the_next_leader_lets_them_end", scenario.when(80).then());
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.finished(pod);
    }
    insta::assert_yaml_snapshot!("and_the_next_starts", scenario.when(90).then());
}

/// What a stopped node answers, or does not, is judged as ever: asked again, and lost in the end.
#[test]
fn a_node_that_cannot_be_told_is_told_again_and_lost_in_the_end() {
    let mut scenario = Scenario::ruled(JobRules { parallelism: Some(1), ..for_a_minute() });
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.when(60).then();
    let unanswered = |serial| NodeUnanswered {
        job: "job-1".into(),
        call: Call::Stop("sts-0".into()),
        attempt: 1,
        serial,
        epoch: Epoch(1),
        in_doubt: true,
        not_found: false,
        heard: None,
        error: "connection refused".into(),
    };
    scenario.when(61).and(unanswered(2));
    assert!(scenario.then().is_empty(), "a moment's rest first");
    insta::assert_yaml_snapshot!("told_again", scenario.when(62).then());
    scenario.when(63).and(unanswered(3));
    let silence = policy::SILENCE.num_seconds();
    insta::assert_yaml_snapshot!("lost_while_stopping", scenario.when(silence).then());
}

#[test]
fn a_job_that_is_cancelled_says_why() {
    let cancel = |scenario: &mut Scenario, why: &str| {
        let why = why.to_owned();
        scenario.edit(|job| drop(job.annotations.insert(observed::CANCEL.into(), why.into())));
    };
    let mut scenario = Scenario::ready();
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    cancel(&mut scenario, "false");
    assert!(scenario.then().is_empty(), "that is no wish");
    cancel(&mut scenario, "wrong bucket");
    insta::assert_yaml_snapshot!("cancelled", scenario.when(10).then());

    let mut waiting = Scenario::given([scenario::job("job-1", "nightly").into()]);
    cancel(&mut waiting, "true");
    insta::assert_yaml_snapshot!("cancelled_before_it_started", waiting.then());
}

#[test]
fn a_job_that_is_deleted_is_cancelled() {
    let mut scenario = Scenario::ready();
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    let (uid, name) = ("job-1".into(), "nightly".into());
    scenario.and(observed::Gone { kind: observed::ObjectKind::MedusaBackupJob, uid, name, inferred: false });
    insta::assert_yaml_snapshot!("deleted", scenario.when(10).then());
    assert!(scenario.dc.busy(), "its nodes are at work");
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.failed(pod, 1, false);
    }
    scenario.when(20).then();
    assert!(!scenario.dc.busy() && scenario.dc.operations.is_empty());
}

/// Another program's is never commanded, whatever its rules say.
#[test]
fn what_another_program_started_is_not_stopped() {
    let mut scenario = Scenario::ruled(for_a_minute());
    scenario.and(observed::Adopted {
        kind: observed::ObjectKind::MedusaBackupJob,
        uid: "job-1".into(),
        started: Some(at(-60)),
        finished: None,
        in_progress: vec!["sts-0".into()],
        finished_pods: Vec::new(),
        failed_pods: Vec::new(),
    });
    assert_eq!(scenario.then(), ["backup.effect_claimed Resume(PodName(\"sts-0\")) attempt 1 serial 1 epoch 1"]);
    assert!(scenario.when(120).then().is_empty());
    let day = policy::BACKUP_DEADLINE.num_seconds();
    insta::assert_yaml_snapshot!("foreign_after_a_day", scenario.when(day).then());
}

fn gone_after_an_hour() -> JobRules {
    JobRules { ttl: Some(3_600), ..JobRules::default() }
}

fn created() -> stheno_events::backup::ObjectCreated {
    stheno_events::backup::ObjectCreated { job: "job-1".into(), uid: "backup-1".into(), foreign: false }
}

#[test]
fn a_job_lives_as_long_after_its_end_as_it_says_and_its_backup_stays() {
    let mut scenario = Scenario::ruled(gone_after_an_hour());
    scenario.then();
    scenario.when(60).completes();
    scenario.then();
    scenario.and(created());
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(3_660)));
    assert!(scenario.when(3_659).then().is_empty());
    assert_eq!(scenario.when(3_660).then(), ["backup.expired"]);
    assert!(scenario.when(3_661).then().is_empty(), "once");
    assert_eq!(wake(&scenario.dc, scenario.context()), None);
    let (uid, name) = ("job-1".into(), "nightly".into());
    scenario.and(observed::Gone { kind: observed::ObjectKind::MedusaBackupJob, uid, name, inferred: false });
    assert!(scenario.dc.operations.is_empty() && scenario.dc.lapses.is_empty());
    assert!(scenario.dc.backups.contains_key("nightly"), "the backup stays");
}

/// The log knows of the MedusaBackup by way of its job.
#[test]
fn a_job_does_not_go_before_its_backup_is_there() {
    let mut scenario = Scenario::ruled(JobRules { ttl: Some(0), ..JobRules::default() });
    scenario.then();
    scenario.when(60).completes();
    let said = scenario.then();
    assert_eq!(said, ["backup.completed: 3 of 3 nodes complete"]);
    scenario.and(created());
    assert_eq!(scenario.then(), ["backup.expired"]);
}

#[test]
fn who_lets_a_job_live_longer_in_time_keeps_it() {
    let mut scenario = Scenario::ruled(gone_after_an_hour());
    scenario.then();
    scenario.when(10).edit(|job| drop(job.annotations.insert(observed::CANCEL.into(), "true".into())));
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.failed(pod, 1, false);
    }
    scenario.then();
    assert_eq!(scenario.when(3_610).then(), ["backup.expired"]);
    scenario.edit(|job| job.rules.ttl = Some(7_200));
    assert!(scenario.then().is_empty());
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(7_210)));
    scenario.edit(|job| job.rules.ttl = None);
    assert!(scenario.when(100_000).then().is_empty(), "it is kept");
    scenario.edit(|job| job.rules.ttl = Some(5));
    assert_eq!(scenario.then(), ["backup.expired"]);
}

/// One that ended before the log met it counts from the end that its status tells of.
#[test]
fn an_adopted_end_counts_too() {
    let mut scenario = Scenario::ruled(gone_after_an_hour());
    scenario.and(observed::Adopted {
        kind: observed::ObjectKind::MedusaBackupJob,
        uid: "job-1".into(),
        started: Some(at(-7_200)),
        finished: Some(at(-7_000)),
        in_progress: Vec::new(),
        finished_pods: vec!["sts-0".into()],
        failed_pods: Vec::new(),
    });
    assert_eq!(scenario.then(), ["backup.expired"]);
}

#[test]
fn a_suspended_job_waits_and_lets_others_pass() {
    let mut scenario = Scenario::ruled(JobRules { suspended: true, ..JobRules::default() });
    insta::assert_yaml_snapshot!("suspended", scenario.then());
    assert!(scenario.when(86_400).then().is_empty(), "for as long as a person wishes");
    scenario.and(scenario::job("job-2", "weekly"));
    insta::assert_yaml_snapshot!("another_passes", scenario.then());
    scenario.edit(|job| job.rules.suspended = false);
    insta::assert_yaml_snapshot!("resumed_behind_it", scenario.then());
}

#[test]
fn a_job_that_is_suspended_on_its_way_starts_no_further_node() {
    let mut scenario = Scenario::ruled(one_at_a_time());
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.when(10).edit(|job| job.rules.suspended = true);
    assert!(scenario.then().is_empty());
    assert_eq!(scenario.effects().len(), 1, "what is at work goes on");
    scenario.finished("sts-0");
    assert!(scenario.then().is_empty(), "nobody follows");
    // A pod that is away meanwhile is not given up for that.
    scenario.ready_is(1, false);
    let silence = policy::SILENCE.num_seconds();
    assert!(scenario.when(4 * silence).then().is_empty());
    scenario.edit(|job| job.rules.suspended = false);
    insta::assert_yaml_snapshot!("resumed_on_its_way", scenario.then());
    scenario.finished("sts-2");
    assert!(scenario.when(7 * silence - 1).then().is_empty(), "it may come back now");
    insta::assert_yaml_snapshot!("given_up_after_that", scenario.when(7 * silence).then());
}

/// It holds back what is to come, not the end of what is at work.
#[test]
fn a_suspended_job_can_be_cancelled_and_runs_too_long() {
    let mut scenario = Scenario::ruled(JobRules { suspended: true, ..for_a_minute() });
    scenario.then();
    scenario.edit(|job| job.rules.suspended = false);
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    scenario.edit(|job| job.rules.suspended = true);
    assert!(scenario.when(59).then().is_empty());
    assert!(scenario.when(60).then()[0].starts_with("backup.outcome_decided DeadlineExceeded"));
    let mut waiting = Scenario::ruled(JobRules { suspended: true, ..JobRules::default() });
    waiting.then();
    waiting.edit(|job| drop(job.annotations.insert(observed::CANCEL.into(), "true".into())));
    assert!(waiting.then()[0].starts_with("backup.outcome_decided Cancelled"));
}
