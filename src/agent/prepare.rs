//! PrepareRestore: which node of this ring gets the data of which node of the backup, written where Medusa writes it.
//!
//! Pods are matched as Medusa matches them: racks in the order of their names, nodes within a rack likewise.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use stheno_rpc::medusa::{BackupNode, StatusType};

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::cql::{self, TokenMap};
use crate::{layout, store};

/// Where the mappings lie, beside the data.
const FOLDER: &str = ".restore_mapping";
/// How long Cassandra is asked for its ring: somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Cassandra.
    #[error(transparent)]
    Cql(#[from] cql::Error),
    /// Cassandra takes too long.
    #[error("Cassandra did not give its ring within {} s", LIMIT.as_secs())]
    Late,
    /// It becomes a file's name.
    #[error(
        "the restore key {key:?} is not made of letters, digits, '-', '_' and '.', beginning with a letter or digit"
    )]
    Key {
        /// As it was asked for.
        key: String,
    },
    /// The backup's name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// No such backup.
    #[error("backup <{name}> does not exist")]
    Absent {
        /// Name.
        name: String,
    },
    /// It cannot be restored.
    #[error("backup {name} is not complete on all of its nodes: it cannot be restored")]
    Incomplete {
        /// Name.
        name: String,
    },
    /// Another shape of ring.
    #[error("the backup's racks have {backup} nodes and this ring's have {ring}: they must have as many")]
    Topology {
        /// Nodes by rack of the backup.
        backup: String,
        /// Nodes by rack of the ring.
        ring: String,
    },
    /// The volume.
    #[error("cannot write {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// As `RESTORE_MAPPING` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Mapping {
    in_place: bool,
    host_map: BTreeMap<String, Source>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Source {
    source: [String; 1],
    seed: bool,
}

/// Writes the mapping of a backup to this ring.
pub async fn prepare(config: &Config, catalogue: &Catalogue, name: &str, key: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.len() > 200 || !key.chars().all(plain) || !key.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::Key { key: key.to_owned() });
    }
    let backup = catalogue.one(name, false).await?.ok_or_else(|| Error::Absent { name: name.to_owned() })?;
    if backup.status() != StatusType::Success {
        return Err(Error::Incomplete { name: name.to_owned() });
    }
    let facts = tokio::time::timeout(LIMIT, cql::facts(&config.cassandra, config.node.as_str()));
    let ring = facts.await.map_err(|_| Error::Late)??.tokens;
    let mapping = match_nodes(&of_our_datacenter(backup.nodes, &ring), &ring)?;
    let data = &config.cassandra.yaml.data;
    let folder = data.parent().unwrap_or(data).join(FOLDER);
    let path = folder.join(key);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        let staged = folder.join(format!(".{key}.new"));
        let mut file = fs::File::create(&staged)?;
        file.write_all(&serde_json::to_vec(&mapping)?)?;
        file.sync_all()?;
        fs::rename(&staged, &path)
    };
    write().map_err(|source| Error::File { path: path.clone(), source })
}

/// Several datacenters may have taken part: those of our name are the sources, where there are any.
fn of_our_datacenter(nodes: Vec<BackupNode>, ring: &TokenMap) -> Vec<BackupNode> {
    let ours = |node: &BackupNode| ring.values().any(|own| own.dc == node.datacenter);
    if nodes.iter().any(ours) { nodes.into_iter().filter(ours).collect() } else { nodes }
}

fn match_nodes(backup: &[BackupNode], ring: &TokenMap) -> Result<Mapping, Error> {
    let in_place = backup.iter().any(|node| ring.contains_key(&node.host));
    let (mut from, mut to): (Racks<'_>, Racks<'_>) = Default::default();
    for node in backup {
        from.entry(&node.rack).or_default().push(&node.host);
    }
    for (host, node) in ring {
        to.entry(&node.rack).or_default().push(host);
    }
    let sizes = |racks: &Racks<'_>| racks.values().map(Vec::len).collect::<Vec<_>>();
    if sizes(&from) != sizes(&to) {
        return Err(Error::Topology { backup: format!("{:?}", sizes(&from)), ring: format!("{:?}", sizes(&to)) });
    }
    let mut host_map = BTreeMap::new();
    for (sources, targets) in from.values_mut().zip(to.values_mut()) {
        sources.sort_unstable();
        targets.sort_unstable();
        // A node that is in both gets its own data back.
        let own = |host: &&str| sources.contains(host);
        let (same, others): (Vec<&str>, Vec<&str>) = targets.iter().copied().partition(own);
        let left = sources.iter().copied().filter(|host| !same.contains(host));
        let pairs = same.iter().map(|host| (*host, *host)).chain(others.iter().copied().zip(left));
        for (target, source) in pairs {
            host_map.insert(target.to_owned(), Source { source: [source.to_owned()], seed: false });
        }
    }
    Ok(Mapping { in_place, host_map })
}

/// Hosts by rack.
type Racks<'a> = BTreeMap<&'a str, Vec<&'a str>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cql::Node;

    fn ring(nodes: &[(&str, &str)]) -> TokenMap {
        let node =
            |rack: &str| Node { tokens: vec![1], is_up: Some(true), rack: rack.to_owned(), dc: "dc1".to_owned() };
        nodes.iter().map(|(host, rack)| ((*host).to_owned(), node(rack))).collect()
    }

    fn backup(nodes: &[(&str, &str)]) -> Vec<BackupNode> {
        let node = |(host, rack): &(&str, &str)| BackupNode {
            host: (*host).to_owned(),
            rack: (*rack).to_owned(),
            ..Default::default()
        };
        nodes.iter().map(node).collect()
    }

    #[test]
    fn racks_and_nodes_are_matched_by_name() {
        let from = backup(&[("a2", "r1"), ("a1", "r1"), ("a3", "r2")]);
        let mapping = match_nodes(&from, &ring(&[("b3", "s2"), ("b1", "s1"), ("b2", "s1")])).unwrap();
        let pairs: Vec<(&str, &str)> =
            mapping.host_map.iter().map(|(to, from)| (to.as_str(), from.source[0].as_str())).collect();
        assert_eq!((mapping.in_place, pairs), (false, vec![("b1", "a1"), ("b2", "a2"), ("b3", "a3")]));
        let own = match_nodes(&from, &ring(&[("a1", "r1"), ("a2", "r1"), ("a3", "r2")])).unwrap();
        assert!(own.in_place && own.host_map.iter().all(|(to, from)| *to == from.source[0]));
        let json = serde_json::to_value(&own).unwrap();
        assert_eq!(json["host_map"]["a1"], serde_json::json!({"source": ["a1"], "seed": false}));
    }

    /// Hazard j.
    #[test]
    fn another_datacenters_nodes_are_no_sources() {
        let mut nodes = backup(&[("a1", "r1"), ("b1", "r1")]);
        nodes[0].datacenter = "dc1".to_owned();
        nodes[1].datacenter = "dc2".to_owned();
        let hosts = |nodes: Vec<BackupNode>| nodes.into_iter().map(|node| node.host).collect::<Vec<_>>();
        assert_eq!(hosts(of_our_datacenter(nodes.clone(), &ring(&[("c1", "r1")]))), ["a1"]);
        nodes[0].datacenter = "dc3".to_owned();
        assert_eq!(hosts(of_our_datacenter(nodes, &ring(&[("c1", "r1")]))), ["a1", "b1"]);
    }

    #[test]
    fn another_topology_is_refused() {
        let from = backup(&[("a1", "r1"), ("a2", "r2")]);
        let error = match_nodes(&from, &ring(&[("b1", "r1"), ("b2", "r1")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the backup's racks have [1, 1] nodes and this ring's have [2]: they must have as many"
        );
    }
}
