//! Stores that are put back to an older copy of themselves: what was done since is neither repeated nor denied.

use super::house::House;
use super::truth::Manifest;
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
    let mut house = House::simple("putback").await;
    let mut operator = house.operators.pop().unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_put_back_stops_all_effects_and_repeats_none() {
    let mut plane = crate::operator::ground::control_plane().await;
    let mut house = House::on(&plane, "etcdback").await;
    let mut operator = house.operators.pop().unwrap();
    operator.start();
    operator.leads().await;
    house.ground.job("done-before").await;
    house.ground.finished("done-before").await;
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("etcd");
    plane.stop_api_server().await;
    plane.stop_etcd().await;
    copy_folder(&plane.etcd_dir(), &copied);
    plane.start_etcd().await.unwrap();
    plane.start_api_server().await.unwrap();
    operator.leads().await;
    for name in ["lost-one", "lost-two"] {
        house.ground.job(name).await;
        house.ground.finished(name).await;
        house.ground.backup_status(name).await;
    }
    let done = ["done-before", "lost-one", "lost-two"];
    let manifests = done.map(|name| Manifest::of(&house, name));
    plane.stop_api_server().await;
    plane.stop_etcd().await;
    put_back(&copied, &plane.etcd_dir());
    plane.start_etcd().await.unwrap();
    plane.start_api_server().await.unwrap();

    // A jobs of a lost name comes again, as from GitOps, and a new one.
    house.ground.job("lost-two").await;
    house.ground.job("not-yet").await;
    for round in 0..2 {
        let conditions = house.ground.map_once("stheno-status", "conditions", |text| text.contains("went back")).await;
        assert!(conditions.contains("\"type\": \"Observable\""), "{conditions}");
        sleep(Duration::from_secs(4)).await;
        for name in ["lost-two", "not-yet"] {
            let status = house.ground.jobs().get(name).await.unwrap().status.unwrap_or_default();
            let begun = (status.start_time, status.in_progress, status.finished, status.failed);
            assert_eq!(begun, (None, vec![], vec![], vec![]), "{name} was begun");
        }
        assert!(!house.agent.backup("not-yet").exists(), "a sidecar was called");
        // A new process knows it from the log.
        if round == 0 {
            operator.stop().await;
            operator.start();
            operator.leads().await;
        }
    }
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
