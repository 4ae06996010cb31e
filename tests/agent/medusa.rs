//! Medusa itself, from PyPI, in an environment of its own in the cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::fcntl::{Flock, FlockArg};
use stheno_local::provision::cache_folder;

const PACKAGES: [&str; 4] =
    ["cassandra-medusa==0.31.0", "grpcio==1.81.0", "grpcio-health-checking==1.81.0", "protobuf==6.33.6"];

/// The folder of the environment's programs, made on first use.
fn programs() -> PathBuf {
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

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    output
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs the command line; what it said. Fails unless it succeeds and logs no error.
pub(crate) async fn cli(ini: &Path, arguments: &[&str]) -> String {
    let (succeeded, said) = attempt(ini, arguments).await;
    assert!(succeeded, "medusa {arguments:?} failed:\n{said}");
    for word in ["ERROR", "Traceback", "Failed"] {
        assert!(!said.contains(word), "medusa {arguments:?} complains:\n{said}");
    }
    said
}

/// Runs the command line; whether it succeeded, and what it said.
pub(crate) async fn attempt(ini: &Path, arguments: &[&str]) -> (bool, String) {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let ini = ini.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(programs().join("medusa"));
        command.arg("--config-file").arg(&ini).args(&arguments).output().unwrap()
    });
    let output = output.await.unwrap();
    (output.status.success(), said(&output))
}

/// Runs a Python program with Medusa's client in reach; its standard output.
pub(crate) async fn python(program: &str, arguments: &[&str]) -> String {
    let (program, arguments) = (program.to_owned(), arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(move || {
        run(Command::new(programs().join("python")).arg("-c").arg(program).args(arguments))
    });
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}
