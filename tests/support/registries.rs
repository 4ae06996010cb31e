//! What tests take from PyPI, Maven and npm: in the cache folder of the ground, made once by whoever comes first.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use stheno_local::provision::{cache_folder, java_home};

const MEDUSA: [&str; 4] =
    ["cassandra-medusa==0.31.0", "grpcio==1.81.0", "grpcio-health-checking==1.81.0", "protobuf==6.33.6"];

/// The folder of that name in the cache, made if it is not complete: what a killed predecessor left is not.
pub fn cached(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    cached_in(&cache_folder().unwrap(), name, make)
}

fn cached_in(cache: &Path, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let (home, locks) = (cache.join(name), cache.join("locks"));
    fs::create_dir_all(&locks).unwrap();
    let lock = File::create(locks.join(name)).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let complete = home.join("complete");
    if !complete.is_file() {
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        make(&home);
        fs::write(complete, "").unwrap();
    }
    home
}

/// The folder of programs of a Python environment with these packages.
pub fn python<'a>(name: &str, packages: impl IntoIterator<Item = &'a str>) -> PathBuf {
    let home = cached(name, |home| {
        let python = ["python3.12", "python3.11", "python3"].into_iter().find(|python| fits(python));
        let python = python.expect("the tests need Python 3.11 or 3.12 on PATH");
        run(Command::new(python).args(["-m", "venv"]).arg(home));
        let pip = ["install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(home.join("bin/pip")).args(pip).args(packages));
    });
    home.join("bin")
}

/// Whether Medusa 0.31 runs on it.
fn fits(python: &str) -> bool {
    let check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))";
    Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success())
}

/// The folder of programs of an environment with Medusa in it.
pub fn medusa() -> PathBuf {
    python("medusa-0.31.0", MEDUSA)
}

/// A jar from Maven, by its coordinates, and the folder and the name that it gets.
pub fn jar(coordinates: &str, folder: &str, name: &str) -> PathBuf {
    let home = cached(folder, |home| {
        let mut maven = Command::new("mvn");
        maven.env("JAVA_HOME", java_home("Maven").unwrap()).current_dir(home);
        maven.args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", "-DoutputDirectory=."]);
        run(maven.arg(format!("-Dartifact={coordinates}")));
    });
    home.join(name)
}

/// Runs a program that must succeed; its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{command:?}: {}", said.concat());
    let [stdout, _] = said;
    stdout
}

#[test]
fn what_was_not_finished_is_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let killed = std::panic::catch_unwind(|| {
        cached_in(cache.path(), "it-1.0", |home| {
            fs::write(home.join("half"), "").unwrap();
            panic!("the process is killed, say");
        })
    });
    assert!(killed.is_err());
    let home = cached_in(cache.path(), "it-1.0", |home| fs::write(home.join("whole"), "").unwrap());
    assert!(home.join("whole").is_file() && !home.join("half").exists());
    let again = cached_in(cache.path(), "it-1.0", |_| panic!("it was complete"));
    assert_eq!(again, home);
    assert!(home.join("whole").is_file());
}
