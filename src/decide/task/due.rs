//! Which calls of tasks should be running, and when the next of their waits ends.

use super::sync;
use crate::effect::{Asked, TaskWork};
use crate::{Context, Effect, EffectKey, names, policy};
use std::sync::Arc;
use stheno_events::Time;
use stheno_events::backup::WaitReason;
use stheno_events::observed::BackupType;
use stheno_events::task::Call;
use stheno_projections::Datacenter;
use stheno_projections::task::{Claim, Node, NodeState, SETTLES, Stage, Task};

/// The calls that are claimed in this term and have no outcome.
#[must_use]
pub fn due(dc: &Datacenter, context: Context<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for task in dc.tasks_open().filter(|task| task.running()) {
        let called = task.nodes.values().filter_map(|node| match &node.state {
            NodeState::Called { claim, doubt, .. } => Some((claim, *doubt)),
            NodeState::Pending { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => None,
        });
        let listing = task.sync.claim.as_ref().map(|claim| (claim, None));
        let mine = called.chain(listing).filter(|(claim, _)| claim.epoch == context.epoch);
        effects.extend(mine.map(|(claim, doubt)| effect(dc, context, task, claim, doubt)));
    }
    effects
}

fn effect(dc: &Datacenter, context: Context<'_>, task: &Task, claim: &Claim, doubt: Option<Time>) -> Effect {
    let request = &task.request;
    let address = dc.pods.get(claim.call.pod()).and_then(|pod| {
        let (ip, sidecar) = (pod.ip.as_ref()?, pod.sidecar.as_ref()?);
        Some((ip.clone(), sidecar.port))
    });
    let work = match &claim.call {
        Call::Purge(_) => TaskWork::Purge { settles: doubt.map(|doubt| doubt + SETTLES) },
        Call::Prepare(_) => TaskWork::Prepare { restore_key: request.restore_key.clone().unwrap_or_default() },
        Call::Plan(_) => TaskWork::Plan,
        Call::List(_) => TaskWork::List(Asked {
            datacenter: sync::cassandra_name(dc, context.key),
            own: dc.object.as_ref().map(|it| names::pods(&it.cluster, &it.meta.name)).unwrap_or_default().into(),
            // Which the others are only the engine knows, which sees all datacenters.
            others: Vec::new(),
            known: Arc::new(dc.backups.iter().map(|(name, it)| (name.clone(), it.summary.clone())).collect()),
        }),
    };
    Effect {
        key: EffectKey {
            job: request.meta.uid.clone(),
            call: claim.call.clone().into(),
            attempt: claim.attempt,
            serial: claim.serial,
            epoch: claim.epoch,
        },
        dc: context.key.clone(),
        backup: request.backup.clone().unwrap_or_default(),
        backup_type: BackupType::Differential,
        address,
        foreign: false,
        sidecar: None,
        accepted: false,
        task: Some(work),
        command_by_ms: 0,
    }
}

/// The next moment at which a deadline, a wait or a rest ends.
#[must_use]
pub fn wake(dc: &Datacenter, context: Context<'_>) -> Option<Time> {
    let mut moments = Vec::new();
    for task in dc.tasks_open() {
        match &task.stage {
            Stage::Waiting { wait, .. } => {
                let patience = wait.as_ref().filter(|wait| wait.reason != WaitReason::OperationRunning);
                moments.extend(patience.map(|wait| wait.since + policy::WAIT_FOR_DATACENTER));
            }
            Stage::Running { since } => {
                moments.push(*since + policy::TASK_DEADLINE);
                moments.push(*since + policy::SILENCE);
                moments.extend(task.nodes.values().flat_map(node_moments));
                moments.extend(sync::moments(task, *since));
            }
            Stage::Ended { .. } => {}
        }
    }
    if !moments.is_empty() {
        let led = dc.led.as_ref().filter(|led| led.epoch == context.epoch);
        moments.extend(led.and_then(|led| led.quiet_until));
    }
    moments.into_iter().filter(|moment| *moment > context.now).min()
}

fn node_moments(node: &Node) -> Vec<Time> {
    match &node.state {
        NodeState::Pending { failures, since, failed_at, rests_until, .. } => {
            let again = failed_at.map(|at| at + policy::backoff(*failures));
            [again, since.map(|since| since + policy::SILENCE), *rests_until].into_iter().flatten().collect()
        }
        NodeState::Called { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => Vec::new(),
    }
}
