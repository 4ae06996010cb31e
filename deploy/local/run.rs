//! A run folder: where the processes of one ground keep their data and logs, swept away with it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::getuid;

use crate::process::{self, Process};
use crate::remains;

/// How the names of temporary folders begin.
const PREFIX: &str = "run-";
/// What a killed owner left behind is kept this long for a look at its logs.
const KEEP_REMAINS: Duration = Duration::from_secs(3600);

/// The run folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the run folder {} cannot be used (TMPDIR names another place)", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A folder of one ground. Dropped: removed with all in it, unless the thread panics (then its logs are worth a look).
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Run {
    /// A new folder, whose processes end with this process. Sweeps what killed predecessors left behind.
    pub fn temporary() -> Result<Self, Error> {
        Self::create(&base())
    }

    pub(crate) fn create(base: &Path) -> Result<Self, Error> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| Error { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(base).map_err(at(base))?;
        // Held over creating and sweeping, so that a sweeper never meets a folder whose owner has not locked it yet.
        let _base_lock = lock(&base.join("lock"), FlockArg::LockExclusive).map_err(at(base))?;
        sweep(base);
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).map_err(at(base))?.keep();
        let lock = lock(&path.join("lock"), FlockArg::LockExclusiveNonblock).map_err(at(&path))?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes and returns a folder inside.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(|source| Error { path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a file inside and returns its path.
    pub fn file(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(|source| Error { path: path.clone(), source })?;
        Ok(path)
    }

    /// Starts a process whose log is `<name>.log` in this folder.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Process, process::Error> {
        remains::mark(&mut command, &self.path);
        Process::spawn(name, command, &self.path.join(format!("{name}.log")))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remains::end(&self.path, Duration::ZERO);
        if std::thread::panicking() {
            use std::io::Write as _;
            let _ = writeln!(io::stderr(), "the logs of the processes are in {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder of all run folders of this user.
pub(crate) fn base() -> PathBuf {
    std::env::temp_dir().join(format!("stheno-local-{}", getuid()))
}

pub(crate) fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    Flock::lock(file, how).map_err(|(_, error)| error.into())
}

/// Ends what temporary runs left whose owner is gone (its lock went with it), and removes their folders after a while.
pub(crate) fn sweep(base: &Path) {
    let running = remains::all();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let temporary = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !temporary || lock(&path.join("lock"), FlockArg::LockExclusiveNonblock).is_err() {
            continue;
        }
        if running.iter().any(|(_, folder)| *folder == path) {
            remains::end(&path, Duration::ZERO);
        }
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > KEEP_REMAINS) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Ends what killed owners left behind.
pub fn sweep_all() {
    sweep(&base());
    crate::kubelet::network::sweep();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_owner_left_is_ended_by_the_next_run() {
        let base = tempfile::tempdir().unwrap();
        // As a killed owner leaves it: a folder that nobody has locked, and a process that bears its mark.
        let folder = base.path().join("run-left");
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 600 > /dev/null 2>&1 &"]);
        remains::mark(&mut command, &folder);
        assert!(command.status().unwrap().success());
        remains::becomes_a_sleep(&folder);
        let next = Run::create(base.path()).unwrap();
        assert!(remains::of(&folder).is_empty());
        assert!(folder.exists(), "its logs stay for a while");
        drop(next);
    }
}
