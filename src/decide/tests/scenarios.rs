//! Given events, when it is this time, then these events and effects: one scenario for each rule of the backup process.

mod scenario;

use scenario::{Scenario, at, datacenter, job, meta, pod};
use stheno_decide::{Call as Called, due, policy, wake};
use stheno_events::backup::{self, Call, NodeFailed, NodeUnanswered, SidecarKind, Summarised};
use stheno_events::datacenter::Led;
use stheno_events::observed::{self, BackupJob, Pod};
use stheno_events::{DcKey, Epoch, PodName};
use stheno_projections::backup::NodeState;

#[allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]
/// The first claim after each of several calls in a row that were answered and broke off after `lasting` seconds: how
/// many seconds after the end of the call it comes.
fn waits(lasting: i64) -> Vec<i64> {
    let mut scenario = Scenario::ready();
    scenario.then();
    let pod = PodName::from("sts-0");
    scenario.started("sts-0", SidecarKind::Stheno);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..8 {
        now += lasting;
        let NodeState::Called { claim, .. } = &scenario.dc.operation(&"job-1".into()).unwrap().nodes[&pod].state else {
            panic!("no claim is out");
        };
        let broke = NodeUnanswered {
            job: "job-1".into(),
            call: claim.call.clone(),
            attempt: claim.attempt,
            serial: claim.serial,
            epoch: claim.epoch,
            in_doubt: true,
            not_found: false,
            heard: Some(at(now)),
            error: "the stream broke".into(),
        };
        scenario.when(now).and(broke);
        let mut wait = 0;
        while !scenario.when(now + wait).then().iter().any(|said| said.contains("Resume")) {
            wait += 1;
        }
        waits.push(wait);
        now += wait;
    }
    waits
}

#[test]
fn calls_that_break_off_right_after_their_answer_come_ever_more_seldom() {
    assert_eq!(waits(0), [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(waits(90), [1; 8], "a stream that broke off after a while is joined again at once");
}

#[test]
fn a_job_starts_on_every_pod_at_once() {
    let mut scenario = Scenario::ready();
    insta::assert_yaml_snapshot!(scenario.then());
    insta::assert_yaml_snapshot!(scenario.effects());
}

#[test]
fn a_job_for_a_datacenter_that_is_not_there_waits_then_is_refused() {
    let mut scenario = Scenario::given([BackupJob { dc: "> *".into(), ..job("job-1", "nightly") }.into()]);
    scenario.key = DcKey::new("prod", "> *");
    insta::assert_yaml_snapshot!(scenario.then());
    let last = policy::WAIT_FOR_DATACENTER.num_seconds() - 1;
    assert!(scenario.when(last).then().is_empty());
    insta::assert_yaml_snapshot!(scenario.when(last + 1).then());
}

#[test]
fn a_stopped_datacenter_is_said_to_be_stopped() {
    let stopped = observed::Datacenter { stopped: true, ..datacenter(3) };
    let mut scenario = Scenario::given([stopped.into(), job("job-1", "nightly").into()]);
    insta::assert_yaml_snapshot!(scenario.then());
}

#[test]
fn a_pod_without_sidecar_is_named() {
    let bare = Pod { sidecar: None, ..pod(1) };
    let mut scenario =
        Scenario::given([datacenter(2).into(), pod(0).into(), bare.into(), job("job-1", "nightly").into()]);
    insta::assert_yaml_snapshot!(scenario.then());
}

#[test]
fn pods_of_another_cluster_do_not_count() {
    let other = Pod { cluster: "other".into(), ..pod(1) };
    let mut scenario =
        Scenario::given([datacenter(2).into(), pod(0).into(), other.into(), job("job-1", "nightly").into()]);
    insta::assert_yaml_snapshot!(scenario.then());
}

#[test]
fn the_second_job_waits_for_the_first() {
    let mut scenario = Scenario::ready();
    scenario.and(job("job-2", "weekly"));
    insta::assert_yaml_snapshot!(scenario.then());
}

#[test]
fn all_finished_is_closed_with_the_summary() {
    let mut scenario = Scenario::ready();
    scenario.then();
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.finished(pod);
    }
    insta::assert_yaml_snapshot!(scenario.when(60).then());
    assert_eq!(scenario.effects().len(), 1);
    scenario.and(Summarised {
        job: "job-1".into(),
        started: None,
        finished: None,
        total_nodes: 3,
        finished_nodes: 3,
        nodes: Vec::new(),
        files: 3,
        bytes: 30,
        complete: true,
    });
    insta::assert_yaml_snapshot!(scenario.when(61).then());
    assert!(scenario.effects().is_empty(), "terminal is terminal");
}

#[test]
fn a_summary_that_cannot_be_read_does_not_lose_the_backup() {
    let mut scenario = Scenario::ready();
    scenario.then();
    for pod in ["sts-0", "sts-1", "sts-2"] {
        scenario.finished(pod);
    }
    scenario.when(60).then();
    let failed = backup::SummaryFailed {
        job: "job-1".into(),
        pod: "sts-0".into(),
        attempt: 1,
        epoch: Epoch(1),
        error: "no such bucket".into(),
    };
    scenario.and(failed);
    insta::assert_yaml_snapshot!(scenario.when(62).then());
    let end = 60 + policy::CLOSING_DEADLINE.num_seconds();
    insta::assert_yaml_snapshot!(scenario.when(end).then());
}

#[test]
fn one_failed_node_makes_it_partial() {
    let mut scenario = Scenario::ready();
    scenario.then();
    scenario.finished("sts-0");
    scenario.finished("sts-2");
    scenario.and(NodeFailed {
        job: "job-1".into(),
        pod: "sts-1".into(),
        attempt: 1,
        reason: "disk full".into(),
        retryable: false,
    });
    insta::assert_yaml_snapshot!(scenario.when(60).then());
}

#[test]
fn a_new_term_waits_and_then_resumes_without_starting_twice() {
    let mut scenario = Scenario::ready();
    scenario.then();
    scenario.started("sts-0", SidecarKind::Medusa);
    scenario.epoch = Epoch(2);
    scenario.when(100).and(Led { epoch: Epoch(2), quiet_until: Some(at(110)) });
    assert!(scenario.then().is_empty(), "a paused former leader may still be at work");
    assert_eq!(wake(&scenario.dc, scenario.context()), Some(at(110)));
    insta::assert_yaml_snapshot!(scenario.when(110).then());
}

#[test]
fn a_stock_start_in_doubt_is_probed_and_lost_after_ten_minutes() {
    let mut scenario = Scenario::given([datacenter(1).into(), pod(0).into(), job("job-1", "nightly").into()]);
    scenario.then();
    let unanswered = |serial, not_found| NodeUnanswered {
        job: "job-1".into(),
        call: Call::Start("sts-0".into()),
        attempt: 1,
        serial,
        epoch: Epoch(1),
        in_doubt: true,
        not_found,
        heard: None,
        error: "deadline exceeded".into(),
    };
    scenario.when(30).and(unanswered(1, false));
    insta::assert_yaml_snapshot!(scenario.when(31).then());
    let resumed = |serial| NodeUnanswered { call: Call::Resume("sts-0".into()), ..unanswered(serial, true) };
    let mut serial = 2;
    for seconds in (40..600).step_by(70) {
        scenario.when(seconds).and(resumed(serial));
        assert_eq!(scenario.when(seconds + 65).then().len(), 1, "asked again");
        serial += 1;
    }
    scenario.when(700).and(resumed(serial));
    insta::assert_yaml_snapshot!(scenario.then());
}

#[test]
fn nothing_sent_is_started_again_not_probed() {
    let mut scenario = Scenario::given([datacenter(1).into(), pod(0).into(), job("job-1", "nightly").into()]);
    scenario.then();
    scenario.when(5).and(NodeUnanswered {
        job: "job-1".into(),
        call: Call::Start("sts-0".into()),
        attempt: 1,
        serial: 1,
        epoch: Epoch(1),
        in_doubt: false,
        not_found: false,
        heard: None,
        error: "connection refused".into(),
    });
    assert!(scenario.then().is_empty(), "a moment's rest first");
    insta::assert_yaml_snapshot!(scenario.when(6).then());
}

#[test]
fn a_pod_that_does_not_come_back_is_given_up() {
    let mut scenario = Scenario::given([datacenter(1).into(), pod(0).into(), job("job-1", "nightly").into()]);
    scenario.then();
    scenario.started("sts-0", SidecarKind::Stheno);
    let gone =
        observed::Gone { kind: observed::ObjectKind::Pod, uid: "pod-0".into(), name: "sts-0".into(), inferred: false };
    scenario.and(gone);
    scenario.when(10).and(NodeUnanswered {
        job: "job-1".into(),
        call: Call::Start("sts-0".into()),
        attempt: 1,
        serial: 1,
        epoch: Epoch(1),
        in_doubt: true,
        not_found: false,
        heard: Some(at(9)),
        error: "connection reset".into(),
    });
    assert!(scenario.when(60).then().is_empty(), "it is waited for by name");
    insta::assert_yaml_snapshot!(scenario.when(9 + policy::SILENCE.num_seconds()).then());
}

#[test]
fn another_datacenter_of_the_same_name_ends_what_ran_on_the_former() {
    let mut scenario = Scenario::ready();
    scenario.then();
    scenario.claimed("sts-0");
    scenario.and(observed::Datacenter { meta: meta("dc-2", "dc1"), ..datacenter(3) });
    insta::assert_yaml_snapshot!(scenario.when(5).then());
}

#[test]
fn an_adopted_start_is_followed_and_never_commanded() {
    let adopted = observed::Adopted {
        kind: observed::ObjectKind::MedusaBackupJob,
        uid: "job-1".into(),
        started: Some(at(-60)),
        finished: None,
        in_progress: vec!["sts-0".into()],
        finished_pods: vec!["sts-1".into()],
        failed_pods: Vec::new(),
    };
    let mut scenario = Scenario::ready();
    scenario.and(adopted);
    insta::assert_yaml_snapshot!(scenario.then());
    let effects = due(&scenario.dc, scenario.context());
    assert!(effects.iter().all(|effect| effect.foreign && matches!(effect.key.call, Called::Backup(Call::Resume(_)))));
}

/// A status that a person or a wrong clock wrote must not hold the datacenter until a time that never comes.
#[test]
fn an_adopted_start_that_lies_ahead_ends_all_the_same() {
    let mut scenario = Scenario::ready();
    scenario.and(observed::Adopted {
        kind: observed::ObjectKind::MedusaBackupJob,
        uid: "job-1".into(),
        started: Some(at(1_000_000_000)),
        finished: None,
        in_progress: Vec::new(),
        finished_pods: Vec::new(),
        failed_pods: Vec::new(),
    });
    assert!(scenario.then().is_empty());
    assert!(!scenario.when(601).then().is_empty(), "it recorded no pod, and is over");
    assert!(!scenario.dc.busy());
}

#[test]
fn an_adopted_end_is_the_end() {
    let adopted = observed::Adopted {
        kind: observed::ObjectKind::MedusaBackupJob,
        uid: "job-1".into(),
        started: Some(at(-60)),
        finished: Some(at(-30)),
        in_progress: Vec::new(),
        finished_pods: vec!["sts-0".into()],
        failed_pods: Vec::new(),
    };
    let mut scenario = Scenario::ready();
    scenario.and(adopted);
    assert!(scenario.then().is_empty() && scenario.effects().is_empty());
}

#[test]
fn what_this_build_does_not_know_stops_every_decision() {
    let mut scenario = Scenario::ready();
    scenario.dc.frozen = Some("the log holds restore.prepared v3".into());
    assert!(scenario.then().is_empty() && scenario.effects().is_empty());
}
