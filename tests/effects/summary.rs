//! The summary of a backup, by whichever call tells it.

use super::fixture::{effect, facts, runner};
use crate::support::sidecar::FalseSidecar;
use stheno_events::backup::{self, Call};
use stheno_rpc::medusa::{BackupNode, BackupSummary, StatusType};
use tonic::Status;

fn summary(name: &str) -> BackupSummary {
    BackupSummary {
        backup_name: name.into(),
        start_time: 1_800_000_000,
        finish_time: 1_800_000_060,
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![BackupNode { host: "h".into(), tokens: vec![-1], datacenter: "dc1".into(), rack: "r1".into() }],
        status: StatusType::Success.into(),
        total_size: 99,
        total_objects: 9,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_summary_comes_from_either_call() {
    for first_fails in [false, true] {
        let fake = FalseSidecar::new();
        fake.script().backups = vec![summary("other"), summary("nightly")];
        if first_fails {
            fake.script().errors.entry("GetBackup").or_default().push_back(Status::internal("bad index"));
        }
        let serving = fake.serve_stock();
        let mut runner = runner();
        runner.start(effect(Call::Summary("dc1-r1-sts-0".into()), &serving));
        match &facts(&mut runner).await[..] {
            [backup::Event::Summarised(told)] => {
                assert!(told.complete);
                assert_eq!((told.bytes, told.files, told.total_nodes), (99, 9, 1));
                assert_eq!(told.finished.map(|time| time.timestamp()), Some(1_800_000_060));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fake.count("GetBackups"), usize::from(first_fails));
    }
}

#[tokio::test]
async fn a_summary_that_cannot_be_read_keeps_the_first_reason() {
    let fake = FalseSidecar::new();
    let serving = fake.serve_stock();
    let mut runner = runner();
    runner.start(effect(Call::Summary("dc1-r1-sts-0".into()), &serving));
    match &facts(&mut runner).await[..] {
        [backup::Event::SummaryFailed(failed)] => {
            assert!(failed.error.contains("The backup nightly does not exist"), "{}", failed.error);
        }
        other => panic!("{other:?}"),
    }
}
