//! What every part of the ground begins with: its program, ports, the run folder, and a process that can be killed and
//! started again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::ports;
use crate::process::{self, Process};
use crate::provision::{self, Part};
use crate::run::{self, Run};

/// Why a part does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its program is not there and could not be built.
    #[error(transparent)]
    Provision(#[from] provision::Error),
    /// No Java 17.
    #[error(transparent)]
    Java(#[from] provision::ToolchainError),
    /// No port or address is free.
    #[error(transparent)]
    Port(#[from] ports::Error),
    /// The run folder cannot be used.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// Its process did not start or did not become ready.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// It was asked for something while it does not run.
    #[error("{0} is not running: start it first")]
    Stopped(String),
}

/// The program of one part, built when it is not there.
pub(crate) async fn program(part: Part) -> Result<PathBuf, Error> {
    Ok(provision::ensure(&[part]).await?.path(part)?.to_owned())
}

/// Whether something listens there.
pub(crate) async fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// A process under one name in a run folder: it keeps its log over its lives. Dropped: killed.
#[derive(Debug)]
pub(crate) struct Service {
    process: Option<Process>,
    name: String,
    run: Arc<Run>,
}

impl Service {
    pub(crate) fn new(run: Arc<Run>, name: &str) -> Self {
        Self { process: None, name: name.to_owned(), run }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it and waits until `probe` says yes. Nothing happens when it runs.
    pub(crate) async fn start(
        &mut self,
        command: Command,
        what: &str,
        patience: Duration,
        probe: impl AsyncFnMut() -> bool,
    ) -> Result<(), Error> {
        if self.process.is_none() {
            let mut process = self.run.spawn(&self.name, command)?;
            process.until(what, patience, probe).await?;
            self.process = Some(process);
        }
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for the end; SIGKILL after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        if let Some(mut process) = self.process.take() {
            process.stop(grace).await;
        }
    }

    /// The process, when it runs.
    pub(crate) fn running(&mut self) -> Result<&mut Process, Error> {
        self.process.as_mut().ok_or_else(|| Error::Stopped(self.name.clone()))
    }
}
