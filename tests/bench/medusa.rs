//! The sidecar side by side with Medusa 0.31 from PyPI, both as servers behind Medusa's own gRPC contract, beside one real
//! Cassandra (for CQL) and over one store: `cargo bench --bench medusa`, or some rows of it: `cargo bench --bench medusa --
//! small-s3 purge`. The rows are big-local, big-s3, small-local, small-s3, listing and purge.
//!
//! Rounds are interleaved and their order turns, medians are compared, and processor time stands beside wall time, for such
//! machines' rates vary by half from minute to minute. `STHENO_BENCH_DIR` says where the files go (about 7 GiB; a file
//! system on the disk that is meant, not one in memory), `STHENO_BENCH_ROUNDS` how many rounds there are (three).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, clippy::panic, reason = "it measures, and stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use stheno_rpc::medusa::{BackupRequest, GetBackupsRequest, PurgeBackupsRequest, StatusType, backup_request};

#[path = "medusa/files.rs"]
mod files;
#[path = "medusa/ground.rs"]
mod ground;
#[path = "medusa/processes.rs"]
mod processes;
#[path = "../support/registries.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests, which take more")]
mod registries;

use files::Shape;
use ground::{Ground, Node, Place};
use processes::{Cost, Who};

/// Two gibibytes as a node has them: few files hold nearly everything.
const BIG: Shape = Shape { title: "2 GiB in 128 files", tables: 16, files: 8, bytes: 16 << 20 };
const SMALL: Shape = Shape { title: "20,000 files of 4 KiB", tables: 400, files: 50, bytes: 4 << 10 };
const PURGED: Shape = Shape { title: "10,000 objects", tables: 200, files: 50, bytes: 64 };
const LEFT: Shape = Shape { title: "what is left", tables: 1, files: 10, bytes: 64 };

/// What was measured, by work and who did it.
#[derive(Default)]
struct Table(BTreeMap<&'static str, BTreeMap<Who, Vec<Cost>>>);

impl Table {
    fn add(&mut self, work: &'static str, who: Who, cost: Cost) {
        self.0.entry(work).or_default().entry(who).or_default().push(cost);
    }

    fn print(&self, title: &str) {
        println!("{title}");
        for (work, by) in &self.0 {
            let ours = by.get(&Who::Stheno).map(|costs| Cost::median(costs)).unwrap_or_default();
            for (who, costs) in by {
                let cost = Cost::median(costs);
                let beside = if *who == Who::Stheno {
                    String::new()
                } else {
                    format!("  {:5.1} x wall, {:5.1} x user", cost.wall / ours.wall, cost.user / ours.user.max(0.01))
                };
                println!(
                    "  {work:<24} {:<24} {:7.2} s  user {:6.2} s  server {:6.2} s  peak {:4} MiB{beside}",
                    who.title(),
                    cost.wall,
                    cost.user,
                    cost.server,
                    cost.peak
                );
            }
        }
    }
}

fn rounds() -> usize {
    std::env::var("STHENO_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

/// How many processes want to run, which is what wall times depend on.
fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap();
    all.split(' ').take(1).collect()
}

async fn backup(node: &Node<'_>, name: &str) -> Cost {
    let request = BackupRequest { name: name.to_owned(), mode: backup_request::Mode::Differential.into() };
    let mut client = node.client().await;
    let work = async move { client.backup(request).await.unwrap().into_inner().status() };
    let (status, cost) = node.measured(work).await;
    assert_eq!(status, StatusType::Success, "{name} of {:?}", node.who());
    cost
}

/// Backup, the same again with nothing changed, and restore of one shape on one store.
async fn compare(ground: &Ground, shape: &Shape, place: Place) {
    files::fill(&ground.data(), shape);
    let contenders: &[Who] = match place {
        Place::Local => &[Who::Medusa, Who::MedusaEqual, Who::Stheno],
        // Its client of S3 has buffers of its own, and parts are of equal size.
        Place::S3 => &[Who::Medusa, Who::Stheno],
    };
    let mut table = Table::default();
    println!("{} on {place:?}: load {} before", shape.title, load());
    for round in 0..rounds() {
        for at in 0..contenders.len() {
            let who = contenders[(at + round) % contenders.len()];
            let mut node = ground.node(who, place, "").await;
            table.add("1 backup", who, backup(&node, "one").await);
            table.add("2 backup, unchanged", who, backup(&node, "two").await);
            node.stop();
            table.add("3 restore", who, node.restore("two", shape).await);
        }
    }
    table.print(&format!("{} on {place:?}, {} rounds, medians; load {} after", shape.title, rounds(), load()));
    files::empty(&ground.data());
}

/// GetBackups of fifty backups of three nodes with 20,000 objects each: of a new process, and again.
async fn listing(ground: &Ground) {
    const BACKUPS: usize = 50;
    const OBJECTS: usize = 20_000;
    let mut table = Table::default();
    let store = ground.listed(BACKUPS, OBJECTS);
    for round in 0..rounds() {
        for at in 0..2 {
            let who = [Who::Medusa, Who::Stheno][(at + round) % 2];
            let node = ground.node_over(who, &store).await;
            for work in ["1 GetBackups, cold", "2 GetBackups, warm"] {
                let mut client = node.client().await;
                let asked = async move { client.get_backups(GetBackupsRequest {}).await.unwrap().into_inner() };
                let (answer, cost) = node.measured(asked).await;
                assert_eq!((answer.backups.len(), answer.backups[0].total_objects), (BACKUPS, 3 * OBJECTS as i64));
                table.add(work, who, cost);
            }
        }
    }
    table.print(&format!(
        "{BACKUPS} backups x 3 nodes x {OBJECTS} objects, {} rounds, medians; load {}",
        rounds(),
        load()
    ));
}

/// A purge of ten thousand objects of S3: what it asks of the store.
async fn purge(ground: &Ground) {
    let mut table = Table::default();
    let mut asked = BTreeMap::new();
    for who in [Who::Medusa, Who::Stheno] {
        // Written by the sidecar for both: the layout is one.
        let mut node = ground.node(Who::Stheno, Place::S3, "").await;
        files::fill(&ground.data(), &PURGED);
        backup(&node, "one").await;
        files::empty(&ground.data());
        files::fill(&ground.data(), &LEFT);
        backup(&node, "two").await;
        files::empty(&ground.data());
        node.stop();
        let requests = node.becomes(who, "backup_grace_period_in_days = 0\nmax_backup_count = 1").await;
        let mut client = node.client().await;
        let work = async move { client.purge_backups(PurgeBackupsRequest {}).await.unwrap().into_inner() };
        let (answer, cost) = node.measured(work).await;
        assert_eq!(answer.nb_backups_purged, 1, "{who:?}: {answer:?}");
        assert!(answer.nb_objects_purged >= 10_000, "{who:?}: {answer:?}");
        table.add("purge", who, cost);
        asked.insert(who, requests.count());
    }
    table.print(&format!("a purge of {} on S3; load {}", PURGED.title, load()));
    let (theirs, ours) = (asked[&Who::Medusa], asked[&Who::Stheno]);
    println!("  requests: Medusa {theirs}, the sidecar {ours}: 1/{:.0}", theirs as f64 / ours as f64);
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first().filter(|(first, _)| *first == files::NODETOOL) {
        let _ = first;
        return files::nodetool(rest);
    }
    let rows: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |row: &str| rows.is_empty() || rows.iter().any(|wanted| *wanted == row);
    let base = std::env::var_os("STHENO_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let ground = Ground::new(&base).await;
    for (row, shape, place) in [
        ("small-local", &SMALL, Place::Local),
        ("small-s3", &SMALL, Place::S3),
        ("big-local", &BIG, Place::Local),
        ("big-s3", &BIG, Place::S3),
    ] {
        if wanted(row) {
            compare(&ground, shape, place).await;
        }
    }
    if wanted("listing") {
        listing(&ground).await;
    }
    if wanted("purge") {
        purge(&ground).await;
    }
}
