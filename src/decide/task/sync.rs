//! A sync: the bucket is listed through one pod, and what is known of backups is brought in line with it. What would remove
//! much asks a person first: a wrong prefix looks like an empty bucket.

use super::{APPROVE, failed};
use crate::{Context, backup, policy};
use std::sync::Arc;
use stheno_events::backup::Outcome;
use stheno_events::task::{ApprovalNeeded, Call, Completed, Completeness, EffectClaimed, Reconciled};
use stheno_events::{DcKey, Event, PodName, Time};
use stheno_projections::Datacenter;
use stheno_projections::task::{Listing, Task};

/// Digits of the listing's digest that a consent names.
const TOKEN: usize = 16;

pub(super) fn running(dc: &Datacenter, context: Context<'_>, task: &Task, since: Time) -> Vec<Event> {
    let (uid, sync) = (&task.request.meta.uid, &task.sync);
    match &sync.listing {
        Some(listing) if listing.whole => bring_in_line(dc, context, task, listing),
        Some(_) | None => {
            let silent = sync.failing.unwrap_or(since);
            let asked = sync.claim.as_ref().is_some_and(|claim| claim.epoch == context.epoch);
            if !asked && context.now >= silent + policy::LISTING_DEADLINE {
                let error = sync.error.as_deref().unwrap_or("no sidecar could be asked");
                return vec![failed(uid, Outcome::Failed, &format!("the bucket could not be listed: {error}"))];
            }
            list(dc, context, task)
        }
    }
}

/// Claims a listing, where it is time for one.
fn list(dc: &Datacenter, context: Context<'_>, task: &Task) -> Vec<Event> {
    let sync = &task.sync;
    let out = sync.claim.as_ref().is_some_and(|claim| claim.epoch == context.epoch);
    let rested = sync.failed_at.is_none_or(|at| context.now >= at + policy::backoff(sync.failures));
    if out || !rested || backup::quiet_until(dc, context).is_some() {
        return Vec::new();
    }
    // Another pod at each attempt: one that cannot read the bucket must not stand for all.
    let Ok(pods) = backup::reachable(dc, context) else { return Vec::new() };
    let failures = usize::try_from(sync.failures).unwrap_or(0);
    let pod: Option<&PodName> = pods.get(failures % pods.len().max(1));
    let Some(pod) = pod else { return Vec::new() };
    let (call, attempt, serial) = (Call::List(pod.clone()), sync.failures + 1, sync.claims + 1);
    vec![EffectClaimed { task: task.request.meta.uid.clone(), call, attempt, serial, epoch: context.epoch }.into()]
}

fn bring_in_line(dc: &Datacenter, context: Context<'_>, task: &Task, listing: &Listing) -> Vec<Event> {
    let uid = &task.request.meta.uid;
    let gone: Vec<&Arc<str>> = listing.missing.iter().filter(|name| removable(dc, name)).collect();
    let begun = task.sync.done.removed > 0;
    if !gone.is_empty() && !begun {
        let known = dc.backups.len();
        // One in five, and three in any case: what a night's purge removes. The bucket lists none: it is the wrong one.
        let unasked = policy::REMOVED_UNASKED.max(known / policy::REMOVED_UNASKED_OF);
        let much = gone.len() > unasked || listing.ours == 0;
        let token: Arc<str> = listing.digest.short(TOKEN).into();
        let approved = task.request.annotations.get(APPROVE).is_some_and(|given| *given == token);
        if much && !approved {
            return ask(task, listing, &gone, known, token);
        }
        // The consent may come days later: it is to what the bucket holds, so that is looked at again.
        if context.now > listing.at + policy::LISTING_FRESH {
            return list(dc, context, task);
        }
    }
    let created = |name: &Arc<str>| !dc.backups.contains_key(name);
    let whole = |(_, found): &(&Arc<str>, &Arc<stheno_events::task::Found>)| {
        // What is not whole, and not known, is nobody's backup yet.
        found.completeness == Completeness::Complete || dc.backups.contains_key(&found.name)
    };
    let found: Vec<&Arc<str>> =
        listing.found.iter().filter(whole).map(|(name, _)| name).filter(|name| !in_the_making(dc, name)).collect();
    let mut room = policy::RECONCILED_AT_ONCE;
    let mut take = |names: Vec<&Arc<str>>| -> Vec<Arc<str>> {
        let taken: Vec<Arc<str>> = names.into_iter().take(room).cloned().collect();
        room -= taken.len();
        taken
    };
    let (new, known): (Vec<&Arc<str>>, Vec<&Arc<str>>) = found.into_iter().partition(|name| created(name));
    let (created, corrected, removed) = (take(new), take(known), take(gone));
    if created.is_empty() && corrected.is_empty() && removed.is_empty() {
        return vec![Completed { task: uid.clone(), message: done(task, listing).into() }.into()];
    }
    vec![Reconciled { task: uid.clone(), created, corrected, removed }.into()]
}

/// Whether a backup that the bucket lacks is still known, and not being made.
fn removable(dc: &Datacenter, name: &Arc<str>) -> bool {
    dc.backups.contains_key(name) && !in_the_making(dc, name)
}

/// Whether a job of this name is at work: what the bucket says of its backup is no news but that of its own summary.
fn in_the_making(dc: &Datacenter, name: &Arc<str>) -> bool {
    let mut open = dc.open.iter().filter_map(|(_, job)| dc.operation(job));
    open.any(|operation| operation.request.meta.name == *name && operation.active())
}

fn ask(task: &Task, listing: &Listing, gone: &[&Arc<str>], known: usize, token: Arc<str>) -> Vec<Event> {
    if task.approval.as_ref().is_some_and(|approval| approval.token == token) {
        return Vec::new();
    }
    let names: Vec<Arc<str>> = gone.iter().take(policy::NAMES_SHOWN).map(|name| (*name).clone()).collect();
    let empty = if listing.ours == 0 { ", which lists none of this datacenter's" } else { "" };
    let listed = names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
    let more = if gone.len() > names.len() { format!(" and {} more", gone.len() - names.len()) } else { String::new() };
    let message = format!(
        "{} of {known} known backups are not in the bucket{empty}. Check bucket and prefix; if they are to be removed \
         here too, annotate this task with {APPROVE}={token}. They are {listed}{more}",
        gone.len()
    );
    let (task, removes) = (task.request.meta.uid.clone(), gone.len() as u64);
    vec![ApprovalNeeded { task, token, removes, known: known as u64, names, message: message.into() }.into()]
}

fn done(task: &Task, listing: &Listing) -> String {
    let done = &task.sync.done;
    let found = format!("{} of {} backups in the bucket are this datacenter's", listing.ours, listing.total);
    if (done.created, done.corrected, done.removed) == (0, 0, 0) {
        return format!("{found}, all of them as they were known");
    }
    format!("{found}: {} created, {} corrected, {} removed", done.created, done.corrected, done.removed)
}

/// What Cassandra calls the datacenter: `spec.datacenterName`, else the object's name.
pub(super) fn cassandra_name(dc: &Datacenter, key: &DcKey) -> Arc<str> {
    dc.object.as_ref().map_or_else(
        || key.name.clone(),
        |object| object.datacenter_name.clone().unwrap_or_else(|| object.meta.name.clone()),
    )
}

/// When a wait of a sync ends.
pub(super) fn moments(task: &Task, since: Time) -> Vec<Time> {
    let sync = &task.sync;
    let again = sync.failed_at.map(|at| at + policy::backoff(sync.failures));
    let whole = sync.listing.as_ref().is_some_and(|listing| listing.whole);
    let given_up = (!whole).then(|| sync.failing.unwrap_or(since) + policy::LISTING_DEADLINE);
    [again, given_up].into_iter().flatten().collect()
}
