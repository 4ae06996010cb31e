//! Free ports and loopback addresses, held so that two grounds on one machine never get the same one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// Below the range from which the kernel takes ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Nothing was free.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every port of the range is taken.
    #[error("no free port between {} and {} on 127.0.0.1: stop other grounds or servers", PORTS.start, PORTS.end)]
    NoPort,
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
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let span = PORTS.end - PORTS.start;
        // Processes begin at different places, so that they rarely meet.
        let start = u16::try_from(u64::from(std::process::id()) * 97 % u64::from(span)).unwrap_or_default();
        (0..span)
            .map(|step| PORTS.start + (start + step) % span)
            .find_map(|number| {
                let hold = hold(&format!("port-{number}")).ok()?;
                bindable(ip, number).then_some(Self { number, _hold: hold })
            })
            .ok_or(Error::NoPort)
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

fn bindable(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_and_addresses_are_held_until_dropped() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take().unwrap()).collect();
        assert_eq!(ports.iter().map(Port::number).collect::<BTreeSet<_>>().len(), 50);
        let first = Address::take(&[9042]).unwrap();
        let second = Address::take(&[9042]).unwrap();
        assert_ne!(first.ip(), second.ip());
        let freed = first.ip();
        drop(first);
        assert_eq!(Address::take(&[9042]).unwrap().ip(), freed);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let busy = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        assert_ne!(Address::take(&[port]).unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
    }
}
