//! A sync: the bucket is listed through one pod, and what is known of backups is brought in line with it. What would remove
//! much asks a person first, a purge too: a wrong prefix looks like an empty bucket, a mistyped retention like a long one.

use super::{APPROVE, failed};
use crate::{Context, backup, policy};
use std::sync::Arc;
use stheno_events::backup::Outcome;
use stheno_events::task::{ApprovalNeeded, Call, Completed, Completeness, EffectClaimed, Reconciled};
use stheno_events::{DcKey, Digest, Event, PodName, Time};
use stheno_projections::Datacenter;
use stheno_projections::task::{Listing, Task};

/// Digits of the listing's digest that a consent names.
const TOKEN: usize = 16;

pub(super) fn running(dc: &Datacenter, context: Context<'_>, task: &Task, since: Time) -> Vec<Event> {
    match &task.sync.listing {
        Some(listing) if listing.whole => bring_in_line(dc, context, task, listing),
        Some(_) | None => look(dc, context, task, since, Call::List),
    }
}

/// Claims a look at the bucket, where it is time for one; a task that looks in vain for long is given up.
pub(super) fn look(
    dc: &Datacenter,
    context: Context<'_>,
    task: &Task,
    since: Time,
    call: fn(PodName) -> Call,
) -> Vec<Event> {
    let (uid, sync) = (task.request.meta.uid.clone(), &task.sync);
    let out = sync.claim.as_ref().is_some_and(|claim| claim.epoch == context.epoch);
    let rested = sync.failed_at.is_none_or(|at| context.now >= at + policy::backoff(sync.failures));
    if !out && context.now >= sync.looking.unwrap_or(since) + policy::LISTING_DEADLINE {
        let error = sync.error.as_deref().unwrap_or("no sidecar could be asked");
        return vec![failed(&uid, Outcome::Failed, &format!("the bucket could not be looked at: {error}"))];
    }
    if out || !rested || backup::quiet_until(dc, context).is_some() {
        return Vec::new();
    }
    // Another pod at each attempt: one that cannot read the bucket must not stand for all.
    let Ok(pods) = backup::reachable(dc, context) else { return Vec::new() };
    let failures = usize::try_from(sync.failures).unwrap_or(0);
    let pod: Option<&PodName> = pods.get(failures % pods.len().max(1));
    let Some(pod) = pod else { return Vec::new() };
    let (call, attempt, serial) = (call(pod.clone()), sync.failures + 1, sync.claims + 1);
    vec![EffectClaimed { task: uid, call, attempt, serial, epoch: context.epoch }.into()]
}

fn bring_in_line(dc: &Datacenter, context: Context<'_>, task: &Task, listing: &Listing) -> Vec<Event> {
    let uid = &task.request.meta.uid;
    let gone: Vec<&Arc<str>> = listing.missing.iter().filter(|name| removable(dc, name)).collect();
    let begun = task.sync.done.removed > 0;
    if !gone.is_empty() && !begun {
        let known = dc.backups.len();
        // The bucket lists none: it is the wrong one.
        if (much(gone.len(), known) || listing.ours == 0) && !approved(task, listing.digest) {
            let empty = if listing.ours == 0 { ", which lists none of this datacenter's" } else { "" };
            let what = format!(
                "{} of {known} known backups are not in the bucket{empty}. Check bucket and prefix; if they are to be \
                 removed here too",
                gone.len()
            );
            return ask(task, &what, &gone, known, listing.digest);
        }
        if old(task, context, listing.at) {
            return look(dc, context, task, context.now, Call::List);
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

/// More than goes without a person's consent: one in five, and three in any case, which a night's purge removes.
fn much(gone: usize, known: usize) -> bool {
    gone > policy::REMOVED_UNASKED.max(known / policy::REMOVED_UNASKED_OF)
}

/// Whether a person has consented to exactly this.
fn approved(task: &Task, digest: Digest) -> bool {
    task.request.annotations.get(APPROVE).is_some_and(|given| **given == digest.short(TOKEN))
}

/// Whether what was told at `told` is to be asked for again before anything is removed because of it. A consent may come
/// days later, and is to what the bucket holds: that is looked at once more after it.
fn old(task: &Task, context: Context<'_>, told: Time) -> bool {
    let before_consent = task.approval.as_ref().is_some_and(|approval| told <= approval.since);
    before_consent || context.now > told + policy::LISTING_FRESH
}

/// Asks a person; once.
fn ask(task: &Task, what: &str, gone: &[&Arc<str>], known: usize, digest: Digest) -> Vec<Event> {
    let token: Arc<str> = digest.short(TOKEN).into();
    if task.approval.as_ref().is_some_and(|approval| approval.token == token) {
        return Vec::new();
    }
    let names: Vec<Arc<str>> = gone.iter().take(policy::NAMES_SHOWN).map(|name| (*name).clone()).collect();
    let listed = names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
    let more = if gone.len() > names.len() { format!(" and {} more", gone.len() - names.len()) } else { String::new() };
    let message = format!("{what}, annotate this task with {APPROVE}={token}. They are {listed}{more}");
    let (task, removes) = (task.request.meta.uid.clone(), gone.len() as u64);
    vec![ApprovalNeeded { task, token, removes, known: known as u64, names, message: message.into() }.into()]
}

/// Since when a purge may be at work; what is to be done before, where it may not be yet.
pub(super) fn may_purge(dc: &Datacenter, context: Context<'_>, task: &Task, since: Time) -> Result<Time, Vec<Event>> {
    let Some(plan) = &task.sync.plan else { return Err(look(dc, context, task, since, Call::Plan)) };
    if task.nodes.values().any(|node| node.claims > 0) {
        return Ok(plan.at);
    }
    let gone: Vec<&Arc<str>> = plan.backups.iter().filter(|name| dc.backups.contains_key(*name)).collect();
    let known = dc.backups.len();
    if much(gone.len(), known) {
        if !approved(task, plan.digest) {
            let what = format!(
                "this purge would remove {} of {known} known backups. Check the retention settings; if they are to go",
                gone.len()
            );
            return Err(ask(task, &what, &gone, known, plan.digest));
        }
        if old(task, context, plan.at) {
            return Err(look(dc, context, task, context.now, Call::Plan));
        }
    }
    Ok(plan.at)
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
    let whole = sync.plan.is_some() || sync.listing.as_ref().is_some_and(|listing| listing.whole);
    let given_up = (!whole).then(|| sync.looking.unwrap_or(since) + policy::LISTING_DEADLINE);
    [again, given_up].into_iter().flatten().collect()
}
