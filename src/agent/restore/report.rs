//! How far a restore is: told to whoever watches while it works, and what is remembered of it afterwards.

use std::fs;

use serde::{Deserialize, Serialize};
use stheno_rpc::sidecar::RestoreState;
use stheno_rpc::sidecar::restore_state::Phase;
use tokio::sync::watch;

use super::ground::Ground;
use super::{Error, Outcome, Progress, STAGE, Stage, Sums};
use crate::config::Config;
use crate::jobs::sentence;
use crate::state::{self, StateDir};

/// Why the last attempt failed, in the folder.
const FAILURE: &str = "failure.json";

/// The last attempt that failed.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Failure {
    key: String,
    reason: String,
}

/// What watchers see.
#[derive(Debug)]
pub struct Report(watch::Sender<RestoreState>);

impl Default for Report {
    fn default() -> Self {
        Self(watch::Sender::new(RestoreState { phase: Phase::NotFound.into(), ..RestoreState::default() }))
    }
}

impl Report {
    /// The state now and all later ones.
    pub fn watch(&self) -> watch::Receiver<RestoreState> {
        self.0.subscribe()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut RestoreState)) {
        self.0.send_modify(change);
    }

    /// It begins; what the attempt before it said of the same restore is told.
    pub(super) fn begin(&self, key: &str, dir: &StateDir) {
        let last: Failure = dir.read(FAILURE).unwrap_or_default();
        self.set(|state| {
            *state = RestoreState { phase: Phase::Fetching.into(), key: key.to_owned(), ..RestoreState::default() };
            if last.key == key {
                state.reason = last.reason;
            }
        });
    }

    /// It has ended, and how is remembered where that is possible.
    pub(super) fn end(&self, config: &Config, outcome: &Result<Outcome, Error>) {
        let folder = folder(config);
        let failure = match outcome {
            Ok(Outcome::Restored(sums)) => {
                self.set(|state| done(state, *sums));
                forgive(config);
                return;
            }
            Ok(Outcome::Skipped(reason)) => {
                // What is restored already is known from its end.
                let key = self.0.borrow().key.clone();
                let known = remembered(config, &key).filter(|known| known.phase() == Phase::Restored);
                self.set(|state| match known {
                    Some(known) if known.key == state.key && !state.key.is_empty() => *state = known,
                    Some(_) | None => {
                        state.set_phase(Phase::Skipped);
                        state.reason = (*reason).to_owned();
                    }
                });
                return;
            }
            // Another process is at work on this volume: how that ends is its word.
            Err(Error::State(state::Error::Held { .. })) => return,
            Err(error) => {
                let reason = sentence(error);
                self.set(|state| {
                    state.set_phase(Phase::Failed);
                    state.reason.clone_from(&reason);
                });
                Failure { key: self.0.borrow().key.clone(), reason }
            }
        };
        let Some(folder) = folder else { return };
        let written = StateDir::open(&folder).and_then(|dir| dir.write(FAILURE, &failure));
        if let Err(error) = written {
            tracing::warn!(error = sentence(&error), "how the restore ended is not remembered");
        }
    }
}

fn done(state: &mut RestoreState, sums: Sums) {
    state.set_phase(Phase::Restored);
    state.reason.clear();
    (state.files_total, state.files_done) = (sums.files, sums.files);
    (state.bytes_total, state.bytes_done) = (sums.bytes, sums.bytes);
    (state.files_kept, state.files_resumed) = (sums.kept, sums.resumed);
}

/// Forgets the failure of an attempt: a later one has come to its end.
pub(super) fn forgive(config: &Config) {
    if let Some(folder) = folder(config) {
        // What is not there need not go.
        let _ = fs::remove_file(folder.join(FAILURE));
    }
}

/// The folder of a restore, if there is one.
fn folder(config: &Config) -> Option<std::path::PathBuf> {
    let folder = Ground::home(&config.cassandra.yaml.data);
    folder.is_dir().then_some(folder)
}

/// What the last restore of this node left, or the one under `key`, if that is given: read without holding anything, for it
/// may be at work. That another one failed later is no word on it.
pub(crate) fn remembered(config: &Config, key: &str) -> Option<RestoreState> {
    let folder = folder(config)?;
    let text = |file: &str| fs::read(folder.join(file)).ok();
    let progress: Option<Progress> = text(STAGE).and_then(|json| serde_json::from_slice(&json).ok());
    let failed: Option<Failure> = text(FAILURE).and_then(|json| serde_json::from_slice(&json).ok());
    if progress.is_none() && failed.is_none() {
        return None;
    }
    let progress = progress.unwrap_or_default();
    let mut state = RestoreState { key: progress.key, ..RestoreState::default() };
    match progress.stage {
        Stage::Done { sums, .. } => done(&mut state, sums.unwrap_or_default()),
        Stage::Switching { sums, .. } => {
            done(&mut state, sums);
            state.set_phase(Phase::Switching);
        }
        Stage::Fetching => state.set_phase(Phase::Fetching),
    }
    // A kill between the end and the forgiving leaves both.
    let ended = state.phase() == Phase::Restored;
    let counts = |failed: &Failure| (key.is_empty() || failed.key == key) && !(ended && failed.key == state.key);
    if let Some(failed) = failed.filter(counts) {
        if failed.key != state.key {
            state = RestoreState::default();
        }
        state.key = failed.key;
        state.reason = failed.reason;
        state.set_phase(Phase::Failed);
    }
    Some(state)
}
