//! The end of grounds that were left running.

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use nix::fcntl::FlockArg;

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

/// Ends every ground of this user that was left running. Blocks until their processes are gone.
pub fn end_all() -> io::Result<Vec<End>> {
    let mut ends = Vec::new();
    let entries = match fs::read_dir(run::base()) {
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
