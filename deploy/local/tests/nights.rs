//! What takes cass-operator's full waits or three nodes: `cargo nightly-ground`. The unmodified cass-operator runs here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod datacenter;
#[path = "nights/figures.rs"]
mod figures;
#[path = "nights/joining.rs"]
mod joining;

use std::time::Duration;

use datacenter::{Datacenter, condition, restore_template, settled};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use stheno_local::cluster::{Cluster, Options, Server};
use stheno_local::testing;
use tokio::time::Instant;

async fn datacenter(cluster: &Cluster, size: i32, racks: &[&str], script: &str) -> Datacenter {
    let spec = json!({"podTemplateSpec": restore_template(script)});
    Datacenter::create_as(cluster, "dc1", Server::Cassandra41, size, racks, &spec).await
}

/// A patch of the datacenter that gives medusa-restore another script: a change of the pods' template.
fn script(script: &str) -> Value {
    json!({"spec": {"podTemplateSpec": restore_template(script)}})
}

async fn carried(datacenter: &Datacenter, script: &str) -> Vec<bool> {
    let carries = |set: &k8s_openapi::api::apps::v1::StatefulSet| json!(set.spec).to_string().contains(script);
    datacenter.sets().await.iter().map(carries).collect()
}

/// What can be seen of a datacenter at one moment.
#[derive(Debug, Clone, PartialEq)]
struct Sight {
    stopped: bool,
    progress: String,
    settled: bool,
    /// Of the racks' StatefulSets.
    replicas: Vec<i32>,
    pods: usize,
}

async fn look(datacenter: &Datacenter) -> Sight {
    // The datacenter first: what it promises must hold of what is looked at after it.
    let now = datacenter.now().await;
    let sets = datacenter.sets().await;
    Sight {
        stopped: condition(&now, "Stopped") == "True",
        progress: now.data["status"]["cassandraOperatorProgress"].as_str().unwrap_or_default().to_owned(),
        settled: settled(&now),
        replicas: sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).collect(),
        pods: datacenter.pods().await.len(),
    }
}

/// T1, T4, T5, T7, T11: stopped, changed, started, with an init container that fails in between.
#[tokio::test]
#[ignore = "nightly: ten minutes with three nodes"]
async fn night_three_nodes_in_two_racks() {
    let cluster = testing::cluster(&Options::default()).await.unwrap();
    let datacenter = datacenter(&cluster, 3, &["r1", "r2"], "true first").await;
    datacenter.until_ready().await;
    // T11.
    let names: Vec<String> = datacenter.pods().await.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(names, ["test-dc1-r1-sts-0", "test-dc1-r1-sts-1", "test-dc1-r2-sts-0"]);
    let addresses = datacenter.addresses().await;

    // T1: Stopped and progress Ready, with every pod running, for seconds; racks end one after the other.
    let began = Instant::now();
    datacenter.stop().await;
    let mut sights: Vec<Sight> = Vec::new();
    datacenter
        .until("stopped", async || {
            let sight = look(&datacenter).await;
            if sights.last().is_none_or(|last| *last != sight) {
                eprintln!("{:9.1} {sight:?}", began.elapsed().as_secs_f64());
                sights.push(sight.clone());
            }
            sight.stopped && sight.settled && sight.pods == 0
        })
        .await;
    let all_running = |sight: &&Sight| sight.stopped && sight.progress == "Ready" && sight.pods == 3;
    assert!(sights.iter().any(|sight| all_running(&sight) && !sight.settled), "T1 has changed: {sights:#?}");
    let one_rack_left = |sight: &Sight| sight.replicas == [0, 1] && sight.pods == 1;
    assert!(sights.iter().any(one_rack_left), "T1 has changed: racks are not stopped one after the other: {sights:#?}");
    assert!(sights.iter().all(|sight| sight.settled <= (sight.pods == 0)), "settled with pods: {sights:#?}");
    // T5: the status keeps the old addresses.
    let known = datacenter.now().await.data["status"]["nodeStatuses"].to_string();
    assert!(addresses.iter().all(|address| known.contains(address)), "{known}");

    // T4: the template reaches the StatefulSets one after the other, while nothing runs.
    datacenter.patch(&script("exit 3")).await;
    let mut orders = Vec::new();
    let in_each = async || {
        let carried = carried(&datacenter, "exit 3").await;
        if orders.last() != Some(&carried) {
            orders.push(carried.clone());
        }
        carried == [true, true]
    };
    datacenter.until("in each StatefulSet", in_each).await;
    assert_eq!(orders, [[false, false], [true, false], [true, true]], "T4 has changed");
    datacenter.until("settled", async || settled(&datacenter.now().await)).await;

    // T7: no condition tells of an init container that fails.
    datacenter.start().await;
    let failing = async || {
        let pods = json!(datacenter.pods().await).to_string();
        pods.matches("CrashLoopBackOff").count() >= 3
    };
    datacenter.until("in CrashLoopBackOff on every pod", failing).await;
    // For a minute nothing else is said. `Updating` follows a moment after the containers have failed.
    let began = Instant::now();
    let mut updating = Vec::new();
    while began.elapsed() < Duration::from_secs(60) {
        let now = datacenter.now().await;
        assert_eq!(["Resuming", "Ready"].map(|kind| condition(&now, kind)), ["True", "False"], "T7 has changed");
        assert_eq!(now.data["status"]["cassandraOperatorProgress"], "Updating", "T7 has changed");
        let word = condition(&now, "Updating");
        if updating.last() != Some(&word) {
            eprintln!("{:9.1} Updating={word}", began.elapsed().as_secs_f64());
            updating.push(word);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(updating == ["True"] || updating == ["False", "True"], "T7 has changed: Updating was {updating:?}");

    datacenter.stop().await;
    datacenter.until_stopped().await;
    datacenter.patch(&script("true again")).await;
    datacenter.until("in each StatefulSet", async || carried(&datacenter, "true again").await == [true, true]).await;
    datacenter.until("settled", async || settled(&datacenter.now().await)).await;
    datacenter.start().await;
    datacenter.until_ready().await;
    cluster.end().await;
}

/// T2 and T3: a change while it runs is rolled out at once, or lost.
#[tokio::test]
#[ignore = "nightly: cass-operator's full waits"]
async fn night_changes_while_it_runs() {
    let cluster = testing::cluster(&Options::default()).await.unwrap();
    let mut template = restore_template("true first");
    // Makes the end of a reconcile, in which a change is lost, long enough to hit.
    template["spec"]["containers"] =
        json!([{"name": "cassandra", "env": [{"name": "ROLE_DELAY_MS", "value": "1500"}]}]);
    let spec = json!({"podTemplateSpec": template});
    let datacenter = Datacenter::create_as(&cluster, "dc1", Server::Cassandra41, 1, &["r1"], &spec).await;
    datacenter.until_ready().await;
    tokio::time::sleep(Duration::from_secs(14)).await;

    // T3: a reconcile that is creating roles does not look at the template again, and yet says that it has seen it.
    let secrets: Api<Secret> = Api::default_namespaced(datacenter.client.clone());
    let nudge = json!({"metadata": {"annotations": {"k8ssandra.io/refresh": "2026-01-01T00:00:00Z"}}});
    secrets.patch("test-superuser", &PatchParams::default(), &Patch::Merge(&nudge)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    template["spec"]["initContainers"] = restore_template("true second")["spec"]["initContainers"].clone();
    datacenter.patch(&json!({"spec": {"podTemplateSpec": template}})).await;
    let mut quiet_since = None;
    datacenter
        .until("settled for 10 s", async || {
            quiet_since = settled(&datacenter.now().await).then(|| quiet_since.unwrap_or_else(Instant::now));
            quiet_since.is_some_and(|since: Instant| since.elapsed() > Duration::from_secs(10))
        })
        .await;
    assert_eq!(carried(&datacenter, "true second").await, [false], "the change was not lost: T3 is mended?");
    let once = json!({"metadata": {"annotations": {"cassandra.datastax.com/autoupdate-spec": "once"}}});
    datacenter.patch(&once).await;
    datacenter.until("in the StatefulSet", async || carried(&datacenter, "true second").await == [true]).await;

    // T2: and now it restarts the running node, while Ready stays True.
    let mut ready = true;
    datacenter
        .until("rolled out and settled", async || {
            let now = datacenter.now().await;
            ready &= condition(&now, "Ready") == "True";
            let pods = json!(datacenter.pods().await).to_string();
            settled(&now) && condition(&now, "Updating") != "True" && pods.contains("true second")
        })
        .await;
    assert!(ready, "Ready became False during a rolling restart: T2 has changed");
    cluster.end().await;
}

/// T8: before Ready the password in Cassandra's tables is right, after it that of the secret.
#[tokio::test]
#[ignore = "nightly: cass-operator's full waits"]
async fn night_passwords_change_when_it_becomes_ready() {
    let cluster = testing::cluster(&Options::default()).await.unwrap();
    let datacenter = datacenter(&cluster, 1, &["r1"], "true").await;
    datacenter.until_ready().await;
    let (old, new) = (datacenter.password().await, "another-password-of-the-secret");
    datacenter.stop().await;
    datacenter.until_stopped().await;
    let secrets: Api<Secret> = Api::default_namespaced(datacenter.client.clone());
    let patch = json!({"stringData": {"password": new}});
    secrets.patch("test-superuser", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    datacenter.start().await;
    let mut early = false;
    datacenter
        .until("Ready", async || {
            let ready = condition(&datacenter.now().await, "Ready") == "True";
            if !ready && !early && datacenter.login(&old).await {
                early = condition(&datacenter.now().await, "Ready") != "True" && !datacenter.login(new).await;
            }
            ready
        })
        .await;
    assert!(early, "the password of the tables did not work before Ready: T8 has changed");
    assert!(datacenter.login(new).await && !datacenter.login(&old).await);
    cluster.end().await;
}
