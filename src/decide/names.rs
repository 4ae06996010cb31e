//! Names as cass-operator 1.31 makes them of what a user wrote: of objects, racks and label values, and of pods.

/// The whole pieces of `text` that begin, go on and end as given, joined; what stands between them is dropped.
fn pieces(text: &str, begins: fn(char) -> bool, goes_on: fn(char) -> bool) -> String {
    // What a name may end with is what it may begin with, or a digit.
    let ends = |c: char| begins(c) || c.is_ascii_digit();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(begins) {
        let found = rest.get(start..).unwrap_or_default();
        let run = found.find(|c| !goes_on(c)).map_or(found, |end| found.get(..end).unwrap_or_default());
        out.push_str(run.trim_end_matches(|c| !ends(c)));
        rest = found.get(run.len()..).unwrap_or_default();
    }
    out
}

const fn lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn prepared(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// Part of an object's name (`CleanupForKubernetes`): a cluster or a datacenter in the names of StatefulSets and Secrets.
#[must_use]
pub fn object(name: &str) -> String {
    pieces(&prepared(name), |c| c.is_ascii_lowercase(), |c| lower_or_digit(c) || c == '-')
}

/// What the names of a datacenter's pods begin with, and those of its backups' nodes with them.
#[must_use]
pub fn pods(cluster: &str, datacenter: &str) -> String {
    format!("{}-{}-", object(cluster), object(datacenter))
}

/// A rack in the name of its StatefulSet (`CleanupSubdomain`): digits and single dots stay.
#[must_use]
pub fn rack(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut joined = false;
    for label in prepared(name).split('.') {
        let clean = pieces(label, lower_or_digit, |c| lower_or_digit(c) || c == '-');
        // A dot stays where a label ends directly before it and another one begins directly behind it.
        if joined && label.starts_with(lower_or_digit) {
            out.push('.');
        }
        joined = label.ends_with(lower_or_digit);
        out.push_str(&clean);
    }
    out
}

/// A label's value (`CleanLabelValue`); what schedules create carries it.
pub use stheno_projections::status::label_value as label;

/// A datacenter, as far as the names of its pods depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `spec.clusterName`.
    pub cluster: &'a str,
    /// `spec.datacenterName`, where it is set: what Cassandra calls it.
    pub datacenter: Option<&'a str>,
    /// `status.datacenterName`, where it is set: an older cass-operator named the pods by it.
    pub named_by: Option<&'a str>,
    /// `spec.size`: pods in all racks together.
    pub size: u32,
    /// The names of `spec.racks`, in order; one called `default` where there are none.
    pub racks: Vec<&'a str>,
}

/// The rack of a datacenter that names none.
pub const DEFAULT_RACK: &str = "default";

impl Place<'_> {
    /// What Cassandra calls the datacenter.
    #[must_use]
    pub fn cassandra_name(&self) -> &str {
        self.datacenter.filter(|name| !name.is_empty()).unwrap_or(self.name)
    }

    /// Each rack with its pods, in the order of the spec: pods are split evenly, the remainder goes to the first racks.
    #[must_use]
    pub fn pods(&self) -> Vec<(&str, Vec<String>)> {
        let racks = if self.racks.is_empty() { vec![DEFAULT_RACK] } else { self.racks.clone() };
        let count = u32::try_from(racks.len()).unwrap_or(u32::MAX);
        let (each, more) = (self.size / count, self.size % count);
        let datacenter = object(self.named_by.filter(|name| !name.is_empty()).unwrap_or(self.name));
        let cluster = object(self.cluster);
        let named = |(index, name): (u32, &'_ str)| {
            let (size, clean) = (each + u32::from(index < more), rack(name));
            (0..size).map(|number| format!("{cluster}-{datacenter}-{clean}-sts-{number}")).collect()
        };
        (0..).zip(racks).map(|(index, name)| (name, named((index, name)))).collect()
    }
}
