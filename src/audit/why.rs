//! `audit why`: what led to where a job or a task stands, in at most 15 lines: who asked, what was decided, what each pod
//! answered, what it waits for now, and what to do next. Of a schedule: how its last times ended.

mod schedule;
mod task;

use super::describe::{outcome, reason};
use super::object::{KindArg, NameArg};
use super::output::{self, Format, Screen};
use super::similar::Similar;
use super::source::{Scope, Source};
use super::text::{count, size};
use serde::Serialize;
use std::sync::Arc;
use stheno_events::backup::{Event as BackupEvent, Outcome, WaitReason};
use stheno_events::observed::{Event as ObservedEvent, Meta, ObjectKind};
use stheno_events::{DcKey, Event, Fact, Time, Uid, datacenter};
use stheno_projections::backup::{Node, NodeState, Operation, Stage};
use stheno_projections::{Datacenter, World};

/// Pods that are told of one by one: those that explain most come first.
const PODS: usize = 5;

/// The causal chain in at most 15 lines: who asked, each answer, what it waits for now.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit why medusabackupjob prod/nightly-1")]
pub(super) struct Args {
    /// MedusaBackupJob, MedusaBackup, MedusaBackupSchedule or MedusaTask; short names as in kubectl.
    #[arg(value_name = "KIND")]
    kind: KindArg,
    /// The object.
    #[arg(value_name = "NAMESPACE/NAME")]
    name: NameArg,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Line {
    /// What it is about.
    about: &'static str,
    /// When, where it is about a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Time>,
    /// The message that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// One sentence.
    text: String,
}

/// What the log says of one job on the way.
#[derive(Default)]
struct Story {
    asked: Option<(u64, Time, String)>,
    waited: Option<(u64, Time, WaitReason, Arc<str>)>,
    waits: usize,
    started: Option<(u64, Time, usize, u64, Arc<str>)>,
    /// Changes of hands since it was asked for: term and message.
    terms: Vec<(u64, Time, u64)>,
    ended: Option<(u64, Time)>,
}

impl Args {
    /// Writes the chain.
    ///
    /// # Errors
    /// When the log cannot be read, never met the object, or the kind is not one that is decided about.
    pub(super) async fn run(&self, source: &Source, format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
        if self.kind.0 == ObjectKind::MedusaBackupSchedule {
            return write(&schedule::lines(&self.name, source).await?, format, screen);
        }
        if !matches!(self.kind.0, ObjectKind::MedusaBackupJob | ObjectKind::MedusaBackup | ObjectKind::MedusaTask) {
            anyhow::bail!(
                "nothing is decided about a {}: ask for a MedusaBackupJob, a MedusaBackupSchedule or a MedusaTask, or see \
                 `stheno audit show`",
                self.kind.0.as_str()
            );
        }
        let (found, similar) = self.request(source).await?;
        let Some((key, uid)) = found else {
            anyhow::bail!("the log has never met {} {}{similar}", self.kind.0.as_str(), self.name);
        };
        let (mut world, mut story, mut work) = (World::default(), Story::default(), task::Story::default());
        let mut reader = source.read(1, Scope::default()).await?;
        while let Some(entry) = reader.next().await? {
            if let (Some(place), Ok(envelope)) = (entry.datacenter(), &entry.envelope)
                && *place == key
            {
                for fact in &envelope.events {
                    if let Fact::Known(event) = fact {
                        let by = (envelope.epoch.0, &envelope.by);
                        story.hear(event, &uid, entry.sequence, envelope.at, by);
                        work.hear(event, &uid, entry.sequence, envelope.at, by);
                    }
                }
            }
            entry.fold(entry.digest(), &mut world);
        }
        let lines = world.datacenter(&key).and_then(|dc| match (dc.operation(&uid), dc.task_of(&uid)) {
            (Some(operation), _) => Some(story.lines(&world, dc, operation)),
            (None, Some(task)) => Some(work.lines(&world, dc, task)),
            (None, None) => None,
        });
        let Some(lines) = lines else {
            anyhow::bail!("{} {} is no longer in the fold: see `stheno audit show`", self.kind.0.as_str(), self.name);
        };
        write(&lines, format, screen)
    }

    /// The latest job or task of that name, and names like it.
    async fn request(&self, source: &Source) -> anyhow::Result<(Option<(DcKey, Uid)>, Similar)> {
        let mut reader = source.read(1, Scope::default()).await?;
        let (mut found, mut similar) = (None, Similar::to(self.name.to_string()));
        while let Some(entry) = reader.next().await? {
            let (Some(key), Ok(envelope)) = (entry.datacenter(), &entry.envelope) else { continue };
            for fact in &envelope.events {
                if let Some(meta) = self.asked(fact) {
                    if key.namespace == self.name.namespace && meta.name == self.name.name {
                        found = Some((key.clone(), meta.uid.clone()));
                    } else {
                        similar.offer(format!("{}/{}", key.namespace, meta.name));
                    }
                }
            }
        }
        Ok((found, similar))
    }

    /// The request that a fact shows, where it is of the kind that was asked for.
    const fn asked<'f>(&self, fact: &'f Fact) -> Option<&'f Meta> {
        let task = matches!(self.kind.0, ObjectKind::MedusaTask);
        match fact {
            Fact::Known(Event::Observed(ObservedEvent::BackupJob(job))) if !task => Some(&job.meta),
            Fact::Known(Event::Observed(ObservedEvent::Task(seen))) if task => Some(&seen.meta),
            Fact::Known(_) | Fact::Unknown { .. } => None,
        }
    }
}

fn write(lines: &[Line], format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
    match format {
        Format::Text => {
            for line in lines {
                let time = line.time.map(|time| time.format("%Y-%m-%d %H:%M:%S ").to_string()).unwrap_or_default();
                let place = line.sequence.map(|sequence| format!(" (message {sequence})")).unwrap_or_default();
                writeln!(screen.out, "{:8} {time}{}{place}", line.about, line.text)?;
            }
        }
        Format::Json | Format::Yaml => output::value(screen.out, format, &lines)?,
    }
    Ok(())
}

impl Story {
    fn hear(&mut self, event: &Event, uid: &Uid, sequence: u64, at: Time, (epoch, by): (u64, &Arc<str>)) {
        match event {
            Event::Observed(ObservedEvent::BackupJob(job)) if job.meta.uid == *uid && self.asked.is_none() => {
                let how = match (&job.schedule, job.owned) {
                    (Some(_), _) => " by a schedule",
                    (None, true) => " by another object",
                    (None, false) => "",
                };
                let what = format!("a {} backup of {} was asked for{how}", job.backup_type.as_str(), job.dc);
                self.asked = Some((sequence, at, what));
            }
            Event::Backup(event) if event.job() == uid => match event {
                BackupEvent::Queued(queued) => {
                    self.waits += 1;
                    self.waited = Some((sequence, at, queued.reason, queued.message.clone()));
                }
                BackupEvent::Started(started) => {
                    self.started = Some((sequence, at, started.nodes.len(), epoch, by.clone()));
                }
                BackupEvent::Completed(_) | BackupEvent::Failed(_) => self.ended = Some((sequence, at)),
                BackupEvent::EffectClaimed(_)
                | BackupEvent::ClaimAbandoned(_)
                | BackupEvent::NodeStarted(_)
                | BackupEvent::Progress(_)
                | BackupEvent::NodeFinished(_)
                | BackupEvent::NodeFailed(_)
                | BackupEvent::NodeUnanswered(_)
                | BackupEvent::NodeLost(_)
                | BackupEvent::OutcomeDecided(_)
                | BackupEvent::Summarised(_)
                | BackupEvent::SummaryFailed(_)
                | BackupEvent::ObjectCreated(_)
                | BackupEvent::Expired(_) => {}
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

    fn lines(&self, world: &World, dc: &Datacenter, operation: &Operation) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = |about, at: Option<(u64, Time)>, text: String| {
            lines.push(Line { about, time: at.map(|at| at.1), sequence: at.map(|at| at.0), text });
        };
        if let Some((sequence, at, text)) = &self.asked {
            line("asked", Some((*sequence, *at)), text.clone());
        }
        if let Some((sequence, at, why, message)) = &self.waited {
            let more = if self.waits > 1 { format!(", the last of {} reasons", self.waits) } else { String::new() };
            line("waited", Some((*sequence, *at)), format!("{}: {message}{more}", reason(*why)));
        }
        if let Some((sequence, at, nodes, epoch, by)) = &self.started {
            let nodes = count(nodes, "node");
            line("started", Some((*sequence, *at)), format!("on {nodes}, decided by {by} in term {epoch}"));
        }
        if let Some((sequence, at, epoch)) = self.terms.last() {
            let hands = count(self.terms.len(), "time");
            line(
                "operator",
                Some((*sequence, *at)),
                format!("changed hands {hands} meanwhile; term {epoch} took over"),
            );
        }
        let mut pods: Vec<_> = operation.nodes.iter().collect();
        pods.sort_by_key(|(_, node)| told_first(&node.state));
        let rest = pods.split_off(pods.len().min(PODS));
        for (pod, node) in pods {
            line("pod", None, format!("{pod} {}", answer(node)));
        }
        if !rest.is_empty() {
            let complete = rest.iter().all(|(_, node)| matches!(node.state, NodeState::Finished { .. }));
            let how = if complete { ", complete" } else { "" };
            line("pod", None, format!("and {} more{how}", rest.len()));
        }
        let (now, next) = stands(world, dc, operation);
        match &operation.stage {
            Stage::Ended { finished, message, outcome: how, .. } => {
                let place = self.ended.unwrap_or((dc.head.sequence, *finished));
                line("ended", Some(place), format!("{}: {message}", outcome(*how)));
            }
            Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => line("now", None, now),
        }
        line("next", None, next);
        lines
    }
}

/// What explains most comes first.
const fn told_first(state: &NodeState) -> u8 {
    match state {
        NodeState::Failed { .. } => 0,
        NodeState::Doubt { .. } => 1,
        NodeState::Pending { .. } => 2,
        NodeState::Called { .. } => 3,
        NodeState::Finished { .. } => 4,
    }
}

fn answer(node: &Node) -> String {
    let attempts = if node.attempts > 1 { format!(", attempt {}", node.attempts) } else { String::new() };
    let clock = |time: &Time| time.format("%H:%M:%S").to_string();
    match &node.state {
        NodeState::Pending { error: Some(error), failures, .. } => {
            format!("could not be called ({}): {error}", count(failures, "failure"))
        }
        NodeState::Pending { error: None, .. } => "was not called yet".into(),
        NodeState::Called { heard, .. } => {
            let done = node
                .progress
                .as_ref()
                .map(|progress| format!(", {} of {} done", size(progress.bytes), size(progress.bytes_total)));
            format!("is at work{}{attempts}, heard of at {}", done.unwrap_or_default(), clock(heard))
        }
        NodeState::Doubt { heard, error, .. } => {
            format!("does not answer since {}{attempts}: {error}", clock(heard))
        }
        NodeState::Finished { at, bytes, .. } => {
            let size = bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
            format!("was complete at {}{size}{attempts}", clock(at))
        }
        NodeState::Failed { reason, .. } => format!("failed{attempts}: {reason}"),
    }
}

/// Why nothing is decided or started at all, and what to do about it.
fn held(world: &World, dc: &Datacenter) -> Option<(String, String)> {
    let held =
        dc.frozen.as_deref().or(world.operator.frozen.as_deref()).map(|frozen| {
            (format!("nothing is decided here: {frozen}"), "run the newer stheno that wrote it".to_owned())
        });
    let held = held.or_else(|| {
        let backwards = &world.operator.api_backwards.as_ref()?.text;
        let next = "a person accepts what the API server holds now, as the operator's condition Observable says how";
        Some((format!("nothing is started: {backwards}"), next.to_owned()))
    });
    held.or_else(|| {
        let (kind, why) = world.operator.unobservable.first_key_value()?;
        let next = format!("give the operator the right to list {}", kind.as_str());
        Some((format!("nothing is decided: {} cannot be listed: {why}", kind.as_str()), next))
    })
}

/// What it waits for now, and what to do next.
fn stands(world: &World, dc: &Datacenter, operation: &Operation) -> (String, String) {
    let held = held(world, dc);
    let open = matches!(operation.stage, Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. });
    if let (Some(held), true) = (held, open) {
        return held;
    }
    match &operation.stage {
        Stage::Waiting { wait: Some(wait), .. } => {
            (format!("waits since {}", wait.since.format("%Y-%m-%d %H:%M:%S")), remedy(wait.reason).into())
        }
        Stage::Waiting { wait: None, .. } => {
            ("waits for the operator to look at it".into(), "see that an operator leads: `stheno audit log`".into())
        }
        Stage::Running { .. } => {
            let ended = |node: &&Node| matches!(node.state, NodeState::Finished { .. } | NodeState::Failed { .. });
            let open = operation.nodes.len() - operation.nodes.values().filter(ended).count();
            let doubt = operation.nodes.values().any(|node| matches!(node.state, NodeState::Doubt { .. }));
            let in_vain = |node: &Node| matches!(node.state, NodeState::Pending { failures, .. } if failures > 0);
            let next = if doubt {
                "see the logs of the container medusa of the pod that does not answer; it is asked again by itself"
            } else if operation.nodes.values().any(in_vain) {
                "see the logs of the container medusa of the pod that cannot be called, and whether a NetworkPolicy \
                 keeps the operator from its port; it is tried again by itself"
            } else {
                "nothing: it goes on by itself"
            };
            (format!("waits for the end of {}", count(open, "pod")), next.into())
        }
        Stage::Closing { .. } if operation.stopping() => {
            let open = operation.nodes.values().filter(|node| !node.state.ended()).count();
            let next = "nothing: it ends by itself; Medusa's own sidecars cannot break off and are waited for";
            (format!("it is to stop, and waits for the end of {}", count(open, "pod")), next.into())
        }
        Stage::Closing { .. } => {
            ("the outcome is decided, the summary is read from the bucket".into(), "nothing: it ends by itself".into())
        }
        Stage::Ended { outcome, .. } => {
            let next = match outcome {
                Outcome::Complete => "nothing: the backup can be restored",
                Outcome::Partial | Outcome::Failed | Outcome::DatacenterReplaced => {
                    "mend the cause and create another job: this one has ended for good"
                }
                Outcome::DeadlineExceeded => {
                    "see what took so long, or raise activeDeadlineSeconds, and create another job: this one has ended"
                }
                Outcome::Cancelled => "nothing: a person cancelled it; another job can be created",
                Outcome::Refused => "mend what it waited for and create another job: this one has ended for good",
            };
            (String::new(), next.into())
        }
    }
}

const fn remedy(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::DatacenterNotFound => "create the datacenter, or delete the job and name the right one in another",
        WaitReason::DatacenterStopped => "start the datacenter (spec.stopped: false); the job goes on by itself",
        WaitReason::PodsMissing => "see why the datacenter has not all its pods; the job goes on by itself",
        WaitReason::SidecarMissing => "give the pods the container medusa; the job goes on by itself",
        WaitReason::SidecarNotReady => "see the logs of the pod's container medusa; the job goes on by itself",
        WaitReason::Suspended => "set spec.suspend of the job to false; it starts by itself then",
        WaitReason::OperationRunning => "nothing: it starts by itself when the other one has ended",
    }
}
