//! Calls of tasks: one node purges or prepares a restore, or one sidecar lists the whole bucket.

use super::Errand;
use super::channel::{Failure, Sidecar, failure, within};
use chrono::DateTime;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stheno_decide::effect::{Asked, TaskWork};
use stheno_decide::listing::{Origin, compare};
use stheno_events::backup::{BackupNode, SidecarKind};
use stheno_events::observed::BackupType;
use stheno_events::task::{Call, Completeness, Found, NodeFailed, NodeFinished, NodeUnanswered, Planned, Purged};
use stheno_events::{Digest, Event};
use stheno_rpc::medusa::{
    BackupSummary, GetBackupsRequest, PrepareRestoreRequest, PurgeBackupsRequest, PurgeBackupsResponse, StatusType,
};
use stheno_rpc::sidecar::{CapabilitiesRequest, PlanPurgeRequest};
use tokio::time::Instant;
use tonic::Code;

/// Has the node do what it is claimed for. What it did already it does not do twice, so it may be asked again at any time.
pub(super) async fn command(errand: &Errand, sidecar: &Sidecar, kind: SidecarKind, call: &Call) {
    match (&errand.effect.task, call) {
        (Some(TaskWork::Purge { settles }), Call::Purge(_)) => {
            if kind == SidecarKind::Medusa && settles.is_some_and(|until| crate::runtime::wall() < until) {
                let error = "Medusa may still be at the purge that it was asked for before: it is asked again later";
                return unanswered(errand, call, false, kind, error).await;
            }
            let purge = within(sidecar.pace.purge, "PurgeBackups", async {
                sidecar.medusa().purge_backups(PurgeBackupsRequest {}).await
            });
            if let Some(answer) = come_back(errand, sidecar, kind, call, purge).await {
                finished(errand, call, Some(purged(&answer))).await;
            }
        }
        (Some(TaskWork::Prepare { restore_key }), Call::Prepare(_)) => {
            let request = PrepareRestoreRequest {
                backup_name: errand.effect.backup.to_string(),
                datacenter: errand.effect.dc.name.to_string(),
                restore_key: restore_key.to_string(),
            };
            let prepare = within(sidecar.pace.listing, "PrepareRestore", async {
                sidecar.medusa().prepare_restore(request).await
            });
            if come_back(errand, sidecar, kind, call, prepare).await.is_some() {
                finished(errand, call, None).await;
            }
        }
        // A listing commands nothing: see `list`. Others are not made.
        (_, Call::Purge(_) | Call::Prepare(_) | Call::List(_) | Call::Plan(_)) => {
            unanswered(errand, call, false, kind, "this call came without what it is about: report this as a defect")
                .await;
        }
    }
}

/// Waits for the answer of a command that is out. Where it cannot be waited for any longer, or says nothing that counts, the
/// log is told, and none comes back.
async fn come_back<T>(
    errand: &Errand,
    sidecar: &Sidecar,
    kind: SidecarKind,
    call: &Call,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let mut until: Option<Instant> = None;
    let failure = loop {
        let quiet = until.unwrap_or_else(|| Instant::now() + sidecar.pace.quiet);
        tokio::select! {
            biased;
            answer = &mut answer => match answer {
                Ok(answer) => return Some(answer),
                Err(failure) => break failure,
            },
            // A purge may take an hour: whoever stops us does not wait for it.
            () = errand.stop.cancelled(), if until.is_none() => until = Some(Instant::now() + sidecar.pace.unary),
            () = tokio::time::sleep_until(quiet) => {
                if until.is_some() {
                    let error = "stopped while the sidecar was at it: it is asked again";
                    unanswered(errand, call, true, kind, error).await;
                    return None;
                }
                // Our sidecar answers beside its work: a connection that is half open would look like a long purge.
                if kind == SidecarKind::Stheno
                    && let Err(failure) = alive(sidecar, sidecar.pace.unary).await
                {
                    break failure;
                }
            }
        }
    };
    match &failure {
        Failure::Unreachable(_) => unanswered(errand, call, false, kind, failure.sentence()).await,
        Failure::Silent(_) | Failure::Answered(Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded, _) => {
            unanswered(errand, call, true, kind, failure.sentence()).await;
        }
        Failure::Answered(..) => {
            let (key, retryable) = (&errand.effect.key, !failure.declined());
            let (task, pod, attempt) = (key.job.clone(), call.pod().clone(), key.attempt);
            let reason = failure.sentence().into();
            errand.found(vec![NodeFailed { task, pod, attempt, reason, retryable }.into()]).await;
        }
    }
    None
}

async fn alive(sidecar: &Sidecar, patience: Duration) -> Result<(), Failure> {
    within(patience, "Capabilities", sidecar.ours().capabilities(CapabilitiesRequest {})).await.map(drop)
}

/// Asks what a purge would remove. Stock Medusa cannot tell.
pub(super) async fn plan(errand: &Errand, sidecar: &Sidecar, call: &Call) {
    let patience = sidecar.pace.listing_all;
    let planned = match tokio::time::timeout(patience, planned(sidecar)).await {
        Ok(Ok(names)) => Some(names),
        Ok(Err(failure)) if failure.is(Code::Unimplemented) => None,
        Ok(Err(failure)) => return errand.unanswered(false, None, failure.sentence()).await,
        Err(_) => {
            let error = format!("PlanPurge was not answered within {} s", patience.as_secs_f32());
            return errand.unanswered(false, None, &error).await;
        }
    };
    let key = &errand.effect.key;
    let backups: Option<Vec<Arc<str>>> = planned.map(|names| names.into_iter().map(Arc::from).collect());
    let text = backups.iter().flatten().fold(String::new(), |text, name| format!("{text}{name:?}\n"));
    let event = Planned {
        task: key.job.clone(),
        pod: call.pod().clone(),
        serial: key.serial,
        epoch: key.epoch,
        digest: Digest::of(text.as_bytes()),
        backups,
    };
    errand.found(vec![event.into()]).await;
}

/// The names of the backups whose part of this node would go: of each that goes, its entries in the index do.
async fn planned(sidecar: &Sidecar) -> Result<BTreeSet<String>, Failure> {
    let request = PlanPurgeRequest { name: String::new() };
    let answer = sidecar.keeper().plan_purge(request).await;
    let mut plan = answer.map_err(|status| failure("PlanPurge", &status))?.into_inner();
    let mut names = BTreeSet::new();
    while let Some(part) = plan.message().await.map_err(|status| failure("PlanPurge", &status))? {
        let index = part.deletions.iter().filter_map(|gone| gone.key.split_once("index/backup_index/"));
        names.extend(index.filter_map(|(_, rest)| Some(rest.split_once('/')?.0.to_owned())));
    }
    Ok(names)
}

/// Lists the bucket, and tells where it differs from what is known.
pub(super) async fn list(errand: &Errand, sidecar: &Sidecar, call: &Call) {
    let Some(TaskWork::List(asked)) = &errand.effect.task else {
        let error = "this call came without what it is about: report this as a defect";
        return errand.unanswered(false, None, error).await;
    };
    let all = within(sidecar.pace.listing_all, "GetBackups", async {
        sidecar.medusa().get_backups(GetBackupsRequest {}).await
    });
    match all.await {
        Ok(reply) => errand.found(pages(errand, asked, call, reply.backups)).await,
        Err(failure) => errand.unanswered(false, None, failure.sentence()).await,
    }
}

fn pages(errand: &Errand, asked: &Asked, call: &Call, backups: Vec<BackupSummary>) -> Vec<Event> {
    let key = &errand.effect.key;
    let origin = Origin { task: &key.job, pod: call.pod(), serial: key.serial, epoch: key.epoch };
    compare(asked, origin, backups.into_iter().map(found).collect()).into_iter().map(Event::from).collect()
}

fn found(summary: BackupSummary) -> Found {
    let completeness = match summary.status() {
        StatusType::Success => Completeness::Complete,
        StatusType::InProgress | StatusType::Unknown => Completeness::Unfinished,
        StatusType::Failed => Completeness::Failed,
    };
    let time = |seconds: i64| (seconds > 0).then(|| DateTime::from_timestamp(seconds, 0)).flatten();
    let nodes = summary.nodes.into_iter().map(|node| BackupNode {
        host: node.host.into(),
        tokens: node.tokens,
        datacenter: node.datacenter.into(),
        rack: node.rack.into(),
    });
    Found {
        name: summary.backup_name.into(),
        backup_type: if summary.backup_type == "full" { BackupType::Full } else { BackupType::Differential },
        started: time(summary.start_time),
        finished: time(summary.finish_time),
        total_nodes: summary.total_nodes,
        finished_nodes: summary.finished_nodes,
        nodes: nodes.collect(),
        files: summary.total_objects,
        bytes: summary.total_size,
        completeness,
    }
}

fn purged(answer: &PurgeBackupsResponse) -> Purged {
    Purged {
        backups: answer.nb_backups_purged.into(),
        objects: answer.nb_objects_purged.into(),
        bytes: answer.total_purged_size,
        within_grace: answer.total_objects_within_gc_grace.into(),
    }
}

async fn finished(errand: &Errand, call: &Call, purged: Option<Purged>) {
    let key = &errand.effect.key;
    let (task, pod, attempt) = (key.job.clone(), call.pod().clone(), key.attempt);
    errand.found(vec![NodeFinished { task, pod, attempt, purged }.into()]).await;
}

/// The call ended without an answer that decides anything, and it is known who answers there.
async fn unanswered(errand: &Errand, call: &Call, in_doubt: bool, kind: SidecarKind, error: &str) {
    let key = &errand.effect.key;
    let event = NodeUnanswered {
        task: key.job.clone(),
        call: call.clone(),
        attempt: key.attempt,
        serial: key.serial,
        epoch: key.epoch,
        in_doubt,
        sidecar: Some(kind),
        error: error.into(),
    };
    errand.found(vec![event.into()]).await;
}
