//! A further datacenter of a Cassandra cluster: what k8ssandra-operator does around cass-operator, which by itself makes
//! the superuser anew in every datacenter and knows nothing of replication.
//!
//! The keyspaces of Cassandra itself get replicas by datacenter before the new nodes take part, so that roles stay where
//! they can be read; the new datacenter creates no users; then its replicas are added, and filled by a rebuild.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::apply::{self, apply_yaml};
use crate::datacenter::{self, Datacenter};

/// What Cassandra keeps for itself in replicated keyspaces.
const SYSTEM: [&str; 3] = ["system_auth", "system_distributed", "system_traces"];
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

/// Why a datacenter does not join a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or refused something.
    #[error("the API server did not answer as it should")]
    Kube(#[from] kube::Error),
    /// An object was refused.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A datacenter that is there cannot take in another one now.
    #[error(
        "the datacenter {0} of the cluster is not ready, and a new one copies from it: wait until it is, or start it"
    )]
    NotReady(String),
    /// The superuser's secret lacks something.
    #[error("the secret {0} has no username and password: cass-operator makes it with the first datacenter")]
    Superuser(String),
    /// Nobody of the cluster answers CQL to its superuser.
    #[error("no CQL session with the cluster {cluster} as its superuser")]
    Session {
        /// The cluster.
        cluster: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement failed.
    #[error("Cassandra did not do `{statement}`")]
    Statement {
        /// The statement.
        statement: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The replicas of the new datacenter were not filled.
    #[error("the rebuild of {datacenter} from {source_datacenter} did not come to a good end: {status}")]
    Rebuild {
        /// The new datacenter.
        datacenter: String,
        /// Where it copies from.
        source_datacenter: String,
        /// The status of the CassandraTask.
        status: Value,
    },
}

/// The datacenters that a cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    cluster: String,
    /// Names, as Cassandra knows them, and nodes.
    datacenters: BTreeMap<String, u32>,
}

impl Ring {
    /// The cluster of that name, if there is one.
    pub async fn of(client: &Client, cluster: &str) -> Result<Option<Self>, Error> {
        let all = datacenter::api(client).list(&ListParams::default()).await?;
        let ours = all.items.iter().filter(|there| there.data["spec"]["clusterName"] == cluster);
        let datacenters: BTreeMap<String, u32> = ours
            .map(|there| {
                let nodes = there.data["spec"]["size"].as_u64().and_then(|size| u32::try_from(size).ok());
                datacenter::is_ready(there)
                    .then(|| (there.name_any(), nodes.unwrap_or(1)))
                    .ok_or_else(|| Error::NotReady(there.name_any()))
            })
            .collect::<Result<_, _>>()?;
        Ok((!datacenters.is_empty()).then(|| Self { cluster: cluster.to_owned(), datacenters }))
    }

    /// Before the first node of another datacenter starts: each system keyspace keeps its number of replicas, but in the
    /// datacenters that are there. Otherwise the new nodes would take over a part of the roles, and lose it.
    pub async fn prepare(&self, client: &Client) -> Result<(), Error> {
        let session = session(client, &self.cluster, &self.datacenters).await?;
        for keyspace in SYSTEM {
            let replication = replication(&session, keyspace).await?;
            let Some(replicas) = replication.get("replication_factor").and_then(|factor| factor.parse::<u32>().ok())
            else {
                continue;
            };
            let wanted = self.datacenters.iter().map(|(name, nodes)| (name.clone(), replicas.min(*nodes))).collect();
            alter(&session, keyspace, &wanted).await?;
        }
        Ok(())
    }

    /// When the nodes of the new datacenter are up: gives it as many replicas of the system keyspaces as the others have,
    /// and has cass-operator fill them.
    pub async fn admit(&self, client: &Client, joined: &Datacenter) -> Result<(), Error> {
        let session = session(client, &self.cluster, &self.datacenters).await?;
        for keyspace in SYSTEM {
            let mut wanted: BTreeMap<String, u32> = replication(&session, keyspace)
                .await?
                .into_iter()
                .filter_map(|(name, factor)| Some((name, factor.parse().ok()?)))
                .collect();
            let most = wanted.values().copied().max().unwrap_or(1);
            wanted.insert(joined.name.clone(), most.min(joined.nodes));
            alter(&session, keyspace, &wanted).await?;
        }
        let Some(source) = self.datacenters.keys().next() else { return Ok(()) };
        rebuild(client, &joined.name, source).await
    }
}

/// Has each node of a datacenter copy what it is to hold from another datacenter, by a CassandraTask.
pub async fn rebuild(client: &Client, datacenter: &str, source: &str) -> Result<(), Error> {
    // A task of an earlier datacenter of that name may still be there, and done.
    let name = format!("rebuild-{datacenter}-{}", Timestamp::now().as_second());
    let task = json!({
        "apiVersion": "control.k8ssandra.io/v1alpha1", "kind": "CassandraTask",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "datacenter": {"name": datacenter, "namespace": "default"},
            "jobs": [{"name": name, "command": "rebuild", "args": {"source_datacenter": source}}],
        },
    });
    apply_yaml(client, &task.to_string()).await?;
    let kind = GroupVersionKind::gvk("control.k8ssandra.io", "v1alpha1", "CassandraTask");
    let tasks: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind));
    let began = Instant::now();
    loop {
        let status = tasks.get(&name).await?.data["status"].clone();
        let failed = status["failed"].as_u64().unwrap_or(0) > 0;
        if !failed && !status["completionTime"].is_null() {
            return Ok(());
        }
        if failed || began.elapsed() > PATIENCE {
            let (datacenter, source_datacenter) = (datacenter.to_owned(), source.to_owned());
            return Err(Error::Rebuild { datacenter, source_datacenter, status });
        }
        sleep(LOOK).await;
    }
}

/// A session of the superuser that cass-operator made, with the pods of these datacenters.
pub async fn session(client: &Client, cluster: &str, datacenters: &BTreeMap<String, u32>) -> Result<Session, Error> {
    let name = format!("{cluster}-superuser");
    let secret = Api::<Secret>::default_namespaced(client.clone()).get(&name).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
    let (user, password) = text("username").zip(text("password")).ok_or(Error::Superuser(name))?;
    let names: Vec<&str> = datacenters.keys().map(String::as_str).collect();
    let selector =
        format!("cassandra.datastax.com/cluster={cluster},cassandra.datastax.com/datacenter in ({})", names.join(","));
    let pods = Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default().labels(&selector)).await?;
    let nodes = pods.items.into_iter().filter_map(|pod| Some(format!("{}:9042", pod.status?.pod_ip?)));
    let built = SessionBuilder::new().known_nodes(nodes).user(user, password).build().await;
    built.map_err(|source| Error::Session { cluster: cluster.to_owned(), source: source.into() })
}

/// What `system_schema` says of a keyspace's replication.
async fn replication(session: &Session, keyspace: &str) -> Result<BTreeMap<String, String>, Error> {
    let statement = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::Statement { statement: statement.into(), source };
    let rows = session.query_unpaged(statement, (keyspace,)).await.map_err(|error| failed(error.into()))?;
    let rows = rows.into_rows_result().map_err(|error| failed(error.into()))?;
    let (replication,) = rows.single_row::<(BTreeMap<String, String>,)>().map_err(|error| failed(error.into()))?;
    Ok(replication)
}

async fn alter(session: &Session, keyspace: &str, replicas: &BTreeMap<String, u32>) -> Result<(), Error> {
    let each: String = replicas.iter().map(|(name, replicas)| format!(", '{name}': {replicas}")).collect();
    let statement =
        format!("ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy'{each}}}");
    match session.query_unpaged(statement.clone(), ()).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Statement { statement, source: source.into() }),
    }
}
