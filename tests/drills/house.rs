//! What a drill is done to: a datacenter of one real node with its sidecar, operators, and their log.

use super::operators::{Place, Seat};
use crate::operator::ground::Ground;
use crate::support::agent::Agent;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stheno_local::cassandra::Cassandra;
use stheno_local::control_plane::ControlPlane;
use stheno_local::nats::Cluster;
use stheno_local::provision::{self, Part};
use stheno_local::run::Run;
use stheno_local::testing;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Few at a time: a drill that shares two processors with many others tries their patience, not ours.
static TURN: Semaphore = Semaphore::const_new(3);
static CASSANDRA: OnceCell<Cassandra> = OnceCell::const_new();

/// The node of all drills: their backups have names of their own.
pub async fn cassandra() -> &'static Cassandra {
    CASSANDRA.get_or_init(async || testing::cassandra().await.unwrap()).await
}

pub struct House {
    pub ground: Ground,
    pub agent: Agent,
    pub operators: Vec<Seat>,
    /// The private server's folder, where the log is private. It stays for a look when a drill fails.
    pub data: Option<Run>,
    /// The servers, where there are three.
    pub cluster: Option<Cluster>,
    /// When the sidecar and the server come back.
    pub agent_back: Option<Instant>,
    pub server_back: Option<Instant>,
    _turn: SemaphorePermit<'static>,
}

impl House {
    /// Two operators that stand for election, with the log on a server that all can reach.
    pub async fn shared(name: &str) -> Self {
        let mut house = Self::empty(name).await;
        let place = Place::Url(house.ground.nats.url());
        for number in 1..=2 {
            let seat = Seat::new(&format!("operator-{number}"), &house.ground, &place);
            house.operators.push(seat);
        }
        house
    }

    /// One operator with a private log.
    pub async fn private(name: &str) -> Self {
        let mut house = Self::empty(name).await;
        let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
        let data = Run::temporary().unwrap();
        let place = Place::Private(data.path().to_owned(), parts.path(Part::NatsServer).unwrap().to_owned());
        house.operators.push(Seat::new("operator", &house.ground, &place));
        house.data = Some(data);
        house
    }

    /// One operator that stands for election, with the log on a server of its own.
    pub async fn simple(name: &str) -> Self {
        let mut house = Self::empty(name).await;
        let place = Place::Url(house.ground.nats.url());
        house.operators.push(Seat::new("operator", &house.ground, &place));
        house
    }

    /// Two operators, and three servers that keep three copies of the log.
    pub async fn replicated(name: &str) -> Self {
        let mut house = Self::empty(name).await;
        let cluster = testing::nats_cluster().await.unwrap();
        let place = Place::Url(cluster.url());
        for number in 1..=2 {
            let seat = Seat::new(&format!("operator-{number}"), &house.ground, &place);
            house.operators.push(seat);
        }
        house.cluster = Some(cluster);
        house
    }

    /// Without operators.
    pub async fn empty(name: &str) -> Self {
        let turn = TURN.acquire().await.unwrap();
        let ground = Ground::new(&format!("drill-{name}")).await;
        Self::around(ground, turn).await
    }

    /// As [`House::simple`], on an API server of the drill's own.
    pub async fn on(plane: &ControlPlane, name: &str) -> Self {
        let turn = TURN.acquire().await.unwrap();
        let mut house = Self::around(Ground::on(plane, name).await, turn).await;
        let place = Place::Url(house.ground.nats.url());
        house.operators.push(Seat::new("operator", &house.ground, &place));
        house
    }

    async fn around(ground: Ground, turn: SemaphorePermit<'static>) -> Self {
        let agent = Agent::launch(cassandra().await).await;
        ground.datacenter_at("dc1", &[agent.port.number()]).await;
        let (data, cluster, agent_back, server_back) = (None, None, None, None);
        Self { ground, agent, operators: Vec::new(), data, cluster, agent_back, server_back, _turn: turn }
    }

    /// SIGKILL for the sidecar.
    pub fn kill_agent(&mut self, away: Duration) {
        self.agent.kill();
        self.agent_back = Some(Instant::now() + away);
    }

    /// SIGKILL for the NATS server. A private one is started again by its operator.
    pub fn kill_server(&mut self, away: Duration) -> bool {
        match &self.data {
            None => {
                self.ground.nats.kill();
                self.server_back = Some(Instant::now() + away);
                true
            }
            Some(data) => kill_private(data.path()),
        }
    }

    /// Brings back what is due.
    pub async fn tend(&mut self) {
        let now = Instant::now();
        if self.server_back.take_if(|back| *back <= now).is_some() {
            self.ground.nats.start().await.unwrap();
        }
        if self.agent_back.take_if(|back| *back <= now).is_some() {
            self.agent.start().await;
        }
        assert!(self.agent_back.is_some() || self.agent.runs(), "the sidecar ended by itself:\n{}", self.agent.log());
        for operator in &mut self.operators {
            operator.tend();
        }
    }

    /// Brings back everything now.
    pub async fn all_back(&mut self) {
        let now = Instant::now();
        self.server_back = self.server_back.map(|_| now);
        self.agent_back = self.agent_back.map(|_| now);
        self.tend().await;
        for operator in &mut self.operators {
            operator.back_now();
        }
    }

    /// `stheno` on this house's log: whether it succeeded, and what it said on both outputs.
    pub async fn stheno(&self, arguments: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
        command.args(arguments);
        match (&self.data, &self.cluster) {
            (None, None) => command.args(["--nats-url", &self.ground.nats.url()]),
            (None, Some(cluster)) => command.args(["--nats-url", &cluster.url()]),
            (Some(data), _) => {
                let parts = provision::ensure(&[Part::NatsServer]).await.unwrap();
                command.env("STHENO_NATS_SERVER", parts.path(Part::NatsServer).unwrap());
                command.arg("--data-dir").arg(data.path())
            }
        };
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// The whole log in a file.
    pub async fn export(&self, folder: &Path) -> PathBuf {
        let path = folder.join("log.stheno");
        let (good, _, error) = self.stheno(&["audit", "export", "--force", path.to_str().unwrap()]).await;
        assert!(good, "{error}");
        path
    }
}

/// SIGKILL for a private server, if one runs: its pid is in its notice.
fn kill_private(data: &Path) -> bool {
    let Ok(notice) = std::fs::read(data.join("nats/server.json")) else { return false };
    let Ok(notice) = serde_json::from_slice::<serde_json::Value>(&notice) else { return false };
    let Some(pid) = notice["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()) else { return false };
    // A pid that was given to somebody else meanwhile is left alone.
    let theirs = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    theirs.contains(data.to_str().unwrap())
        && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_ok()
}
