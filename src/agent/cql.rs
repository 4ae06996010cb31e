//! What CQL knows of this node: the schema, who owns which tokens, and the server's version.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{ExecutionError, IntoRowsResultError, NewSessionError};
use scylla::policies::host_filter::AllowListHostFilter;
use serde::{Deserialize, Serialize};

use crate::config::{Cassandra, Password};
use crate::names;
use crate::snapshot::EXCLUDED;
use crate::tls;

/// Waits between attempts to reach CQL, in seconds: about a minute in all.
const WAITS: [u64; 6] = [1, 2, 4, 8, 15, 30];
/// How long one attempt or query may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Why CQL gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot reach CQL at {contact}: {}", innermost(source))]
    Connect {
        /// Host and port.
        contact: String,
        /// Why, wrapped many times by the driver.
        source: Box<NewSessionError>,
    },
    /// A user, a password, or both are wrong or missing.
    #[error("CQL refuses the user {}: check cql_username and cql_password, or the secret with them", user.as_deref().unwrap_or("(none)"))]
    Login {
        /// Who it was.
        user: Option<String>,
    },
    /// rpc_address or listen_address of cassandra.yaml is no address.
    #[error("cassandra.yaml's address {contact:?} cannot be resolved")]
    Address {
        /// Host and port.
        contact: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A query failed.
    #[error("CQL refused `{query}`")]
    Query {
        /// Which.
        query: &'static str,
        /// Why.
        #[source]
        source: Box<ExecutionError>,
    },
    /// An answer of another shape than Cassandra gives.
    #[error("CQL answered `{query}` with something unexpected: {what}")]
    Answer {
        /// Which.
        query: &'static str,
        /// What was wrong with it.
        what: String,
    },
    /// No answer in time.
    #[error("CQL at {contact} did not answer within {} s", LIMIT.as_secs())]
    Late {
        /// Host and port.
        contact: String,
    },
    /// A node of the ring that has no name.
    #[error(transparent)]
    Name(#[from] names::Error),
    /// Cassandra before 4.0 cannot describe its schema over CQL.
    #[error("Cassandra {version} cannot describe its schema over CQL: 4.0 or later is needed")]
    TooOld {
        /// release_version.
        version: String,
    },
}

impl Error {
    /// Whether the same thing may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            // An operator that brings users back makes a wrong password right.
            Self::Connect { .. } | Self::Login { .. } => true,
            Self::Query { .. } | Self::Late { .. } | Self::Name(_) | Self::Address { .. } => true,
            Self::Answer { .. } | Self::Tls(_) | Self::TooOld { .. } => false,
        }
    }
}

/// The driver does not say in its types that it was the login.
fn refused(error: &NewSessionError) -> bool {
    let text = format!("{error:?}");
    ["AuthenticationError", "MissingAuthentication", "BadCredentials"].iter().any(|word| text.contains(word))
}

fn innermost(error: &NewSessionError) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The ring of this node's datacenter, by node name: Medusa's tokenmap.json.
pub type TokenMap = BTreeMap<String, Node>;

/// One node of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its tokens; RandomPartitioner's need 127 bits.
    pub tokens: Vec<i128>,
    /// Whether it was known to be up; the ring knows it, nobody asked it.
    #[serde(default)]
    pub is_up: Option<bool>,
    /// Rack.
    pub rack: String,
    /// Datacenter.
    pub dc: String,
}

/// Medusa's server_version.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerVersion {
    /// Always `cassandra`.
    pub server_type: &'static str,
    /// release_version of system.local.
    pub release_version: String,
}

/// What a backup keeps beside the files.
#[derive(Debug, Clone)]
pub struct Facts {
    /// CQL of all keyspaces but system_traces.
    pub schema: String,
    /// The ring.
    pub tokens: TokenMap,
    /// The server.
    pub server: ServerVersion,
}

/// Asks the node beside us. `own` is its name in keys.
pub async fn facts(config: &Cassandra, own: &str) -> Result<Facts, Error> {
    let session = connect(config).await?;
    let contact = config.yaml.contact();
    let asked = tokio::time::timeout(LIMIT, ask(&session, config, own)).await;
    asked.unwrap_or(Err(Error::Late { contact }))
}

async fn ask(session: &Session, config: &Cassandra, own: &str) -> Result<Facts, Error> {
    let local = local(session).await?;
    let server = ServerVersion { server_type: "cassandra", release_version: local.release_version.clone() };
    let major = local.release_version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < 4) {
        return Err(Error::TooOld { version: local.release_version });
    }
    let schema = schema(session).await?;
    let tokens = ring(session, config, own, local).await?;
    Ok(Facts { schema, tokens, server })
}

async fn connect(config: &Cassandra) -> Result<Session, Error> {
    let contact = config.yaml.contact();
    let tls = config.tls.as_ref().map(tls::cql).transpose()?;
    let mut waits = WAITS.into_iter();
    loop {
        // The driver is kept to the node beside us: the ring is not our business.
        let unresolved = |source| Error::Address { contact: contact.clone(), source };
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&contact).await.map_err(unresolved)?.collect();
        let only = AllowListHostFilter::new(addresses).map_err(unresolved)?;
        let mut builder = SessionBuilder::new()
            .known_node(&contact)
            .host_filter(Arc::new(only))
            .fetch_schema_metadata(false)
            .fetch_full_schema_metadata(false)
            .connection_timeout(Duration::from_secs(10))
            .tls_context(tls.clone());
        if let Some((user, Password(password))) = &config.login {
            builder = builder.user(user, password);
        }
        let built = tokio::time::timeout(LIMIT, builder.build()).await;
        let error = match built {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(source)) if refused(&source) => {
                return Err(Error::Login { user: config.login.as_ref().map(|(user, _)| user.clone()) });
            }
            Ok(Err(source)) => Error::Connect { contact: contact.clone(), source: Box::new(source) },
            Err(_) => Error::Late { contact: contact.clone() },
        };
        match waits.next().filter(|_| error.retryable()) {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => return Err(error),
        }
    }
}

struct Local {
    rack: String,
    dc: String,
    tokens: Vec<i128>,
    release_version: String,
}

async fn local(session: &Session) -> Result<Local, Error> {
    const QUERY: &str = "SELECT rack, data_center, tokens, release_version FROM system.local";
    type Row = (String, String, Option<Vec<String>>, String);
    let rows: Vec<Row> = rows(session, QUERY).await?;
    let Some((rack, dc, tokens, release_version)) = rows.into_iter().next() else {
        return Err(Error::Answer { query: QUERY, what: "no row".to_owned() });
    };
    Ok(Local { rack, dc, tokens: numbers(QUERY, tokens)?, release_version })
}

async fn ring(session: &Session, config: &Cassandra, own: &str, local: Local) -> Result<TokenMap, Error> {
    const QUERY: &str = "SELECT peer, rack, data_center, tokens FROM system.peers";
    type Row = (IpAddr, Option<String>, Option<String>, Option<Vec<String>>);
    let rows: Vec<Row> = rows(session, QUERY).await?;
    let mut ring = TokenMap::new();
    for (address, rack, dc, tokens) in rows {
        // A node that just joins or leaves has no rack, datacenter or tokens yet: it is none of the ring.
        if let (Some(rack), Some(dc), Some(tokens)) = (rack, dc, tokens)
            && dc == local.dc
        {
            let name = names::name_of(address, config.naming).await?;
            ring.insert(name, Node { tokens: numbers(QUERY, Some(tokens))?, is_up: Some(true), rack, dc });
        }
    }
    // Last, so that no peer takes our own name: a backup whose node is not in its ring breaks Medusa's listing.
    let Local { rack, dc, tokens, .. } = local;
    ring.insert(own.to_owned(), Node { tokens, is_up: Some(true), rack, dc });
    Ok(ring)
}

fn numbers(query: &'static str, tokens: Option<Vec<String>>) -> Result<Vec<i128>, Error> {
    let wrong = |token: &String| Error::Answer { query, what: format!("token {token:?} is not a number") };
    tokens.unwrap_or_default().iter().map(|token| token.parse().map_err(|_| wrong(token))).collect()
}

/// All statements, keyspace by keyspace, so that each follows what it needs.
async fn schema(session: &Session) -> Result<String, Error> {
    const QUERY: &str = "DESCRIBE FULL SCHEMA";
    type Row = (String, String, String, String);
    let rows: Vec<Row> = rows(session, QUERY).await?;
    let kept = rows.into_iter().filter(|(keyspace, ..)| keyspace != EXCLUDED);
    let statements: Vec<String> = kept.map(|(.., statement)| statement).collect();
    if statements.is_empty() {
        return Err(Error::Answer { query: QUERY, what: "no statement".to_owned() });
    }
    Ok(statements.join("\n\n"))
}

async fn rows<Row>(session: &Session, query: &'static str) -> Result<Vec<Row>, Error>
where
    Row: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
{
    let answer = |what: String| Error::Answer { query, what };
    let asked = session.query_unpaged(query, ()).await;
    let asked = asked.map_err(|source| Error::Query { query, source: Box::new(source) })?;
    let found = asked.into_rows_result().map_err(|error: IntoRowsResultError| answer(error.to_string()))?;
    let rows = found.rows::<Row>().map_err(|error| answer(error.to_string()))?;
    rows.map(|row| row.map_err(|error| answer(error.to_string()))).collect()
}
