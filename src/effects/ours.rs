//! Our own sidecar: a start that may be repeated, a stream of states instead of polls, and an end on demand.

use super::Errand;
use super::channel::{Failure, Sidecar, failure, within};
use super::stock;
use stheno_events::backup::SidecarKind;
use stheno_events::{Event, Time};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::{CancelRequest, CapabilitiesRequest, Claim, NodeState, StartBackupRequest, WatchRequest};
use tokio::time::Instant;
use tonic::Code;

/// What a state leads to.
enum Next {
    /// Wait for the next one.
    Follow(Option<Event>),
    /// The node has ended.
    End(Event),
    /// The sidecar does not know what it accepted.
    Lost,
}

/// Starts the backup, or joins the one that runs, and follows it.
pub(super) async fn start_and_watch(errand: &Errand, sidecar: &Sidecar) {
    let key = &errand.effect.key;
    let claim = Claim { operation: key.job.to_string(), attempt: key.attempt, epoch: key.epoch.0 };
    let name = errand.effect.backup.to_string();
    let full = errand.effect.backup_type == stheno_events::observed::BackupType::Full;
    let request = StartBackupRequest { claim: Some(claim.clone()), name: name.clone(), full };
    // Not cut short by a stop: once it is out, its answer is wanted.
    let state = match within(sidecar.pace.unary, "StartBackup", sidecar.ours().start_backup(request)).await {
        Ok(response) => response.state.unwrap_or_default(),
        Err(failure) => return not_started(errand, &failure).await,
    };
    let mut heard = Some(crate::runtime::wall());
    let mut events: Vec<Event> = errand.started(SidecarKind::Stheno).into_iter().collect();
    match next(errand, &state) {
        Next::Follow(more) => {
            events.extend(more);
            errand.found(events).await;
        }
        Next::End(end) => {
            events.push(end);
            return errand.found(events).await;
        }
        Next::Lost => return lost(errand, heard).await,
    }
    if let Err(failure) = watch(errand, sidecar, WatchRequest { claim: Some(claim), name }, &mut heard).await {
        errand.unanswered(true, heard, failure.sentence()).await;
    }
}

/// Lets the backup end now, and says how it ended; what had ended before stays what it was.
pub(super) async fn stop(errand: &Errand, sidecar: &Sidecar) {
    let key = &errand.effect.key;
    let claim = Claim { operation: key.job.to_string(), attempt: key.attempt, epoch: key.epoch.0 };
    let request = CancelRequest { claim: Some(claim), name: errand.effect.backup.to_string() };
    // Not cut short by a stop: once it is out, its answer is wanted.
    let state = match within(sidecar.pace.stop, "Cancel", sidecar.keeper().cancel(request)).await {
        Ok(response) => response.state.unwrap_or_default(),
        Err(failure) if failure.is(Code::NotFound) => {
            return errand.not_found(Some(crate::runtime::wall()), failure.sentence()).await;
        }
        // One of an older version, which cannot: it is followed to its end.
        Err(failure) if failure.is(Code::Unimplemented) => {
            return stock::poll(errand, sidecar, SidecarKind::Stheno).await;
        }
        Err(failure) => return errand.unanswered(true, None, failure.sentence()).await,
    };
    match next(errand, &state) {
        Next::End(end) => errand.found(vec![end]).await,
        Next::Follow(_) | Next::Lost => {
            let error = "the sidecar did not say how the backup ended that it was to break off";
            errand.unanswered(true, Some(crate::runtime::wall()), error).await;
        }
    }
}

async fn not_started(errand: &Errand, failure: &Failure) {
    if failure.is(Code::FailedPrecondition) && errand.resumes() {
        // A later leader was there. Whether the backup goes on is not known here.
        return errand.unanswered(true, None, failure.sentence()).await;
    }
    if failure.declined() {
        // Refused for a later leader's sake: that may be mended, and nothing was started.
        let retryable = failure.is(Code::FailedPrecondition);
        return errand.found(vec![errand.failed(failure.sentence(), retryable)]).await;
    }
    errand.unanswered(true, None, failure.sentence()).await;
}

/// Follows until the node ends or the errand is stopped; an error when the stream breaks.
async fn watch(
    errand: &Errand,
    sidecar: &Sidecar,
    request: WatchRequest,
    heard: &mut Option<Time>,
) -> Result<(), Failure> {
    let mut client = sidecar.ours();
    let mut states = tokio::select! {
        biased;
        () = errand.stop.cancelled() => return Ok(()),
        states = within(sidecar.pace.unary, "Watch", client.watch(request)) => states?,
    };
    // Progress that was not handed in yet, and when the next may be.
    let (mut waiting, mut again) = (None, Instant::now());
    loop {
        let quiet = Instant::now() + sidecar.pace.quiet;
        let until = if waiting.is_some() { again.min(quiet) } else { quiet };
        let state = tokio::select! {
            biased;
            () = errand.stop.cancelled() => return Ok(()),
            state = tokio::time::timeout_at(until, states.message()) => state,
        };
        let state = match state {
            Ok(Ok(Some(state))) => state,
            Ok(Ok(None)) => {
                return Err(Failure::Silent("the sidecar closed the stream before the backup ended".into()));
            }
            Ok(Err(status)) => return Err(failure("Watch", &status)),
            Err(_) => {
                if let Some(progress) = waiting.take() {
                    again = Instant::now() + sidecar.pace.progress;
                    errand.found(vec![progress]).await;
                } else {
                    within(sidecar.pace.unary, "Capabilities", client.capabilities(CapabilitiesRequest {})).await?;
                    *heard = Some(crate::runtime::wall());
                }
                continue;
            }
        };
        *heard = Some(crate::runtime::wall());
        match next(errand, &state) {
            Next::Follow(progress) => {
                waiting = progress.or(waiting);
                if Instant::now() >= again
                    && let Some(progress) = waiting.take()
                {
                    again = Instant::now() + sidecar.pace.progress;
                    errand.found(vec![progress]).await;
                }
            }
            Next::End(end) => {
                errand.found(vec![end]).await;
                return Ok(());
            }
            Next::Lost => {
                lost(errand, *heard).await;
                return Ok(());
            }
        }
    }
}

/// A sidecar that lost its state is asked again: the start is idempotent.
async fn lost(errand: &Errand, heard: Option<Time>) {
    errand.unanswered(true, heard, "the sidecar knows nothing of a backup that it had accepted").await;
}

fn next(errand: &Errand, state: &NodeState) -> Next {
    match state.phase() {
        Phase::Starting => Next::Follow(None),
        Phase::Uploading => {
            let progress = [state.bytes_done, state.bytes_total, state.files_done, state.files_total];
            Next::Follow(Some(errand.progress(progress)))
        }
        Phase::Finished => Next::End(errand.finished(Some([state.bytes_total, state.files_total, state.files_reused]))),
        Phase::Failed => {
            let reason = if state.reason.is_empty() { "the sidecar gives no reason" } else { &state.reason };
            Next::End(errand.failed(reason, state.retryable))
        }
        Phase::NotFound | Phase::Unspecified => Next::Lost,
    }
}
