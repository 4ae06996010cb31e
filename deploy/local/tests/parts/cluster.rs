//! cass-operator on the ground: what it does with a datacenter of one real Cassandra, which backups rely on.
//!
//! The numbers T1 to T12 are those of the notes in `datacenter/mod.rs`. A new cass-operator that behaves in another way is
//! noticed here, or in `nights.rs` where it takes three nodes and its full waits.

use crate::datacenter::{Datacenter, condition, restore_template};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use stheno_local::cluster::{Options, Server};
use stheno_local::kubelet::Isolation;
use stheno_local::testing;

/// T1, T5, T6, T8, T9, T10 and T12, on Cassandra 4.1 and with namespaces where they are allowed.
#[tokio::test]
async fn one_node_through_its_life() {
    let cluster = testing::cluster(&Options::hurried()).await.unwrap();
    let template =
        restore_template("printf %s \"$RESTORE_KEY\" > /var/lib/cassandra/key; ls /etc/cassandra/cassandra.yaml");
    let spec = json!({"podTemplateSpec": template});
    let datacenter = Datacenter::create_as(&cluster, "dc1", Server::Cassandra41, 1, &["r1"], &spec).await;
    datacenter.until_ready().await;
    // T9: cass-operator's finalizer made another generation before anybody changed the spec.
    assert!(datacenter.now().await.metadata.generation >= Some(2));
    // T6: our container comes after those that write the configuration.
    let set = datacenter.sets().await.remove(0);
    let template = set.spec.as_ref().unwrap().template.spec.clone().unwrap();
    let inits: Vec<String> = template.init_containers.unwrap().into_iter().map(|init| init.name).collect();
    assert_eq!(inits, ["server-config-init-base", "server-config-init", "medusa-restore"]);

    // T8: the superuser of the secret, and nobody else.
    let password = datacenter.password().await;
    assert!(!datacenter.login("not-it").await);
    let cql = datacenter.session(&password).await.unwrap();
    let keyspace = "create keyspace shop with replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}";
    cql.query_unpaged(keyspace, ()).await.unwrap();
    cql.query_unpaged("create table shop.cups (id int primary key, size text)", ()).await.unwrap();
    cql.query_unpaged("insert into shop.cups (id, size) values (1, 'small')", ()).await.unwrap();
    drop(cql);
    let before = datacenter.pods().await.remove(0);

    // T1: it says Stopped before it stops anything.
    datacenter.stop().await;
    datacenter.until("Stopped=True", async || condition(&datacenter.now().await, "Stopped") == "True").await;
    let pods = datacenter.pods().await;
    assert_eq!(pods.len(), 1, "cass-operator says Stopped only when the pod is gone: the rule of T1 may be relaxed");
    datacenter.until_stopped().await;
    // T10: the pod's end began with a drain.
    let log = datacenter.log(&cluster, &before.name_any(), "cassandra");
    assert!(log.contains("POST /api/v0/ops/node/drain"), "{log}");
    // T5: addresses of nodes that are gone stay in the status.
    let address = before.status.unwrap().pod_ip.unwrap();
    let known = datacenter.now().await.data["status"]["nodeStatuses"].to_string();
    assert!(known.contains(&before.metadata.name.clone().unwrap()), "{known}");

    // T12: a ConfigMap reaches the init container without any change of the datacenter or its StatefulSets.
    let maps: Api<ConfigMap> = Api::default_namespaced(datacenter.client.clone());
    let order = json!({"metadata": {"name": "restore"}, "data": {"RESTORE_KEY": "key-1"}});
    maps.create(&PostParams::default(), &serde_json::from_value(order).unwrap()).await.unwrap();
    datacenter.start().await;
    datacenter.until_ready().await;
    let again = datacenter.sets().await.remove(0);
    assert_eq!(set.status.unwrap().update_revision, again.status.unwrap().update_revision);
    let pod = datacenter.pods().await.remove(0);
    let claim = datacenter.claim_folder(&pod.name_any()).await;
    assert_eq!(std::fs::read_to_string(claim.join("key")).unwrap(), "key-1");
    if cluster.kubelet().node_ip().is_loopback() {
        // Loopback addresses are few, and one that is free again may be given again.
    } else {
        assert_ne!(pod.status.as_ref().unwrap().pod_ip, Some(address), "T5: a pod that comes back has another address");
    }
    let rows =
        datacenter.session(&password).await.unwrap().query_unpaged("select size from shop.cups", ()).await.unwrap();
    assert_eq!(rows.into_rows_result().unwrap().single_row::<(String,)>().unwrap().0, "small");

    // T10: the claims and volumes go with the datacenter, the superuser's secret stays.
    datacenter.api.delete("dc1", &DeleteParams::default()).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(datacenter.client.clone());
    let volumes: Api<PersistentVolume> = Api::all(datacenter.client.clone());
    let gone = async || {
        let all = ListParams::default();
        claims.list(&all).await.unwrap().items.is_empty()
            && volumes.list(&all).await.unwrap().items.is_empty()
            && datacenter.api.list(&all).await.unwrap().items.is_empty()
    };
    datacenter.until("deleted with its volumes", gone).await;
    assert!(!claim.exists());
    let secrets: Api<Secret> = Api::default_namespaced(datacenter.client.clone());
    assert!(secrets.get_opt("test-superuser").await.unwrap().is_some());
    cluster.end().await;
}

/// Cassandra 5.0, and without any namespace: as on a machine where nobody is root.
#[tokio::test]
async fn one_node_of_cassandra_5_on_a_loopback_address() {
    let options = Options { servers: vec![Server::Cassandra50], isolation: Isolation::Loopback, ..Options::hurried() };
    let cluster = testing::cluster(&options).await.unwrap();
    let datacenter = Datacenter::create_as(&cluster, "dc1", Server::Cassandra50, 1, &["r1"], &json!({})).await;
    datacenter.until_ready().await;
    assert!(datacenter.pods().await[0].status.as_ref().unwrap().pod_ip.as_ref().unwrap().starts_with("127."));
    let password = datacenter.password().await;
    let cql = datacenter.session(&password).await.unwrap();
    let version = cql.query_unpaged("select release_version from system.local", ()).await.unwrap();
    assert_eq!(version.into_rows_result().unwrap().single_row::<(String,)>().unwrap().0, "5.0.6");
    datacenter.stop().await;
    datacenter.until_stopped().await;
    cluster.end().await;
}
