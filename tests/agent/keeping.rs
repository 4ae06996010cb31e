//! Our extension for backups that are there: listed by page, verified, and one that runs is cancelled.

use stheno_rpc::medusa::PrepareRestoreRequest;
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::{CancelRequest, Claim, ListBackupsRequest, VerifyRequest, VerifyState, listed_backup};
use tonic::{Code, Status};

use super::ground::{Bucket, ELSEWHERE, Sidecar, phase, rows, slow, snapshots};

async fn verify(sidecar: &Sidecar, name: &str, read: bool) -> Result<(VerifyState, Vec<(String, String)>), Status> {
    let request = VerifyRequest { name: name.to_owned(), read, bandwidth: 0 };
    let mut stream = sidecar.keeper().await.verify(request).await?.into_inner();
    let (mut last, mut faults) = (VerifyState::default(), Vec::new());
    while let Some(state) = stream.message().await? {
        faults.extend(state.faults.iter().map(|fault| (fault.key.clone(), fault.reason.clone())));
        last = state;
    }
    assert!(last.done);
    assert_eq!((last.objects_done, last.bytes_done), (last.objects_total, last.bytes_total));
    Ok((last, faults))
}

#[tokio::test]
async fn what_medusa_wrote_is_verified() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    for (name, objects) in [("b1", 280), ("b2", 344), ("f1", 344)] {
        let (last, faults) = verify(&sidecar, name, true).await.unwrap();
        assert_eq!((last.objects_total, faults), (objects, vec![]), "{name}");
    }
    // Medusa's local store gives what it reuses no hash.
    assert!(verify(&sidecar, "b2", true).await.unwrap().0.unhashed > 0);

    let objects = sidecar.manifest("", "f1", ELSEWHERE);
    let [gone, short, other] = [0, 1, 2].map(|at| sidecar.objects().join(&objects[at].path));
    std::fs::remove_file(&gone).unwrap();
    std::fs::write(&short, "").unwrap();
    let mut content = std::fs::read(&other).unwrap();
    content[0] ^= 1;
    std::fs::write(&other, content).unwrap();
    let (_, mut faults) = verify(&sidecar, "f1", true).await.unwrap();
    faults.sort_by_key(|(key, _)| objects.iter().position(|object| object.path == *key));
    let reasons: Vec<&str> = faults.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(reasons[0], "it is not in the bucket");
    assert!(reasons[1].starts_with("it has 0 bytes instead of "), "{}", reasons[1]);
    assert_eq!(reasons[2], "its content has another hash than the manifest says");
    assert_eq!(verify(&sidecar, "f1", false).await.unwrap().1.len(), 2);

    assert_eq!(verify(&sidecar, "nobody", true).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(verify(&sidecar, "../b1", true).await.unwrap_err().code(), Code::InvalidArgument);
    std::fs::write(sidecar.objects().join("127.0.0.1/b1/meta/manifest.json"), "[").unwrap();
    assert_eq!(verify(&sidecar, "b1", true).await.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn files_in_parts_are_verified() {
    let storage = "multi_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB\nconcurrent_transfers = 4";
    let sidecar = Sidecar::launch(Bucket::s3().await, storage).await;
    rows("verified", 0, 40, 300_000).await;
    assert_eq!(phase(&sidecar.backup("verified", true).await), Phase::Finished);
    let (last, faults) = verify(&sidecar, "verified", true).await.unwrap();
    assert_eq!((last.unhashed, faults), (0, vec![]));
    let node = super::ground::cassandra().await.ip().to_string();
    let objects = sidecar.manifest("", "verified", &node);
    let parted = objects.iter().find(|object| object.md5.as_deref().unwrap().contains('-')).unwrap();
    let path = sidecar.objects().join(&parted.path);
    let mut content = std::fs::read(&path).unwrap();
    content[5 << 20] ^= 1;
    // In place: the server keeps its tags beside the file.
    use std::os::unix::fs::FileExt as _;
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&content, 0).unwrap();
    let (_, faults) = verify(&sidecar, "verified", true).await.unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, parted.path);
}

/// Hazard l: what is not complete is not prepared, and a key is no path.
#[tokio::test]
async fn only_a_complete_backup_is_prepared_for_a_restore() {
    let change = |bucket: &std::path::Path| {
        std::fs::remove_file(bucket.join("index/backup_index/b2/manifest_127.0.0.1.json")).unwrap();
    };
    let sidecar = Sidecar::over_medusas("", change).await;
    for (name, key, code) in [
        ("b2", "key", Code::FailedPrecondition),
        ("nobody", "key", Code::NotFound),
        ("b1", "../key", Code::InvalidArgument),
        ("b1", "", Code::InvalidArgument),
    ] {
        let request = PrepareRestoreRequest {
            backup_name: name.to_owned(),
            datacenter: "dc1".to_owned(),
            restore_key: key.to_owned(),
        };
        assert_eq!(sidecar.medusa().await.prepare_restore(request).await.unwrap_err().code(), code, "{name} {key}");
    }
    assert!(!sidecar.run.path().join(".restore_mapping").exists());
}

#[tokio::test]
async fn backups_are_listed_page_by_page() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let mut client = sidecar.keeper().await;
    let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListBackupsRequest { page_size: 2, page_token: token };
        let page = client.list_backups(request).await.unwrap().into_inner();
        for backup in &page.backups {
            assert_eq!(backup.status(), listed_backup::Status::Complete);
            assert_eq!((backup.nodes.len(), backup.nodes[0].tokens.len()), (1, 4));
        }
        names.extend(page.backups.iter().map(|backup| (backup.name.clone(), backup.objects, backup.differential)));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    let listed = |name: &str, objects, differential| (name.to_owned(), objects, differential);
    assert_eq!((names, pages), (vec![listed("b1", 280, true), listed("b2", 344, true), listed("f1", 344, false)], 2));
    let wrong = ListBackupsRequest { page_size: 2, page_token: "nonsense".to_owned() };
    assert_eq!(client.list_backups(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_backup_that_runs_is_cancelled() {
    let sidecar = Sidecar::launch(Bucket::s3().await, &slow(10).await).await;
    rows("cancelled", 0, 20, 50).await;
    let claim = sidecar.claim();
    let cancel = |claim: Claim, name: &str| CancelRequest { claim: Some(claim), name: name.to_owned() };
    let mut client = sidecar.keeper().await;
    let nobody = client.cancel(cancel(claim.clone(), "cancelled")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
    sidecar.begin(&claim, "cancelled", true).await.unwrap();
    sidecar.states(&claim, "cancelled", |state| state.files_done > 5).await;
    let late = Claim { epoch: 0, operation: "another".to_owned(), ..claim.clone() };
    assert_eq!(client.cancel(cancel(late, "cancelled")).await.unwrap_err().code(), Code::NotFound);
    let state = client.cancel(cancel(claim.clone(), "cancelled")).await.unwrap().into_inner().state.unwrap();
    assert_eq!((phase(&state), state.retryable), (Phase::Failed, false), "{state:?}");
    assert_eq!(state.reason, "the backup was cancelled");
    assert!(snapshots("medusa-cancelled").await.is_empty(), "the snapshot is still there");
    assert_eq!(client.cancel(cancel(claim.clone(), "cancelled")).await.unwrap().into_inner().state.unwrap(), state);
    // What it left goes with a deletion, and the name is free.
    let request = stheno_rpc::medusa::DeleteBackupRequest { name: "cancelled".to_owned() };
    sidecar.medusa().await.delete_backup(request).await.unwrap();
    assert!(sidecar.keys().iter().all(|key| !key.contains("cancelled")), "{:?}", sidecar.keys());
}
