//! A sidecar that stops or is killed on the way: the next one goes on, tells the truth, and ends right.

use std::time::Duration;

use stheno_rpc::medusa::{BackupStatusRequest, GetBackupsRequest, StatusType};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::{Claim, NodeState};

use super::ground::{Bucket, Sidecar, cassandra, phase, rows, slow, snapshots};
use super::jolokia::shared;
use super::medusa;

/// Seconds that a full backup takes at least: time to stop it on its way, whatever other tests put on the node.
const LONG: u64 = 10;

async fn status(sidecar: &Sidecar, name: &str) -> StatusType {
    let request = BackupStatusRequest { backup_name: name.to_owned() };
    sidecar.medusa().await.backup_status(request).await.unwrap().into_inner().status()
}

async fn ends_right(sidecar: &Sidecar, claim: &Claim, name: &str) -> NodeState {
    let last = sidecar.follow(claim, name).await;
    assert_eq!(phase(&last), Phase::Finished, "{last:?}\n{}", sidecar.log());
    assert_eq!((last.files_done, last.bytes_done), (last.files_total, last.bytes_total));
    assert_eq!(status(sidecar, name).await, StatusType::Success);
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
    assert!(snapshots(&format!("medusa-{name}")).await.is_empty(), "the snapshot is still there");
    let node = cassandra().await.ip().to_string();
    for word in ["started", "finished"] {
        let marks = sidecar.keys().into_iter().filter(|key| key.contains(&format!("/{name}/{word}_{node}_"))).count();
        assert_eq!(marks, 1, "{word}");
    }
    last
}

async fn stopped_while_uploading(full: bool, kill: bool) {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, &slow(LONG).await).await;
    let name = format!("upload-{}-{}", if full { "full" } else { "diff" }, if kill { "kill" } else { "term" });
    rows("stops", 0, 20, 50).await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, &name, full).await.unwrap();
    let states = sidecar.states(&claim, &name, |state| state.files_done > 10).await;
    assert_eq!(phase(states.last().unwrap()), Phase::Uploading);
    let taken = snapshots(&format!("medusa-{name}")).await;
    assert!(!taken.is_empty());
    if kill {
        sidecar.kill();
    } else {
        assert!(sidecar.stop().await.success(), "{}", sidecar.log());
    }
    // Rows that come now are not of this backup: it goes on with its snapshot.
    rows("stops", 1000, 20, 50).await;
    shared().flush("shop").await;
    assert_eq!(snapshots(&format!("medusa-{name}")).await, taken);
    sidecar.start().await;
    assert_eq!(status(&sidecar, &name).await, StatusType::InProgress);
    let listed = sidecar.medusa().await.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.overall_status(), StatusType::InProgress);
    let last = ends_right(&sidecar, &claim, &name).await;
    assert_eq!(
        last.files_total,
        taken.iter().filter(|file| !file.ends_with("manifest.json") && !file.ends_with("schema.cql")).count() as u64
    );
    assert!(last.files_reused > 0 || full, "what was uploaded before was read again: {last:?}");
}

#[tokio::test]
async fn a_differential_backup_goes_on_after_a_kill() {
    stopped_while_uploading(false, true).await;
}

#[tokio::test]
async fn a_differential_backup_goes_on_after_a_stop() {
    stopped_while_uploading(false, false).await;
}

#[tokio::test]
async fn a_full_backup_goes_on_after_a_kill() {
    stopped_while_uploading(true, true).await;
}

/// Killed again and again, at any moment from the first on: one good backup in the end.
async fn killed_again_and_again(sidecar: &mut Sidecar, name: &str, first_epoch: u64, waits: impl Iterator<Item = u64>) {
    let claim = Claim { epoch: first_epoch, ..sidecar.claim() };
    sidecar.begin(&claim, name, true).await.unwrap();
    let mut epoch = first_epoch;
    for wait in waits {
        epoch += 1;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        sidecar.kill();
        sidecar.start().await;
        let again = sidecar.begin(&Claim { epoch, ..claim.clone() }, name, false).await;
        assert!(again.is_err(), "another mode was accepted");
        sidecar.begin(&Claim { epoch, ..claim.clone() }, name, true).await.unwrap();
    }
    ends_right(sidecar, &Claim { epoch: epoch + 1, ..claim }, name).await;
}

#[tokio::test]
async fn a_backup_survives_kills_at_any_moment() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, &slow(LONG).await).await;
    killed_again_and_again(&mut sidecar, "moments", 1, (1..=10).map(|round| round * 170)).await;
}

#[tokio::test]
#[ignore = "takes an hour: cargo nightly"]
async fn night_of_kills_of_a_backup() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, &slow(LONG).await).await;
    for round in 0..50_u64 {
        let waits = (0..10).map(|_| rand::random_range(0..1500));
        killed_again_and_again(&mut sidecar, &format!("night-{round:02}"), 1 + round * 20, waits).await;
    }
}

/// Hazard n. Its snapshot is gone when it comes back (a node that was restarted with auto-clear, an operator's hand): a new one.
#[tokio::test]
async fn a_snapshot_that_is_not_whole_is_taken_anew() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, &slow(LONG).await).await;
    rows("anew", 0, 20, 50).await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, "anew", true).await.unwrap();
    sidecar.states(&claim, "anew", |state| state.files_done > 20).await;
    sidecar.kill();
    let gone = snapshots("medusa-anew").await;
    std::fs::remove_file(gone.iter().find(|file| file.ends_with("nb-1-big-Data.db")).unwrap()).unwrap();
    rows("anew", 500, 20, 50).await;
    sidecar.start().await;
    ends_right(&sidecar, &claim, "anew").await;
}

/// Hazard n. A failed attempt leaves things in the bucket and a snapshot: the next one uses none of it.
#[tokio::test]
async fn another_attempt_starts_from_nothing() {
    let mut sidecar = Sidecar::launch(Bucket::s3().await, &slow(LONG).await).await;
    rows("attempts", 0, 20, 50).await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, "attempts-one", true).await.unwrap();
    sidecar.states(&claim, "attempts-one", |state| state.files_done > 10).await;
    // The bucket goes away, for longer than the sidecar waits.
    let Bucket::S3(server) = &mut sidecar.bucket else { panic!("not S3") };
    let hidden = server.folder().join("backups.away");
    let shown = server.folder().join("backups");
    std::fs::rename(&shown, &hidden).unwrap();
    let failed = sidecar.follow(&claim, "attempts-one").await;
    assert_eq!(phase(&failed), Phase::Failed, "{failed:?}");
    assert!(failed.reason.contains("bucket"), "{failed:?}");
    assert!(snapshots("medusa-attempts-one").await.is_empty(), "the snapshot is still there");
    // The server makes the folder anew when something is put into it.
    let _ = std::fs::remove_dir_all(&shown);
    std::fs::rename(&hidden, &shown).unwrap();
    assert_eq!(status(&sidecar, "attempts-one").await, StatusType::Failed);
    let listed = sidecar.medusa().await.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.overall_status(), StatusType::Failed);

    // A left-over snapshot of the same tag with older data, as a crash would leave it.
    cassandra().await.run_nodetool(&["snapshot", "-t", "medusa-attempts-one"]).await.unwrap();
    rows("attempts", 100, 30, 50).await;
    let same = sidecar.begin(&claim, "attempts-one", true).await.unwrap();
    assert_eq!(phase(&same), Phase::Failed, "the same attempt is what it was");
    let second = Claim { attempt: 2, ..claim };
    assert_eq!(phase(&sidecar.begin(&second, "attempts-one", true).await.unwrap()), Phase::Starting);
    ends_right(&sidecar, &second, "attempts-one").await;
    let node = cassandra().await.ip().to_string();
    let manifest = sidecar.manifest("", "attempts-one", &node);
    let tables = manifest
        .iter()
        .filter(|object| object.path.contains("/shop/attempts-") && object.path.ends_with("-big-Data.db"));
    assert!(tables.filter(|object| !object.path.contains("/.")).count() >= 2, "the rows that came later are not there");
}
