//! SIGKILL at random moments, while backups run one after another.
//!
//! `STHENO_DRILL_SEED` repeats a run's plan (as far as processes repeat themselves), `STHENO_DRILL_SECONDS` says how long
//! the blows last.

use super::house::{House, cassandra};
use super::truth;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A job must be terminal this long after the last blow.
const BOUND: Duration = Duration::from_secs(180);
/// Jobs that may be open at one time: most run alone, some wait behind another one.
const OPEN: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    KillAgent,
    KillServer,
    KillOperator,
    PauseOperator,
    StopOperator,
    KillAll,
}

struct Drill {
    house: House,
    rng: StdRng,
    session: Session,
    blows: BTreeMap<Blow, u32>,
    jobs: Vec<String>,
    rows: i32,
}

impl Drill {
    async fn new(house: House) -> Self {
        let seed = std::env::var("STHENO_DRILL_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        println!("{}: STHENO_DRILL_SEED={seed}", house.ground.namespace);
        let session = SessionBuilder::new().known_node_addr(cassandra().await.cql()).build().await.unwrap();
        for statement in [
            "CREATE KEYSPACE IF NOT EXISTS drill WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}",
            "CREATE TABLE IF NOT EXISTS drill.rows (id int PRIMARY KEY, noise blob)",
        ] {
            session.query_unpaged(statement, ()).await.unwrap();
        }
        let rng = StdRng::seed_from_u64(seed);
        Self { house, rng, session, blows: BTreeMap::new(), jobs: Vec::new(), rows: 0 }
    }

    /// Blows fall for this long; afterwards everything is let be until the last job has ended.
    async fn run(&mut self, lasting: Duration) {
        for operator in &mut self.house.operators {
            operator.start();
        }
        let end = Instant::now() + lasting;
        let mut next = Instant::now() + Duration::from_secs(3);
        let mut open = Vec::new();
        while Instant::now() < end {
            self.house.tend().await;
            open = self.still_open(open).await;
            let room = open.is_empty() || (open.len() < OPEN && self.rng.random_bool(0.01));
            if room {
                open.push(self.job().await);
                // Much happens in the first seconds of a backup.
                if self.rng.random_bool(0.6) {
                    next = next.min(Instant::now() + Duration::from_millis(self.rng.random_range(0..4_000)));
                }
            }
            if next <= Instant::now() {
                self.blow().await;
                next = Instant::now() + Duration::from_millis(self.rng.random_range(200..10_000));
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.house.all_back().await;
        let deadline = Instant::now() + BOUND;
        while !open.is_empty() {
            self.house.tend().await;
            open = self.still_open(open).await;
            assert!(Instant::now() < deadline, "not ended {} s after the last blow: {open:?}", BOUND.as_secs());
            sleep(Duration::from_millis(50)).await;
        }
        println!("{}: {} backups under {:?}", self.house.ground.namespace, self.jobs.len(), self.blows);
    }

    /// A job on a node that has something new.
    async fn job(&mut self) -> String {
        for id in self.rows..self.rows + 20 {
            let noise: Vec<u8> = (0..2_000).map(|_| self.rng.random()).collect();
            self.session.query_unpaged("INSERT INTO drill.rows (id, noise) VALUES (?, ?)", (id, noise)).await.unwrap();
        }
        // The same rows come again, so that an hour does not fill a disk.
        self.rows = (self.rows + 20) % 2_000;
        let name = format!("{}-{:04}", self.house.ground.namespace, self.jobs.len());
        self.house.ground.job(&name).await;
        self.jobs.push(name.clone());
        name
    }

    async fn still_open(&self, open: Vec<String>) -> Vec<String> {
        let mut still = Vec::new();
        for name in open {
            let job = self.house.ground.jobs().get(&name).await.unwrap();
            if job.status.is_none_or(|status| status.finish_time.is_none()) {
                still.push(name);
            }
        }
        still
    }

    async fn blow(&mut self) {
        let away = |rng: &mut StdRng, most: u64| Duration::from_millis(rng.random_range(0..most));
        let blow = match self.rng.random_range(0..100) {
            0..32 => Blow::KillAgent,
            32..60 => Blow::KillServer,
            60..78 => Blow::KillOperator,
            78..88 => Blow::PauseOperator,
            88..96 => Blow::StopOperator,
            _ => Blow::KillAll,
        };
        let chosen = self.rng.random_range(0..self.house.operators.len());
        let acts = self.house.operators[chosen].acts();
        let struck = match blow {
            Blow::KillAgent if self.house.agent_back.is_none() => {
                let away = away(&mut self.rng, 3_000);
                self.house.kill_agent(away);
                true
            }
            Blow::KillServer if self.house.server_back.is_none() => {
                let away = away(&mut self.rng, 4_000);
                self.house.kill_server(away)
            }
            Blow::KillOperator if acts => {
                let away = away(&mut self.rng, 3_000);
                self.house.operators[chosen].kill(away);
                true
            }
            // Longer than a Lease lasts, now and then.
            Blow::PauseOperator if acts => {
                let away = away(&mut self.rng, 25_000);
                self.house.operators[chosen].pause(away);
                true
            }
            Blow::StopOperator if acts && self.house.server_back.is_none() => {
                self.house.operators[chosen].stop().await;
                self.house.operators[chosen].back = Some(Instant::now());
                true
            }
            Blow::KillAll if self.house.server_back.is_none() && self.house.agent_back.is_none() => {
                for operator in &mut self.house.operators {
                    operator.wake();
                    operator.kill(away(&mut self.rng, 2_000));
                }
                self.house.kill_server(away(&mut self.rng, 2_000));
                self.house.kill_agent(away(&mut self.rng, 2_000));
                true
            }
            _ => false,
        };
        if struck {
            *self.blows.entry(blow).or_default() += 1;
        }
    }
}

async fn drill(house: House, usual: u64) {
    let seconds = std::env::var("STHENO_DRILL_SECONDS").map_or(usual, |seconds| seconds.parse().unwrap());
    let mut drill = Drill::new(house).await;
    drill.run(Duration::from_secs(seconds)).await;
    truth::told(&mut drill.house, &drill.jobs).await;
    assert!(drill.blows.values().sum::<u32>() >= 3, "hardly anything was tried: {:?}", drill.blows);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_and_their_server_are_killed_at_random() {
    drill(House::shared("kills").await, 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_and_its_private_server_are_killed_at_random() {
    drill(House::private("killed").await, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half an hour: cargo nightly"]
async fn night_of_two_operators() {
    drill(House::shared("night").await, 1_800).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half an hour: cargo nightly"]
async fn night_of_one_operator() {
    drill(House::private("alone").await, 1_800).await;
}
