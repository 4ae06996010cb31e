//! What the sidecar's data path costs beside `cp -r` and one hashing pass: `cargo bench --bench agent`. (Beside Medusa:
//! `cargo bench --bench medusa`.)
//!
//! Rates of such machines vary by half from minute to minute, so rounds are interleaved and the ratio of the medians counts.
//! `STHENO_BENCH_DIR` says where the files go (about 3 GiB; a file system on the disk that is meant, not one in memory).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, clippy::panic, reason = "it measures, and stops at the first surprise")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use md5::{Digest as _, Md5};
use rand::{RngCore as _, SeedableRng as _};
use stheno_agent::Config;
use stheno_agent::backup::{Backup, Journal, Progress, Tools};
use stheno_agent::layout::{BackupName, Layout};
use stheno_agent::snapshot::{Service, extent, scan};
use stheno_agent::state::{self, Phase, Record, StateDir};
use stheno_agent::store::{Patience, Store};
use stheno_agent::upload::Uploader;

const ROUNDS: usize = 5;
const NAME: &str = "bench";

/// What is backed up: so many tables of so many files of so many bytes.
struct Shape {
    title: &'static str,
    tables: usize,
    files: usize,
    bytes: usize,
}

/// A gibibyte as a node has it: few files hold nearly everything.
const BIG: Shape = Shape { title: "1 GiB in 64 files", tables: 8, files: 8, bytes: 16 << 20 };
const SMALL: Shape = Shape { title: "5,000 files of 4 KiB", tables: 100, files: 50, bytes: 4 << 10 };

struct Nowhere;

#[async_trait::async_trait]
impl Journal for Nowhere {
    async fn phase(&self, _: Phase) -> Result<(), state::Error> {
        Ok(())
    }

    async fn owe(&self, _: &str) -> Result<(), state::Error> {
        Ok(())
    }
}

/// Wall and processor seconds of one piece of work.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    user: f64,
}

fn user_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // Own time in user mode and that of children that have ended, in ticks of a hundredth of a second.
    let ticks = |at: usize| fields.split(' ').nth(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(13)) / 100.0
}

async fn measured(work: impl Future<Output = ()>) -> Cost {
    let (start, user) = (Instant::now(), user_seconds());
    work.await;
    Cost { wall: start.elapsed().as_secs_f64(), user: user_seconds() - user }
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
}

/// Writes the tables as a node has them after `nodetool snapshot`.
fn fill(data: &Path, shape: &Shape) {
    let mut noise = rand::rngs::SmallRng::seed_from_u64(7);
    let mut content = vec![0; shape.bytes];
    for table in 0..shape.tables {
        let dir = data.join(format!("shop/t{table}-{table:032x}/snapshots/medusa-{NAME}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..shape.files {
            noise.fill_bytes(&mut content);
            fs::write(dir.join(format!("nb-{file}-big-Data.db")), &content).unwrap();
        }
    }
}

/// The data path from the snapshot to the manifest, as of a sidecar that goes on with a snapshot that was taken.
async fn backup(dir: &Path, data: &Path, full: bool) {
    let yaml = dir.join("cassandra.yaml");
    fs::write(&yaml, format!("data_file_directories: [{}]", data.display())).unwrap();
    let ini = format!(
        "[cassandra]\nconfig_file = {}\n[storage]\nstorage_provider = local\nbase_path = {}\nbucket_name = bucket\nfqdn = node\n",
        yaml.display(),
        dir.display()
    );
    fs::write(dir.join("medusa.ini"), ini).unwrap();
    let volume = dir.join("volume").to_str().unwrap().to_owned();
    let config =
        Config::load(&dir.join("medusa.ini"), |key| (key == "MEDUSA_TMP_DIR").then(|| volume.clone())).unwrap();
    let store = Store::open(&config.storage, Patience::Long).unwrap();
    let layout = Layout::new(None, config.node.clone());
    let name = BackupName::parse(NAME).unwrap();
    for file in ["schema.cql", "tokenmap.json"] {
        store.put(&layout.meta(&name, file), "{}").await.unwrap();
    }
    let snapshot = extent(&scan(std::iter::once(data), &name.snapshot_tag()).await.unwrap());
    let tools = Tools {
        uploader: Uploader::new(store.clone(), &config.storage),
        snapshots: Service::new(&config.snapshots).unwrap(),
        dir: StateDir::open(&config.state_dir).unwrap(),
        config,
        layout,
        store,
    };
    let record = Record {
        operation: NAME.to_owned(),
        attempt: 1,
        name: NAME.to_owned(),
        full,
        accepted_ms: 0,
        phase: Phase::Uploading { started_ms: 0, snapshot: Some(snapshot) },
    };
    let end = Backup::new(&tools, &Nowhere, &Progress::default(), record).unwrap().run().await.unwrap();
    let Phase::Finished { totals, .. } = end else { panic!("{end:?}") };
    assert_eq!((totals.files, totals.bytes), (snapshot.files, snapshot.bytes));
}

/// The same files by `cp`, as durable as ours are when a backup ends.
async fn copy(dir: &Path, data: &Path) {
    let target = dir.join("copy");
    assert!(Command::new("cp").arg("-r").args([data, &target]).status().unwrap().success());
    assert!(Command::new("sync").arg("-f").arg(&target).status().unwrap().success());
}

/// One file after the other, by what hashes one content at a time.
async fn hash(data: &Path) {
    let mut buffer = vec![0; 256 << 10];
    for table in scan(std::iter::once(data), &format!("medusa-{NAME}")).await.unwrap() {
        for file in table.files {
            let (mut input, mut sum) = (fs::File::open(file.path).unwrap(), Md5::new());
            loop {
                match input.read(&mut buffer).unwrap() {
                    0 => break,
                    length => sum.update(&buffer[..length]),
                }
            }
            std::hint::black_box(sum.finalize());
        }
    }
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn compare(base: &Path, shape: &Shape) {
    let data = base.join("data");
    fill(&data, shape);
    let [mut ours, mut copied, mut hashed, mut unchanged]: [Vec<Cost>; 4] = Default::default();
    let mut peak = 0;
    for round in 0..=ROUNDS {
        let dir = base.join(format!("round-{round}"));
        fs::create_dir_all(&dir).unwrap();
        let copying = measured(copy(&dir, &data)).await;
        let hashing = measured(hash(&data)).await;
        // The peak of what follows, not of what was.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let backing = measured(backup(&dir, &data, false)).await;
        peak = peak.max(peak_mib());
        fs::remove_file(dir.join(format!("bucket/node/{NAME}/meta/manifest.json"))).unwrap();
        let again = measured(backup(&dir, &data, false)).await;
        fs::remove_dir_all(&dir).unwrap();
        // The first round fills caches.
        if round > 0 {
            ours.push(backing);
            copied.push(copying);
            hashed.push(hashing);
            unchanged.push(again);
        }
    }
    fs::remove_dir_all(&data).unwrap();

    println!("{} ({ROUNDS} rounds, medians)", shape.title);
    for (what, costs) in
        [("backup", &ours), ("cp -r", &copied), ("md5, one pass", &hashed), ("backup, unchanged", &unchanged)]
    {
        println!("  {what:<18} {:7.3} s  user {:6.2} s", median(costs, |c| c.wall), median(costs, |c| c.user));
    }
    let wall = |costs: &[Cost]| median(costs, |cost| cost.wall);
    println!("  rate beside cp plus one hashing pass: {:.2}", (wall(&copied) + wall(&hashed)) / wall(&ours));
    println!("  rate beside cp alone: {:.2}", wall(&copied) / wall(&ours));
    println!("  peak memory: {peak} MiB");
}

#[tokio::main]
async fn main() {
    let base = std::env::var_os("STHENO_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let base = tempfile::Builder::new().prefix("stheno-bench-").tempdir_in(base).unwrap();
    for shape in [BIG, SMALL] {
        compare(base.path(), &shape).await;
    }
}
