//! Rows worth a backup, written by CQL.

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use scylla::client::session_builder::SessionBuilder;
use stheno_local::cassandra::Cassandra;

/// How many rows are written.
pub(crate) const ROWS: i32 = 2_000;
const AT_ONCE: usize = 64;

/// Makes the table `shop.orders` and fills it.
pub(crate) async fn write(node: &Cassandra) -> anyhow::Result<()> {
    let session = SessionBuilder::new().known_node_addr(node.cql()).build().await.context("no CQL session")?;
    let keyspace = "CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}";
    let table = "CREATE TABLE shop.orders (id int PRIMARY KEY, item text, note text)";
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
