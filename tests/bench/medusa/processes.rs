//! Who is measured, and what a piece of work costs: wall time, processor time in user mode, most memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::registries;

/// A contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// As it is, but for one thing: it does not make way for everything else on the machine (nice 19, idle I/O), which on a
    /// busy one would count against it.
    Medusa,
    /// With buffers of the size of ours where it copies on one machine (256 KiB instead of 4 MiB).
    MedusaEqual,
    Stheno,
}

/// What a Python process does first.
const ALIKE: &str = "import medusa.backup_node\nmedusa.backup_node.throttle_backup = lambda: None\n";
const EQUAL: &str = "import medusa.storage.local_storage\nmedusa.storage.local_storage.BUFFER_SIZE = 256 * 1024\n";

impl Who {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Medusa => "Medusa",
            Self::MedusaEqual => "Medusa, equal buffers",
            Self::Stheno => "the sidecar",
        }
    }

    fn python(self, module: &str, arguments: &[&str]) -> Command {
        let more = if self == Self::MedusaEqual { EQUAL } else { "" };
        let program = format!(
            "import sys\n{ALIKE}{more}import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_module('{module}', run_name='__main__')"
        );
        let mut command = Command::new(registries::medusa().join("python"));
        command.arg("-c").arg(program).args(arguments);
        command
    }

    /// The gRPC server.
    pub(crate) fn server(self, ini: &Path, port: u16, volume: &Path) -> Command {
        let ini = ini.to_str().unwrap();
        let mut command = match self {
            Self::Medusa | Self::MedusaEqual => {
                self.python("medusa.service.grpc.server", &["server", "server.py", ini])
            }
            Self::Stheno => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
                command.args(["agent", "--config", ini, "--listen", &format!("127.0.0.1:{port}")]);
                command
            }
        };
        command.env("MEDUSA_TMP_DIR", volume).env("TMPDIR", volume);
        command
    }

    /// The init container.
    pub(crate) fn restorer(self, ini: &Path, volume: &Path, node: &str, name: &str) -> Command {
        let ini = ini.to_str().unwrap();
        let mut command = match self {
            Self::Medusa | Self::MedusaEqual => self.python("medusa.service.grpc.restore", &["restore", ini, "key"]),
            Self::Stheno => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
                command.args(["restore", "--config", ini]);
                command
            }
        };
        command.env("MEDUSA_TMP_DIR", volume).env("TMPDIR", volume).env("POD_IP", node);
        command.env("BACKUP_NAME", name).env("RESTORE_KEY", "key");
        command.env("RESTORE_MAPPING", r#"{"in_place": true, "host_map": {}}"#).env_remove("POD_NAME");
        if self == Self::Stheno {
            command.env_remove("RESTORE_MAPPING");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// What a piece of work took.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cost {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds in user mode, of the process that did the work.
    pub(crate) user: f64,
    /// MiB resident at most.
    pub(crate) peak: u64,
    /// Seconds of the processor that the S3 server took meanwhile, in both modes: what no client can save.
    pub(crate) server: f64,
}

impl Cost {
    pub(crate) fn median(costs: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let peak = costs.iter().map(|cost| cost.peak).max().unwrap_or_default();
        Self { wall: of(|cost| cost.wall), user: of(|cost| cost.user), peak, server: of(|cost| cost.server) }
    }
}

fn user(id: u32) -> f64 {
    times(id)[0]
}

/// Seconds of the processor in user mode and for the system.
fn times(id: u32) -> [f64; 2] {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // In ticks of a hundredth of a second.
    [11, 12].map(|at| fields.split(' ').nth(at).unwrap().parse::<f64>().unwrap() / 100.0)
}

/// What a server took so far; nothing where there is none.
fn both(id: Option<u32>) -> f64 {
    id.map_or(0.0, |id| times(id).iter().sum())
}

fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

/// What a server's process spends on a piece of work; `store` is the process of the S3 server, if there is one.
pub(crate) async fn measured<T>(id: u32, store: Option<u32>, work: impl Future<Output = T>) -> (T, Cost) {
    // The peak of what follows, not of what was.
    fs::write(format!("/proc/{id}/clear_refs"), "5").unwrap();
    let (before, server, begun) = (user(id), both(store), Instant::now());
    let done = work.await;
    let wall = begun.elapsed().as_secs_f64();
    (done, Cost { wall, user: user(id) - before, peak: peak(id).unwrap(), server: both(store) - server })
}

/// Runs a program to its end; `store` is as in [`measured`].
pub(crate) fn run(mut command: Command, store: Option<u32>) -> Cost {
    let (server, begun) = (both(store), Instant::now());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let mut said = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut said, &mut text).unwrap();
        text
    });
    let mut cost = Cost::default();
    loop {
        // While it is there: a process that has ended has no memory any more.
        cost.peak = peak(id).unwrap_or(cost.peak).max(cost.peak);
        cost.user = user(id).max(cost.user);
        if let Some(status) = child.try_wait().unwrap() {
            (cost.wall, cost.server) = (begun.elapsed().as_secs_f64(), both(store) - server);
            assert!(status.success(), "{command:?}: {}", said.join().unwrap());
            return cost;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
