//! The laws of tasks: each ends once, no purge runs beside a backup, no sync removes much without consent.

use super::{Body, Fact, OLD, Sim, UNKNOWN};
use std::collections::{BTreeMap, BTreeSet};
use stheno_events::observed::{ObjectKind, TaskOperation};
use stheno_events::{Event, Uid, backup, observed, task};
use stheno_projections::Datacenter;
use stheno_projections::task::Stage;

/// What the log has said of a sync.
#[derive(Default)]
struct Consent {
    needed: Option<String>,
    given: Option<String>,
    listed: Option<(u64, usize)>,
    planned: usize,
    removed: usize,
}

pub(super) fn lawful(sim: &Sim) -> Result<(), String> {
    let (mut ended, mut purges, mut backups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut operations: BTreeMap<Uid, TaskOperation> = BTreeMap::new();
    let mut consents: BTreeMap<Uid, Consent> = BTreeMap::new();
    for (sequence, stored) in (1..).zip(&sim.log.messages) {
        for fact in &stored.envelope.events {
            match fact {
                Fact::Known(Event::Observed(observed::Event::Task(seen))) => {
                    operations.insert(seen.meta.uid.clone(), seen.operation);
                    let consent = consents.entry(seen.meta.uid.clone()).or_default();
                    consent.given = seen.annotations.get("stheno.io/approve").map(ToString::to_string);
                }
                Fact::Known(Event::Task(event)) => {
                    let uid = event.task();
                    let after = matches!(event, task::Event::SyncCreated(_) | task::Event::BackupCreated(_));
                    if ended.contains(uid) && !after {
                        return Err(format!("{} at {sequence} after the task's terminal event", fact.name()));
                    }
                    let consent = consents.entry(uid.clone()).or_default();
                    follow(event, consent).map_err(|fault| format!("message {sequence}: {fault}"))?;
                    let purge = operations.get(uid) == Some(&TaskOperation::Purge);
                    let asked = matches!(
                        event,
                        task::Event::EffectClaimed(claim) if matches!(claim.call, task::Call::Purge(_))
                    );
                    if asked && purge {
                        purges.insert(uid.clone());
                    }
                    if matches!(event, task::Event::Completed(_) | task::Event::Failed(_)) {
                        ended.insert(uid.clone());
                        purges.remove(uid);
                    }
                }
                Fact::Known(Event::Backup(backup::Event::Started(e))) => {
                    backups.insert(e.job.clone());
                }
                Fact::Known(Event::Backup(event @ (backup::Event::Completed(_) | backup::Event::Failed(_)))) => {
                    backups.remove(event.job());
                }
                Fact::Known(_) | Fact::Unknown { .. } => {}
            }
            if purges.len() > 1 || (!purges.is_empty() && !backups.is_empty()) {
                return Err(format!("message {sequence}: purges {purges:?} run beside backups {backups:?}"));
            }
        }
    }
    Ok(())
}

/// Much is removed only with a consent to exactly that.
fn follow(event: &task::Event, consent: &mut Consent) -> Result<(), String> {
    match event {
        task::Event::ApprovalNeeded(e) => consent.needed = Some(e.token.to_string()),
        task::Event::Listed(e) => {
            let before = if e.page == 0 { 0 } else { consent.listed.map_or(0, |(_, missing)| missing) };
            consent.listed = Some((e.ours, before + e.missing.len()));
        }
        task::Event::Planned(e) => consent.planned = e.backups.as_ref().map_or(0, Vec::len),
        task::Event::EffectClaimed(e) if matches!(e.call, task::Call::Purge(_)) => {
            // What is old is known from the beginning.
            if consent.planned > 3 && (consent.needed.is_none() || consent.given != consent.needed) {
                return Err(format!("a purge of {} backups begins without consent", consent.planned));
            }
        }
        task::Event::Reconciled(e) if !e.removed.is_empty() => {
            consent.removed += e.removed.len();
            let (ours, missing) = consent.listed.ok_or("it removes without a listing")?;
            // Six at most are known here: a fifth of them is less than three.
            let much = ours == 0 || missing > 3;
            if much && (consent.needed.is_none() || consent.given != consent.needed) {
                return Err(format!("{:?} go without consent", e.removed));
            }
        }
        task::Event::Queued(_)
        | task::Event::Started(_)
        | task::Event::EffectClaimed(_)
        | task::Event::ClaimAbandoned(_)
        | task::Event::NodeFinished(_)
        | task::Event::NodeFailed(_)
        | task::Event::NodeUnanswered(_)
        | task::Event::NodeLost(_)
        | task::Event::Reconciled(_)
        | task::Event::SyncRequested(_)
        | task::Event::Completed(_)
        | task::Event::Failed(_)
        | task::Event::SyncCreated(_)
        | task::Event::BackupCreated(_) => {}
    }
    Ok(())
}

/// Every task has ended and says so; each purge that ran has its one sync; what the bucket holds is there.
pub(super) fn ended(sim: &Sim, dc: &Datacenter) -> Result<BTreeMap<String, String>, String> {
    let mut tasks = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for task in dc.tasks.values() {
        let name = &task.request.meta.name;
        let Stage::Ended { started, finished, outcome, .. } = &task.stage else {
            return Err(format!("task {name} has not ended: {:?}, {:?}, {:?}", task.stage, task.nodes, task.sync));
        };
        let outcome = format!("{outcome:?}");
        let Some(Body::Task(_, status)) = sim.api.objects.get(&task.request.meta.uid) else {
            return Err(format!("task {name} is not on the API server"));
        };
        if status.finished != Some(*finished) || status.outcome.as_ref() != Some(&outcome) {
            return Err(format!("the status of task {name} says {status:?}, the log {outcome} at {finished}"));
        }
        let begun = started.is_some() && task.nodes.values().any(|node| node.claims > 0);
        if task.request.operation == TaskOperation::Purge && begun {
            wanted.insert(format!("{name}-sync").into(), 1);
        }
        tasks.insert(name.to_string(), outcome);
    }
    if !sim.plan.tasks {
        return Ok(tasks);
    }
    if sim.api.syncs_created != wanted {
        return Err(format!("syncs {:?} were created, {wanted:?} asked for", sim.api.syncs_created));
    }
    if !dc.follow_ups.is_empty() || !dc.removals.is_empty() {
        return Err(format!("left undone: {:?}, {:?}", dc.follow_ups, dc.removals));
    }
    let there: BTreeSet<&str> = sim
        .api
        .objects
        .values()
        .filter(|body| body.kind() == ObjectKind::MedusaBackup)
        .map(|body| &*body.meta().name)
        .collect();
    let held = sim.holds();
    for name in OLD.into_iter().chain([UNKNOWN]) {
        if there.contains(name) != held.contains(name) {
            return Err(format!("the bucket holds {held:?}, the API server {there:?}"));
        }
    }
    Ok(tasks)
}
