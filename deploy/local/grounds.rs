//! The grounds of this user that go on in the background: their names, where they are, and their end.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cluster::Server;
use crate::stheno::Sidecar;
use crate::{remains, run};

const LOOK: Duration = Duration::from_millis(50);
/// How long a ground may take to end in order.
const GRACE: Duration = Duration::from_secs(60);

/// Why a ground cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No ground of that name.
    #[error("there is no ground named {0}: `stheno-local up --name {0}` makes it")]
    Absent(String),
    /// One of that name exists.
    #[error("a ground named {0} is there already: `stheno-local down {0}` ends it, or choose another --name")]
    InUse(String),
    /// A name that makes no file name.
    #[error("`{0}` is no name for a ground: use letters, digits and dashes")]
    Name(String),
    /// The folder of grounds cannot be used.
    #[error("{} cannot be used (TMPDIR names another place)", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is known of a ground that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ground {
    /// Its name.
    pub name: String,
    /// The process that holds it.
    pub holder: i32,
    /// Its run folder.
    pub run: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The folder of the pods' logs.
    pub pod_logs: PathBuf,
    /// Names and ids of its processes beside the pods.
    pub processes: Vec<(String, u32)>,
    /// The version of Cassandra.
    pub server: Server,
    /// Whether cass-operator and probes are quicker than in a cluster.
    pub hurried: bool,
    /// Of Stheno, when it runs there.
    pub stheno: Option<SthenoPlaces>,
}

/// Where Stheno keeps what it has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SthenoPlaces {
    /// The operator's data: its log.
    pub data_dir: PathBuf,
    /// How its sidecar stands in pods, and where it writes backups.
    pub sidecar: Sidecar,
}

/// The right to hold the ground of a name. Dropped: the ground is known no more.
#[derive(Debug)]
pub struct Claim {
    name: String,
    _lock: Flock<File>,
}

fn file(name: &str, kind: &str) -> PathBuf {
    run::base().join("grounds").join(format!("{name}.{kind}"))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { path, source }
}

/// Where the process that holds the ground says what it does.
pub fn log(name: &str) -> Result<PathBuf, Error> {
    let log = file(checked(name)?, "log");
    let folder = log.parent().unwrap_or(&log);
    fs::create_dir_all(folder).map_err(at(folder))?;
    Ok(log)
}

fn checked(name: &str) -> Result<&str, Error> {
    let fine = !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if fine { Ok(name) } else { Err(Error::Name(name.to_owned())) }
}

impl Claim {
    /// Takes a name that nobody holds.
    pub fn take(name: &str) -> Result<Self, Error> {
        let path = file(checked(name)?, "lock");
        log(name)?;
        match run::lock(&path, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                let _ = fs::remove_file(file(name, "json"));
                Ok(Self { name: name.to_owned(), _lock: lock })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::InUse(name.to_owned())),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Makes the ground known under its name.
    pub fn publish(&self, ground: &Ground) -> Result<(), Error> {
        let path = file(&self.name, "json");
        let new = file(&self.name, "new");
        let text = serde_json::to_string_pretty(ground).map_err(io::Error::from).map_err(at(&path))?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(at(&path))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(file(&self.name, "json"));
    }
}

/// Whether somebody holds that name, ready or not.
pub fn is_held(name: &str) -> bool {
    // A probe with a shared lock hinders no other probe.
    let probe = File::open(file(name, "lock")).map(|file| Flock::lock(file, FlockArg::LockSharedNonblock));
    matches!(probe, Ok(Err(_)))
}

/// The ground of that name, when it is ready.
pub fn find(name: &str) -> Result<Ground, Error> {
    let path = file(checked(name)?, "json");
    let text = fs::read_to_string(path).ok().filter(|_| is_held(name));
    text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| Error::Absent(name.to_owned()))
}

/// All grounds that are ready, by name.
pub fn all() -> Vec<Ground> {
    let entries = fs::read_dir(run::base().join("grounds")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.iter().filter_map(|name| find(name).ok()).collect()
}

/// Ends a ground in order and returns when nothing of it runs; blocks.
pub fn end(ground: &Ground) {
    let holder = Pid::from_raw(ground.holder);
    let mut waited = Duration::ZERO;
    // An error means that it has ended.
    let _ = kill(holder, Signal::SIGTERM);
    while is_held(&ground.name) {
        if waited > GRACE {
            let _ = kill(holder, Signal::SIGKILL);
        }
        sleep(LOOK);
        waited += LOOK;
    }
    remains::end(&ground.run, Duration::ZERO);
    let _ = fs::remove_dir_all(&ground.run);
}

/// Resident memory of the ground's processes in KiB: those beside the pods by name, those of pods together as `pods`.
pub fn memory(ground: &Ground) -> Vec<(String, u64)> {
    let resident = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::trim).map(str::to_owned);
        line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let mut memory: Vec<(String, u64)> =
        ground.processes.iter().map(|(name, id)| (name.clone(), resident(*id))).collect();
    let known: Vec<u32> = ground.processes.iter().map(|(_, id)| *id).collect();
    let others = remains::of(&ground.run).into_iter().map(|id| id.as_raw().unsigned_abs());
    memory.push(("pods".to_owned(), others.filter(|id| !known.contains(id)).map(resident).sum()));
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_by_one() {
        let name = format!("test-{}", std::process::id());
        let claim = Claim::take(&name).unwrap();
        assert!(is_held(&name));
        assert!(Claim::take(&name).unwrap_err().to_string().contains("is there already"));
        assert!(matches!(find(&name), Err(Error::Absent(_))), "held, and not ready");
        let ground = Ground {
            name: name.clone(),
            holder: 0,
            run: PathBuf::new(),
            kubeconfig: PathBuf::new(),
            pod_logs: PathBuf::new(),
            processes: Vec::new(),
            server: Server::Cassandra41,
            hurried: false,
            stheno: None,
        };
        claim.publish(&ground).unwrap();
        assert_eq!(find(&name).unwrap().name, name);
        drop(claim);
        assert!(!is_held(&name) && find(&name).is_err());
        assert!(matches!(find("../x"), Err(Error::Name(_))));
        for kind in ["lock", "log"] {
            let _ = fs::remove_file(file(&name, kind));
        }
    }
}
