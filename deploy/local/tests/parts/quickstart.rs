//! The quickstart as people run it: to its end, kept and ended, and interrupted: nothing may stay behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const LOCAL: &str = env!("CARGO_BIN_EXE_stheno-local");

fn quickstart(temporary: &TempDir) -> Command {
    let mut command = Command::new(LOCAL);
    command.arg("quickstart").env("TMPDIR", temporary.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
    // With the whole workspace the program has just been built beside ours; else the quickstart builds it.
    let stheno = Path::new(LOCAL).with_file_name("stheno");
    if stheno.is_file() {
        command.arg("--stheno").arg(stheno);
    }
    command
}

/// Processes of this machine that were started for a run below the folder.
fn running(temporary: &TempDir) -> Vec<String> {
    let mark = [b"STHENO_LOCAL_RUN=", temporary.path().as_os_str().as_bytes()].concat();
    let of_ours = |process: PathBuf| {
        let environment = fs::read(process.join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(&mark)).then_some(())?;
        Some(fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned())
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of_ours(entry.path())).collect()
}

fn folders(temporary: &TempDir) -> Vec<PathBuf> {
    let bases = fs::read_dir(temporary.path()).unwrap().map(|base| base.unwrap().path());
    let runs = bases.filter(|base| base.is_dir()).flat_map(|base| fs::read_dir(base).unwrap());
    let ours = |run: &PathBuf| run.file_name().unwrap().to_string_lossy().starts_with("run-");
    runs.map(|run| run.unwrap().path()).filter(ours).collect()
}

/// One node of the real cass-operator, with our sidecar in its pod.
#[test]
fn a_backup_from_kubectl_to_the_bucket_and_back() {
    backed_up(1, &["shop-dc1-r1-sts-0"]);
}

/// As `cargo quickstart` does it. The time is that of two cores with nothing else to do, and everything built.
#[test]
#[ignore = "nightly: three nodes, four minutes"]
fn night_three_nodes_in_two_racks_are_backed_up() {
    let took = backed_up(3, &["shop-dc1-r1-sts-0", "shop-dc1-r1-sts-1", "shop-dc1-r2-sts-0"]);
    assert!(took < Duration::from_secs(240), "{took:?}");
}

#[test]
#[ignore = "nightly: a minute and a half, on a quiet machine"]
fn night_one_node_is_backed_up_in_time() {
    let took = backed_up(1, &["shop-dc1-r1-sts-0"]);
    assert!(took < Duration::from_secs(90), "{took:?}");
}

/// How long something took, as it says itself: `12.3 s` or `1 min 2 s`.
fn duration(said: &str) -> Duration {
    let (minutes, seconds) = said.split_once(" min ").unwrap_or(("0", said));
    let seconds: f64 = seconds.trim_end_matches(" s").parse().unwrap();
    Duration::from_secs_f64(minutes.parse::<f64>().unwrap() * 60.0 + seconds)
}

/// Returns how long it took, without building.
fn backed_up(nodes: u32, pods: &[&str]) -> Duration {
    let temporary = tempfile::tempdir().unwrap();
    let output = quickstart(&temporary).arg("--keep").arg("--nodes").arg(nodes.to_string()).output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaints}");

    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(!line("medusabackupjob.medusa.k8ssandra.io/first-backup created").is_empty(), "{said}");
    assert!(line("medusabackup.medusa.k8ssandra.io/first-backup ").ends_with("SUCCESS"), "{said}");
    assert!(said.contains("/data/shop/orders-") && said.contains("nb-1-big-Data.db"), "{said}");
    for event in ["operator.genesis", "backup.started", "backup.node_finished", "backup.completed"] {
        assert!(said.lines().any(|line| line.contains(event)), "no {event} in\n{said}");
    }
    // What is said of looking around is true.
    let exported = line("export KUBECONFIG=");
    let get = said.lines().find(|line| line.ends_with(" get medusabackup first-backup -o yaml")).unwrap();
    let look = Command::new("sh").arg("-c").arg(format!("{exported}\n{get}")).output().unwrap();
    assert!(String::from_utf8_lossy(&look.stdout).contains("status: SUCCESS"), "{look:?}");
    let programs = running(&temporary);
    for program in ["etcd", "kube-apiserver", "kube-controller", "cass-operator", "java", "nats-server", "stheno"] {
        assert!(programs.iter().any(|running| running == program), "{program} does not run: {programs:?}");
    }
    // Each node wrote its own files, and the ring's map names pods.
    let bucket = said.lines().find_map(|line| line.strip_prefix("The bucket is ")?.split(',').next()).unwrap();
    for pod in pods {
        let orders = fs::read_dir(format!("{bucket}/shop/{pod}/data/shop")).unwrap().next();
        assert!(orders.is_some(), "{pod} has written nothing of the table");
        let map = format!("{bucket}/shop/index/backup_index/first-backup/tokenmap_{pod}.json");
        let map: serde_json::Value = serde_json::from_str(&fs::read_to_string(map).unwrap()).unwrap();
        let names: Vec<&String> = map.as_object().unwrap().keys().collect();
        assert_eq!(names, pods, "{map}");
    }

    let down = Command::new(LOCAL).arg("down").env("TMPDIR", temporary.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&down.stdout).starts_with("ended the ground quickstart\n"), "{down:?}");
    assert!(running(&temporary).is_empty(), "{:?}", running(&temporary));
    assert!(folders(&temporary).is_empty());
    let done = line("Done in ");
    let (whole, building) = done.strip_prefix("Done in ").unwrap().split_once(", of which building took ").unwrap();
    duration(whole) - duration(building.trim_end_matches('.'))
}

#[test]
fn an_interrupted_quickstart_leaves_nothing() {
    for moment in ["starting etcd, ", "dc1: 1 Cassandra node ("] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child =
            quickstart(&temporary).args(["--nodes", "1"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let rest = wait_for(&mut child, moment);
        // Into the middle of what that line announces.
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!running(&temporary).is_empty());
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(rest().ends_with("stopped; nothing is left running\n"));
        assert!(running(&temporary).is_empty(), "{:?}", running(&temporary));
        assert!(folders(&temporary).is_empty());
    }
}

/// Reads what the child says until a line begins so; the rest can be read when the child has ended.
fn wait_for(child: &mut Child, start: &str) -> impl FnOnce() -> String + use<> {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    loop {
        let begin = said.len();
        assert!(lines.read_line(&mut said).unwrap() > 0, "ended before `{start}`:\n{said}");
        if said[begin..].starts_with(start) {
            break;
        }
    }
    move || {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        rest
    }
}
