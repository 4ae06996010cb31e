//! The backups of a node as the bucket has them, whether the index knows of them or not.

use futures::{StreamExt, TryStreamExt};

use crate::layout::Layout;
use crate::store::{Error, Found, Store};

/// Directories that are read at once.
const AT_ONCE: usize = 16;

/// One backup of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeBackup {
    pub(super) name: String,
    /// When schema.cql was written, else when anything of it was, in ms by the store's clock.
    pub(super) started_ms: i64,
    /// manifest.json, when the node is done.
    pub(super) manifest: Option<Found>,
}

/// All backups of the layout's node.
pub(super) async fn read(store: &Store, layout: &Layout) -> Result<Vec<NodeBackup>, Error> {
    let mut names = store.segments(&layout.node_root()).await?;
    // Where all differential backups have their files.
    names.remove("data");
    let read = names.into_iter().map(|name| one(store, layout, name));
    let found = futures::stream::iter(read.collect::<Vec<_>>()).buffered(AT_ONCE);
    Ok(found.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

async fn one(store: &Store, layout: &Layout, name: String) -> Result<Option<NodeBackup>, Error> {
    let root = format!("{}/{name}", layout.node_root());
    let mut meta = store.list(&format!("{root}/meta")).await?;
    if meta.is_empty() {
        // What a deletion that was stopped on the way left, or directories that hold nothing.
        meta = store.list(&root).await?;
    }
    let of = |file: &str| meta.iter().find(|found| found.key == format!("{root}/meta/{file}"));
    let manifest = of("manifest.json").cloned();
    let started = of("schema.cql").or_else(|| meta.iter().max_by_key(|found| found.modified));
    let started_ms = started.map(|found| found.modified.timestamp_millis());
    Ok(started_ms.map(|started_ms| NodeBackup { name, started_ms, manifest }))
}
