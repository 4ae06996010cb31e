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
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let disk = nix::sys::statvfs::statvfs(folder);
    let free = disk.map_or(u64::MAX, |disk| disk.blocks_available() * disk.fragment_size() / 1_048_576);
    judge(beside, nodes, &memory, &folder.display().to_string(), free)
}

fn judge(beside: u64, nodes: u32, memory: &str, folder: &str, free_disk: u64) -> Result<(), Error> {
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let free = available.map_or(u64::MAX, |kibibytes| kibibytes / 1024);
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
        let memory = "MemTotal: 8000000 kB\nMemAvailable:    2097152 kB\n";
        judge(GROUND, 1, memory, "/tmp", 10_000).unwrap();
        let said = judge(GROUND, 3, memory, "/tmp", 10_000).unwrap_err().to_string();
        assert!(said.starts_with("3 nodes need 3500 MiB of memory, and 2048 MiB are free"), "{said}");
        let said = judge(GROUND, 1, memory, "/tmp", 100).unwrap_err().to_string();
        assert!(said.contains("2048 MiB of disk are needed at /tmp, and 100 MiB are free"), "{said}");
        judge(GROUND, 9, "", "/tmp", 10_000).unwrap();
    }
}
