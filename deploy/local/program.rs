//! The `stheno` program that the quickstart shows, and `up` on request: given, or built by Cargo beside this one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stheno_local::process::{self, Process};
use stheno_local::progress::Step;

/// The program at that path.
pub(crate) fn given(program: &Path) -> anyhow::Result<PathBuf> {
    if !program.is_file() {
        bail!("there is no program {}: --stheno names the stheno to show", program.display());
    }
    program.canonicalize().context("the program's path cannot be read")
}

/// The program at `path`, else the one that Cargo builds in the workspace that runs us.
pub(crate) async fn find(path: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(program) = path {
        return given(&program);
    }
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let folder = own.parent().context("this program lies in no folder")?;
    let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") else {
        bail!("which stheno to show is not known: run `cargo quickstart` in the repository, or give --stheno PROGRAM");
    };
    build(Path::new(&package), folder).await?;
    Ok(folder.join("stheno"))
}

async fn build(package: &Path, folder: &Path) -> anyhow::Result<()> {
    let step = Step::begin("building stheno", "usually 3 minutes on two cores the first time, else seconds");
    let log = tempfile::Builder::new().prefix("stheno-build-").suffix(".log").tempfile()?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(package).args(["build", "--package", "stheno", "--bin", "stheno"]);
    // What `cargo run` tells us about ourselves would look to build scripts (ring's) like a change of theirs, and half of
    // the dependencies would be built again.
    let about_us =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about_us)) {
        command.env_remove(name);
    }
    command.env_remove("CARGO").env_remove("CARGO_CRATE_NAME").env_remove("CARGO_PRIMARY_PACKAGE");
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let mut cargo = Process::spawn("cargo", command, log.path())?;
    let status = loop {
        if let Some(status) = cargo.ended() {
            break status;
        }
        step.detail(&process::tail(log.path(), 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    if !status.success() {
        bail!("building stheno failed ({status}):\n{}", process::tail(log.path(), 40));
    }
    step.done();
    Ok(())
}
