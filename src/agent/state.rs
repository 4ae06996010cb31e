//! What must survive a restart of the sidecar: the highest epoch, each operation's phase, snapshots still to be cleared.
//!
//! One JSON file on the data volume, replaced as a whole (written beside, synced, renamed), so that a crash leaves the old
//! one or the new one. A lock keeps a second sidecar off the same volume.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::manifest::Totals;
use crate::purge::Deletion;
use crate::snapshot::Extent;

/// Ended operations that are remembered; the bucket knows the older ones.
const REMEMBERED: usize = 100;

/// Why the state is not safe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The volume does not let us read or write.
    #[error("cannot keep the sidecar's state in {}: check MEDUSA_TMP_DIR and the volume", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else wrote into the file.
    #[error("{} is damaged: move it away to start with nothing remembered", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// Two sidecars on one volume.
    #[error("another sidecar holds {}: only one may run on a data volume", path.display())]
    Held {
        /// The lock.
        path: PathBuf,
    },
}

/// Everything that is remembered.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct State {
    /// The highest epoch of a leader.
    pub epoch: u64,
    /// Operations, oldest first; at most one is not ended.
    pub records: Vec<Record>,
    /// Tags of snapshots that were asked for and are not known to be cleared.
    pub snapshots: BTreeSet<String>,
    /// Parts of backups whose deletion has begun and is not known to have ended.
    #[serde(default)]
    pub deleting: BTreeSet<Deletion>,
}

/// One operation on this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Who asked: a UID, or the backup's name for a client without one.
    pub operation: String,
    /// The latest attempt.
    pub attempt: u32,
    /// The backup's name.
    pub name: String,
    /// Full instead of differential.
    pub full: bool,
    /// When it was accepted, in ms since the Unix epoch.
    pub accepted_ms: i64,
    /// How far it is.
    pub phase: Phase,
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Accepted.
    Starting {
        /// Whether something of it may be in the bucket.
        touched: bool,
    },
    /// schema.cql is in the bucket.
    Uploading {
        /// By the store's clock, in ms.
        started_ms: i64,
        /// What the snapshot held when it was whole; `None` while there is none.
        snapshot: Option<Extent>,
    },
    /// manifest.json and the index are in the bucket.
    Finished {
        /// By the store's clock, in ms.
        started_ms: i64,
        /// By the store's clock, in ms.
        finished_ms: i64,
        /// What it holds.
        totals: Done,
    },
    /// Given up.
    Failed {
        /// By the store's clock, in ms, if it came so far.
        started_ms: Option<i64>,
        /// By our clock, in ms.
        finished_ms: i64,
        /// One sentence.
        reason: String,
        /// Whether another attempt may succeed.
        retryable: bool,
        /// Whether something of it may be in the bucket.
        touched: bool,
    },
}

/// What a finished backup holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files that were in the bucket already.
    pub reused: u64,
}

impl From<Totals> for Done {
    fn from(totals: Totals) -> Self {
        Self { files: totals.objects, bytes: totals.bytes, reused: 0 }
    }
}

impl Phase {
    /// Whether nothing more happens by itself.
    pub fn ended(&self) -> bool {
        match self {
            Self::Starting { .. } | Self::Uploading { .. } => false,
            Self::Finished { .. } | Self::Failed { .. } => true,
        }
    }

    /// Whether something of it may be in the bucket.
    pub fn touched(&self) -> bool {
        match self {
            Self::Starting { touched } | Self::Failed { touched, .. } => *touched,
            Self::Uploading { .. } | Self::Finished { .. } => true,
        }
    }

    /// When schema.cql was written, in ms, if it was.
    pub fn started_ms(&self) -> Option<i64> {
        match self {
            Self::Starting { .. } => None,
            Self::Uploading { started_ms, .. } | Self::Finished { started_ms, .. } => Some(*started_ms),
            Self::Failed { started_ms, .. } => *started_ms,
        }
    }
}

impl State {
    /// The record of an operation.
    pub fn operation(&self, operation: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.operation == operation)
    }

    /// The record of an operation, to change.
    pub fn operation_mut(&mut self, operation: &str) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.operation == operation)
    }

    /// The latest record of a backup's name.
    pub fn named(&self, name: &str) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.name == name)
    }

    /// The one that has not ended.
    pub fn running(&self) -> Option<&Record> {
        self.records.iter().find(|record| !record.phase.ended())
    }

    /// Puts a record last, in place of an earlier one of the same operation, and forgets the oldest ended ones.
    pub fn remember(&mut self, record: Record) {
        self.records.retain(|other| other.operation != record.operation);
        self.records.push(record);
        while self.records.len() > REMEMBERED {
            let Some(oldest) = self.records.iter().position(|record| record.phase.ended()) else {
                break;
            };
            self.records.remove(oldest);
        }
    }
}

/// The folder on the data volume.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder if need be, and holds it until this value is dropped.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let path = dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Held { path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }

    /// The remembered state; nothing when there is no file.
    pub fn load(&self) -> Result<State, Error> {
        self.read("state.json")
    }

    /// Makes a state durable before it returns.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        self.write("state.json", state)
    }

    /// Reads a file of the folder; its default when it is not there.
    pub fn read<T: DeserializeOwned + Default>(&self, file: &str) -> Result<T, Error> {
        let path = self.dir.join(file);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| Error::Damaged { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Replaces a file of the folder as a whole.
    pub fn write(&self, file: &str, content: &impl Serialize) -> Result<(), Error> {
        let path = self.dir.join(file);
        let write = || -> std::io::Result<()> {
            let staged = self.dir.join(format!("{file}.new"));
            let mut output = File::create(&staged)?;
            output.write_all(&serde_json::to_vec(content)?)?;
            output.sync_all()?;
            fs::rename(&staged, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| Error::Io { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(operation: &str, phase: Phase) -> Record {
        Record {
            operation: operation.into(),
            attempt: 1,
            name: format!("n-{operation}"),
            full: false,
            accepted_ms: 1,
            phase,
        }
    }

    fn failed() -> Phase {
        Phase::Failed { started_ms: None, finished_ms: 2, reason: "because".into(), retryable: true, touched: false }
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let phases = [
            Phase::Starting { touched: true },
            Phase::Uploading { started_ms: 1, snapshot: Some(Extent { files: 1, bytes: 2 }) },
            Phase::Finished { started_ms: 1, finished_ms: 2, totals: Done::default() },
            failed(),
        ];
        let mut state = State { epoch: 7, ..State::default() };
        for (at, phase) in phases.into_iter().enumerate() {
            state.remember(record(&at.to_string(), phase));
        }
        state.snapshots.insert("medusa-x".into());
        StateDir::open(dir.path()).unwrap().save(&state).unwrap();
        let back = StateDir::open(dir.path()).unwrap().load().unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&state).unwrap());
    }

    #[test]
    fn a_second_sidecar_is_refused_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(Error::Held { .. })));
        fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(matches!(held.load(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn the_oldest_ended_ones_are_forgotten_never_a_running_one() {
        let mut state = State::default();
        state.remember(record("running", Phase::Starting { touched: false }));
        for at in 0..2 * REMEMBERED {
            state.remember(record(&at.to_string(), failed()));
        }
        assert_eq!(state.records.len(), REMEMBERED);
        assert_eq!(state.running().unwrap().operation, "running");
        assert_eq!(state.records.last().unwrap().operation, (2 * REMEMBERED - 1).to_string());
    }
}
