//! A Python environment with Medusa in it, from PyPI, in the cache folder.

use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use stheno_local::provision::cache_folder;

const PACKAGES: [&str; 4] =
    ["cassandra-medusa==0.31.0", "grpcio==1.81.0", "grpcio-health-checking==1.81.0", "protobuf==6.33.6"];

/// The folder of the environment's programs, made on first use.
pub(crate) fn programs() -> PathBuf {
    let cache = cache_folder().unwrap();
    let home = cache.join("medusa-0.31.0");
    let done = home.join("complete");
    std::fs::create_dir_all(&cache).unwrap();
    let lock = std::fs::File::create(cache.join("medusa.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    if !done.is_file() {
        // What a killed predecessor left is no environment.
        let _ = std::fs::remove_dir_all(&home);
        let python = ["python3.12", "python3.11", "python3"].into_iter().find(|name| fits(name));
        let python = python.expect("Medusa 0.31 needs Python 3.11 or 3.12 on PATH");
        run(Command::new(python).args(["-m", "venv"]).arg(&home));
        run(Command::new(home.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES));
        std::fs::write(&done, "").unwrap();
    }
    home.join("bin")
}

fn fits(python: &str) -> bool {
    let check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))";
    Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success())
}

/// Runs a program that must succeed; its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{command:?}: {}", said.concat());
    let [stdout, _] = said;
    stdout
}
