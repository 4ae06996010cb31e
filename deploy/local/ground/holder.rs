//! The process that holds a ground, as the command that starts it sees it.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stheno_local::grounds::{self, Ground};
use stheno_local::process::tail;
use tokio::time::sleep;

use super::HoldOptions;

const LOOK: Duration = Duration::from_millis(100);
/// What tells the holder that it is to go on without us.
pub(super) const GO_ON: &str = "go on";

/// A holder that ends with this value, and also when our process is killed, unless it was told to go on.
pub(crate) struct Holder {
    child: Option<Child>,
    name: String,
    log: PathBuf,
}

impl Holder {
    /// Starts a holder for a name that nobody holds.
    pub(crate) fn start(options: &HoldOptions) -> anyhow::Result<Self> {
        anyhow::ensure!(!grounds::is_held(&options.name), grounds::Error::InUse(options.name.clone()));
        let log = grounds::log(&options.name)?;
        let child = spawn(options, &log)?;
        Ok(Self { child: Some(child), name: options.name.clone(), log })
    }

    /// Returns when the ground is ready.
    pub(crate) async fn ground(&mut self) -> anyhow::Result<Ground> {
        loop {
            if let Ok(ground) = grounds::find(&self.name) {
                return Ok(ground);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                let said = tail(&self.log, 20);
                // A refusal is one sentence, and needs no introduction.
                match said.lines().last().and_then(|last| last.strip_prefix("stheno-local: ")) {
                    Some(refusal) => anyhow::bail!("{refusal}"),
                    None => anyhow::bail!("the ground ended while it was made ({status}):\n{said}"),
                }
            }
            sleep(LOOK).await;
        }
    }

    /// From now on it goes on by itself.
    pub(crate) fn release(mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(mut stdin) = child.stdin.take()
        {
            writeln!(stdin, "{GO_ON}").context("the process that holds the ground cannot be told to go on")?;
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

fn spawn(options: &HoldOptions, log: &Path) -> anyhow::Result<Child> {
    let output = std::fs::File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("this program is not to be found")?);
    command.args(["hold", "--name", &options.name, "--server", &named(&options.server)]);
    command.args(["--isolation", &named(&options.isolation)]);
    if options.hurried {
        command.arg("--hurried");
    }
    if let Some(program) = &options.stheno {
        command.arg("--stheno").arg(program);
    }
    // A group of its own: Ctrl-C in this terminal later on is not meant for it.
    command.process_group(0).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
    command.spawn().context("the process that holds the ground could not be started")
}

/// A value as the command line says it.
fn named(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
