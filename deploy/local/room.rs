//! Whether this machine has room for a ground: judged before anything starts, so that a lack is one sentence.

use std::fs;
use std::path::Path;

/// MiB that the control plane and cass-operator need.
const GROUND: u64 = 800;
/// MiB that one Cassandra node with its management API needs.
const NODE: u64 = 900;
/// MiB of disk for data, logs and etcd.
const DISK: u64 = 2048;

/// There is not room enough.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Memory.
    #[error(
        "{nodes} nodes need {needed} MiB of memory, and {free} MiB are free: ask for fewer nodes, or end other programs"
    )]
    Memory {
        /// How many Cassandra nodes were asked for.
        nodes: u32,
        /// MiB needed.
        needed: u64,
        /// MiB available.
        free: u64,
    },
    /// Disk.
    #[error(
        "{needed} MiB of disk are needed at {path}, and {free} MiB are free: make room, or set TMPDIR to another place"
    )]
    Disk {
        /// Where.
        path: String,
        /// MiB needed.
        needed: u64,
        /// MiB free.
        free: u64,
    },
}

/// Looks at memory, and at the disk that holds `folder`, for a ground with so many nodes.
pub fn check(nodes: u32, folder: &Path) -> Result<(), Error> {
    look(GROUND, nodes, folder)
}

/// The same for more nodes of a ground that is there.
pub fn check_more(nodes: u32, folder: &Path) -> Result<(), Error> {
    look(0, nodes, folder)
}

fn look(beside: u64, nodes: u32, folder: &Path) -> Result<(), Error> {
    let disk = nix::sys::statvfs::statvfs(folder);
    let free = disk.map_or(u64::MAX, |disk| disk.blocks_available() * disk.fragment_size() / 1_048_576);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let groups = Path::new("/sys/fs/cgroup");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = of_machine(&memory).min(of_groups(groups, &groups.join(own)));
    judge(beside, nodes, memory, &folder.display().to_string(), free)
}

/// MiB that programs could still get, as the kernel estimates it.
fn of_machine(memory: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    available.map_or(u64::MAX, |kibibytes| kibibytes / 1024)
}

/// MiB that the control groups (version 2) around this process still allow: containers have less than their machine.
fn of_groups(root: &Path, own: &Path) -> u64 {
    let read = |group: &Path, file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let of_one = |group: &Path| {
        let limit: u64 = read(group, "memory.max").trim().parse().ok()?;
        let used: u64 = read(group, "memory.current").trim().parse().ok()?;
        // What files keep in memory without need is given back first.
        let statistics = read(group, "memory.stat");
        let idle = statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
        Some(limit.saturating_sub(used.saturating_sub(idle.unwrap_or(0))) / 1_048_576)
    };
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(of_one).min().unwrap_or(u64::MAX)
}

fn judge(beside: u64, nodes: u32, free: u64, folder: &str, free_disk: u64) -> Result<(), Error> {
    let needed = beside + NODE * u64::from(nodes);
    if free < needed {
        return Err(Error::Memory { nodes, needed, free });
    }
    if free_disk < DISK {
        return Err(Error::Disk { path: folder.to_owned(), needed: DISK, free: free_disk });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_said_before_anything_starts() {
        let memory = of_machine("MemTotal: 8000000 kB\nMemAvailable:    2097152 kB\n");
        judge(GROUND, 1, memory, "/tmp", 10_000).unwrap();
        let said = judge(GROUND, 3, memory, "/tmp", 10_000).unwrap_err().to_string();
        assert!(said.starts_with("3 nodes need 3500 MiB of memory, and 2048 MiB are free"), "{said}");
        let said = judge(GROUND, 1, memory, "/tmp", 100).unwrap_err().to_string();
        assert!(said.contains("2048 MiB of disk are needed at /tmp, and 100 MiB are free"), "{said}");
        judge(GROUND, 9, of_machine(""), "/tmp", 10_000).unwrap();
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("slice/container");
        fs::create_dir_all(&own).unwrap();
        assert_eq!(of_groups(root.path(), &own), u64::MAX);
        let limit = |group: &Path, limit: &str, used: u64| {
            fs::write(group.join("memory.max"), format!("{limit}\n")).unwrap();
            fs::write(group.join("memory.current"), format!("{}\n", used << 20)).unwrap();
            fs::write(group.join("memory.stat"), format!("anon 5\ninactive_file {}\n", 100_u64 << 20)).unwrap();
        };
        limit(&own, "max", 900);
        assert_eq!(of_groups(root.path(), &own), u64::MAX);
        limit(own.parent().unwrap(), &(2_u64 << 30).to_string(), 1148);
        assert_eq!(of_groups(root.path(), &own), 1000);
        limit(&own, &(1_u64 << 30).to_string(), 2000);
        assert_eq!(of_groups(root.path(), &own), 0);
    }
}
