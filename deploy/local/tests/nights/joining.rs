//! A second datacenter for a cluster, and a second cluster beside it, by the commands that people use.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use serde_json::json;
use stheno_local::{control_plane, datacenter, ring};
use tokio::time::Instant;

/// `add` to a cluster that is there: the roles can be read in each datacenter, and a keyspace of both has its rows in both.
#[tokio::test]
#[ignore = "nightly: two datacenters"]
async fn night_a_second_datacenter_joins_its_cluster() {
    let temporary = tempfile::tempdir().unwrap();
    let local = async |arguments: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_stheno-local"));
        command.args(arguments.split(' ')).env("TMPDIR", temporary.path()).env_remove("KUBECONFIG").kill_on_drop(true);
        command.output().await.unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done = async |arguments: &str| {
        let output = local(arguments).await;
        eprint!("{}", text(&output.stderr));
        assert!(output.status.success(), "{arguments}: {}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let up = done("up --nodes 1 --hurried --cluster test").await;
    let kubeconfig = up.lines().find_map(|line| line.strip_prefix("export KUBECONFIG=")).unwrap().to_owned();
    let client = control_plane::client(kubeconfig.as_ref()).await.unwrap();
    // A pod's log by its name, of the container that matters.
    let log = done("logs test-dc1-r1-sts-0").await;
    assert!(log.contains("POST /api/v0/lifecycle/start"), "{log}");
    let added = done("add --cluster test --nodes 1 dc2").await;
    assert!(added.contains("dc2 holds none of your keyspaces yet"), "{added}");

    let session = async |cluster: &str, datacenter: &str| {
        let only = BTreeMap::from([(datacenter.to_owned(), 1)]);
        ring::session(&client, cluster, &only).await.unwrap()
    };
    let first = session("test", "dc1").await;
    let keyspace = "create keyspace shop with replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1, 'dc2': 1}";
    first.query_unpaged(keyspace, ()).await.unwrap();
    first.query_unpaged("create table shop.cups (id int primary key, size text)", ()).await.unwrap();
    let mut insert = Statement::new("insert into shop.cups (id, size) values (1, 'small')");
    insert.set_consistency(Consistency::All);
    first.query_unpaged(insert, ()).await.unwrap();
    // Alone: the second datacenter knows the superuser and the rows without the first.
    let stop = json!({"spec": {"stopped": true}});
    let datacenters = datacenter::api(&client);
    datacenters.patch("dc1", &PatchParams::default(), &Patch::Merge(&stop)).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_first = ListParams::default().labels("cassandra.datastax.com/datacenter=dc1");
    let began = Instant::now();
    while !pods.list(&of_first).await.unwrap().items.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120), "dc1 is not stopped");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let second = session("test", "dc2").await;
    let mut select = Statement::new("select size from shop.cups");
    select.set_consistency(Consistency::LocalQuorum);
    let rows = second.query_unpaged(select, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.single_row::<(String,)>().unwrap().0, "small");
    let refused = local("add --cluster test --nodes 1 dc3").await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("the datacenter dc1 of the cluster is not ready"), "{said}");
    // And another cluster beside it.
    done("add --cluster other --nodes 1 dc4").await;
    let other = session("other", "dc4").await;
    let peers = other.query_unpaged("select peer from system.peers", ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(peers.rows_num(), 0, "it knows nodes of the other cluster");
    done("down").await;
}
