//! A disk that is full under the private log: the operator says so, loses nothing, and goes on when there is room.

use super::ground::Ground;
use stheno_local::provision::{self, Part};
use stheno_rpc::sidecar::node_state::Phase;

/// A small disk of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> nix::Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let (kind, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
        nix::mount::mount(Some("tmpfs"), folder.path(), kind, flags, Some(&*options)).map(|()| Self(folder))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        for size in [64 << 10, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The process id of the private server.
fn server(data: &std::path::Path) -> u64 {
    let text = std::fs::read(data.join("nats/server.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["pid"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    // A test that is left out would look green.
    let disk =
        SmallDisk::mount("16m").expect("the right to mount a small tmpfs: root, or `unshare -rm` around the tests");
    let mut ground = Ground::new("full-disk").await;
    ground.datacenter("dc1", 1, true).await;
    let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
    let program = parts.path(Part::NatsServer).unwrap().to_owned();
    let mut operator = ground.embedded(disk.0.path(), &program);
    operator.leads().await;
    ground.list("before");
    ground.nodes[0].sidecar.phase(Phase::Finished);
    ground.job("before").await;
    ground.finished("before").await;

    disk.fill();
    ground.list("after");
    ground.job("after").await;
    let said = operator.says(|status, text| status == 503 && text.starts_with("LogWritable")).await;
    let folder = disk.0.path().display().to_string();
    assert_eq!(
        said,
        format!(
            "LogWritable: the private nats-server stores nothing, because the disk of the data folder {folder} is full: \
             make room, and it goes on"
        )
    );
    let shown = ground.map_once("stheno-status", "conditions", |text| text.contains("is full: make room")).await;
    assert!(shown.contains("\"type\": \"LogWritable\""), "{shown}");
    assert!(ground.event_once("LogWritableStoresNothing").await.contains("is full: make room"));

    // nats-server writes no more once a write has failed, room or not: it is started again.
    let pid = server(disk.0.path());
    disk.free();
    let status = ground.finished("after").await.status.unwrap();
    assert_eq!(status.finished.len(), 1, "{status:?}");
    let jobs: Vec<String> = ground.nodes[0].sidecar.calls();
    let starts = jobs.iter().filter(|call| call.starts_with("StartBackup before"));
    assert_eq!(starts.count(), 1, "what had ended is known: {jobs:?}");
    assert_ne!(server(disk.0.path()), pid, "another server");
    operator.says(|status, _| status == 200).await;
    assert_eq!(operator.stop().await, Some(0));
}
