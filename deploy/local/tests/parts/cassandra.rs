//! The Cassandra node of the ground: rows survive a stop and a kill, nodetool works, and no process stays.

use std::net::TcpStream;
use std::path::Path;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use stheno_local::cassandra::Cassandra;
use stheno_local::testing;

async fn session(node: &Cassandra) -> Session {
    SessionBuilder::new().known_node_addr(node.cql()).build().await.unwrap()
}

#[tokio::test]
async fn a_node_keeps_its_rows_and_leaves_no_process() {
    let mut node = testing::cassandra().await.unwrap();
    let cql = session(&node).await;
    let keyspace = "create keyspace shop with replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}";
    cql.query_unpaged(keyspace, ()).await.unwrap();
    cql.query_unpaged("create table shop.cups (id int primary key, size text)", ()).await.unwrap();
    cql.query_unpaged("insert into shop.cups (id, size) values (1, 'small')", ()).await.unwrap();
    drop(cql);

    let status = node.run_nodetool(&["-Dcom.sun.jndi.rmiURLParsing=legacy", "status"]).await.unwrap();
    assert!(status.lines().any(|line| line.starts_with("UN") && line.contains(&node.ip().to_string())), "{status}");
    node.run_nodetool(&["snapshot", "-t", "first", "shop"]).await.unwrap();
    let table = std::fs::read_dir(node.data_dir().join("shop")).unwrap().next().unwrap().unwrap().path();
    assert!(table.join("snapshots/first/manifest.json").is_file());
    let refused = node.run_nodetool(&["snapshot", "-t", "first", "shop"]).await.unwrap_err();
    assert!(refused.to_string().contains("already exists"), "{refused}");

    node.stop().await;
    assert!(TcpStream::connect(node.cql()).is_err());
    node.start().await.unwrap();
    let rows = session(&node).await.query_unpaged("select size from shop.cups", ()).await.unwrap();
    assert_eq!(rows.into_rows_result().unwrap().single_row::<(String,)>().unwrap().0, "small");

    let (cql, data, id) = (node.cql(), node.data_dir(), node.id().unwrap());
    drop(node);
    assert!(TcpStream::connect(cql).is_err());
    assert!(!data.exists());
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}
