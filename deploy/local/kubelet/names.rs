//! Instead of DNS: each pod has a hosts file with its own name, the services, and the pods behind them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;

use super::{Shared, lock};

/// Changes that come together are written together.
const PAUSE: Duration = Duration::from_millis(100);

/// Never ends.
pub(crate) async fn publish(shared: &Shared) {
    loop {
        shared.names_changed.notified().await;
        let places: Vec<_> = lock(&shared.places).values().cloned().collect();
        for place in places {
            let text = hosts(shared, &place.namespace, &place.name, &place.ip());
            if let Err(error) = rewrite(&place.hosts(), &text) {
                tracing::debug!("the hosts file of {} was not written: {error}", place.name);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// In place: the file is mounted in containers, and another file of the same name would not be.
fn rewrite(path: &Path, text: &str) -> std::io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let mut file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// The hosts file of one pod.
pub(crate) fn hosts(shared: &Shared, namespace: &str, name: &str, ip: &str) -> String {
    let mut own_lines = String::new();
    let mut text = String::new();
    let pods = lock(&shared.pods);
    for service in lock(&shared.services).values() {
        let home = service.namespace().unwrap_or_default();
        let service_name = service.name_any();
        for pod in pods.values().filter(|pod| pod.namespace().as_deref() == Some(&home) && stands_behind(pod, service))
        {
            let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) else { continue };
            let short = if home == namespace { format!(" {service_name}") } else { String::new() };
            let qualified = format!("{service_name}.{home}.svc");
            let _ = writeln!(text, "{address}{short} {service_name}.{home} {qualified} {qualified}.cluster.local");
            if let Some(host) = named_by(pod, &service_name) {
                let _ = writeln!(own_lines, "{address} {host}.{qualified}.cluster.local {host}.{qualified} {host}");
            }
        }
    }
    // The first name of an address is what a reverse lookup in DNS would give: that of the pod, not of a service.
    format!("127.0.0.1 localhost\n{ip} {name}\n{} ground-host\n{own_lines}{text}", shared.network.host())
}

/// The name that a pod has in DNS below a headless service: that of a StatefulSet below the set's own.
fn named_by<'a>(pod: &'a Pod, service: &str) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    spec.hostname.as_deref().filter(|_| spec.subdomain.as_deref() == Some(service))
}

fn stands_behind(pod: &Pod, service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { return false };
    let selected = selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    selected && (ready || spec.publish_not_ready_addresses == Some(true))
}
