//! The init container: puts this node's data back from a backup, before Cassandra starts.
//!
//! Everything is brought to the volume and verified while the node's own data stays as it is; then each table is switched by
//! renaming. What is to be switched is written down first, so that a crash at any point followed by a new start ends with a
//! complete restore, and a failure before that point with an untouched node.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stheno_rpc::sidecar::restore_state::Phase;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::digests::{DIGESTS, Digests};
use crate::layout::{self, BackupName, Layout};
use crate::state::{self, StateDir};
use crate::store::{self, Patience, Store};
use crate::{manifest, verify};

mod fetch;
mod ground;
mod plan;
mod report;
mod request;
mod switch;
mod tokens;

pub use report::Report;
pub(crate) use report::remembered;
pub use request::{Mode, Request};

use ground::Ground;
use plan::{Incoming, Plan};

/// Holds the key of the last restore, beside the data: Medusa's name for it.
const MARKER: &str = ".last-restore";
/// Everything that is only there during a restore.
const FOLDER: &str = ".stheno-restore";
/// How far it is, in the folder.
const STAGE: &str = "restore.json";

/// Why the node was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for.
    #[error(transparent)]
    Request(#[from] request::Error),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A name.
    #[error(transparent)]
    Name(#[from] layout::Error),
    /// The volume.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] verify::Error),
    /// What the manifest asks for.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// Nothing of it is there.
    #[error("node {node} has no backup {name} in the bucket: nothing was touched")]
    Absent {
        /// Name.
        name: BackupName,
        /// Source node.
        node: String,
    },
    /// It was never finished.
    #[error("node {node} never finished backup {name}: nothing was touched")]
    Incomplete {
        /// Name.
        name: BackupName,
        /// Source node.
        node: String,
    },
    /// The tokens of the source are not known.
    #[error("{key:?} does not give the tokens of node {node}: nothing was touched")]
    Tokens {
        /// The tokenmap.
        key: String,
        /// Source node.
        node: String,
    },
    /// Too little room.
    #[error("{} has {free} bytes free, and {needed} more have to be brought there: nothing was touched", path.display())]
    Space {
        /// Which volume.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are missing of the backup.
        needed: u64,
    },
    /// An object that is not what the manifest says.
    #[error(
        "{key:?} is not what the manifest says: {what}; nothing was touched (stheno verifies a backup with Verify)"
    )]
    Damaged {
        /// Which object.
        key: String,
        /// How.
        what: String,
    },
    /// A data directory that would be lost with the container.
    #[error(
        "{} is on no volume here, as the node's first data directory is: mount it in the init container as in the container \
         cassandra; nothing was touched",
        path.display()
    )]
    Unmounted {
        /// Which.
        path: PathBuf,
    },
    /// A directory that renaming does not reach.
    #[error(
        "{} is a mount of its own, or on another file system than {}, so that tables cannot be switched there by renaming: \
         mount data directories as a whole; nothing was touched",
        path.display(),
        folder.display()
    )]
    Torn {
        /// Which.
        path: PathBuf,
        /// Where what comes would wait.
        folder: PathBuf,
    },
    /// A file or directory on the volume.
    #[error("cannot write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// cassandra.yaml with the tokens of the source.
    #[error("cannot set the tokens in {}: {what}", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The process ends.
    #[error("stopped on the way: the next start goes on")]
    Stopped,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do, and why.
    Skipped(&'static str),
    /// Done.
    Restored(Sums),
}

/// What a restore brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of the files, those that the node had already.
    pub kept: u64,
    /// Of the files, those that an interrupted run had brought.
    pub resumed: u64,
}

/// How far a restore is; of which, is its key.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Progress {
    key: String,
    stage: Stage,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
enum Stage {
    /// The node's data is untouched.
    #[default]
    Fetching,
    /// Everything is there and verified; from here on it goes forward only.
    Switching { switch: switch::Switch, sums: Sums },
    /// Done. The tokens are set again at each start, since an operator may write cassandra.yaml anew.
    Done {
        tokens: Option<Vec<String>>,
        /// What it brought; earlier versions did not write it down.
        #[serde(default)]
        sums: Option<Sums>,
    },
}

/// Restores as the environment asks, and reports how far it is.
pub async fn run(
    config: &Config,
    env: impl Fn(&str) -> Option<String>,
    cancel: &CancellationToken,
    report: &Report,
) -> Result<Outcome, Error> {
    let outcome = attempt(config, env, cancel, report).await;
    report.end(config, &outcome);
    outcome
}

async fn attempt(
    config: &Config,
    env: impl Fn(&str) -> Option<String>,
    cancel: &CancellationToken,
    report: &Report,
) -> Result<Outcome, Error> {
    report.set(|state| state.key = env("RESTORE_KEY").unwrap_or_default().trim().to_owned());
    let data = &config.cassandra.yaml.data;
    let marker = data.parent().unwrap_or(data).join(MARKER);
    let request = match Request::read(config, env) {
        Ok(Ok(request)) => request,
        nothing => {
            // A node that is half switched is ended even where nobody asks for it any more: Cassandra is about to start.
            interrupted(config, &marker, report).await?;
            return Ok(Outcome::Skipped(nothing?.err().unwrap_or_default()));
        }
    };
    let grounds = Ground::all(config.cassandra.yaml.dirs())?;
    let folder = grounds.first().map(|ground| ground.folder.clone()).unwrap_or_default();
    let dir = StateDir::open(&folder)?;
    report.begin(&request.key, &dir);
    report.set(|state| {
        (state.backup, state.source) = (request.backup.to_string(), request.source.to_string());
    });
    let progress: Progress = dir.read(STAGE)?;
    // Half switched, for whatever was asked then: forward is the only way to a node that is of one piece.
    let progress = match progress.stage {
        Stage::Switching { switch, sums } => {
            tracing::info!(key = progress.key, "an interrupted switch goes on");
            report.set(|state| state.set_phase(Phase::Switching));
            let progress = finish(config, &dir, &marker, (progress.key, sums), switch).await?;
            if progress.key == request.key {
                return Ok(Outcome::Restored(sums));
            }
            progress
        }
        Stage::Fetching | Stage::Done { .. } => progress,
    };
    if std::fs::read_to_string(&marker).is_ok_and(|key| key.trim() == request.key) {
        if let (Stage::Done { tokens: Some(tokens), .. }, true) = (&progress.stage, progress.key == request.key) {
            tokens::set(&config.cassandra.yaml.path, tokens)?;
        }
        // A kill after the end was written down left the old data there.
        clean(&grounds);
        return Ok(Outcome::Skipped("this restore is done already"));
    }
    tokio::select! {
        outcome = bring(config, &request, &dir, &grounds, &progress, &marker, report) => outcome,
        () = cancel.cancelled() => Err(Error::Stopped),
    }
}

/// Ends a switch that was interrupted, if there is one.
async fn interrupted(config: &Config, marker: &Path, report: &Report) -> Result<(), Error> {
    let folder = Ground::home(&config.cassandra.yaml.data);
    if !folder.is_dir() {
        return Ok(());
    }
    let dir = StateDir::open(&folder)?;
    let progress: Progress = dir.read(STAGE)?;
    if let Stage::Switching { switch, sums } = progress.stage {
        tracing::info!(key = progress.key, "an interrupted switch goes on, though nothing is asked for now");
        report.set(|state| state.set_phase(Phase::Switching));
        finish(config, &dir, marker, (progress.key, sums), switch).await?;
    }
    Ok(())
}

async fn bring(
    config: &Config,
    request: &Request,
    dir: &StateDir,
    grounds: &[Ground],
    progress: &Progress,
    marker: &Path,
    report: &Report,
) -> Result<Outcome, Error> {
    report.set(|state| state.set_phase(Phase::Fetching));
    let store = Store::open(&config.storage, Patience::Long)?;
    let layout = Layout::new(config.storage.prefix.as_deref(), request.source.clone());
    let sections = sections(&store, &layout, &request.backup).await?;
    let plan = Plan::of(&sections, &layout, &request.backup, request, grounds)?;
    let tokens = match request.mode {
        Mode::InPlace => None,
        Mode::Remote => Some(tokens::of(&store, &layout, &request.backup).await?),
    };
    ground::switchable(grounds, plan.tables.iter().map(Incoming::place))?;
    if progress.key != request.key || !matches!(progress.stage, Stage::Fetching) {
        // What another restore brought is not mixed with this one.
        switch::clean(grounds)?;
        dir.write(STAGE, &Progress { key: request.key.clone(), stage: Stage::Fetching })?;
    }
    tracing::info!(backup = %request.backup, source = %request.source, files = plan.files.len(), bytes = plan.bytes(), "restoring");
    let digests = Digests::read(&store, &layout.meta(&request.backup, DIGESTS)).await?;
    let sums = fetch::Fetch::new(config, &store, grounds, &plan, &digests, request.mode)?.run(report).await?;
    let tables = plan.tables.iter().map(Incoming::place).collect();
    let (dirs, folders) = grounds.iter().map(|ground| (ground.data.clone(), ground.folder.clone())).unzip();
    let switch =
        switch::Switch { dirs, folders, tables, remote: request.mode == Mode::Remote, clear: request.whole(), tokens };
    dir.write(STAGE, &Progress { key: request.key.clone(), stage: Stage::Switching { switch: switch.clone(), sums } })?;
    report.set(|state| state.set_phase(Phase::Switching));
    finish(config, dir, marker, (request.key.clone(), sums), switch).await?;
    Ok(Outcome::Restored(sums))
}

/// From the written decision to the end. Every step may be repeated.
async fn finish(
    config: &Config,
    dir: &StateDir,
    marker: &Path,
    (key, sums): (String, Sums),
    switch: switch::Switch,
) -> Result<Progress, Error> {
    let yaml = config.cassandra.yaml.clone();
    let tokens = switch.tokens.clone();
    // Where it was decided, whatever cassandra.yaml says by now.
    let dirs: Vec<&Path> = match switch.dirs.as_slice() {
        [] => yaml.dirs().collect(),
        dirs => dirs.iter().map(PathBuf::as_path).collect(),
    };
    let grounds = Ground::decided(&dirs, &switch.folders)?;
    let (within, there) = (yaml.data.clone(), grounds.clone());
    let switched = tokio::task::spawn_blocking(move || switch.run(&there, &yaml.beside));
    let broken = |error| Error::File { path: within, source: std::io::Error::other(error) };
    switched.await.unwrap_or_else(|error| Err(broken(error)))?;
    if let Some(tokens) = &tokens {
        tokens::set(&config.cassandra.yaml.path, tokens)?;
    }
    let failed = |source| Error::File { path: marker.to_owned(), source };
    std::fs::write(marker, &key).map_err(failed)?;
    std::fs::File::open(marker).and_then(|file| file.sync_all()).map_err(failed)?;
    let progress = Progress { key, stage: Stage::Done { tokens, sums: Some(sums) } };
    dir.write(STAGE, &progress)?;
    report::forgive(config);
    clean(&grounds);
    Ok(progress)
}

/// Removes what a restore that is done needs no more. What cannot go takes room, and harms nobody: the node starts.
fn clean(grounds: &[Ground]) {
    if let Err(error) = switch::clean(grounds) {
        tracing::warn!(error = crate::jobs::sentence(&error), "what was there before the restore stays");
    }
}

/// The sections of the source's manifest, or which of the two ways it is missing.
async fn sections(store: &Store, layout: &Layout, name: &BackupName) -> Result<Vec<manifest::Section>, Error> {
    match verify::manifest(store, layout, name).await {
        Err(verify::Error::Absent { node, .. }) => {
            let begun = store.head(&layout.meta(name, "schema.cql")).await?.is_some();
            let name = name.clone();
            Err(if begun { Error::Incomplete { name, node } } else { Error::Absent { name, node } })
        }
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
pub(crate) use {plan::hostile, tokens::of as tokens_of};
