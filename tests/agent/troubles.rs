//! A bucket that fails, entries that are damaged, settings that are wrong: one sentence each, and nothing is lost.

use std::time::Duration;

use stheno_rpc::medusa::{BackupStatusRequest, BackupSummary, GetBackupRequest, GetBackupsRequest, StatusType};
use stheno_rpc::sidecar::NodeState;
use stheno_rpc::sidecar::node_state::Phase;
use tonic::Code;

use super::ground::{Bucket, Sidecar, cassandra, phase};

async fn listed(sidecar: &Sidecar) -> Result<Vec<BackupSummary>, tonic::Status> {
    Ok(sidecar.medusa().await.get_backups(GetBackupsRequest {}).await?.into_inner().backups)
}

fn names(backups: &[BackupSummary]) -> Vec<(&str, StatusType)> {
    backups.iter().map(|backup| (backup.backup_name.as_str(), backup.status())).collect()
}

#[tokio::test]
async fn a_bucket_that_is_away_is_an_error_and_never_absence() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, "").await;
    assert_eq!(phase(&sidecar.backup("away-one", false).await), Phase::Finished);
    let before = sidecar.keys();
    let Bucket::S3(server) = &mut sidecar.bucket else { panic!("not S3") };
    server.kill();
    let error = listed(&sidecar).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().starts_with("cannot list \"index/backup_index\" in the bucket: "), "{}", error.message());
    let mut medusa = sidecar.medusa().await;
    let one = medusa.get_backup(GetBackupRequest { backup_name: "away-one".to_owned() }).await.unwrap_err();
    let status = medusa.backup_status(BackupStatusRequest { backup_name: "away-one".to_owned() }).await.unwrap_err();
    assert_eq!((one.code(), status.code()), (Code::Unavailable, Code::Unavailable));
    let Bucket::S3(server) = &mut sidecar.bucket else { panic!("not S3") };
    server.start().await.unwrap();
    assert_eq!(names(&listed(&sidecar).await.unwrap()), [("away-one", StatusType::Success)]);
    assert_eq!(sidecar.keys(), before);
}

async fn fails(sidecar: &Sidecar, name: &str) -> NodeState {
    let state = tokio::time::timeout(Duration::from_secs(60), sidecar.backup(name, false)).await.unwrap();
    assert_eq!(phase(&state), Phase::Failed, "{state:?}");
    state
}

#[tokio::test]
async fn wrong_keys_and_buckets_say_so_at_once() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, "").await;
    let right = std::fs::read_to_string(&sidecar.ini).unwrap();
    let keys = sidecar.run.path().join("credentials");
    let good = std::fs::read_to_string(&keys).unwrap();
    std::fs::write(&keys, good.replace("stheno-secret", "nonsense")).unwrap();
    sidecar.stop().await;
    sidecar.start().await;
    let state = fails(&sidecar, "wrong-one").await;
    assert!(state.reason.starts_with("the bucket refuses to get ") && !state.retryable, "{state:?}");
    assert!(state.reason.contains("check the credentials"), "{state:?}");
    assert!(!state.reason.contains("nonsense"));
    assert_eq!(listed(&sidecar).await.unwrap_err().code(), Code::FailedPrecondition);

    std::fs::write(&keys, good).unwrap();
    std::fs::write(&sidecar.ini, right.replace("bucket_name = backups", "bucket_name = nowhere")).unwrap();
    sidecar.stop().await;
    sidecar.start().await;
    let state = fails(&sidecar, "wrong-two").await;
    assert!(state.reason.starts_with("the bucket is not there: ") && !state.retryable, "{state:?}");
    assert_eq!(listed(&sidecar).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_node_without_cql_fails_with_a_reason_that_may_pass() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let yaml = std::fs::read_to_string(cassandra().await.yaml()).unwrap();
    let other = sidecar
        .run
        .file(
            "cassandra.yaml",
            &format!("{yaml}\nnative_transport_port: 1\n").replace("native_transport_port: 9042\n", ""),
        )
        .unwrap();
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let ini = ini.replace(cassandra().await.yaml().to_str().unwrap(), other.to_str().unwrap());
    std::fs::write(&sidecar.ini, ini).unwrap();
    sidecar.stop().await;
    sidecar.start().await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, "nocql", false).await.unwrap();
    let state = sidecar.follow(&claim, "nocql").await;
    assert!(state.reason.starts_with("cannot reach CQL at ") && state.retryable, "{state:?}");
    assert_eq!(sidecar.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_entry_costs_only_itself() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    let node = cassandra().await.ip().to_string();
    for name in ["fair-a", "fair-b", "fair-c", "fair-d"] {
        assert_eq!(phase(&sidecar.backup(name, false).await), Phase::Finished);
    }
    let write = |key: &str, content: &str| {
        let path = sidecar.objects().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write(&format!("index/backup_index/fair-b/tokenmap_{node}.json"), "{\"x\": ");
    write(&format!("index/backup_index/fair-c/manifest_{node}.json"), "[{\"objects\": 1}]");
    write("index/backup_index/fair-d/notes.txt", "not of the index");
    write("index/backup_index/stray.txt", "not of the index");
    // A node that is not in its own tokenmap, which makes Medusa 0.31 fail every listing.
    write("index/backup_index/fair-a/started_elsewhere_1700000000.timestamp", "1700000000");
    let before = sidecar.keys();
    let all = listed(&sidecar).await.unwrap();
    let (good, damaged) = (StatusType::Success, StatusType::Unknown);
    assert_eq!(names(&all), [("fair-a", good), ("fair-b", damaged), ("fair-c", damaged), ("fair-d", good)]);
    assert_eq!(sidecar.keys(), before, "a listing changed the bucket");
}

/// The index outlives objects that a lifecycle rule removed: such a backup is left out, and its entry stays.
#[tokio::test]
async fn a_backup_that_is_only_in_the_index_is_left_out() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    let node = cassandra().await.ip().to_string();
    for name in ["kept-a", "kept-b"] {
        assert_eq!(phase(&sidecar.backup(name, false).await), Phase::Finished);
    }
    std::fs::remove_file(sidecar.objects().join(format!("{node}/kept-a/meta/schema.cql"))).unwrap();
    let before = sidecar.keys();
    assert_eq!(names(&listed(&sidecar).await.unwrap()), [("kept-b", StatusType::Success)]);
    assert_eq!(sidecar.keys(), before, "a listing changed the bucket");
}

/// Hazard d.
#[tokio::test]
async fn a_second_sidecar_on_a_volume_is_refused() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    let (ini, volume) = (sidecar.ini.clone(), sidecar.volume.to_str().unwrap().to_owned());
    let config = stheno_agent::Config::load(&ini, |key| (key == "MEDUSA_TMP_DIR").then(|| volume.clone())).unwrap();
    let anywhere = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let refused =
        stheno_agent::run(config.clone(), anywhere, Default::default(), Default::default()).await.unwrap_err();
    assert!(refused.to_string().starts_with("another sidecar holds "), "{refused}");
    let elsewhere = stheno_agent::Config { state_dir: sidecar.run.folder("elsewhere").unwrap(), ..config };
    let refused = stheno_agent::run(elsewhere, Some(sidecar.address()), Default::default(), Default::default())
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot listen on {}", sidecar.address()));
}
