//! An S3 server over a folder: a bucket is a sub-folder, an object a file in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::ports::Port;
use crate::provision::Part;
use crate::run::Run;
use crate::service::{self, Service};

pub use crate::service::Error;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It keeps its port and objects over [`S3::kill`] and [`S3::start`].
#[derive(Debug)]
pub struct S3 {
    service: Service,
    program: PathBuf,
    folder: PathBuf,
    metadata: PathBuf,
    port: Port,
    run: Arc<Run>,
}

impl S3 {
    /// The access key, which may do everything.
    pub const ACCESS_KEY: &'static str = "stheno";
    /// The secret of [`S3::ACCESS_KEY`].
    pub const SECRET_KEY: &'static str = "stheno-secret";
    /// The region to sign for.
    pub const REGION: &'static str = "us-east-1";

    /// Starts a server without buckets.
    pub async fn launch(run: Arc<Run>) -> Result<Self, Error> {
        let program = service::program(Part::S3).await?;
        let (folder, metadata) = (run.folder("s3")?, run.folder("metadata-of-s3")?);
        let service = Service::new(run.clone(), "versitygw");
        let mut server = Self { service, program, folder, metadata, port: Port::take()?, run };
        server.start().await?;
        Ok(server)
    }

    /// The endpoint, for path-style requests over plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The address of [`S3::url`].
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Makes a bucket (three characters or more) and returns the folder with its objects.
    pub fn create_bucket(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.run.folder(&format!("s3/{name}"))?)
    }

    /// The folder with a sub-folder for each bucket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts it (again) and waits until it accepts connections.
    pub async fn start(&mut self) -> Result<(), Error> {
        let mut command = Command::new(&self.program);
        command.env("ROOT_ACCESS_KEY", Self::ACCESS_KEY).env("ROOT_SECRET_KEY", Self::SECRET_KEY);
        command.args(["--port", &self.port.address().to_string(), "--region", Self::REGION, "posix", "--sidecar"]);
        // Beside the objects, for not every file system has extended attributes.
        command.arg(&self.metadata).arg(&self.folder);
        let address = self.port.address();
        self.service.start(command, "accepting connections", PATIENCE, async || service::accepts(address).await).await
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.service.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }
}
