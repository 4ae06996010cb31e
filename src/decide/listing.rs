//! A listing of the bucket against what is known: whose each backup is, what is new or known otherwise, what is missing.
//!
//! Only the difference goes into the log, with a digest of the whole: a bucket of a thousand backups of a hundred nodes
//! would be some ten megabytes at each sync.

use crate::effect::Asked;
use crate::policy;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use stheno_events::backup::{BackupNode, Summarised};
use stheno_events::task::{Completeness, Found, Listed};
use stheno_events::{Digest, Epoch, PodName, Uid};

/// Whose claim a listing answers.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The task.
    pub task: &'a Uid,
    /// The pod that listed.
    pub pod: &'a PodName,
    /// Which claim it was.
    pub serial: u32,
    /// The term of the claim.
    pub epoch: Epoch,
}

/// What the log is told of a listing: pages in order, at least one.
#[must_use]
pub fn compare(asked: &Asked, origin: Origin<'_>, listed: Vec<Found>) -> Vec<Listed> {
    let total = listed.len() as u64;
    // Of a name that comes twice the first entry counts, as everywhere.
    let mut all: BTreeMap<Arc<str>, Found> = BTreeMap::new();
    for mut found in listed {
        fit(&mut found.nodes);
        all.entry(found.name.clone()).or_insert(found);
    }
    let missing: Vec<Arc<str>> = asked.known.keys().filter(|name| !all.contains_key(*name)).cloned().collect();
    all.retain(|_, found| is_ours(asked, found));
    let (ours, digest) = (all.len() as u64, digest(all.values(), &missing));
    let news = all.into_values().filter(|found| match asked.known.get(&found.name) {
        Some(Some(known)) => !same(found, known),
        Some(None) => true,
        None => found.completeness == Completeness::Complete,
    });
    let page = || Listed {
        task: origin.task.clone(),
        pod: origin.pod.clone(),
        serial: origin.serial,
        epoch: origin.epoch,
        page: 0,
        last: false,
        digest,
        total,
        ours,
        found: Vec::new(),
        missing: Vec::new(),
    };
    let mut pages = vec![page()];
    let mut bytes = 0;
    let mut room = |pages: &mut Vec<Listed>, more: usize| {
        if bytes > 0 && bytes + more > policy::PAGE_BYTES {
            pages.push(page());
            bytes = 0;
        }
        bytes += more;
    };
    for found in news {
        room(&mut pages, size(&found));
        if let Some(page) = pages.last_mut() {
            page.found.push(found);
        }
    }
    for name in missing {
        room(&mut pages, name.len() + 8);
        if let Some(page) = pages.last_mut() {
            page.missing.push(name);
        }
    }
    for (number, page) in (0..).zip(&mut pages) {
        page.page = number;
    }
    if let Some(page) = pages.last_mut() {
        page.last = true;
    }
    pages
}

/// Whether a backup is this datacenter's: all of its nodes say so by their Cassandra datacenter, and none of them is a
/// node of another datacenter that this operator knows. One without nodes is whosever it was known to be.
fn is_ours(asked: &Asked, found: &Found) -> bool {
    if found.nodes.is_empty() {
        return asked.known.contains_key(&found.name);
    }
    found.nodes.iter().all(|node| node.datacenter == asked.datacenter && !anothers(asked, &node.host))
}

/// Whether a host is a pod of another datacenter: of names that begin alike the longest counts.
fn anothers(asked: &Asked, host: &str) -> bool {
    let fits = |prefix: &Arc<str>| if host.starts_with(&**prefix) { prefix.len() } else { 0 };
    asked.others.iter().map(fits).max().unwrap_or(0) > fits(&asked.own)
}

fn same(found: &Found, known: &Summarised) -> bool {
    let nodes: BTreeSet<_> = found.nodes.iter().map(facts).collect();
    found.total_nodes == known.total_nodes
        && found.finished_nodes == known.finished_nodes
        && found.files == known.files
        && found.bytes == known.bytes
        && (found.completeness == Completeness::Complete) == known.complete
        && nodes == known.nodes.iter().map(facts).collect()
}

fn facts(node: &BackupNode) -> (&Arc<str>, &[i64], &Arc<str>, &Arc<str>) {
    (&node.host, &node.tokens, &node.datacenter, &node.rack)
}

/// What a consent is bound to: which backups are there, and which are missing. Sizes may change meanwhile.
fn digest<'a>(ours: impl Iterator<Item = &'a Found>, missing: &[Arc<str>]) -> Digest {
    let mut text = String::new();
    for found in ours {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:?} {:?}", found.name, found.completeness);
    }
    for name in missing {
        let _ = writeln!(text, "{name:?} missing");
    }
    Digest::of(text.as_bytes())
}

/// A summary that does not fit into a message goes without its tokens: topology, files and sizes are what is asked for.
pub(crate) fn fit(nodes: &mut [BackupNode]) {
    let tokens: usize = nodes.iter().map(|node| node.tokens.len()).sum();
    if tokens * 9 > policy::SUMMARY_BYTES {
        nodes.iter_mut().for_each(|node| node.tokens.clear());
    }
}

/// About as many bytes as it takes in a message.
fn size(found: &Found) -> usize {
    let node =
        |node: &BackupNode| 40 + node.host.len() + node.datacenter.len() + node.rack.len() + 9 * node.tokens.len();
    200 + found.name.len() + found.nodes.iter().map(node).sum::<usize>()
}

#[cfg(test)]
mod tests;
