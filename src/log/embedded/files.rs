//! The files by which processes agree about the private server.

use super::{Error, server};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub(super) const LOCK: &str = "lock";
pub(super) const CLIENTS: &str = "clients";
pub(super) const SERVER: &str = "server.json";
pub(super) const SERVER_LOG: &str = "nats.log";
/// What it prints before it has opened its log.
pub(super) const SERVER_OUTPUT: &str = "nats.out";
pub(super) const SERVER_CONFIG: &str = "nats.conf";
pub(super) const SERVER_PID: &str = "nats.pid";

/// What `server.json` says of a server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its process id.
    pub pid: i32,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// What clients show.
    pub token: String,
}

impl Running {
    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// `server.json` as it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Notice {
    #[serde(default)]
    pub(super) pid: Option<i32>,
    #[serde(default)]
    pub(super) port: Option<u16>,
    pub(super) token: String,
}

/// A held lock on a file (`flock`: it belongs to the open file, not to the process, and goes when its last copy is closed).
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// The whole lock, if nobody has any of it.
    pub(super) fn exclusive(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, File::try_lock)
    }

    /// A share, if nobody has the whole.
    pub(super) fn shared(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, File::try_lock_shared)
    }

    fn take(path: &Path, how: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Option<Self>, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(unwritable(path))?;
        match how(&file) {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(unwritable(path)(source)),
        }
    }

    /// Turns a share into the whole; gives it back when others have shares.
    pub(super) fn into_exclusive(self) -> Option<Self> {
        // Linux gives the share back before it tries: of several that leave at once, the last one succeeds.
        self.0.try_lock().is_ok().then_some(self)
    }

    /// The same open file for a child: the lock lives until both are closed.
    pub(super) fn inherit(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

/// The folder of a private server.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) data: PathBuf,
    pub(super) program: PathBuf,
    path: PathBuf,
}

impl Room {
    pub(super) fn create(data: &Path, program: PathBuf) -> Result<Self, Error> {
        let path = data.join("nats");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(unwritable(&path))?;
        let path = path.canonicalize().map_err(unwritable(&path))?;
        Ok(Self { data: data.to_owned(), program, path })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a server (or somebody who is starting one) holds the lock.
    pub(super) fn is_running(&self) -> bool {
        matches!(Lock::exclusive(&self.file(LOCK)), Ok(None))
    }

    /// What is known of the server, with the server's own files filling what a dead starter left out.
    pub(super) fn running(&self) -> Option<Running> {
        let notice = self.notice()?;
        let pid = notice.pid.or_else(|| fs::read_to_string(self.file(SERVER_PID)).ok()?.trim().parse().ok())?;
        let port = notice.port.or_else(|| server::port_of(self, pid))?;
        Some(Running { pid, port, token: notice.token })
    }

    pub(super) fn notice(&self) -> Option<Notice> {
        serde_json::from_slice(&fs::read(self.file(SERVER)).ok()?).ok()
    }

    /// Replaces a file as a whole, readable by its owner only.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let (path, part) = (self.file(name), self.file(&format!("{name}.part")));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, &path));
        written.map_err(unwritable(&path))
    }

    /// Asks the server to end. False when none runs.
    pub(super) fn begin_end(&self) -> bool {
        self.is_running() && self.signal(Signal::SIGTERM)
    }

    /// Kills what did not end, and forgets it.
    pub(super) fn finish_end(&self) {
        if self.is_running() {
            self.signal(Signal::SIGKILL);
        }
        // The token stays for the next server, so that leftover clients can come back.
        if let Some(notice) = self.notice() {
            let ended = Notice { pid: None, ..notice };
            if let Ok(text) = serde_json::to_vec(&ended) {
                let _ = self.write(SERVER, &text);
            }
        }
        let _ = fs::remove_file(self.file(SERVER_PID));
    }

    /// Whether the server that runs is this process.
    pub(super) fn is_this(&self, pid: i32) -> bool {
        self.is_running() && self.running().is_some_and(|running| running.pid == pid)
    }

    /// Sends a signal to the server if it is this process: another one may have taken its place.
    pub(super) fn signal_if(&self, pid: i32, signal: Signal) -> bool {
        self.is_this(pid) && self.signal(signal)
    }

    /// Only sent while the lock is held, so the process is the one that was noted.
    fn signal(&self, signal: Signal) -> bool {
        self.running()
            .is_some_and(|running| nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid), signal).is_ok())
    }
}

pub(super) fn unwritable(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Error::DiskFull(path.clone())
        } else {
            Error::Unwritable { path: path.clone(), source }
        }
    }
}
