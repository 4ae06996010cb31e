//! An etcd that was put back to an older copy: nothing is concluded or run again, and a person has the last word.

use super::ground::Ground;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use stheno_local::control_plane::ControlPlane;
use stheno_rpc::sidecar::node_state::Phase;

async fn down(plane: &mut ControlPlane) {
    plane.stop_api_server().await;
    plane.stop_etcd().await;
}

async fn up(plane: &mut ControlPlane) {
    plane.start_etcd().await.unwrap();
    plane.start_api_server().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_is_accepted_by_a_person_and_what_has_ended_stays_ended() {
    let mut plane = super::ground::control_plane().await;
    let mut ground = Ground::on(&plane, "older-store").await;
    ground.datacenter("dc1", 1, true).await;
    ground.nodes[0].sidecar.phase(Phase::Finished);
    for name in ["nightly", "waiting", "lost", "marker"] {
        ground.list(name);
    }
    // The copy knows the job, and nothing of what becomes of it.
    ground.job("nightly").await;
    down(&mut plane).await;
    let copy = plane.etcd_dir().with_extension("copy");
    copy_folder(&plane.etcd_dir(), &copy);
    up(&mut plane).await;

    let mut operator = ground.operator();
    operator.leads().await;
    ground.finished("nightly").await;
    ground.job("lost").await;
    ground.finished("lost").await;
    ground.jobs().delete("nightly", &Default::default()).await.unwrap();
    // Something that is recorded after it: the deletion was seen.
    ground.job("marker").await;
    ground.finished("marker").await;
    assert_eq!(ground.nodes[0].sidecar.count("StartBackup"), 3);
    ground.jobs().delete("marker", &Default::default()).await.unwrap();

    down(&mut plane).await;
    std::fs::remove_dir_all(plane.etcd_dir()).unwrap();
    copy_folder(&copy, &plane.etcd_dir());
    up(&mut plane).await;
    let told = |text: &str| text.contains("WentBackwards");
    let said = ground.map_once("stheno-status", "conditions", told).await;
    let number = said.split("stheno.io/accept-api=").nth(1).expect("the sentence says how").chars();
    let number: String = number.take_while(char::is_ascii_digit).collect();
    assert!(said.contains("kubectl annotate configmap stheno-log -n older-store"), "{said}");
    ground.job("waiting").await;
    ground.job_once("waiting", |job| job.status.as_ref().is_some_and(|status| status.message.is_some())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls = |ground: &Ground, name: &str| {
        let start = format!("StartBackup {name} ");
        ground.nodes[0].sidecar.calls().iter().filter(|call| call.starts_with(&start)).count()
    };
    assert_eq!((calls(&ground, "waiting"), calls(&ground, "nightly")), (0, 1), "nothing is started");

    let accept = json!({ "metadata": { "annotations": { "stheno.io/accept-api": number } } });
    ground.maps().patch("stheno-log", &PatchParams::default(), &Patch::Merge(accept)).await.unwrap();
    ground.finished("waiting").await;
    // The one that came back is shown as it ended, and is not run again.
    let back = ground.finished("nightly").await;
    assert!(back.status.unwrap().conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True"));
    assert_eq!((calls(&ground, "waiting"), calls(&ground, "nightly")), (1, 1));
    assert_eq!(operator.stop().await, Some(0));

    // The next process does not take the versions of before for newer ones.
    let mut next = ground.operator();
    next.leads().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let good = ground.map_once("stheno-status", "conditions", |text| !text.contains("WentBackwards")).await;
    assert!(good.contains("Every kind can be listed."), "{good}");
    assert_eq!(next.stop().await, Some(0));
    ground.verified();
}

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
