//! Snapshots by JMX over HTTP: with Jolokia's own agent, from Maven, in the Cassandra process.

use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use stheno_agent::config::Snapshots;
use stheno_agent::snapshot::{Error, Service};
use stheno_local::ports::Port;
use stheno_local::provision::cache_folder;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::sync::OnceCell;

use super::ground::{Bucket, Sidecar, cassandra, phase, rows, snapshots};
use super::medusa;

/// The agent's jar, in the cache folder, fetched on first use.
fn agent() -> PathBuf {
    let home = cache_folder().unwrap().join("jolokia-1.7.2");
    std::fs::create_dir_all(&home).unwrap();
    let lock = std::fs::File::create(home.join("lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let jar = home.join("jolokia-jvm-1.7.2.jar");
    if !jar.exists() {
        run(Command::new("mvn")
            .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"])
            .args(["-Dartifact=org.jolokia:jolokia-jvm:1.7.2", "-DoutputDirectory=."])
            .current_dir(&home));
    }
    jar
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

static LISTENING: OnceCell<(Port, String)> = OnceCell::const_new();

/// Where Jolokia listens in the node that all tests share; attached to it on first use.
pub(crate) async fn url() -> &'static str {
    let attach = async || {
        let port = Port::take().unwrap();
        let node = cassandra().await.id().unwrap().to_string();
        let number = port.number().to_string();
        let arguments = ["--host", "127.0.0.1", "--port", &number, "start", &node];
        run(Command::new("java").arg("-jar").arg(agent()).args(arguments));
        let url = format!("http://{}/jolokia/", port.address());
        (port, url)
    };
    &LISTENING.get_or_init(attach).await.1
}

/// The lines of medusa.ini that name it.
pub(crate) fn section(url: &str) -> String {
    format!("[kubernetes]\nenabled = 1\nuse_mgmt_api = 0\ncassandra_url = {url}\n")
}

/// By nodetool, which sidecars use where nothing is said: those beside nodes of their own do it in other tests, too.
#[tokio::test]
async fn a_snapshot_is_taken_and_cleared_by_nodetool() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    sidecar.stop().await;
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap() + "[kubernetes]\nenabled = 0\n";
    std::fs::write(&sidecar.ini, ini).unwrap();
    sidecar.start().await;
    rows("nodetool", 0, 20, 50).await;
    let state = sidecar.backup("nodetool", false).await;
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");
    assert!(state.files_total > 50, "{state:?}");
    assert!(snapshots("medusa-nodetool").await.is_empty(), "the snapshot is still there");
}

#[tokio::test]
async fn a_snapshot_is_taken_and_cleared_by_jolokia() {
    let url = url().await.to_owned();
    let mut sidecar = Sidecar::launch_with(Bucket::Local, "", &section(&url)).await;
    rows("jolokia", 0, 20, 50).await;
    let state = sidecar.backup("jolokia", false).await;
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");
    assert!(state.files_total > 50, "{state:?}");
    assert!(snapshots("medusa-jolokia").await.is_empty(), "the snapshot is still there");
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", "jolokia", "--enable-md5-checks"]).await;

    // Cassandra's own exceptions come with HTTP 200.
    let service = Service::new(&Snapshots::Jolokia { url }).unwrap();
    service.take("jolokia-twice").await.unwrap();
    let error = service.take("jolokia-twice").await.unwrap_err();
    assert!(matches!(error, Error::Jolokia { .. }) && error.to_string().contains("already exists"), "{error}");
    service.clear("jolokia-twice").await.unwrap();
    service.clear("jolokia-never").await.unwrap();

    sidecar.stop().await;
    let closed = Port::take().unwrap();
    sidecar.configure("", &section(&format!("http://{}/jolokia/", closed.address()))).await;
    sidecar.start().await;
    let state = sidecar.backup("nobody-there", false).await;
    assert_eq!(phase(&state), Phase::Failed, "{state:?}");
    assert!(state.reason.starts_with("nothing answers at http://") && state.retryable, "{state:?}");
}
