//! Which node of a backup goes to which pod of a datacenter: the mapping of a restore, and why there is none.

use crate::names::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node of a backup, as a sidecar lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<'a> {
    /// Its name in the bucket.
    pub host: &'a str,
    /// Its datacenter, as Cassandra calls it.
    pub datacenter: &'a str,
    /// Its rack, as Cassandra calls it.
    pub rack: &'a str,
}

/// Which pod restores which node's backup: Medusa's `RESTORE_MAPPING`, and its JSON to the byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Whether each pod restores what it backed up itself.
    pub in_place: bool,
    /// For each pod, the node whose backup it restores.
    pub host_map: BTreeMap<String, Sources>,
}

/// What a pod restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The names of the nodes; one for each pod.
    pub source: Vec<String>,
    /// Whether the pod is a seed; never set, as today's operator does.
    pub seed: bool,
}

/// Why there is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The backup holds nothing of this datacenter.
    #[error(
        "the backup holds no node of datacenter {0}: restore to a datacenter of that name, or set spec.datacenterName"
    )]
    NoNodes(String),
    /// Racks cannot be paired.
    #[error("the backup has {of_backup}, the datacenter {of_target}: give the datacenter as many racks")]
    Racks {
        /// Racks of the backup, with their nodes.
        of_backup: String,
        /// Racks of the datacenter, with their pods.
        of_target: String,
    },
    /// A rack's nodes cannot be paired with pods.
    #[error(
        "rack {source_rack} of the backup and rack {target_rack} of the datacenter cannot be paired (nodes: {nodes}, pods: {pods}): make them equal"
    )]
    Size {
        /// Rack of the backup.
        source_rack: String,
        /// Its nodes.
        nodes: usize,
        /// Rack of the datacenter.
        target_rack: String,
        /// Its pods.
        pods: usize,
    },
    /// The backup does not say which node it is.
    #[error("a node in rack {0} of the backup has no name: the backup's entry in the bucket is damaged")]
    Nameless(String),
}

/// The mapping of a backup's nodes to a datacenter's pods. Racks are paired in the order of their names, nodes within a
/// rack in the order of theirs, all by their bytes: `…-sts-10` stands before `…-sts-2`, on both sides.
///
/// # Errors
/// When racks or nodes cannot be paired.
pub fn map(nodes: &[Source<'_>], target: &Place<'_>) -> Result<Mapping, Refusal> {
    let datacenter = target.cassandra_name();
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.datacenter == datacenter) {
        if node.host.is_empty() {
            return Err(Refusal::Nameless(node.rack.to_owned()));
        }
        sources.entry(node.rack).or_default().push(node.host);
    }
    if sources.is_empty() {
        return Err(Refusal::NoNodes(datacenter.to_owned()));
    }
    let mut targets: BTreeMap<&str, Vec<String>> = target.pods().into_iter().collect();
    if sources.len() != targets.len() {
        let shown = |racks: Vec<(&str, usize)>| {
            let each: Vec<String> = racks.iter().map(|(name, size)| format!("{name} ({size})")).collect();
            format!("{} rack{}: {}", each.len(), if each.len() == 1 { "" } else { "s" }, each.join(", "))
        };
        return Err(Refusal::Racks {
            of_backup: shown(sources.iter().map(|(name, hosts)| (*name, hosts.len())).collect()),
            of_target: shown(targets.iter().map(|(name, pods)| (*name, pods.len())).collect()),
        });
    }
    let mut host_map = BTreeMap::new();
    for ((source_rack, hosts), (target_rack, pods)) in sources.iter_mut().zip(&mut targets) {
        if hosts.len() != pods.len() {
            return Err(Refusal::Size {
                source_rack: (*source_rack).to_owned(),
                nodes: hosts.len(),
                target_rack: (*target_rack).to_owned(),
                pods: pods.len(),
            });
        }
        hosts.sort_unstable();
        pods.sort_unstable();
        let pairs = pods.iter().zip(hosts.iter());
        host_map
            .extend(pairs.map(|(pod, host)| (pod.clone(), Sources { source: vec![(*host).to_owned()], seed: false })));
    }
    let in_place = host_map.iter().all(|(pod, sources)| sources.source == [pod.as_str()]);
    Ok(Mapping { in_place, host_map })
}
