//! Which calls of a backup should be running, and when the next of its waits ends.

use crate::{Context, Effect, EffectKey, policy};
use chrono::TimeDelta;
use stheno_events::Time;
use stheno_projections::Datacenter;
use stheno_projections::backup::{Claim, Node, NodeState, Operation, Stage};

/// The calls that are claimed in this term and have no outcome.
#[must_use]
pub fn due(dc: &Datacenter, context: Context<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for operation in dc.open.iter().filter_map(|(_, job)| dc.operation(job)) {
        let calls = operation.nodes.values().filter_map(|node| match &node.state {
            NodeState::Called { claim, .. } => Some((claim, Some(node))),
            NodeState::Pending { .. }
            | NodeState::Doubt { .. }
            | NodeState::Finished { .. }
            | NodeState::Failed { .. } => None,
        });
        let reading = match &operation.stage {
            Stage::Closing { reading, .. } => reading.claim.as_ref().map(|claim| (claim, None)),
            Stage::Waiting { .. } | Stage::Running { .. } | Stage::Ended { .. } => None,
        };
        let running = matches!(operation.stage, Stage::Running { .. }) || operation.stopping();
        effects.extend(
            calls
                .filter(|_| running)
                .chain(reading)
                .filter(|(claim, _)| claim.epoch == context.epoch)
                .map(|(claim, node)| effect(dc, context, operation, claim, node)),
        );
    }
    effects
}

fn effect(dc: &Datacenter, context: Context<'_>, operation: &Operation, claim: &Claim, node: Option<&Node>) -> Effect {
    let address = dc.pods.get(claim.call.pod()).and_then(|pod| {
        let (ip, sidecar) = (pod.ip.as_ref()?, pod.sidecar.as_ref()?);
        Some((ip.clone(), sidecar.port))
    });
    Effect {
        key: EffectKey {
            job: operation.request.meta.uid.clone(),
            call: claim.call.clone().into(),
            attempt: claim.attempt,
            serial: claim.serial,
            epoch: claim.epoch,
        },
        dc: context.key.clone(),
        backup: operation.request.meta.name.clone(),
        backup_type: operation.request.backup_type,
        address,
        foreign: operation.foreign,
        sidecar: node.and_then(|node| node.sidecar),
        accepted: node.is_some_and(|node| node.started.is_some()),
        task: None,
        command_by_ms: 0,
    }
}

/// The next moment at which a deadline, a wait or the quiet time ends.
#[must_use]
pub fn wake(dc: &Datacenter, context: Context<'_>) -> Option<Time> {
    let mut moments = Vec::new();
    let led = dc.led.as_ref().filter(|led| led.epoch == context.epoch);
    moments.extend(led.and_then(|led| led.quiet_until));
    moments.extend(dc.lapses.values().copied());
    for operation in dc.open.iter().filter_map(|(_, job)| dc.operation(job)) {
        match &operation.stage {
            Stage::Waiting { wait, .. } => {
                let patience = wait.as_ref().filter(|wait| policy::limited(wait.reason));
                moments.extend(patience.map(|wait| wait.since + policy::WAIT_FOR_DATACENTER));
            }
            Stage::Running { since } => {
                let foreign = operation.foreign.then_some(policy::BACKUP_DEADLINE);
                moments.push(*since + foreign.unwrap_or_else(|| super::stopping::deadline(operation)));
                moments.push(*since + policy::SILENCE);
                moments.extend(operation.nodes.values().flat_map(node_moments));
            }
            Stage::Closing { since, .. } if operation.stopping() => {
                moments.push(*since + policy::BACKUP_DEADLINE);
                moments.extend(operation.nodes.values().flat_map(node_moments));
            }
            Stage::Closing { since, reading, .. } => {
                moments.push(*since + policy::CLOSING_DEADLINE);
                moments.extend(reading.failed_at.map(|at| at + policy::backoff(reading.failures)));
            }
            Stage::Ended { .. } => {}
        }
    }
    moments.into_iter().filter(|moment| *moment > context.now).min()
}

fn node_moments(node: &Node) -> Vec<Time> {
    let after = |time: Option<Time>, delta: TimeDelta| time.map(|time| time + delta);
    match &node.state {
        NodeState::Pending { failures, failed_at, .. } => [
            after(*failed_at, policy::backoff(*failures)),
            after(node.away, policy::SILENCE),
            after(node.away, policy::SILENCE * 3),
        ]
        .into_iter()
        .flatten()
        .collect(),
        NodeState::Doubt { origin, failures, failed_at, heard, .. } => {
            vec![*failed_at + policy::backoff(*failures), *heard + policy::SILENCE, *origin + policy::START_VISIBLE]
        }
        NodeState::Called { .. } | NodeState::Finished { .. } | NodeState::Failed { .. } => Vec::new(),
    }
}
