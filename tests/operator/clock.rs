//! Wall clocks that are set while operators run: who cannot trust its clock does nothing, says so, and lets another lead.

use super::ground::{Ground, Operator, until};
use kube::api::Api;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stheno_rpc::sidecar::node_state::Phase;

const DAY: i64 = 86_400;

/// A clock of one process's own.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Self {
        let clock = Self(folder.join(name));
        clock.set(0);
        clock
    }

    /// Seconds beside the real time.
    fn set(&self, seconds: i64) {
        use std::io::{Seek as _, Write as _};
        // In place: the process has mapped the file.
        let mut file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.0).unwrap();
        file.rewind().unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }
}

/// The library that sets clocks, compiled by the compiler that links every program here.
fn library(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock.c");
    let mut compiler = Command::new("cc");
    let built = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status().unwrap();
    assert!(built.success());
    library
}

fn operator(ground: &Ground, library: &Path, clock: &Clock) -> Operator {
    let url = ground.nats.url();
    ground.start(|command| {
        command.args(["--nats-url", &url]).env("LD_PRELOAD", library).env("STHENO_TEST_CLOCK", &clock.0)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_a_day_ahead_and_back_cost_the_lead_and_nothing_else() {
    let mut ground = Ground::new("clocks").await;
    ground.datacenter("dc1", 2, true).await;
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let (clock_a, clock_b) = (Clock::new(folder.path(), "a"), Clock::new(folder.path(), "b"));
    let mut a = operator(&ground, &library, &clock_a);
    a.leads().await;
    let mut b = operator(&ground, &library, &clock_b);
    b.says(|status, text| status == 200 && text.starts_with("following")).await;
    ground.job("nightly").await;
    until("all are watched", || ground.nodes.iter().all(|node| node.sidecar.count("Watch") == 1)).await;

    clock_a.set(DAY);
    let said = a.says(|status, text| status == 503 && text.starts_with("ClockSkew")).await;
    assert!(said.contains("s ahead of that of the NATS server"), "{said}");
    assert!(said.contains("Nothing is done until the clocks are set right."), "{said}");
    b.leads().await;
    assert!(ground.jobs().get("nightly").await.unwrap().status.unwrap().finish_time.is_none(), "it has not ended");

    clock_b.set(-DAY);
    let said = b.says(|status, text| status == 503 && text.starts_with("ClockSkew")).await;
    assert!(said.contains("s behind that of the NATS server"), "{said}");
    let why = ground.map_once("stheno-status", "conditions", |text| text.contains("No process leads")).await;
    assert!(why.contains("\"type\": \"Led\"") && why.contains("clock"), "{why}");
    // Nobody takes the Lease only to give it back.
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(ground.admin.clone(), &ground.namespace);
    let before = leases.get("stheno-operator").await.unwrap();
    assert_eq!(before.spec.as_ref().unwrap().holder_identity.as_deref(), Some(""));
    let calls: Vec<usize> = ground.nodes.iter().map(|node| node.sidecar.count("StartBackup")).collect();
    ground.job("second").await;
    ground.list("nightly");
    ground.list("second");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        leases.get("stheno-operator").await.unwrap().metadata.resource_version,
        before.metadata.resource_version
    );
    let now: Vec<usize> = ground.nodes.iter().map(|node| node.sidecar.count("StartBackup")).collect();
    assert_eq!(now, calls, "nothing is called");

    clock_a.set(0);
    a.leads().await;
    for name in ["nightly", "second"] {
        let status = ground.finished(name).await.status.unwrap();
        assert_eq!((status.finished.len(), status.failed.len()), (2, 0), "{status:#?}");
    }
    clock_b.set(0);
    b.says(|status, text| status == 200 && text.starts_with("following")).await;
    ground.verified();
    assert_eq!(a.stop().await, Some(0));
}
