//! Free ports and loopback addresses, held so that two grounds on one machine never get the same one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// Below the range from which the kernel takes ports for outgoing connections.
const PORTS: RangeInclusive<u16> = 20_000..=31_999;
/// Names another range, as `FIRST-LAST`.
const VARIABLE: &str = "STHENO_PORTS";

/// Nothing was free.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every port of the range is taken.
    #[error(
        "every port from {first} to {last} of 127.0.0.1 is in use: stop other grounds or servers, or name other ports with \
         {VARIABLE}=FIRST-LAST"
    )]
    NoPort {
        /// The first port of the range.
        first: u16,
        /// And the last.
        last: u16,
    },
    /// What names the range is no range.
    #[error("{VARIABLE}={0} names no ports: write the first and the last of a range, such as 20000-31999")]
    Range(String),
    /// Every loopback address is taken, or its ports are.
    #[error("no address of 127.0.0.2 to 127.0.0.254 has its ports {0:?} free: stop other grounds or servers")]
    NoAddress(Vec<u16>),
}

/// A port of 127.0.0.1 that no other ground takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _hold: UnixListener,
}

impl Port {
    /// Takes a port on which nothing listens now.
    pub fn take() -> Result<Self, Error> {
        match std::env::var(VARIABLE) {
            Ok(range) if !range.is_empty() => Self::take_of(parsed(&range).ok_or(Error::Range(range))?),
            Ok(_) | Err(_) => Self::take_of(PORTS),
        }
    }

    fn take_of(ports: RangeInclusive<u16>) -> Result<Self, Error> {
        let (ip, first, last) = (IpAddr::V4(Ipv4Addr::LOCALHOST), *ports.start(), *ports.end());
        let span = u64::from(last - first) + 1;
        // Processes begin at different places, so that they rarely meet.
        let start = u64::from(std::process::id()) * 97;
        (0..span)
            .filter_map(|step| u16::try_from(u64::from(first) + (start + step) % span).ok())
            .find_map(|number| {
                let hold = hold(&format!("port-{number}")).ok()?;
                bindable(ip, number).then_some(Self { number, _hold: hold })
            })
            .ok_or(Error::NoPort { first, last })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A loopback address for one node, with its usual ports free, that no other ground takes while this value lives.
#[derive(Debug)]
pub struct Address {
    ip: Ipv4Addr,
    _hold: UnixListener,
}

impl Address {
    /// Takes one of 127.0.0.2 to 127.0.0.254 on which nothing listens on any of `ports`.
    pub fn take(ports: &[u16]) -> Result<Self, Error> {
        (2..=254)
            .map(|last| Ipv4Addr::new(127, 0, 0, last))
            .find_map(|ip| {
                let hold = hold(&format!("address-{ip}")).ok()?;
                ports.iter().all(|port| bindable(ip.into(), *port)).then_some(Self { ip, _hold: hold })
            })
            .ok_or_else(|| Error::NoAddress(ports.to_vec()))
    }

    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}

/// An abstract socket is a lock by name that the kernel lifts with its holder, and leaves no file behind.
pub(crate) fn hold(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&UnixAddr::from_abstract_name(format!("stheno-local-{name}"))?)
}

fn parsed(range: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

fn bindable(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What this process gave back may be in another one's hands for a moment: a child between fork and exec has it too.
    fn soon(mut is: impl FnMut() -> bool) -> bool {
        for _ in 0..500 {
            if is() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        false
    }

    #[test]
    fn ports_and_addresses_are_held_until_dropped() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take().unwrap()).collect();
        assert_eq!(ports.iter().map(Port::number).collect::<BTreeSet<_>>().len(), 50);
        let first = Address::take(&[9042]).unwrap();
        let second = Address::take(&[9042]).unwrap();
        assert_ne!(first.ip(), second.ip());
        let freed = first.ip();
        drop(first);
        assert!(soon(|| Address::take(&[9042]).unwrap().ip() == freed));
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(parsed("30000-30001"), Some(30_000..=30_001));
        assert_eq!(parsed("7 - 7"), Some(7..=7));
        for wrong in ["", "30000", "9-8", "0-5", "1-70000", "a-b"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        let said = Port::take_of(port..=port).unwrap_err().to_string();
        assert!(said.starts_with(&format!("every port from {port} to {port} of 127.0.0.1 is in use: stop")), "{said}");
        drop(busy);
        assert!(soon(|| Port::take_of(port..=port).is_ok_and(|taken| taken.number() == port)));
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let busy = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        assert_ne!(Address::take(&[port]).unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
    }
}
