//! Snapshots by JMX over HTTP: with Jolokia's own agent, from Maven, in the Cassandra process.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};
use stheno_agent::config;
use stheno_agent::snapshot::{Error, Service};
use stheno_local::cassandra::{self, Cassandra};
use stheno_local::ports::Port;
use stheno_local::testing;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ground::{Bucket, Sidecar, Snapshots, phase, rows, snapshots};
use super::medusa;
use crate::support::registries;

/// The agent.
fn agent() -> PathBuf {
    registries::jar("org.jolokia:jolokia-jvm:1.7.2", "jolokia-1.7.2", "jolokia-jvm-1.7.2.jar")
}

/// Jolokia in a node: the agent comes with its virtual machine, for attaching it, or nodetool, takes another one each time.
pub(crate) struct Jolokia(Port);

impl Jolokia {
    pub(crate) fn take() -> Self {
        Self(Port::take().unwrap())
    }

    /// What makes a node's virtual machine listen.
    pub(crate) fn option(&self) -> String {
        format!("-javaagent:{}=host=127.0.0.1,port={}", agent().display(), self.0.number())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jolokia/", self.0.address())
    }

    /// A node of its own that listens.
    pub(crate) async fn node(mut options: cassandra::Options) -> (Cassandra, Self) {
        let jolokia = Self::take();
        options.java.push(jolokia.option());
        (testing::cassandra_with(&options).await.unwrap(), jolokia)
    }

    /// As `nodetool flush`.
    pub(crate) async fn flush(&self, keyspace: &str) {
        self.call("forceKeyspaceFlush(java.lang.String,[Ljava.lang.String;)", json!([keyspace, []])).await;
    }

    /// As `nodetool compact`.
    pub(crate) async fn compact(&self, keyspace: &str) {
        let operation = "forceKeyspaceCompaction(boolean,java.lang.String,[Ljava.lang.String;)";
        self.call(operation, json!([false, keyspace, []])).await;
    }

    async fn call(&self, operation: &str, arguments: Value) {
        let asked = json!({
            "type": "exec",
            "mbean": "org.apache.cassandra.db:type=StorageService",
            "operation": operation,
            "arguments": arguments,
        })
        .to_string();
        let mut stream = TcpStream::connect(self.0.address()).await.unwrap();
        let head = format!("POST /jolokia/ HTTP/1.0\r\nContent-Length: {}\r\n\r\n", asked.len());
        stream.write_all((head + &asked).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(r#""status":200"#), "{operation}: {answer}");
    }
}

static SHARED: OnceLock<Jolokia> = OnceLock::new();

/// That of the node that all tests share.
pub(crate) fn shared() -> &'static Jolokia {
    SHARED.get_or_init(Jolokia::take)
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
    sidecar.beside.snapshots = Snapshots::AsConfigured;
    sidecar.start().await;
    rows("nodetool", 0, 20, 50).await;
    let state = sidecar.backup("nodetool", false).await;
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");
    assert!(state.files_total > 50, "{state:?}");
    assert!(snapshots("medusa-nodetool").await.is_empty(), "the snapshot is still there");
}

#[tokio::test]
async fn a_snapshot_is_taken_and_cleared_by_jolokia() {
    let url = shared().url();
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    rows("jolokia", 0, 20, 50).await;
    let state = sidecar.backup("jolokia", false).await;
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");
    assert!(state.files_total > 50, "{state:?}");
    assert!(snapshots("medusa-jolokia").await.is_empty(), "the snapshot is still there");
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", "jolokia", "--enable-md5-checks"]).await;

    // Cassandra's own exceptions come with HTTP 200.
    let service = Service::new(&config::Snapshots::Jolokia { url }).unwrap();
    service.take("jolokia-twice").await.unwrap();
    let error = service.take("jolokia-twice").await.unwrap_err();
    assert!(matches!(error, Error::Jolokia { .. }) && error.to_string().contains("already exists"), "{error}");
    service.clear("jolokia-twice").await.unwrap();
    service.clear("jolokia-never").await.unwrap();

    sidecar.stop().await;
    let closed = Port::take().unwrap();
    sidecar.beside.snapshots = Snapshots::Jolokia(format!("http://{}/jolokia/", closed.address()));
    sidecar.start().await;
    let state = sidecar.backup("nobody-there", false).await;
    assert_eq!(phase(&state), Phase::Failed, "{state:?}");
    assert!(state.reason.starts_with("nothing answers at http://") && state.retryable, "{state:?}");
}
