//! The summary of a whole backup, as one sidecar reads it from the bucket.

use super::Errand;
use super::channel::{Failure, Sidecar, within};
use chrono::DateTime;
use stheno_events::Event;
use stheno_events::backup::{BackupNode, Summarised};
use stheno_rpc::medusa::{BackupSummary, GetBackupRequest, GetBackupsRequest, StatusType};

/// Asks for the one backup; where that fails, looks for it in the list of all.
pub(super) async fn read(errand: &Errand, sidecar: &Sidecar) {
    match ask(errand, sidecar).await {
        Ok(summary) => errand.found(vec![summarised(errand, summary)]).await,
        Err(error) => errand.unanswered(true, None, &error).await,
    }
}

async fn ask(errand: &Errand, sidecar: &Sidecar) -> Result<BackupSummary, String> {
    let name = &*errand.effect.backup;
    let request = GetBackupRequest { backup_name: name.to_owned() };
    let first =
        match within(sidecar.pace.listing, "GetBackup", async { sidecar.medusa().get_backup(request).await }).await {
            Ok(reply) => match reply.backup {
                Some(summary) if summary.backup_name == name => return Ok(summary),
                Some(_) | None => "GetBackup answered without the backup".to_owned(),
            },
            Err(failure @ Failure::Unreachable(_) | failure @ Failure::Silent(_)) => {
                return Err(failure.sentence().to_owned());
            }
            Err(failure) => failure.sentence().to_owned(),
        };
    let list =
        within(sidecar.pace.listing, "GetBackups", async { sidecar.medusa().get_backups(GetBackupsRequest {}).await });
    match list.await {
        Ok(reply) => reply.backups.into_iter().find(|summary| summary.backup_name == name).ok_or(first),
        Err(_) => Err(first),
    }
}

fn summarised(errand: &Errand, summary: BackupSummary) -> Event {
    let complete = summary.status() == StatusType::Success;
    let time = |seconds: i64| (seconds > 0).then(|| DateTime::from_timestamp(seconds, 0)).flatten();
    let nodes = summary.nodes.into_iter().map(|node| BackupNode {
        host: node.host.into(),
        tokens: node.tokens,
        datacenter: node.datacenter.into(),
        rack: node.rack.into(),
    });
    Summarised {
        job: errand.effect.key.job.clone(),
        started: time(summary.start_time),
        finished: time(summary.finish_time),
        total_nodes: summary.total_nodes,
        finished_nodes: summary.finished_nodes,
        nodes: nodes.collect(),
        files: summary.total_objects,
        bytes: summary.total_size,
        complete,
    }
    .into()
}
