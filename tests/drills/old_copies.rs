//! Stores that are put back to an older copy of themselves: what was done since is neither repeated nor denied.

use crate::house::House;
use crate::operators::{Place, Seat};
use crate::truth::Manifest;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn put_back(copy: &Path, place: &Path) {
    std::fs::remove_dir_all(place).unwrap();
    copy_folder(copy, place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_put_back_is_refused_until_a_person_accepts_it_and_nothing_is_repeated() {
    let mut house = House::empty("putback").await;
    let place = Place::Url(house.ground.nats.url());
    let mut operator = Seat::new("operator", "putback", &house.ground.account, &place);
    operator.start();
    operator.leads().await;
    house.ground.job("done-before").await;
    house.ground.finished("done-before").await;

    // A backup that is under way when the copy is taken, and over when it is put back.
    house.ground.job("under-way").await;
    let running = |job: &stheno_crds::MedusaBackupJob| job.status.as_ref().is_some_and(|s| s.in_progress.len() == 1);
    house.ground.job_once("under-way", running).await;
    house.agent.kill();
    operator.stop().await;
    house.ground.nats.stop().await;
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("store");
    copy_folder(house.ground.nats.store_dir(), &copied);
    house.ground.nats.start().await.unwrap();
    house.agent.start().await;
    // Terms that the copy knows nothing of: the sidecar has seen their calls.
    for name in ["in-term-two", "in-term-three", "in-term-four"] {
        operator.start();
        operator.leads().await;
        house.ground.job(name).await;
        house.ground.finished(name).await;
        operator.stop().await;
    }
    let done = ["done-before", "under-way", "in-term-two", "in-term-three", "in-term-four"];
    let statuses = statuses(&house, &done).await;
    let manifests = done.map(|name| Manifest::of(&house, name));
    house.ground.nats.stop().await;
    put_back(&copied, house.ground.nats.store_dir());
    house.ground.nats.start().await.unwrap();

    operator.start();
    let said = operator.says("what is wrong", |status, text| status == 503 && text.starts_with("LogIntegrity")).await;
    assert!(said.contains("an older copy was put back"), "{said}");
    house.ground.job("not-yet").await;
    sleep(Duration::from_secs(3)).await;
    assert!(house.ground.jobs().get("not-yet").await.unwrap().status.is_none(), "something was decided");
    let said = operator.readiness().await.unwrap();
    assert_eq!(said.0, 503, "{said:?}");

    // The person accepts.
    house.ground.maps().delete("stheno-log", &Default::default()).await.unwrap();
    operator.stop().await;
    operator.start();
    operator.leads().await;
    let job = house.ground.finished("not-yet").await.status.unwrap();
    assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(self::statuses(&house, &done).await, statuses, "what was done is denied");
    assert_eq!(done.map(|name| Manifest::of(&house, name)), manifests, "a backup was made again");
    operator.stop().await;
    let (good, said, error) = house.stheno(&["audit", "verify"]).await;
    assert!(good, "{said}{error}");
}

/// What kubectl shows of these jobs and their backups, but for when things were told.
async fn statuses(house: &House, names: &[&str]) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    for name in names {
        let backup = house.ground.backup_status(name).await;
        let job = house.ground.finished(name).await.status.unwrap();
        all.push(serde_json::json!([name, job.finished, job.failed, backup]));
    }
    all
}
