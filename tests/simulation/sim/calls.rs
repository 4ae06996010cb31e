//! Calls of sidecars: on their way, answered, lost; and what befalls the sidecars themselves.

use super::plan::Faults;
use super::{Happening, Sim, time};
use crate::process::{Input, Step};
use crate::sidecar::{Answer, Kind, Work};
use stheno_decide::{Call as Called, Effect};
use stheno_events::backup::{self, Call, NodeFailed, NodeFinished, NodeStarted, NodeUnanswered, SidecarKind};
use stheno_events::{Epoch, Event, PodName, Time, Uid};

impl Sim {
    /// No overlapping effects: nothing of an earlier term begins at a node after something of a later one.
    pub(super) fn arrived(&mut self, effect: &Effect) {
        let pod = effect.key.call.pod();
        let latest = self.terms.entry(pod.clone()).or_default();
        if effect.key.epoch < *latest {
            let fault = format!("{pod}: a call of term {} begins after one of term {latest}", effect.key.epoch);
            self.faults_found.push(fault);
        }
        *latest = effect.key.epoch.max(*latest);
    }

    /// A call of an effect arrives at its sidecar.
    pub(super) fn call(&mut self, index: usize, life: u64, effect: Effect) {
        let pod = effect.key.call.pod().clone();
        let called = match &effect.key.call {
            Called::Backup(call) => call.clone(),
            Called::Task(_) => return self.task_call(index, life, effect),
        };
        if let Call::Summary(_) = called {
            self.summary(index, life, &effect, &pod);
            return;
        }
        let now = self.now;
        let fails = self.chance(self.plan.faults.sidecar_failures);
        let (visible, length) = (now + 20 + self.below(2_000), 500 + self.below(30_000));
        let work = Work {
            operation: effect.key.job.clone(),
            attempt: effect.key.attempt,
            visible_ms: visible,
            ends_ms: visible + length,
            fails,
            dead: false,
        };
        let replaced = self.api.pod_uid(&pod).is_none();
        let (backup, epoch) = (effect.backup.clone(), effect.key.epoch);
        let first = !self.processes[index].stopped.contains(&effect.key);
        let asked_before = effect.accepted;
        let Some(sidecar) = self.sidecars.get_mut(&pod) else { return };
        let kind = sidecar.kind;
        let answer = if replaced || !first {
            Answer::Unreachable
        } else {
            match (kind, &called) {
                (Kind::Stheno, Call::Stop(_)) => sidecar.cancel(now, &backup, &work.operation, epoch),
                (Kind::Stheno, _) => sidecar.start(now, &backup, work, epoch),
                (Kind::Medusa, Call::Start(_)) if !asked_before => {
                    sidecar.start(now, &backup, work, epoch);
                    // AsyncBackup answers IN_PROGRESS whatever happens after it.
                    if now < sidecar.away_until { Answer::Unreachable } else { Answer::Running(visible) }
                }
                (Kind::Medusa, _) => sidecar.status(now, &backup),
            }
        };
        self.law_of_parallelism(&effect.key.job);
        self.note(|| format!("sidecar {pod} answers {answer:?} to epoch {epoch}"));
        if self.crash_of(index, life, true) {
            return;
        }
        let answer = if self.chance(self.plan.faults.lost_reply) { Answer::Unreachable } else { answer };
        self.answer(index, life, effect, kind, answer);
    }

    /// No more nodes are at work than the job allows, whoever leads and whatever was lost.
    fn law_of_parallelism(&mut self, job: &Uid) {
        let Some(most) = self.plan.rules.parallelism else { return };
        let working = self.sidecars.values().filter(|sidecar| sidecar.works_on(job, self.now)).count();
        if working > usize::try_from(most).expect("a small number") {
            self.faults_found.push(format!("{working} nodes are at work at {}, {most} may be", self.now));
        }
    }

    pub(super) fn answer(&mut self, index: usize, life: u64, effect: Effect, kind: Kind, answer: Answer) {
        let (job, attempt, epoch) = (effect.key.job.clone(), effect.key.attempt, effect.key.epoch);
        let Called::Backup(call) = effect.key.call.clone() else { return };
        let pod = call.pod().clone();
        let sidecar = match kind {
            Kind::Stheno => SidecarKind::Stheno,
            Kind::Medusa => SidecarKind::Medusa,
        };
        let unanswered = |not_found: bool, heard: Option<Time>| -> Event {
            NodeUnanswered {
                job: job.clone(),
                call: call.clone(),
                attempt,
                serial: effect.key.serial,
                epoch,
                in_doubt: true,
                not_found,
                heard,
                error: "no answer".into(),
            }
            .into()
        };
        let fact = |event: Event| Input::Fact(effect.key.clone(), effect.dc.clone(), vec![event]);
        let heard = effect.accepted.then(|| time(self.now));
        match answer {
            Answer::Running(until) => {
                if !effect.accepted {
                    let started = NodeStarted { job, pod, attempt, sidecar };
                    self.reply(index, life, fact(started.into()));
                }
                let again = Effect { accepted: true, ..effect };
                let delay = until.saturating_sub(self.now) + 1 + self.below(200);
                self.after(delay, Happening::Arrive(index, life, Input::Effect(again, Step::Ask)));
                return;
            }
            Answer::Done => {
                let done = NodeFinished { job, pod, attempt, bytes: None, files: None, reused: None };
                self.reply(index, life, fact(done.into()));
            }
            Answer::Failed { retryable } => {
                let failed = NodeFailed { job, pod, attempt, reason: "disk on fire".into(), retryable };
                self.reply(index, life, fact(failed.into()));
            }
            // During the start a stock sidecar knows nothing yet: the effect asks again.
            Answer::NotFound if effect.accepted && matches!(call, Call::Start(_)) => {
                let delay = 500 + self.below(500);
                self.after(delay, Happening::Arrive(index, life, Input::Effect(effect, Step::Ask)));
                return;
            }
            Answer::NotFound => self.reply(index, life, fact(unanswered(true, Some(time(self.now))))),
            Answer::Unreachable | Answer::Fenced => self.reply(index, life, fact(unanswered(false, heard))),
        }
        self.reply(index, life, Input::EffectEnded(effect.key.clone()));
    }

    pub(super) fn summary(&mut self, index: usize, life: u64, effect: &Effect, pod: &PodName) {
        let complete = self.sidecars.values().all(|sidecar| sidecar.status(u64::MAX, &effect.backup) == Answer::Done);
        let away = self.sidecars.get(pod).is_none_or(|sidecar| self.now < sidecar.away_until);
        if self.crash_of(index, life, true) {
            return;
        }
        let job = effect.key.job.clone();
        let nodes = i32::try_from(self.plan.nodes).unwrap_or(0);
        let event: Event = if away {
            backup::SummaryFailed {
                job,
                pod: pod.clone(),
                attempt: effect.key.attempt,
                epoch: effect.key.epoch,
                error: "no answer".into(),
            }
            .into()
        } else {
            backup::Summarised {
                job,
                started: None,
                finished: None,
                total_nodes: nodes,
                finished_nodes: nodes,
                nodes: self.topology(),
                files: 7,
                bytes: 7_000,
                complete,
            }
            .into()
        };
        self.reply(index, life, Input::Fact(effect.key.clone(), effect.dc.clone(), vec![event]));
        self.reply(index, life, Input::EffectEnded(effect.key.clone()));
    }

    pub(super) fn disturb_sidecars(&mut self, faults: Faults) {
        let names: Vec<PodName> = self.sidecars.keys().cloned().collect();
        for name in names {
            if self.chance(faults.sidecar_restarts) {
                let away = 1_000 + self.below(20_000);
                self.note(|| format!("sidecar {name} restarts, away for {away} ms"));
                let now = self.now;
                if let Some(sidecar) = self.sidecars.get_mut(&name) {
                    sidecar.restart(now, away);
                }
                if let Some(change) = self.api.ready(&name, false) {
                    self.tell(&change);
                }
                self.after(away + 100, Happening::PodReady(name.clone()));
            }
            if self.chance(faults.pod_replacements)
                && let Some(uid) = self.api.pod_uid(&name)
            {
                let away = 5_000 + self.below(60_000);
                self.note(|| format!("pod {name} is replaced, away for {away} ms"));
                let now = self.now;
                if let Some(sidecar) = self.sidecars.get_mut(&name) {
                    sidecar.restart(now, away);
                }
                if let Some(change) = self.api.delete(&uid) {
                    self.tell(&change);
                }
                self.after(away, Happening::PodBack(name));
            }
        }
    }
}

/// The terms in which nothing may overlap.
pub(crate) fn epochs(starts: &[(Epoch, u64)]) -> Vec<Epoch> {
    starts.iter().map(|(epoch, _)| *epoch).collect()
}
