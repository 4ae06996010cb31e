//! The end of grounds that were left running.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use nix::fcntl::FlockArg;

use crate::kubelet::network;
use crate::{remains, run};

/// How the names of their folders begin.
pub(crate) const PREFIX: &str = "kept-";
const GRACE: Duration = Duration::from_secs(10);

/// What became of a ground.
#[derive(Debug)]
pub enum End {
    /// Its processes were ended and its folder removed.
    Ended {
        /// The folder.
        folder: PathBuf,
        /// How many processes it still had.
        processes: usize,
    },
    /// The command that makes it is still at work: Ctrl-C there ends it.
    InUse(PathBuf),
}

/// Ends every ground of this user that was left running, and what killed ones left. Blocks until their processes are gone.
pub fn end_all() -> io::Result<Vec<End>> {
    run::sweep(&run::base());
    network::sweep();
    end_all_in(&run::base())
}

fn end_all_in(base: &Path) -> io::Result<Vec<End>> {
    let mut ends = Vec::new();
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ends),
        read => read?,
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let folder = entry.path();
        ends.push(match run::lock(&folder.join("lock"), FlockArg::LockExclusiveNonblock) {
            Ok(_lock) => {
                let processes = remains::end(&folder, GRACE);
                fs::remove_dir_all(&folder)?;
                End::Ended { folder, processes }
            }
            Err(_) => End::InUse(folder),
        });
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::run::Run;

    #[test]
    fn a_kept_run_outlives_its_handles_until_it_is_ended() {
        let base = tempfile::tempdir().unwrap();
        assert!(end_all_in(&base.path().join("nowhere")).unwrap().is_empty());
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("600");
            command
        };
        let run = Run::create(base.path(), PREFIX, Some(std::sync::Arc::default())).unwrap();
        let folder = run.path().to_owned();
        let process = run.spawn("sleep", sleep()).unwrap();
        assert!(matches!(end_all_in(base.path()).unwrap()[..], [End::InUse(_)]));
        run.keep();
        drop((process, run));
        assert_eq!(remains::of(&folder).len(), 1);
        assert!(matches!(end_all_in(base.path()).unwrap()[..], [End::Ended { processes: 1, .. }]));
        assert!(remains::of(&folder).is_empty() && !folder.exists());

        // Not kept: ended with its handles.
        let run = Run::create(base.path(), PREFIX, Some(std::sync::Arc::default())).unwrap();
        let folder = run.path().to_owned();
        drop((run.spawn("sleep", sleep()).unwrap(), run));
        assert!(remains::of(&folder).is_empty() && !folder.exists());
    }

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
        assert_eq!(remains::of(&folder).len(), 1);
        let next = Run::create(base.path(), "run-", None).unwrap();
        assert!(remains::of(&folder).is_empty());
        assert!(folder.exists(), "its logs stay for a while");
        drop(next);
    }
}
