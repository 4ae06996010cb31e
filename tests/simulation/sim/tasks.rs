//! Tasks: who asks for them, what sidecars make of them, what the bucket holds and loses, and the person who consents.

use super::{Happening, Sim, time};
use crate::process::Input;
use crate::sidecar::{Answer, Kind};
use rand::Rng as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use stheno_decide::effect::TaskWork;
use stheno_decide::listing::{Origin, compare};
use stheno_decide::{Call, Effect};
use stheno_events::backup::{BackupNode, SidecarKind};
use stheno_events::observed::{BackupType, TaskOperation};
use stheno_events::task::{self, Completeness, Found, NodeFailed, NodeFinished, NodeUnanswered, Planned, Purged};
use stheno_events::{Digest, Event, Uid};

/// Backups of a time before the log, with MedusaBackups of another program.
pub(crate) const OLD: [&str; 5] = ["old-1", "old-2", "old-3", "old-4", "old-5"];
/// One that the bucket holds and nobody knows.
pub(crate) const UNKNOWN: &str = "unknown";

impl Sim {
    /// A purge and a sync beside the backup, of a bucket that lacks one of the backups that are known.
    pub(super) fn plan_tasks(&mut self) {
        for name in OLD {
            if let Some(change) = self.api.backup(&name.into(), None, time(0)) {
                self.tell(&change);
            }
        }
        self.api.created.clear();
        self.bucket = OLD[1..].iter().map(|name| Arc::from(*name)).chain([UNKNOWN.into()]).collect();
        let calm = self.plan.operators == 1;
        let when = |sim: &mut Self, at: u64| if calm { at } else { at + sim.below(60_000) };
        let (purge, sync) = (when(self, 1_200), when(self, 1_100));
        self.after(purge, Happening::Asks("clean", TaskOperation::Purge));
        self.after(sync, Happening::Asks("look", TaskOperation::Sync));
        if !calm {
            let (again, late) = (60_000 + self.below(60_000), 200_000 + self.below(60_000));
            self.after(again, Happening::Asks("again", TaskOperation::Purge));
            self.after(late, Happening::Asks("late", TaskOperation::Sync));
            if self.rng.random_range(0..3) == 0 {
                let at = 1 + self.below(150_000);
                self.after(at, Happening::BucketLoses);
            }
        }
        self.after(300_000, Happening::Person);
    }

    /// A person asks for a task.
    pub(super) fn asks(&mut self, name: &str, operation: TaskOperation) {
        let change = self.api.task(name, operation, None, time(self.now));
        self.tell(&change);
    }

    /// A person looks at what waits for consent, and gives it.
    pub(super) fn person(&mut self) {
        let world = self.replay(None);
        let waiting = world.datacenters.values().flat_map(|dc| dc.tasks_open()).filter_map(|task| {
            let approval = task.approval.as_ref()?;
            Some((task.request.meta.uid.clone(), approval.token.clone()))
        });
        for (uid, token) in waiting.collect::<Vec<_>>() {
            self.note(|| format!("a person consents to {token}"));
            if let Some(change) = self.api.annotate(&uid, &token) {
                self.tell(&change);
            }
        }
        if self.now < 2 * 3_600_000 {
            self.after(120_000, Happening::Person);
        }
    }

    /// The names of backups that the bucket holds.
    pub(crate) fn holds(&self) -> BTreeSet<Arc<str>> {
        let mut names = self.bucket.clone();
        let made = self.sidecars.values().flat_map(|sidecar| sidecar.works.keys());
        let whole = |name: &&Arc<str>| self.sidecars.values().all(|sidecar| sidecar.finished(self.now, name));
        names.extend(made.filter(whole).cloned());
        names
    }

    /// What retention lets go, in every third run: everything that is old.
    fn expired(&self) -> BTreeSet<Arc<str>> {
        let gone = if self.plan.seed % 3 == 2 { OLD.as_slice() } else { &[] };
        gone.iter().map(|name| Arc::from(*name)).filter(|name| self.bucket.contains(name)).collect()
    }

    fn listed(&self) -> Vec<Found> {
        let (nodes, count) = (self.topology(), i32::try_from(self.plan.nodes).expect("few nodes"));
        let found = |name| Found {
            name,
            backup_type: BackupType::Differential,
            started: None,
            finished: None,
            total_nodes: count,
            finished_nodes: count,
            nodes: nodes.clone(),
            files: 7,
            bytes: 7_000,
            completeness: Completeness::Complete,
        };
        self.holds().into_iter().map(found).collect()
    }

    pub(super) fn topology(&self) -> Vec<BackupNode> {
        let node = |pod: &stheno_events::PodName| BackupNode {
            host: pod.as_str().into(),
            tokens: Vec::new(),
            datacenter: "dc1".into(),
            rack: "r1".into(),
        };
        self.sidecars.keys().map(node).collect()
    }

    /// A call of a task arrives at its sidecar.
    pub(super) fn task_call(&mut self, index: usize, life: u64, effect: Effect) {
        let (now, pod) = (self.now, effect.key.call.pod().clone());
        let replaced = self.api.pod_uid(&pod).is_none();
        let stopped = self.processes[index].stopped.contains(&effect.key);
        let Some(sidecar) = self.sidecars.get_mut(&pod) else { return };
        let (kind, away) = (sidecar.kind, now < sidecar.away_until);
        let fenced = kind == Kind::Stheno && effect.key.epoch < sidecar.epoch;
        if replaced || stopped || away || fenced {
            return self.task_ends(index, life, &effect, kind, Answer::Unreachable);
        }
        if let Some(TaskWork::Purge { settles: Some(until) }) = &effect.task
            && kind == Kind::Medusa
            && time(now) < *until
        {
            // The runner knows, and does not ask.
            return self.task_ends(index, life, &effect, kind, Answer::NotFound);
        }
        let takes = match &effect.task {
            Some(TaskWork::Purge { .. }) => {
                if kind == Kind::Stheno {
                    sidecar.epoch = effect.key.epoch;
                }
                500 + self.below(20_000)
            }
            Some(TaskWork::List(_) | TaskWork::Plan | TaskWork::Prepare { .. }) | None => 50 + self.below(500),
        };
        if self.crash_of(index, life, true) {
            return;
        }
        self.after(takes, Happening::TaskAnswer(index, life, Box::new(effect), now));
    }

    /// The sidecar is done with what it began at `began`.
    pub(super) fn task_answer(&mut self, index: usize, life: u64, effect: &Effect, began: u64) {
        let pod = effect.key.call.pod();
        let Some(sidecar) = self.sidecars.get(pod) else { return };
        let (kind, cut) = (sidecar.kind, sidecar.away_until > began);
        let lost = self.chance(self.plan.faults.lost_reply);
        let fails = self.chance(self.plan.faults.sidecar_failures);
        let answer = match (cut || lost, fails) {
            (true, _) => Answer::Running(0),
            (false, true) => Answer::Failed { retryable: true },
            (false, false) => Answer::Done,
        };
        self.task_ends(index, life, effect, kind, answer);
    }

    fn task_ends(&mut self, index: usize, life: u64, effect: &Effect, kind: Kind, answer: Answer) {
        let key = &effect.key;
        let Call::Task(call) = &key.call else { return };
        let (task, pod, attempt) = (key.job.clone(), call.pod().clone(), key.attempt);
        let unanswered = |in_doubt: bool, known: bool| -> Event {
            let sidecar = match kind {
                Kind::Stheno => SidecarKind::Stheno,
                Kind::Medusa => SidecarKind::Medusa,
            };
            NodeUnanswered {
                task: key.job.clone(),
                call: call.clone(),
                attempt,
                serial: key.serial,
                epoch: key.epoch,
                in_doubt,
                sidecar: known.then_some(sidecar),
                error: "no answer".into(),
            }
            .into()
        };
        let commands = !matches!(call, task::Call::List(_) | task::Call::Plan(_));
        let events = match (answer, &effect.task) {
            (Answer::Done, Some(TaskWork::List(asked))) => {
                let origin = Origin { task: &key.job, pod: call.pod(), serial: key.serial, epoch: key.epoch };
                compare(asked, origin, self.listed()).into_iter().map(Event::from).collect()
            }
            (Answer::Done, Some(TaskWork::Plan)) => {
                let backups = (kind == Kind::Stheno).then(|| self.expired().into_iter().collect());
                let digest = Digest::of(format!("{backups:?}").as_bytes());
                vec![Planned { task, pod, serial: key.serial, epoch: key.epoch, digest, backups }.into()]
            }
            (Answer::Done, _) => {
                for name in self.expired() {
                    self.bucket.remove(&name);
                }
                let purged = Some(Purged { backups: 0, objects: 2, bytes: 20, within_grace: 1 });
                vec![NodeFinished { task, pod, attempt, purged }.into()]
            }
            (Answer::Failed { retryable }, _) if commands => {
                vec![NodeFailed { task, pod, attempt, reason: "disk on fire".into(), retryable }.into()]
            }
            (Answer::Running(_), _) => vec![unanswered(commands, commands)],
            (Answer::NotFound, _) => vec![unanswered(false, true)],
            (Answer::Failed { .. } | Answer::Unreachable | Answer::Fenced, _) => vec![unanswered(false, false)],
        };
        self.reply(index, life, Input::Fact(key.clone(), effect.dc.clone(), events));
        self.reply(index, life, Input::EffectEnded(key.clone()));
    }

    /// What the shell would publish of tasks.
    pub(super) fn publish_tasks(&mut self, index: usize, life: u64, dc: &stheno_projections::Datacenter) {
        use stheno_projections::task::Stage;
        for (uid, task) in &dc.tasks {
            let ended = match &task.stage {
                Stage::Ended { finished, outcome, .. } => Some((*finished, format!("{outcome:?}"))),
                Stage::Waiting { .. } | Stage::Running { .. } => None,
            };
            let desired = crate::api::JobStatus {
                started: task.started(),
                finished: ended.as_ref().map(|(finished, _)| *finished),
                outcome: ended.map(|(_, outcome)| outcome),
            };
            let Some((version, seen)) = self.processes[index].jobs.get(uid).cloned() else { continue };
            if seen == desired || self.processes[index].writing.contains(uid) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(uid.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::StatusArrives(index, life, uid.clone(), version, desired));
        }
        if !self.processes[index].creates {
            return;
        }
        for (name, wanted) in &dc.follow_ups {
            let writing = Uid::from(name.clone());
            if self.processes[index].writing.contains(&writing) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(writing);
            let delay = 1 + self.below(5);
            self.after(delay, Happening::SyncArrives(index, life, name.clone(), wanted.task.clone()));
        }
        for uid in dc.removals.keys() {
            if self.processes[index].writing.contains(uid) {
                continue;
            }
            if self.crash(index, false) {
                return;
            }
            self.processes[index].writing.insert(uid.clone());
            let delay = 1 + self.below(5);
            self.after(delay, Happening::RemovalArrives(index, life, uid.clone()));
        }
    }

    /// A sync that follows a purge is created, or is there already; the log is told.
    pub(super) fn sync_arrives(&mut self, index: usize, life: u64, name: &Arc<str>, purge: Uid) {
        if let Some(change) = self.api.follow_up(name, purge.clone(), time(self.now)) {
            self.tell(&change);
        }
        let uid = self.api.task_named(name).expect("it was created just now, or before");
        if self.crash_of(index, life, true) {
            return;
        }
        let created = task::SyncCreated { task: purge, name: name.clone(), uid, foreign: false };
        self.reply(index, life, Input::Published(created.into()));
        self.reply(index, life, Input::Written(Uid::from(name.clone())));
    }

    pub(super) fn removal_arrives(&mut self, index: usize, life: u64, uid: Uid) {
        if let Some(change) = self.api.delete(&uid) {
            self.tell(&change);
        }
        if self.crash_of(index, life, true) {
            return;
        }
        self.reply(index, life, Input::Written(uid));
    }
}
