//! Operations, attempts and epochs: what may be repeated, what is refused, and that it holds over a restart.

use stheno_rpc::medusa::{BackupRequest, BackupStatusRequest, StatusType};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::{CapabilitiesRequest, Claim, WatchRequest};
use tonic::Code;

use super::ground::{Bucket, Sidecar, cassandra, phase, rows};

fn code(outcome: Result<stheno_rpc::sidecar::NodeState, tonic::Status>) -> Code {
    outcome.expect_err("accepted").code()
}

/// Hazard d.
#[tokio::test]
async fn a_start_may_be_repeated_and_is_exclusive() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    rows("claims", 0, 20, 50).await;
    let (claim, other) = (sidecar.claim(), sidecar.claim());
    let first = sidecar.begin(&claim, "claims-one", false).await.unwrap();
    assert_eq!((phase(&first), first.operation.as_str(), first.attempt), (Phase::Starting, "operation-0", 1));
    let again = sidecar.begin(&claim, "claims-one", false).await.unwrap();
    assert!(matches!(phase(&again), Phase::Starting | Phase::Uploading), "{again:?}");
    // One at a time, whatever the name; and one operation makes one backup.
    assert_eq!(code(sidecar.begin(&other, "claims-two", false).await), Code::Aborted);
    assert_eq!(code(sidecar.begin(&other, "claims-one", false).await), Code::Aborted);
    assert_eq!(code(sidecar.begin(&claim, "claims-two", false).await), Code::FailedPrecondition);
    assert_eq!(code(sidecar.begin(&claim, "claims-one", true).await), Code::FailedPrecondition);
    // A later attempt joins what runs.
    let later = Claim { attempt: 2, ..claim.clone() };
    assert_eq!(sidecar.begin(&later, "claims-one", false).await.unwrap().attempt, 2);
    assert_eq!(code(sidecar.begin(&claim, "claims-one", false).await), Code::FailedPrecondition);

    let states = sidecar.states(&later, "claims-one", |_| false).await;
    let last = states.last().unwrap();
    assert_eq!((phase(last), last.attempt), (Phase::Finished, 2), "{states:?}");
    assert!(last.started_ms > 0 && last.finished_ms >= last.started_ms);
    for pair in states.windows(2) {
        assert!(pair[0].phase <= pair[1].phase && pair[0] != pair[1], "{pair:?}");
    }
    // Complete: success for the same operation, taken for another.
    assert_eq!(&sidecar.begin(&later, "claims-one", false).await.unwrap(), last);
    assert_eq!(code(sidecar.begin(&other, "claims-one", false).await), Code::AlreadyExists);
    let nobody = Claim { operation: "nobody".to_owned(), ..other };
    assert_eq!(phase(&sidecar.follow(&nobody, "claims-one").await), Phase::NotFound);
}

#[tokio::test]
async fn a_leader_that_was_replaced_is_refused_over_a_restart_too() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let leader = |epoch| Claim { operation: "epochs".to_owned(), attempt: 1, epoch };
    assert_eq!(sidecar.ours().await.capabilities(CapabilitiesRequest {}).await.unwrap().into_inner().epoch, 0);
    sidecar.begin(&leader(7), "epochs-one", false).await.unwrap();
    assert_eq!(code(sidecar.begin(&leader(6), "epochs-one", false).await), Code::FailedPrecondition);
    sidecar.kill();
    sidecar.start().await;
    assert_eq!(code(sidecar.begin(&leader(6), "epochs-one", false).await), Code::FailedPrecondition);
    assert_eq!(code(sidecar.begin(&leader(0), "epochs-one", false).await), Code::FailedPrecondition);
    let watch = WatchRequest { claim: Some(leader(6)), name: "epochs-one".to_owned() };
    assert_eq!(sidecar.ours().await.watch(watch).await.unwrap_err().code(), Code::FailedPrecondition);
    let last = sidecar.follow(&leader(8), "epochs-one").await;
    assert_eq!(phase(&last), Phase::Finished, "{last:?}");
    let capabilities = sidecar.ours().await.capabilities(CapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(capabilities.epoch, 8);
    assert_eq!(capabilities.node, cassandra().await.ip().to_string());
    assert_eq!((capabilities.storage_provider.as_str(), capabilities.bucket.as_str()), ("local", "backups"));
    assert!(capabilities.features.iter().any(|feature| feature == "watch"));
}

#[tokio::test]
async fn what_is_no_claim_or_no_name_gets_one_sentence() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    let claim = sidecar.claim();
    for (claim, name, word) in [
        (Claim { operation: String::new(), ..claim.clone() }, "fine", "operation"),
        (Claim { attempt: 0, ..claim.clone() }, "fine", "attempt"),
        (claim.clone(), "", "no backup name"),
        (claim.clone(), "data-2026", "begins with \"data\""),
        (claim.clone(), "my-tokenmap", "tokenmap"),
        (claim.clone(), "../../etc", "letters, digits"),
        (claim.clone(), "> *", "letters, digits"),
    ] {
        let refused = sidecar.begin(&claim, name, false).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
        assert!(refused.message().contains(word), "{}", refused.message());
    }
    assert_eq!(phase(&sidecar.backup("night-1", false).await), Phase::Finished);
    for name in ["night-10", "night"] {
        let refused = sidecar.begin(&sidecar.claim(), name, false).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("begin alike"), "{}", refused.message());
    }
}

/// A volume that was lost: the claim in the bucket still tells whose a backup is.
#[tokio::test]
async fn the_bucket_remembers_whose_a_backup_is() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let (claim, other) = (sidecar.claim(), sidecar.claim());
    sidecar.begin(&claim, "owned-one", false).await.unwrap();
    let done = sidecar.follow(&claim, "owned-one").await;
    sidecar.stop().await;
    std::fs::remove_dir_all(&sidecar.volume).unwrap();
    sidecar.start().await;
    assert_eq!(code(sidecar.begin(&other, "owned-one", false).await), Code::AlreadyExists);
    let again = sidecar.begin(&claim, "owned-one", false).await.unwrap();
    assert_eq!(
        (phase(&again), again.started_ms, again.finished_ms),
        (Phase::Finished, done.started_ms, done.finished_ms)
    );
    assert_eq!((again.files_total, again.bytes_total), (done.files_total, done.bytes_total));
}

/// Stopped right after the manifest: the index is completed from what the bucket holds, with no new snapshot.
#[tokio::test]
async fn an_index_that_was_not_finished_is_completed() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let node = cassandra().await.ip().to_string();
    let claim = sidecar.claim();
    sidecar.begin(&claim, "halfway-one", false).await.unwrap();
    let done = sidecar.follow(&claim, "halfway-one").await;
    sidecar.stop().await;
    let marks: Vec<String> = sidecar.keys().into_iter().filter(|key| key.starts_with("index/")).collect();
    let manifest = sidecar.object(&format!("{node}/halfway-one/meta/manifest.json"));
    for key in
        marks.iter().filter(|key| key.contains("/finished_") || key.contains("/manifest_") || key.contains("latest"))
    {
        std::fs::remove_file(sidecar.objects().join(key)).unwrap();
    }
    std::fs::remove_dir_all(&sidecar.volume).unwrap();
    sidecar.start().await;
    sidecar.begin(&claim, "halfway-one", false).await.unwrap();
    let again = sidecar.follow(&claim, "halfway-one").await;
    assert_eq!(
        (phase(&again), again.started_ms, again.finished_ms),
        (Phase::Finished, done.started_ms, done.finished_ms)
    );
    assert_eq!(sidecar.keys().into_iter().filter(|key| key.starts_with("index/")).collect::<Vec<_>>(), marks);
    assert_eq!(sidecar.object(&format!("{node}/halfway-one/meta/manifest.json")), manifest);
    super::medusa::cli(&sidecar.ini, &["verify", "--backup-name", "halfway-one"]).await;
}

/// Hazard n. A stock client asks again after a failure: that is another attempt; of a finished backup it hears the success.
#[tokio::test]
async fn a_stock_client_may_try_again_after_a_failure() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    sidecar.stop().await;
    sidecar.by_nodetool("/nowhere/nodetool".into());
    sidecar.configure("", "").await;
    sidecar.start().await;
    let request = || BackupRequest { name: "stock-one".to_owned(), mode: 0 };
    let refused = sidecar.medusa().await.backup(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert!(refused.message().contains("cannot run \"/nowhere"), "{}", refused.message());
    let status = || BackupStatusRequest { backup_name: "stock-one".to_owned() };
    assert_eq!(sidecar.medusa().await.backup_status(status()).await.unwrap().into_inner().status(), StatusType::Failed);

    sidecar.stop().await;
    sidecar.by_nodetool(cassandra().await.nodetool());
    sidecar.configure("", "").await;
    sidecar.start().await;
    assert_eq!(sidecar.medusa().await.backup_status(status()).await.unwrap().into_inner().status(), StatusType::Failed);
    sidecar.medusa().await.backup(request()).await.unwrap();
    assert_eq!(
        sidecar.medusa().await.backup_status(status()).await.unwrap().into_inner().status(),
        StatusType::Success
    );
    super::medusa::cli(&sidecar.ini, &["verify", "--backup-name", "stock-one"]).await;
    assert_eq!(sidecar.medusa().await.backup(request()).await.unwrap_err().code(), Code::AlreadyExists);
}
