//! Addresses of the ring -> names of nodes, as Medusa's hostname resolver finds them.

use std::net::IpAddr;
use std::path::Path;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::config::Naming;

/// Why a node has no name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pod that DNS does not know under a name of its own.
    #[error(
        "DNS gives the node {address} no pod name: check the headless service, or set resolve_ip_addresses = False in [cassandra]"
    )]
    Nameless {
        /// Whose.
        address: IpAddr,
    },
}

/// The name of the node at `address`.
pub(crate) async fn name_of(address: IpAddr, naming: Naming) -> Result<String, Error> {
    if naming == Naming::Address {
        return Ok(address.to_string());
    }
    let hosts = std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default();
    let mut known = listed(&hosts, address);
    known.extend(reverse(address).await);
    match naming {
        Naming::Address => Ok(address.to_string()),
        // Python's getfqdn: the first name with a dot, else the first, else the address.
        Naming::Host => {
            let full = known.iter().find(|name| name.contains('.')).or(known.first()).cloned();
            Ok(full.unwrap_or_else(|| address.to_string()))
        }
        Naming::Pod => pod(&known).ok_or(Error::Nameless { address }),
    }
}

/// The names that the hosts file gives an address.
fn listed(hosts: &str, address: IpAddr) -> Vec<String> {
    let mut names = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if words.next().and_then(|word| word.parse().ok()) == Some(address) {
            names.extend(words.map(str::to_owned));
        }
    }
    names
}

/// All names that DNS gives an address; none when it does not answer.
async fn reverse(address: IpAddr) -> Vec<String> {
    let Ok(builder) = TokioResolver::builder_tokio() else {
        return Vec::new();
    };
    let Ok(resolver) = builder.build() else {
        return Vec::new();
    };
    let Ok(found) = resolver.reverse_lookup(address).await else {
        return Vec::new();
    };
    let name = |data: &RData| {
        if let RData::PTR(name) = data { Some(name.to_utf8().trim_end_matches('.').to_owned()) } else { None }
    };
    found.answers().iter().filter_map(|record| name(&record.data)).collect()
}

/// The first label that is no address: services without pod names answer `10-0-0-1.service…`.
fn pod(names: &[String]) -> Option<String> {
    names.iter().find_map(|name| {
        let label = name.split('.').next()?;
        let number = |text: String| text.parse::<IpAddr>().is_ok();
        let is_address = number(label.replace('-', ".")) || number(label.replace('-', ":"));
        (!label.is_empty() && !is_address && label != "localhost").then(|| label.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_without_pod_names_are_passed_over() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let both = names(&["10-0-0-1.svc.ns.svc.cluster.local", "c-dc1-r1-sts-0.all.ns.svc.cluster.local"]);
        assert_eq!(pod(&both).as_deref(), Some("c-dc1-r1-sts-0"));
        assert_eq!(pod(&names(&["10-0-0-1.x", "fd00--1.x", "localhost"])), None);
    }

    #[test]
    fn the_hosts_file_is_read() {
        let hosts = "127.0.0.1 localhost\n10.0.0.7\tpod-a.svc pod-a # comment pod-b\n# 10.0.0.7 no\n";
        assert_eq!(listed(hosts, "10.0.0.7".parse().unwrap()), ["pod-a.svc", "pod-a"]);
        assert_eq!(listed(hosts, "10.0.0.8".parse().unwrap()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_address_is_its_own_name_when_asked() {
        assert_eq!(name_of("10.0.0.7".parse().unwrap(), Naming::Address).await.unwrap(), "10.0.0.7");
    }
}
