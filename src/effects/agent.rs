//! One claimed call to a sidecar, from connection to outcome: which way it goes, and how what happens becomes facts.

use super::channel::{Failure, Sidecar, Sidecars, within};
use super::{Errand, Report, ours, stock, summary, task};
use std::sync::Arc;
use stheno_decide::Call;
use stheno_events::backup::{
    Call as BackupCall, NodeFailed, NodeFinished, NodeProgress, NodeStarted, NodeUnanswered, Progress, SidecarKind,
    SummaryFailed,
};
use stheno_events::datacenter::Overtaken;
use stheno_events::task::{Call as TaskCall, NodeUnanswered as TaskUnanswered};
use stheno_events::{Epoch, Event, PodName, Time};
use stheno_rpc::sidecar::CapabilitiesRequest;
use tonic::Code;

/// Runs one effect to its end, or until it is stopped. What it finds out is handed in; it never fails.
pub(super) async fn run(errand: &Errand, sidecars: &Sidecars) {
    let Some(address) = &errand.effect.address else {
        let error = format!("pod {} has no address", errand.pod());
        return errand.unanswered(errand.resumes(), None, &error).await;
    };
    let sidecar = tokio::select! {
        biased;
        () = errand.stop.cancelled() => return errand.stopped_before_sending().await,
        sidecar = sidecars.connect(address) => sidecar,
    };
    let sidecar = match sidecar {
        Ok(sidecar) => sidecar,
        Err(failure) => return errand.unanswered(errand.resumes(), None, failure.sentence()).await,
    };
    // What only reads is not waited for: whoever comes next reads again.
    match &errand.effect.key.call {
        Call::Backup(BackupCall::Summary(_)) => {
            return tokio::select! {
                biased;
                () = errand.stop.cancelled() => {}
                () = summary::read(errand, &sidecar) => {}
            };
        }
        Call::Task(call @ TaskCall::List(_)) => {
            return tokio::select! {
                biased;
                () = errand.stop.cancelled() => {}
                () = task::list(errand, &sidecar, call) => {}
            };
        }
        Call::Task(call @ TaskCall::Plan(_)) => {
            return tokio::select! {
                biased;
                () = errand.stop.cancelled() => {}
                () = task::plan(errand, &sidecar, call) => {}
            };
        }
        Call::Backup(BackupCall::Start(_) | BackupCall::Resume(_) | BackupCall::Stop(_))
        | Call::Task(TaskCall::Purge(_) | TaskCall::Prepare(_)) => {}
    }
    let kind = tokio::select! {
        biased;
        () = errand.stop.cancelled() => return errand.stopped_before_sending().await,
        kind = kind(&sidecar) => kind,
    };
    let kind = match kind {
        Ok(Answers { pod, .. }) if !pod.is_empty() && pod != errand.pod().as_str() => {
            // The address is another pod's by now, and what is known of it is old: nothing may happen there.
            let error = format!("at {}:{} is pod {pod} now, not pod {}", address.0, address.1, errand.pod());
            return errand.unanswered(errand.resumes(), None, &error).await;
        }
        Ok(Answers { epoch, .. }) if epoch > errand.effect.key.epoch => return errand.overtaken(epoch).await,
        Ok(Answers { kind, .. }) => kind,
        // Only a question was sent so far: a start has certainly not been.
        Err(failure) => return errand.unanswered(errand.resumes(), None, failure.sentence()).await,
    };
    // What stock Medusa started, or another program, cannot be joined: it is asked about by name.
    let ours = !errand.effect.foreign && errand.effect.sidecar != Some(SidecarKind::Medusa);
    let sends = !errand.resumes() || (ours && kind == SidecarKind::Stheno);
    if sends && (sidecar.boot_ms)() > errand.effect.command_by_ms {
        // A slow connection, or this process was suspended meanwhile: another one may lead.
        let error = "reaching the sidecar took so long that another operator may lead by now: nothing was sent";
        return errand.unanswered(errand.resumes(), None, error).await;
    }
    if let Call::Task(call) = &errand.effect.key.call {
        return task::command(errand, &sidecar, kind, call).await;
    }
    match (kind, sends) {
        (SidecarKind::Stheno, true) if matches!(errand.effect.key.call, Call::Backup(BackupCall::Stop(_))) => {
            ours::stop(errand, &sidecar).await;
        }
        (SidecarKind::Stheno, true) => ours::start_and_watch(errand, &sidecar).await,
        (SidecarKind::Medusa, true) => stock::start_and_poll(errand, &sidecar).await,
        (SidecarKind::Stheno | SidecarKind::Medusa, false) => stock::poll(errand, &sidecar, kind).await,
    }
}

/// Who answers there.
struct Answers {
    kind: SidecarKind,
    /// The highest term that it has served; stock Medusa knows no terms.
    epoch: Epoch,
    /// Its pod; empty where it does not tell.
    pod: String,
}

/// Who answers there: stock Medusa has no such service.
async fn kind(sidecar: &Sidecar) -> Result<Answers, Failure> {
    match within(sidecar.pace.unary, "Capabilities", sidecar.ours().capabilities(CapabilitiesRequest {})).await {
        Ok(answer) => Ok(Answers { kind: SidecarKind::Stheno, epoch: Epoch(answer.epoch), pod: answer.pod }),
        Err(failure) if failure.is(Code::Unimplemented) => {
            Ok(Answers { kind: SidecarKind::Medusa, epoch: Epoch(0), pod: String::new() })
        }
        Err(failure) => Err(failure),
    }
}

impl Errand {
    pub(super) fn pod(&self) -> &PodName {
        self.effect.key.call.pod()
    }

    /// Whether an earlier claim may have had an effect already.
    pub(super) fn resumes(&self) -> bool {
        matches!(self.effect.key.call, Call::Backup(BackupCall::Resume(_) | BackupCall::Stop(_)))
    }

    pub(super) async fn found(&self, events: Vec<Event>) {
        if !events.is_empty() {
            let report = Report::Facts { key: self.effect.key.clone(), dc: self.effect.dc.clone(), events };
            // Nobody listens any more: the process ends, and the next leader asks again.
            let _ = self.sender.send(report).await;
        }
    }

    /// The sidecar accepted; written once for each attempt and kind of sidecar.
    pub(super) fn started(&self, sidecar: SidecarKind) -> Option<Event> {
        let known = self.resumes() && self.effect.accepted && self.effect.sidecar == Some(sidecar);
        let key = &self.effect.key;
        (!known).then(|| {
            NodeStarted { job: key.job.clone(), pod: self.pod().clone(), attempt: key.attempt, sidecar }.into()
        })
    }

    pub(super) fn progress(&self, [bytes, bytes_total, files, files_total]: [u64; 4]) -> Event {
        let node = NodeProgress { pod: self.pod().clone(), bytes, bytes_total, files, files_total };
        Progress { job: self.effect.key.job.clone(), nodes: vec![node] }.into()
    }

    /// Bytes, files and reused files, where the sidecar tells.
    pub(super) fn finished(&self, told: Option<[u64; 3]>) -> Event {
        let key = &self.effect.key;
        let [bytes, files, reused] = told.map_or([None; 3], |told| told.map(Some));
        NodeFinished { job: key.job.clone(), pod: self.pod().clone(), attempt: key.attempt, bytes, files, reused }
            .into()
    }

    pub(super) fn failed(&self, reason: &str, retryable: bool) -> Event {
        let key = &self.effect.key;
        let reason: Arc<str> = super::channel::sentence(reason).into();
        NodeFailed { job: key.job.clone(), pod: self.pod().clone(), attempt: key.attempt, reason, retryable }.into()
    }

    /// The call ended without an answer that decides anything. `heard` is when the sidecar last said something of the
    /// backup itself: an error is no sign of its life.
    pub(super) async fn unanswered(&self, in_doubt: bool, heard: Option<Time>, error: &str) {
        self.end(in_doubt, false, heard, error).await;
    }

    /// The sidecar has served a later term than this one: it was not asked for anything.
    async fn overtaken(&self, seen: Epoch) {
        self.found(vec![Overtaken { pod: self.pod().clone(), epoch: seen }.into()]).await;
        let error = format!("the sidecar has served term {seen}, and refuses term {}", self.effect.key.epoch);
        self.unanswered(self.resumes(), None, &error).await;
    }

    /// The sidecar answered, and knows nothing of the backup.
    pub(super) async fn not_found(&self, heard: Option<Time>, error: &str) {
        self.end(true, true, heard, error).await;
    }

    async fn end(&self, in_doubt: bool, not_found: bool, heard: Option<Time>, error: &str) {
        let key = self.effect.key.clone();
        let (job, call, attempt, serial) = (key.job, key.call, key.attempt, key.serial);
        let (epoch, error) = (key.epoch, error.into());
        let event = match call {
            Call::Backup(BackupCall::Summary(pod)) => SummaryFailed { job, pod, attempt, epoch, error }.into(),
            Call::Backup(call @ (BackupCall::Start(_) | BackupCall::Resume(_) | BackupCall::Stop(_))) => {
                NodeUnanswered { job, call, attempt, serial, epoch, in_doubt, not_found, heard, error }.into()
            }
            Call::Task(call) => {
                let (task, sidecar) = (job, None);
                TaskUnanswered { task, call, attempt, serial, epoch, in_doubt, sidecar, error }.into()
            }
        };
        self.found(vec![event]).await;
    }

    /// A command that was not sent is open again at once; a resumed call, or one that only reads, needs no word.
    async fn stopped_before_sending(&self) {
        match &self.effect.key.call {
            Call::Backup(BackupCall::Start(_)) | Call::Task(TaskCall::Purge(_) | TaskCall::Prepare(_)) => {
                self.unanswered(false, None, "stopped before it was sent").await;
            }
            Call::Backup(BackupCall::Resume(_) | BackupCall::Stop(_) | BackupCall::Summary(_))
            | Call::Task(TaskCall::List(_) | TaskCall::Plan(_)) => {}
        }
    }
}
