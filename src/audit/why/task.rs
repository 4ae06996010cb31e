//! What led to where a task stands: who asked, what each pod answered, what a listing held, what it waits for now.

use super::{Line, PODS, held, remedy};
use crate::audit::describe::{reason, removed, task_outcome as outcome};
use crate::audit::text::{count, listed};
use std::sync::Arc;
use stheno_events::backup::{Outcome, WaitReason};
use stheno_events::observed::{Event as ObservedEvent, TaskOperation};
use stheno_events::task::Event as TaskEvent;
use stheno_events::{Event, Time, Uid, datacenter};
use stheno_projections::task::{Node, NodeState, Stage, Task};
use stheno_projections::{Datacenter, World};

/// What the log says of one task on the way.
#[derive(Default)]
pub(super) struct Story {
    asked: Option<(u64, Time, String)>,
    waited: Option<(u64, Time, WaitReason, Arc<str>)>,
    consent: Option<(u64, Time, Arc<str>)>,
    started: Option<(u64, Time, u64, Arc<str>)>,
    terms: Vec<(u64, Time, u64)>,
    listed: Option<(u64, Time, String)>,
    follows: Option<(u64, Time, Arc<str>)>,
    ended: Option<(u64, Time)>,
}

impl Story {
    pub(super) fn hear(&mut self, event: &Event, uid: &Uid, sequence: u64, at: Time, (epoch, by): (u64, &Arc<str>)) {
        match event {
            Event::Observed(ObservedEvent::Task(task)) if task.meta.uid == *uid && self.asked.is_none() => {
                let how = if task.owned { " by another object" } else { "" };
                let what = format!("{} on {} was asked for{how}", task.operation.as_str(), task.dc);
                self.asked = Some((sequence, at, what));
            }
            Event::Task(event) if event.task() == uid => match event {
                TaskEvent::Queued(e) => self.waited = Some((sequence, at, e.reason, e.message.clone())),
                TaskEvent::ApprovalNeeded(e) => self.consent = Some((sequence, at, e.message.clone())),
                TaskEvent::Started(_) => self.started = Some((sequence, at, epoch, by.clone())),
                TaskEvent::Listed(e) if e.last => {
                    let text = format!("{} of {} in the bucket", e.ours, count(e.total, "backup"));
                    self.listed = Some((sequence, at, format!("{}: this datacenter's are {text}", e.pod)));
                }
                TaskEvent::SyncRequested(e) => self.follows = Some((sequence, at, e.name.clone())),
                TaskEvent::Completed(_) | TaskEvent::Failed(_) => self.ended = Some((sequence, at)),
                TaskEvent::Listed(_)
                | TaskEvent::Planned(_)
                | TaskEvent::EffectClaimed(_)
                | TaskEvent::ClaimAbandoned(_)
                | TaskEvent::NodeFinished(_)
                | TaskEvent::NodeFailed(_)
                | TaskEvent::NodeUnanswered(_)
                | TaskEvent::NodeLost(_)
                | TaskEvent::Reconciled(_)
                | TaskEvent::SyncCreated(_)
                | TaskEvent::BackupCreated(_) => {}
            },
            Event::Datacenter(datacenter::Event::Led(led)) if self.asked.is_some() && self.ended.is_none() => {
                self.terms.push((sequence, at, led.epoch.0));
            }
            Event::Observed(_)
            | Event::Backup(_)
            | Event::Schedule(_)
            | Event::Task(_)
            | Event::Datacenter(_)
            | Event::Operator(_) => {}
        }
    }

    pub(super) fn lines(&self, world: &World, dc: &Datacenter, task: &Task) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = |about, at: Option<(u64, Time)>, text: String| {
            lines.push(Line { about, time: at.map(|at| at.1), sequence: at.map(|at| at.0), text });
        };
        if let Some((sequence, at, text)) = &self.asked {
            line("asked", Some((*sequence, *at)), text.clone());
        }
        if let Some((sequence, at, why, message)) = &self.waited {
            line("waited", Some((*sequence, *at)), format!("{}: {message}", reason(*why)));
        }
        if let Some((sequence, at, epoch, by)) = &self.started {
            line("started", Some((*sequence, *at)), format!("decided by {by} in term {epoch}"));
        }
        if let Some((sequence, at, epoch)) = self.terms.last() {
            let hands = count(self.terms.len(), "time");
            line(
                "operator",
                Some((*sequence, *at)),
                format!("changed hands {hands} meanwhile; term {epoch} took over"),
            );
        }
        let mut pods: Vec<_> = task.nodes.iter().collect();
        pods.sort_by_key(|(_, node)| told_first(&node.state));
        let rest = pods.split_off(pods.len().min(PODS));
        for (pod, node) in pods {
            line("pod", None, format!("{pod} {}", answer(node)));
        }
        if !rest.is_empty() {
            line("pod", None, format!("and {} more", rest.len()));
        }
        if let Some((sequence, at, text)) = &self.listed {
            line("listed", Some((*sequence, *at)), text.clone());
        }
        if let Some((sequence, at, text)) = &self.consent {
            line("consent", Some((*sequence, *at)), text.to_string());
        }
        if let Some((sequence, at, name)) = &self.follows {
            line("follows", Some((*sequence, *at)), format!("the sync {name}"));
        }
        let (now, next) = held(world, dc).filter(|_| !task.ended()).unwrap_or_else(|| stands(task));
        match &task.stage {
            Stage::Ended { finished, message, outcome: how, .. } => {
                let place = self.ended.unwrap_or((dc.head.sequence, *finished));
                line("ended", Some(place), format!("{}: {message}", outcome(*how)));
            }
            Stage::Waiting { .. } | Stage::Running { .. } => line("now", None, now),
        }
        line("next", None, next);
        lines
    }
}

/// What explains most comes first.
const fn told_first(state: &NodeState) -> u8 {
    match state {
        NodeState::Failed { .. } => 0,
        NodeState::Pending { .. } => 1,
        NodeState::Called { .. } => 2,
        NodeState::Finished { .. } => 3,
    }
}

fn answer(node: &Node) -> String {
    match &node.state {
        NodeState::Pending { error: Some(error), .. } => format!("gave no answer that counts: {error}"),
        NodeState::Pending { error: None, .. } => "was not called yet".into(),
        NodeState::Called { claim, .. } => format!("is at work since {}", claim.at.format("%H:%M:%S")),
        NodeState::Finished { at, purged: Some(purged) } => {
            format!("was done at {}: {}", at.format("%H:%M:%S"), removed(*purged))
        }
        NodeState::Finished { at, purged: None } => format!("was done at {}", at.format("%H:%M:%S")),
        NodeState::Failed { reason, .. } => format!("failed: {reason}"),
    }
}

/// What it waits for now, and what to do next.
fn stands(task: &Task) -> (String, String) {
    if let Some(approval) = &task.approval {
        let names = listed(approval.names.iter());
        let now = if names.is_empty() { String::new() } else { format!(": {names} would go") };
        let next =
            format!("`kubectl annotate medusatask {} stheno.io/approve={}`", task.request.meta.name, approval.token);
        return (format!("waits for a person's consent{now}"), next);
    }
    let itself = || "nothing: it goes on by itself".to_owned();
    match &task.stage {
        Stage::Waiting { wait: Some(wait), .. } => {
            (format!("waits since {}", wait.since.format("%Y-%m-%d %H:%M:%S")), remedy(wait.reason).into())
        }
        Stage::Waiting { wait: None, .. } => {
            ("waits for the operator to look at it".into(), "see that an operator leads: `stheno audit log`".into())
        }
        Stage::Running { .. } if task.foreign => ("another program works on it".into(), itself()),
        Stage::Running { .. } if task.request.operation == TaskOperation::Sync => match &task.sync.error {
            Some(error) => (format!("the bucket could not be listed yet: {error}"), itself()),
            None => ("the bucket is listed".into(), itself()),
        },
        Stage::Running { .. } => {
            let open = task.nodes.values().filter(|node| !node.state.ended()).count();
            (format!("waits for the end of {}", count(open, "pod")), itself())
        }
        Stage::Ended { outcome: Outcome::Complete, .. } => (String::new(), "nothing".into()),
        Stage::Ended { .. } => {
            (String::new(), "mend the cause and create another task: this one has ended for good".into())
        }
    }
}
