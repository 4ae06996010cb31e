//! Stock Medusa: one AsyncBackup, never a second one, and BackupStatus polled until it says how it ended.

use super::Errand;
use super::channel::{Sidecar, within};
use std::time::Duration;
use stheno_events::backup::SidecarKind;
use stheno_events::observed::BackupType;
use stheno_rpc::medusa::backup_request::Mode;
use stheno_rpc::medusa::{BackupRequest, BackupStatusRequest, StatusType};
use tokio::time::Instant;
use tonic::Code;

/// Sends AsyncBackup once, and follows.
pub(super) async fn start_and_poll(errand: &Errand, sidecar: &Sidecar) {
    let mode = match errand.effect.backup_type {
        BackupType::Differential => Mode::Differential,
        BackupType::Full => Mode::Full,
    };
    let request = BackupRequest { name: errand.effect.backup.to_string(), mode: mode.into() };
    let sent = Instant::now();
    // Not cut short by a stop: once it is out, its answer is wanted.
    match within(sidecar.pace.async_backup, "AsyncBackup", sidecar.medusa().async_backup(request)).await {
        Ok(reply) => match reply.status() {
            StatusType::InProgress | StatusType::Success => {
                errand.found(errand.started(SidecarKind::Medusa).into_iter().collect()).await;
            }
            StatusType::Failed | StatusType::Unknown => {
                return errand.found(vec![errand.failed("Medusa did not accept the backup", false)]).await;
            }
        },
        Err(failure) if failure.declined() => {
            return errand.found(vec![errand.failed(failure.sentence(), false)]).await;
        }
        Err(failure) => return errand.unanswered(true, None, failure.sentence()).await,
    }
    if pause(errand, sidecar.pace.first_poll).await {
        follow(errand, sidecar, SidecarKind::Medusa, Some(sent + sidecar.pace.visible), true).await;
    }
}

/// Follows a backup that was started before, by us or by another program, without ever starting one.
pub(super) async fn poll(errand: &Errand, sidecar: &Sidecar, kind: SidecarKind) {
    follow(errand, sidecar, kind, None, false).await;
}

/// Polls until the backup ends. NOT_FOUND before `visible` is no answer: Medusa shows a backup only once it has reached
/// Cassandra.
async fn follow(errand: &Errand, sidecar: &Sidecar, kind: SidecarKind, visible: Option<Instant>, told: bool) {
    let mut wait = sidecar.pace.first_poll;
    let (mut told, mut seen) = (told, false);
    let mut heard = told.then(crate::runtime::wall);
    loop {
        let request = BackupStatusRequest { backup_name: errand.effect.backup.to_string() };
        let answer = tokio::select! {
            biased;
            () = errand.stop.cancelled() => return,
            answer = within(sidecar.pace.unary, "BackupStatus", async { sidecar.medusa().backup_status(request).await }) => answer,
        };
        match answer {
            Ok(answer) => {
                heard = Some(crate::runtime::wall());
                seen = true;
                let started = if told { None } else { errand.started(kind) };
                told = true;
                let ended = match answer.status() {
                    StatusType::InProgress => None,
                    StatusType::Success => Some(errand.finished(None)),
                    StatusType::Failed | StatusType::Unknown => {
                        Some(errand.failed("Medusa says that the backup failed: see the logs of its container", false))
                    }
                };
                let over = ended.is_some();
                errand.found(started.into_iter().chain(ended).collect()).await;
                if over {
                    return;
                }
            }
            Err(failure) if failure.is(Code::NotFound) => {
                if seen || visible.is_none_or(|visible| Instant::now() >= visible) {
                    return errand.not_found(heard, failure.sentence()).await;
                }
            }
            Err(failure) => return errand.unanswered(true, heard, failure.sentence()).await,
        }
        if !pause(errand, wait).await {
            return;
        }
        wait = (wait * 3 / 2).min(sidecar.pace.longest_poll);
    }
}

/// Waits; false when the errand was stopped meanwhile.
async fn pause(errand: &Errand, wait: Duration) -> bool {
    tokio::select! {
        biased;
        () = errand.stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}
