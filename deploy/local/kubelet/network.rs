//! How pods are kept apart: network namespaces on a bridge of this machine, or loopback addresses.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use std::{fs, io};

use crate::ports::{self, Address, hold};
use crate::process::{self, Process};
use crate::remains;

/// Pods of ground `n` have addresses 10.213.n.10 to 10.213.n.249; few machines have a network there.
const PREFIX: [u8; 2] = [10, 213];
const FIRST: u8 = 10;
const POOL: u8 = 240;
const BRIDGE: &str = "stheno-";
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);
/// Ports that the pods of a datacenter listen on.
const POD_PORTS: [u16; 4] = [7000, 8080, 9042, 50051];

/// How pods are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolation {
    /// Namespaces where they are allowed and there is iproute2, else loopback addresses.
    #[default]
    Best,
    /// A network namespace for each pod and a private root for each container; needs root.
    Namespaces,
    /// An address of 127.0.0.0/8 for each pod; paths and addresses are replaced in commands, arguments and variables.
    Loopback,
}

/// Why pods have no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces were asked for, and the system refuses them.
    #[error(
        "network namespaces were asked for and cannot be made here ({0}): run as root where a process may make them, with \
         iproute2 and util-linux, or choose `--isolation loopback`"
    )]
    NotAllowed(String),
    /// A tool of the system failed or is missing.
    #[error("`{command}` failed: {said}; install iproute2 and util-linux, or choose `--isolation loopback`")]
    Tool {
        /// The command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// Every subnet is in use.
    #[error(
        "all subnets 10.213.0.0/24 to 10.213.255.0/24 are in use: end other grounds, or choose `--isolation loopback`"
    )]
    NoSubnet,
    /// No pod address is left.
    #[error("no pod address is free")]
    NoAddress(#[source] Option<ports::Error>),
    /// The process that holds a pod's namespace did not start.
    #[error(transparent)]
    Process(#[from] process::Error),
}

/// The network of one kubelet.
#[derive(Debug)]
pub(crate) enum Network {
    Bridge { subnet: u8, next: AtomicU8, _hold: UnixListener },
    Loopback,
}

/// The network of one pod; it ends with this value.
#[derive(Debug)]
pub(crate) enum PodNetwork {
    Namespace { ip: Ipv4Addr, pause: Process },
    Loopback(Address),
}

/// Whether there can be such a network here.
pub(super) fn check(isolation: Isolation) -> Result<(), Error> {
    match isolation {
        Isolation::Best | Isolation::Loopback => Ok(()),
        Isolation::Namespaces => allowed().map_err(Error::NotAllowed),
    }
}

impl Network {
    pub(crate) fn set_up(isolation: Isolation) -> Result<Self, Error> {
        check(isolation)?;
        match isolation {
            Isolation::Loopback => Ok(Self::Loopback),
            Isolation::Best if allowed().is_err() => Ok(Self::Loopback),
            Isolation::Best | Isolation::Namespaces => Self::bridge(),
        }
    }

    fn bridge() -> Result<Self, Error> {
        sweep();
        let taken = tool("ip", &["-o", "-4", "addr", "show"])?;
        for subnet in 0..=u8::MAX {
            let Ok(hold) = hold(&format!("subnet-{subnet}")) else { continue };
            let bridge = format!("{BRIDGE}{subnet}");
            if taken.contains(&format!(" {}.{}.{subnet}.", PREFIX[0], PREFIX[1])) {
                continue;
            }
            let network = Self::Bridge { subnet, next: AtomicU8::new(0), _hold: hold };
            tool("ip", &["link", "add", &bridge, "type", "bridge"])?;
            tool("ip", &["address", "add", &format!("{}/24", network.host()), "dev", &bridge])?;
            tool("ip", &["link", "set", &bridge, "up"])?;
            return Ok(network);
        }
        Err(Error::NoSubnet)
    }

    /// The address at which pods find this machine.
    pub(crate) fn host(&self) -> Ipv4Addr {
        match self {
            Self::Bridge { subnet, .. } => Ipv4Addr::new(PREFIX[0], PREFIX[1], *subnet, 1),
            Self::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// Whether containers have private roots.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Bridge { .. })
    }

    /// A new pod's network, with an address that none of `used` has.
    pub(crate) async fn join(
        &self,
        used: &[String],
        folder: &Path,
        mark: impl Fn(&mut Command),
    ) -> Result<PodNetwork, Error> {
        let Self::Bridge { subnet, next, .. } = self else {
            let address = Address::take(&POD_PORTS).map_err(|error| Error::NoAddress(Some(error)))?;
            return Ok(PodNetwork::Loopback(address));
        };
        let candidates = (0..POOL).map(|_| {
            let last = next.fetch_add(1, Ordering::Relaxed) % POOL + FIRST;
            Ipv4Addr::new(PREFIX[0], PREFIX[1], *subnet, last)
        });
        let mut candidates = candidates.filter(|ip| !used.contains(&ip.to_string()));
        let ip = candidates.next().ok_or(Error::NoAddress(None))?;

        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        mark(&mut command);
        let mut pause = Process::spawn("pause", command, &folder.join("pause.log"))?;
        let id = pause.id();
        let namespace = |id: &str| fs::read_link(format!("/proc/{id}/ns/net")).ok();
        let own = namespace("self");
        let moved = async || namespace(&id.to_string()).is_some_and(|theirs| Some(theirs) != own);
        pause.until("in a network namespace", PATIENCE, moved).await?;
        let (id, bridge, veth) = (id.to_string(), format!("{BRIDGE}{subnet}"), format!("st{id}"));
        tool("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &id])?;
        tool("ip", &["link", "set", &veth, "master", &bridge, "up"])?;
        let inside = format!(
            "ip link set lo up && ip address add {ip}/24 dev eth0 && ip link set eth0 up && ip route add default via {}",
            self.host()
        );
        tool("nsenter", &["--target", &id, "--net", "sh", "-c", &inside])?;
        tokio::time::sleep(LOOK).await;
        Ok(PodNetwork::Namespace { ip, pause })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Bridge { subnet, .. } = self {
            let _ = tool("ip", &["link", "delete", &format!("{BRIDGE}{subnet}")]);
        }
    }
}

impl PodNetwork {
    pub(crate) fn ip(&self) -> Ipv4Addr {
        match self {
            Self::Namespace { ip, .. } => *ip,
            Self::Loopback(address) => address.ip(),
        }
    }

    /// The process whose network namespace is the pod's.
    pub(crate) fn holder(&self) -> Option<u32> {
        match self {
            Self::Namespace { pause, .. } => Some(pause.id()),
            Self::Loopback(_) => None,
        }
    }
}

/// Removes bridges that killed grounds left.
pub(crate) fn sweep() {
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(subnet) = name.strip_prefix(BRIDGE).and_then(|number| number.parse::<u8>().ok()) else { continue };
        if let Ok(_hold) = hold(&format!("subnet-{subnet}")) {
            let _ = tool("ip", &["link", "delete", &name]);
        }
    }
}

/// Whether this process may make mount, host name and network namespaces and a bridge, and has the tools for it: tried, in
/// namespaces that are gone with the try.
fn allowed() -> Result<(), String> {
    let refusal = |error: Error| match error {
        Error::Tool { said, .. } => said,
        Error::NotAllowed(_) | Error::NoSubnet | Error::NoAddress(_) | Error::Process(_) => error.to_string(),
    };
    let bridge = ["--net", "--mount", "--uts", "ip", "link", "add", "probe", "type", "bridge"];
    tool("unshare", &bridge).map(|_| ()).map_err(refusal)
}

fn tool(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let fault = |said: String| Error::Tool { command: format!("{program} {}", arguments.join(" ")), said };
    let output = command.output().map_err(|error| {
        let absent = error.kind() == io::ErrorKind::NotFound;
        fault(if absent { format!("{program}: no such program") } else { format!("{program}: {error}") })
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(fault(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Marks a command as a process of the pod.
pub(crate) fn mark(command: &mut Command, run: &Path, uid: &str) {
    remains::mark(command, run);
    command.env(super::POD_MARK, uid);
}
