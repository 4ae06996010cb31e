//! Medusa's service, for stock clients.

use chrono::{DateTime, Local};
use stheno_rpc::medusa::medusa_server::Medusa;
use stheno_rpc::medusa::{
    BackupRequest, BackupResponse, BackupStatusRequest, BackupStatusResponse, DeleteBackupRequest,
    DeleteBackupResponse, GetBackupRequest, GetBackupResponse, GetBackupsRequest, GetBackupsResponse,
    PrepareRestoreRequest, PrepareRestoreResponse, PurgeBackupsRequest, PurgeBackupsResponse, StatusType,
    backup_request,
};
use stheno_rpc::sidecar::node_state;
use tonic::{Request, Response, Status};

use super::{Face, keeping_trouble, store_trouble};
use crate::catalogue::overall;
use crate::jobs::{Refusal, sentence};
use crate::layout::BackupName;
use crate::prepare;
use crate::presence::{Presence, presence};
use crate::state::{Phase, Record};

fn is_full(request: &BackupRequest) -> bool {
    request.mode() == backup_request::Mode::Full
}

/// Medusa's times: the server's zone, whole seconds.
fn local_time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

#[tonic::async_trait]
impl Medusa for Face {
    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        let request = request.into_inner();
        let before = self.jobs.record_of(&request.name).await;
        if before.is_some_and(|record| matches!(record.phase, Phase::Finished { .. }))
            && self.status_in_bucket(&request.name).await?.is_some()
        {
            return Err(Status::already_exists(format!("backup {} already exists: choose another name", request.name)));
        }
        let state = self.jobs.start_unclaimed(&request.name, is_full(&request)).await?;
        match self.jobs.ended(&state.operation).await.map(|record| record.phase) {
            Some(Phase::Finished { .. }) => {
                let status = StatusType::Success.into();
                Ok(Response::new(BackupResponse { backup_name: request.name, status }))
            }
            Some(Phase::Failed { reason, .. }) => {
                Err(Status::internal(format!("Failed to create sync backups: {reason}")))
            }
            Some(Phase::Starting { .. } | Phase::Uploading { .. }) | None => Err(Refusal::Stopping.into()),
        }
    }

    async fn async_backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        let request = request.into_inner();
        let state = self.jobs.start_unclaimed(&request.name, is_full(&request)).await?;
        let status = match state.phase() {
            node_state::Phase::Finished => StatusType::Success,
            node_state::Phase::Failed => StatusType::Failed,
            node_state::Phase::Unspecified
            | node_state::Phase::Starting
            | node_state::Phase::Uploading
            | node_state::Phase::NotFound => StatusType::InProgress,
        };
        Ok(Response::new(BackupResponse { backup_name: request.name, status: status.into() }))
    }

    async fn backup_status(
        &self,
        request: Request<BackupStatusRequest>,
    ) -> Result<Response<BackupStatusResponse>, Status> {
        let name = request.into_inner().backup_name;
        let of = |status: StatusType, started: i64, finished: Option<i64>| BackupStatusResponse {
            start_time: local_time(started),
            finish_time: finished.map(local_time).unwrap_or_default(),
            status: status.into(),
        };
        let answer = match self.jobs.record_of(&name).await {
            Some(Record { phase: phase @ (Phase::Starting { .. } | Phase::Uploading { .. }), accepted_ms, .. }) => {
                Some(of(StatusType::InProgress, phase.started_ms().unwrap_or(accepted_ms), None))
            }
            Some(Record { phase: Phase::Failed { started_ms, .. }, accepted_ms, .. }) => {
                Some(of(StatusType::Failed, started_ms.unwrap_or(accepted_ms), None))
            }
            // What was finished may have been deleted since: the bucket knows.
            Some(Record { phase: Phase::Finished { .. }, .. }) | None => {
                self.status_in_bucket(&name).await?.map(|(status, started, finished)| of(status, started, finished))
            }
        };
        answer.map(Response::new).ok_or_else(|| Status::not_found(format!("backup <{name}> does not exist")))
    }

    async fn delete_backup(
        &self,
        request: Request<DeleteBackupRequest>,
    ) -> Result<Response<DeleteBackupResponse>, Status> {
        let name = request.into_inner().name;
        self.jobs.delete(&name).await.map_err(|error| keeping_trouble(&error))?;
        Ok(Response::new(DeleteBackupResponse { name, status: StatusType::Success.into() }))
    }

    async fn get_backup(&self, request: Request<GetBackupRequest>) -> Result<Response<GetBackupResponse>, Status> {
        let name = request.into_inner().backup_name;
        let failed = self.has_failed(&name).await;
        let found = self.jobs.catalogue().one(&name, failed).await.map_err(|error| store_trouble(&error))?;
        let backup = found.ok_or_else(|| Status::not_found(format!("backup <{name}> does not exist")))?;
        Ok(Response::new(GetBackupResponse { status: backup.status, backup: Some(backup) }))
    }

    async fn get_backups(&self, _: Request<GetBackupsRequest>) -> Result<Response<GetBackupsResponse>, Status> {
        let failed = self.jobs.failed_names().await;
        let backups =
            self.jobs.catalogue().all(|name| failed.contains(name)).await.map_err(|error| store_trouble(&error))?;
        let overall_status = overall(&backups).into();
        Ok(Response::new(GetBackupsResponse { backups, overall_status }))
    }

    async fn purge_backups(&self, _: Request<PurgeBackupsRequest>) -> Result<Response<PurgeBackupsResponse>, Status> {
        let totals = self.jobs.purge().await.map_err(|error| keeping_trouble(&error))?;
        let count = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Response::new(PurgeBackupsResponse {
            nb_backups_purged: count(totals.backups),
            nb_objects_purged: count(totals.objects),
            total_purged_size: i64::try_from(totals.bytes).unwrap_or(i64::MAX),
            total_objects_within_gc_grace: count(totals.within_grace),
        }))
    }

    async fn prepare_restore(
        &self,
        request: Request<PrepareRestoreRequest>,
    ) -> Result<Response<PrepareRestoreResponse>, Status> {
        let request = request.into_inner();
        let (config, catalogue) = (&self.jobs.tools().config, self.jobs.catalogue());
        let prepared = prepare::prepare(config, catalogue, &request.backup_name, &request.restore_key).await;
        prepared.map_err(|error| match &error {
            prepare::Error::Store(error) => store_trouble(error),
            prepare::Error::Cql(error) if !error.retryable() => Status::failed_precondition(sentence(error)),
            prepare::Error::Cql(_) | prepare::Error::Late => Status::unavailable(sentence(&error)),
            prepare::Error::Key { .. } | prepare::Error::Name(_) => Status::invalid_argument(sentence(&error)),
            prepare::Error::Absent { .. } => Status::not_found(sentence(&error)),
            prepare::Error::Incomplete { .. } | prepare::Error::Topology { .. } => {
                Status::failed_precondition(sentence(&error))
            }
            prepare::Error::File { .. } => Status::internal(sentence(&error)),
        })?;
        Ok(Response::new(PrepareRestoreResponse {}))
    }
}

impl Face {
    /// What the bucket says of this node's part of a backup: status, start and end in ms.
    async fn status_in_bucket(&self, name: &str) -> Result<Option<(StatusType, i64, Option<i64>)>, Status> {
        // Stock Medusa took names that we would refuse: they can still be asked for.
        let Ok(name) = BackupName::existing(name) else {
            return Ok(None);
        };
        let layout = &self.jobs.tools().layout;
        let found = presence(self.jobs.brisk(), layout, &name).await.map_err(|error| store_trouble(&error))?;
        Ok(match found {
            Presence::Absent => None,
            Presence::Complete { started_ms, finished_ms, .. } => {
                Some((StatusType::Success, started_ms, Some(finished_ms)))
            }
            // Nobody here runs it, so nobody will finish it.
            Presence::Begun { started_ms, .. } => started_ms.map(|started| (StatusType::Failed, started, None)),
        })
    }

    async fn has_failed(&self, name: &str) -> bool {
        self.jobs.record_of(name).await.is_some_and(|record| matches!(record.phase, Phase::Failed { .. }))
    }
}
