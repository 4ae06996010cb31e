//! Running parts for tests: each call provisions what it needs, starts it, and returns when it is ready.
//!
//! A handle owns its processes, ports and run folder; dropping it ends and removes all of them. Handles that a test
//! binary keeps in a `static` are never dropped: the kernel ends their processes with the binary. Handles hold no
//! tokio objects, so several tests (each with a runtime of its own) may share one.
//!
//! ```no_run
//! # async fn example() -> Result<(), stheno_local::nats::Error> {
//! let mut cluster = stheno_local::testing::nats_cluster().await?;
//! if let Some(leader) = cluster.leader_of("STHENO").await {
//!     cluster.servers()[leader].kill();
//!     cluster.servers()[leader].start().await?;
//! }
//! # Ok(()) }
//! ```

use std::sync::Arc;

use crate::cassandra::{self, Cassandra};
use crate::cluster::{self, Cluster};
use crate::control_plane::{self, ControlPlane};
use crate::nats;
use crate::run::Run;
use crate::s3::{self, S3};

/// One nats-server with JetStream.
pub async fn nats() -> Result<nats::Server, nats::Error> {
    nats_with(&nats::Options::default()).await
}

/// One nats-server, configured.
pub async fn nats_with(options: &nats::Options) -> Result<nats::Server, nats::Error> {
    nats::Server::launch(Arc::new(Run::temporary()?), options).await
}

/// Three nats-servers with JetStream, for streams of three replicas.
pub async fn nats_cluster() -> Result<nats::Cluster, nats::Error> {
    nats_cluster_with(&nats::Options::default()).await
}

/// Three nats-servers, configured.
pub async fn nats_cluster_with(options: &nats::Options) -> Result<nats::Cluster, nats::Error> {
    nats::Cluster::launch(Arc::new(Run::temporary()?), options).await
}

/// etcd and an API server that has CassandraDatacenters.
pub async fn control_plane() -> Result<ControlPlane, control_plane::Error> {
    let control_plane = ControlPlane::launch(Arc::new(Run::temporary()?)).await?;
    control_plane.ensure_datacenter_kind().await?;
    Ok(control_plane)
}

/// A whole cluster with cass-operator: CassandraDatacenters become real Cassandra processes.
pub async fn cluster(options: &cluster::Options) -> Result<Cluster, cluster::Error> {
    Cluster::launch(Arc::new(Run::temporary()?), options).await
}

/// One Cassandra node.
pub async fn cassandra() -> Result<Cassandra, cassandra::Error> {
    cassandra_with(&cassandra::Options::default()).await
}

/// One Cassandra node, configured.
pub async fn cassandra_with(options: &cassandra::Options) -> Result<Cassandra, cassandra::Error> {
    Cassandra::launch(Arc::new(Run::temporary()?), options).await
}

/// An S3 server without buckets.
pub async fn s3() -> Result<S3, s3::Error> {
    S3::launch(Arc::new(Run::temporary()?)).await
}
