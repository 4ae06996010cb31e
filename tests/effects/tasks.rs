//! Calls of tasks: purges of both kinds of sidecars, their doubts, and listings as differences.

use super::fixture::{effect, runner, until};
use crate::support::sidecar::FalseSidecar;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stheno::effects::{Report, Runner};
use stheno_decide::Effect;
use stheno_decide::effect::{Asked, TaskWork};
use stheno_events::Event;
use stheno_events::backup::SidecarKind;
use stheno_events::task::{self, Call};
use stheno_rpc::medusa::{BackupNode, BackupSummary, PurgeBackupsResponse, StatusType};
use tonic::Status;

fn purge(settles: Option<stheno_events::Time>) -> (Call, TaskWork) {
    (Call::Purge("dc1-r1-sts-0".into()), TaskWork::Purge { settles })
}

async fn facts(runner: &mut Runner) -> Vec<task::Event> {
    let mut facts = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(10), runner.next()).await.expect("the effect hangs") {
            Report::Ended(_) => return facts,
            Report::Facts { events, .. } => facts.extend(events.into_iter().map(|event| match event {
                Event::Task(event) => event,
                other @ (Event::Observed(_)
                | Event::Backup(_)
                | Event::Schedule(_)
                | Event::Datacenter(_)
                | Event::Operator(_)) => panic!("{other:?}"),
            })),
        }
    }
}

async fn run(fake: &FalseSidecar, ours: bool, (call, work): (Call, TaskWork)) -> Vec<task::Event> {
    let serving = if ours { fake.serve_ours() } else { fake.serve_stock() };
    let mut runner = runner();
    runner.start(Effect { task: Some(work), ..effect(call, &serving) });
    facts(&mut runner).await
}

fn unanswered(facts: &[task::Event]) -> (bool, Option<SidecarKind>) {
    let [task::Event::NodeUnanswered(event)] = facts else { panic!("{facts:?}") };
    (event.in_doubt, event.sidecar)
}

#[tokio::test]
async fn a_purge_is_counted() {
    for ours in [true, false] {
        let fake = FalseSidecar::new();
        fake.script().purged = PurgeBackupsResponse {
            nb_backups_purged: 2,
            nb_objects_purged: 40,
            total_purged_size: 5_000_000_000,
            total_objects_within_gc_grace: 7,
        };
        let facts = run(&fake, ours, purge(None)).await;
        let [task::Event::NodeFinished(done)] = facts.as_slice() else { panic!("{facts:?}") };
        let counted = task::Purged { backups: 2, objects: 40, bytes: 5_000_000_000, within_grace: 7 };
        assert_eq!(done.purged, Some(counted));
        assert_eq!(fake.calls(), ["Capabilities", "PurgeBackups"][usize::from(!ours)..]);
    }
}

#[tokio::test]
async fn a_purge_that_gets_no_answer_is_in_doubt_and_says_of_whom() {
    let fake = FalseSidecar::new();
    fake.script().hangs.insert("PurgeBackups");
    assert_eq!(unanswered(&run(&fake, false, purge(None)).await), (true, Some(SidecarKind::Medusa)));
    // Medusa's process ends when its purge fails.
    fake.script().hangs.clear();
    fake.script().errors.entry("PurgeBackups").or_default().push_back(Status::unavailable("Server shutdown"));
    assert_eq!(unanswered(&run(&fake, false, purge(None)).await), (true, Some(SidecarKind::Medusa)));
    let errors = [(Status::internal("S3 answers 503"), true), (Status::failed_precondition("a manifest"), false)];
    for (error, retryable) in errors {
        fake.script().errors.entry("PurgeBackups").or_default().push_back(error);
        let facts = run(&fake, true, purge(None)).await;
        let [task::Event::NodeFailed(failed)] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!(failed.retryable, retryable, "{failed:?}");
    }
}

#[tokio::test]
async fn medusa_is_not_asked_while_a_former_purge_may_go_on_and_ours_is() {
    let later = stheno::runtime::wall() + chrono::TimeDelta::minutes(1);
    let (stock, ours) = (FalseSidecar::new(), FalseSidecar::new());
    assert_eq!(unanswered(&run(&stock, false, purge(Some(later))).await), (false, Some(SidecarKind::Medusa)));
    assert_eq!(stock.count("PurgeBackups"), 0);
    let facts = run(&ours, true, purge(Some(later))).await;
    assert!(matches!(facts.as_slice(), [task::Event::NodeFinished(_)]), "{facts:?}");
    let past = stheno::runtime::wall() - chrono::TimeDelta::minutes(1);
    assert_eq!(run(&stock, false, purge(Some(past))).await.len(), 1);
    assert_eq!(stock.count("PurgeBackups"), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_long_purge() {
    let fake = FalseSidecar::new();
    fake.script().hangs.insert("PurgeBackups");
    let serving = fake.serve_ours();
    let mut runner = runner();
    let (call, work) = purge(None);
    let effect = Effect { task: Some(work), ..effect(call, &serving) };
    runner.start(effect.clone());
    until("it is asked", || fake.count("PurgeBackups") == 1).await;
    runner.stop(&effect.key);
    assert_eq!(unanswered(&facts(&mut runner).await), (true, Some(SidecarKind::Stheno)));
}

#[tokio::test]
async fn a_listing_comes_back_as_what_differs() {
    let fake = FalseSidecar::new();
    let summary = |name: &str, datacenter: &str| BackupSummary {
        backup_name: name.into(),
        start_time: 1_790_000_000,
        finish_time: 1_790_000_060,
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![BackupNode {
            host: "shop-dc1-r1-sts-0".into(),
            tokens: vec![1],
            datacenter: datacenter.into(),
            rack: "r1".into(),
        }],
        status: StatusType::Success.into(),
        backup_type: "full".into(),
        total_size: 300,
        total_objects: 3,
    };
    fake.script().backups = vec![summary("new", "dc1"), summary("elsewhere", "dc2")];
    let known = Arc::new(BTreeMap::from([("gone".into(), None)]));
    let asked = Asked { datacenter: "dc1".into(), own: "shop-dc1-".into(), others: Vec::new(), known };
    let listing = (Call::List("dc1-r1-sts-0".into()), TaskWork::List(asked));
    for ours in [true, false] {
        let facts = run(&fake, ours, listing.clone()).await;
        let [task::Event::Listed(page)] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!((page.total, page.ours, page.last, page.missing.len()), (2, 1, true, 1));
        let found = &page.found[0];
        assert_eq!((&*found.name, found.files, found.bytes), ("new", 3, 300));
        assert_eq!(found.started.map(|time| time.timestamp()), Some(1_790_000_000));
    }
    fake.script().errors.entry("GetBackups").or_default().push_back(Status::internal("a malformed index"));
    assert_eq!(unanswered(&run(&fake, false, listing).await), (false, None));
}
