//! Rows worth a backup, written by CQL.

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Client;
use kube::api::{Api, ListParams};
use scylla::client::session_builder::SessionBuilder;

/// How many rows are written.
pub(crate) const ROWS: i32 = 2_000;
const AT_ONCE: usize = 64;

/// Makes the table `shop.orders` with up to three replicas and fills it, as the superuser that cass-operator made.
pub(crate) async fn write(client: &Client, cluster: &str, nodes: u32) -> anyhow::Result<()> {
    let secret = Api::<Secret>::default_namespaced(client.clone()).get(&format!("{cluster}-superuser")).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
    let (user, password) = text("username").zip(text("password")).context("the superuser has no name or password")?;
    let selector = ListParams::default().labels(&format!("cassandra.datastax.com/cluster={cluster}"));
    let pods = Api::<Pod>::default_namespaced(client.clone()).list(&selector).await?;
    let nodes_known = pods.items.into_iter().filter_map(|pod| Some(format!("{}:9042", pod.status?.pod_ip?)));
    let session = SessionBuilder::new().known_nodes(nodes_known).user(user, password).build().await;
    let session = session.context("no CQL session")?;

    let replicas = nodes.min(3);
    let keyspace =
        format!("CREATE KEYSPACE shop WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': {replicas}}}");
    let table = "CREATE TABLE shop.orders (id int PRIMARY KEY, item text, note text)".to_owned();
    for statement in [keyspace, table] {
        session.query_unpaged(statement, ()).await?;
    }
    let insert = session.prepare("INSERT INTO shop.orders (id, item, note) VALUES (?, ?, ?)").await?;
    stream::iter(0..ROWS)
        .map(|id| session.execute_unpaged(&insert, (id, format!("item {}", id % 17), "n".repeat(500))))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .context("the rows could not be written")
}
