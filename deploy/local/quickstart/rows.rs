//! Rows worth a backup, written by CQL.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::Client;
use stheno_local::ring;

/// How many rows are written.
pub(crate) const ROWS: i32 = 2_000;
const AT_ONCE: usize = 64;

/// Makes the table `shop.orders` with up to three replicas and fills it, as the superuser that cass-operator made.
pub(crate) async fn write(client: &Client, cluster: &str, nodes: u32) -> anyhow::Result<()> {
    let session = ring::session(client, cluster, &BTreeMap::from([("dc1".to_owned(), nodes)])).await?;
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
