//! Names and the pseudonyms that stand for them: one each, in the same order, with the relations that decisions rest on.
//!
//! - A slot's job is called `<schedule>-<unix seconds>`: a number at a name's end stays, what is before it is the name.
//! - The sync that follows a purge is called `<purge>-sync`: that end stays too.
//! - Pods are called `<cluster>-<datacenter>-<rack>-sts-<number>`: so are their pseudonyms, where the order allows it.
//! - A pod's label has its cluster's name as a label's value: both get one pseudonym.
//! - What cannot be read must not become readable: times and zones that are some stay, others become words that are none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stheno_decide::cron::{Cron, zone};
use stheno_decide::names::{DEFAULT_RACK, Place, label};
use stheno_events::{DcKey, observed};

/// What bears a name. Pseudonyms are counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Datacenter,
    Cluster,
    Rack,
    /// A pod, or a node's name in the bucket.
    Node,
    Address,
    /// A backup, its job and its object.
    Backup,
    Schedule,
    Task,
    Location,
    /// Who runs the operator.
    Operator,
    /// A UID or a message's id.
    Id,
    /// A resource version.
    Version,
    Cron,
    Zone,
    /// `concurrencyPolicy`.
    Policy,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Namespace => "ns",
            Self::Datacenter => "dc",
            Self::Cluster => "cluster",
            Self::Rack => "rack",
            Self::Node => "pod",
            Self::Address => "ip",
            Self::Backup => "backup",
            Self::Schedule => "schedule",
            Self::Task => "task",
            Self::Location => "location",
            Self::Operator => "operator",
            Self::Id => "id",
            Self::Version => "version",
            Self::Cron => "cron",
            Self::Zone => "zone",
            Self::Policy => "policy",
        }
    }

    /// A name as it is counted: spellings that mean the same are one name.
    fn spelt(self, name: &str) -> Arc<str> {
        match self {
            Self::Datacenter | Self::Namespace => DcKey::new("", name).name,
            Self::Cluster => label(name).into(),
            Self::Backup | Self::Task | Self::Node => self.cut(name).map_or(name, |(name, _)| name).into(),
            Self::Rack
            | Self::Address
            | Self::Schedule
            | Self::Location
            | Self::Operator
            | Self::Id
            | Self::Version
            | Self::Cron
            | Self::Zone
            | Self::Policy => name.into(),
        }
    }

    /// What is before the end of a name, and the end, which stays: a number, and what a sync after a purge is called by.
    fn cut(self, name: &str) -> Option<(&str, &str)> {
        let sync = || name.strip_suffix(SYNC).filter(|before| self == Self::Task && !before.is_empty());
        let whole = sync().unwrap_or(name);
        let numbered = whole.rsplit_once('-').filter(|(before, number)| self.counts(before, number));
        match (numbered, sync()) {
            (Some((before, _)), _) => Some((before, name.get(before.len()..)?)),
            (None, Some(before)) => Some((before, SYNC)),
            (None, None) => None,
        }
    }

    /// Whether what is behind the last hyphen is a number that stays.
    fn counts(self, before: &str, number: &str) -> bool {
        let counts = match self {
            Self::Backup | Self::Task => !before.is_empty(),
            Self::Node => before.ends_with(SET),
            Self::Namespace
            | Self::Datacenter
            | Self::Cluster
            | Self::Rack
            | Self::Address
            | Self::Schedule
            | Self::Location
            | Self::Operator
            | Self::Id
            | Self::Version
            | Self::Cron
            | Self::Zone
            | Self::Policy => false,
        };
        counts && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// What is no name, or says nothing of whoever chose it.
    fn is_plain(self, text: &str) -> bool {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        text.is_empty()
            || match self {
                Self::Rack => text == DEFAULT_RACK,
                Self::Id => is_uuid(text),
                Self::Version => digits(text),
                Self::Cron => Cron::parse(text).is_ok() || text.bytes().all(|byte| b"0123456789*/,-? ".contains(&byte)),
                Self::Zone => zone(text).is_ok(),
                Self::Policy => matches!(text, "Allow" | "Forbid" | "Replace"),
                Self::Namespace
                | Self::Datacenter
                | Self::Cluster
                | Self::Node
                | Self::Address
                | Self::Backup
                | Self::Schedule
                | Self::Task
                | Self::Location
                | Self::Operator => false,
            }
    }
}

/// What the name of the sync that follows a purge ends with.
const SYNC: &str = "-sync";

/// How the name of a StatefulSet ends.
const SET: &str = "-sts";

/// A schedule with a longer name is refused: its jobs' names would be too long. So is its pseudonym.
const LONGEST_SCHEDULE: usize = 242;

/// What a name that was never learned becomes.
const UNLEARNED: &str = "unlisted";

/// Whether it is a UUID as Kubernetes and the log write it: drawn, not chosen.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// A StatefulSet by what its name is made of.
#[derive(Debug, Clone)]
struct Set {
    cluster: Arc<str>,
    datacenter: Arc<str>,
    rack: Arc<str>,
}

/// All names of a log, while they are collected.
#[derive(Debug, Default)]
pub(super) struct Collection {
    names: BTreeMap<Kind, BTreeSet<Arc<str>>>,
    /// Nodes by their datacenter: their order counts there.
    nodes: BTreeMap<DcKey, BTreeSet<Arc<str>>>,
    sets: BTreeMap<Arc<str>, Set>,
}

impl Collection {
    /// A name in a message of the datacenter `home`.
    pub(super) fn learn(&mut self, kind: Kind, name: &str, home: Option<&DcKey>) {
        if kind.is_plain(name) {
            return;
        }
        let name = kind.spelt(name);
        if let (Kind::Node, Some(home)) = (kind, home)
            && !self.nodes.get(home).is_some_and(|nodes| nodes.contains(&name))
        {
            self.nodes.entry(home.clone()).or_default().insert(name.clone());
        }
        let names = self.names.entry(kind).or_default();
        if !names.contains(&name) {
            names.insert(name);
        }
    }

    /// What the names of a datacenter's pods are made of.
    pub(super) fn learn_sets(&mut self, datacenter: &observed::Datacenter) {
        let racks: Vec<&str> = datacenter.racks.iter().map(AsRef::as_ref).collect();
        for named_by in [None, datacenter.datacenter_name.as_deref()] {
            let place = Place {
                name: &datacenter.meta.name,
                cluster: &datacenter.cluster,
                datacenter: None,
                named_by,
                // One in each rack.
                size: u32::try_from(racks.len().max(1)).unwrap_or(u32::MAX),
                racks: racks.clone(),
            };
            let datacenter = named_by.unwrap_or(&datacenter.meta.name);
            for (rack, pods) in place.pods() {
                let (cluster, datacenter, rack) = (place.cluster.into(), datacenter.into(), rack.into());
                let set = Set { cluster, datacenter, rack };
                if let Some((stem, _)) = pods.first().and_then(|pod| Kind::Node.cut(pod)) {
                    self.sets.entry(stem.into()).or_insert(set);
                }
            }
        }
    }

    /// Gives each name its pseudonym.
    pub(super) fn finish(self) -> Pseudonyms {
        let Self { names, nodes, sets } = self;
        let numbered = names.into_iter().map(|(kind, names)| (kind, number(kind, names)));
        let mut pseudonyms = Pseudonyms { names: numbered.collect() };
        let composed: BTreeMap<Arc<str>, Arc<str>> =
            nodes.values().filter_map(|nodes| pseudonyms.composed(nodes, &sets)).flatten().collect();
        if composed.values().collect::<BTreeSet<_>>().len() == composed.len() {
            pseudonyms.names.entry(Kind::Node).or_default().extend(composed);
        }
        pseudonyms
    }
}

/// Numbers names in their order.
fn number(kind: Kind, names: BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, Arc<str>> {
    let width = names.len().to_string().len().max(4);
    let mut names: Vec<Arc<str>> = names.into_iter().collect();
    if kind == Kind::Schedule {
        // What matters is the order of their jobs: these have a number behind the name.
        names.sort_by_cached_key(|name| format!("{name}-17"));
    }
    let pseudonym = |(index, name): (usize, Arc<str>)| {
        let mut pseudonym = format!("{}-{:0width$}", kind.prefix(), index + 1);
        if kind == Kind::Schedule && name.len() > LONGEST_SCHEDULE {
            pseudonym.push_str(&"x".repeat(name.len() - pseudonym.len()));
        }
        (name, pseudonym.into())
    };
    names.into_iter().enumerate().map(pseudonym).collect()
}

/// The pseudonym of each name.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    names: BTreeMap<Kind, BTreeMap<Arc<str>, Arc<str>>>,
}

impl Pseudonyms {
    /// The pseudonyms of a datacenter's StatefulSets, made of those of their parts; none where that is not what all of its
    /// nodes are named after, or not their order.
    fn composed(
        &self,
        nodes: &BTreeSet<Arc<str>>,
        sets: &BTreeMap<Arc<str>, Set>,
    ) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
        let composed = nodes.iter().map(|name| {
            let set = sets.get(name)?;
            let [cluster, datacenter, rack] =
                [(Kind::Cluster, &set.cluster), (Kind::Datacenter, &set.datacenter), (Kind::Rack, &set.rack)]
                    .map(|(kind, name)| self.of(kind, name).unwrap_or_else(|| name.clone()));
            Some((name.clone(), Arc::from(format!("{cluster}-{datacenter}-{rack}{SET}"))))
        });
        let composed: BTreeMap<Arc<str>, Arc<str>> = composed.collect::<Option<_>>()?;
        composed.values().is_sorted_by(|a, b| a < b).then_some(composed)
    }

    /// What a name becomes; none where it stays.
    pub(super) fn of(&self, kind: Kind, name: &str) -> Option<Arc<str>> {
        if kind.is_plain(name) {
            return None;
        }
        Some(self.known(kind, name).unwrap_or_else(|| UNLEARNED.into()))
    }

    /// What a name becomes that was learned.
    pub(super) fn known(&self, kind: Kind, name: &str) -> Option<Arc<str>> {
        let names = |kind: Kind| self.names.get(&kind);
        match kind.cut(name) {
            Some((before, end)) => {
                let made = matches!(kind, Kind::Backup | Kind::Task);
                let schedule = || names(Kind::Schedule).filter(|_| made)?.get(before);
                let pseudonym = schedule().or_else(|| names(kind)?.get(before))?;
                Some(format!("{pseudonym}{end}").into())
            }
            None => names(kind)?.get(&kind.spelt(name)).cloned(),
        }
    }
}

#[cfg(test)]
mod tests;
