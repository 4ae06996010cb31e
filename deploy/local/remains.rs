//! The processes of a run, found by a mark in their environment: also those that a child started and left behind, and
//! those of an owner that was killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Descendants inherit it, whatever process group or session they make for themselves.
const MARK: &str = "STHENO_LOCAL_RUN";
const LOOK: Duration = Duration::from_millis(10);

/// Marks a process to be as one of the run in `folder`.
pub(crate) fn mark(command: &mut Command, folder: &Path) {
    command.env(MARK, folder);
}

/// All processes that belong to any run, with its folder; zombies left out.
pub(crate) fn all() -> Vec<(Pid, PathBuf)> {
    let mark = [MARK.as_bytes(), b"="].concat();
    let marked = |entry: fs::DirEntry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        // A zombie has no environment any more, and that of another user's process cannot be read.
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let folder =
            environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(mark.as_slice()))?;
        Some((Pid::from_raw(id), PathBuf::from(OsStr::from_bytes(folder))))
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(marked).collect()
}

/// The processes of the run in `folder`.
pub(crate) fn of(folder: &Path) -> Vec<Pid> {
    all().into_iter().filter(|(_, of)| of == folder).map(|(process, _)| process).collect()
}

/// SIGKILL for the processes of the run that also bear another mark; returns when none is left.
pub(crate) fn end_marked(mark: &str, folder: &Path) {
    let mark = [mark.as_bytes(), b"="].concat();
    let marked = |process: &Pid| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(&mark))
    };
    loop {
        let left: Vec<Pid> = of(folder).into_iter().filter(marked).collect();
        if left.is_empty() {
            return;
        }
        for process in left {
            let _ = kill(process, Signal::SIGKILL);
        }
        sleep(LOOK);
    }
}

/// SIGTERM for each process of the run, SIGKILL for those that are there after `grace`; returns when none is, with the
/// number of those that there were.
pub(crate) fn end(folder: &Path, grace: Duration) -> usize {
    let mut left = surely(folder);
    let found = left.len();
    let mut waited = Duration::ZERO;
    let mut signal = if grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM };
    while !left.is_empty() {
        for process in &left {
            // It may have ended since: then there is nobody to tell.
            let _ = kill(*process, signal);
        }
        sleep(LOOK);
        waited += LOOK;
        if waited >= grace {
            signal = Signal::SIGKILL;
        }
        left = surely(folder);
    }
    found
}

/// The processes of a run, looked for twice: one that becomes another program at that very moment has no environment.
fn surely(folder: &Path) -> Vec<Pid> {
    let mut found = of(folder);
    if found.is_empty() {
        sleep(LOOK);
        found = of(folder);
    }
    found
}

/// Waits for the one process of a run to be what it was started for: while it becomes that, it has no environment.
#[cfg(test)]
pub(crate) fn becomes_a_sleep(folder: &Path) {
    let is = |process: &Pid| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == "sleep\n");
    for _ in 0..500 {
        if let [one] = of(folder).as_slice()
            && is(one)
        {
            return;
        }
        sleep(LOOK);
    }
    assert_eq!(of(folder).len(), 1, "the process is there");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grandchild_in_another_group_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // Its own session, and the shell that started it is gone.
        command.args(["-c", "setsid sleep 600 > /dev/null 2>&1 &"]);
        mark(&mut command, folder.path());
        assert!(command.status().unwrap().success());
        becomes_a_sleep(folder.path());
        assert_eq!(end(folder.path(), Duration::from_secs(5)), 1);
        assert!(of(folder.path()).is_empty());
    }
}
