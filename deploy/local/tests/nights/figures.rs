//! The figures of `docs/BENCHMARKS.md`: how long each phase takes, and how much memory each part has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use stheno_local::cluster::Options;
use stheno_local::testing;
use tokio::time::Instant;

use crate::datacenter::Datacenter;

/// Resident MiB of each part of a run, with how many processes it has. Java's are told apart by what they run.
fn resident(run: &Path) -> BTreeMap<String, (u64, usize)> {
    let mark = format!("STHENO_LOCAL_RUN={}", run.display());
    let mut parts: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        if !read("environ").split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            continue;
        }
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let last = line.trim_end_matches('\0').rsplit(['\0', '.']).next().unwrap_or_default().to_owned();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let kibibytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        let name = match String::from_utf8_lossy(&read("comm")).trim() {
            "java" => format!("java {last}"),
            "sh" | "sleep" | "unshare" | "nsenter" => "shells and sleepers".to_owned(),
            other => other.to_owned(),
        };
        let part = parts.entry(name).or_default();
        *part = (part.0 + kibibytes.unwrap_or(0_u64) / 1024, part.1 + 1);
    }
    parts
}

/// Rows for the tables; the load is that of the machine before anything starts.
#[tokio::test]
#[ignore = "nightly: ten minutes, on a machine with nothing else to do"]
async fn night_figures_of_each_phase() {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    eprintln!("load {}", load.split(' ').next().unwrap());
    let grounds = [
        ("1 node, hurried", Options::hurried(), 1, &["r1"][..]),
        ("3 nodes in 2 racks, hurried", Options::hurried(), 3, &["r1", "r2"]),
        ("1 node, as released", Options::default(), 1, &["r1"]),
        ("3 nodes in 2 racks, as released", Options::default(), 3, &["r1", "r2"]),
    ];
    println!("| | up | create to Ready | stop to settled and no pods | start to Ready |\n|---|---|---|---|---|");
    for (name, options, nodes, racks) in grounds {
        let began = Instant::now();
        let cluster = testing::cluster(&options).await.unwrap();
        let up = began.elapsed();
        let datacenter = Datacenter::create(&cluster, nodes, racks).await;
        let created = datacenter.until_ready().await;
        let memory = resident(cluster.kubelet().logs().ancestors().nth(2).unwrap());
        datacenter.stop().await;
        let stopped = datacenter.until_stopped().await;
        datacenter.start().await;
        let started = datacenter.until_ready().await;
        let seconds = [up, created, stopped, started].map(|phase| format!("{:.0}", phase.as_secs_f64()));
        println!("| {name} | {} |", seconds.join(" | "));
        let each = memory.iter().map(|(part, (mebibytes, many))| format!("{part} {mebibytes} ({many})"));
        println!("resident MiB (processes): {}", each.collect::<Vec<_>>().join(", "));
        cluster.end().await;
    }
}
