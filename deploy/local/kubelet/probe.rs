//! Probes of a running container: exec, HTTP, TCP and gRPC, with delays, periods and thresholds as the spec says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::Pace;
use super::container::{Runner, Running};
use crate::http;

const HURRIED_DELAY: Duration = Duration::from_millis(200);
/// How long a container that does not answer is not called running.
const LONGEST_START: Duration = Duration::from_secs(10);
const HURRIED_PERIOD: Duration = Duration::from_secs(1);

/// Keeps the container's readiness; returns why it must be restarted, when its startup or liveness probe has failed.
pub(crate) async fn watch(runner: &Runner<'_>, container: &Container, running: &Running) -> String {
    if let Some(startup) = &container.startup_probe {
        runner.status.started(&container.name, false);
        if let Some(failed) = until_started(runner, container, running, startup).await {
            return failed;
        }
        runner.status.started(&container.name, true);
        runner.status.ready(&container.name, container.readiness_probe.is_none());
    }
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => keep_ready(runner, container, running, probe).await,
            None => std::future::pending().await,
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => until_dead(runner, container, running, probe).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => "its readiness is not watched any more".to_owned(),
        why = liveness => why,
    }
}

/// With hurried probes: waits until the liveness probe of a container that was just launched succeeds, for a while.
pub(crate) async fn until_it_answers(runner: &Runner<'_>, container: &Container, running: &Running) {
    let Some(probe) = container.liveness_probe.as_ref().filter(|_| runner.shared.pace == Pace::Hurried) else { return };
    let answers = async {
        while !check(runner, container, running, probe).await {
            sleep(HURRIED_DELAY / 4).await;
        }
    };
    let _ = timeout(LONGEST_START, answers).await;
}

async fn until_started(runner: &Runner<'_>, container: &Container, running: &Running, probe: &Probe) -> Option<String> {
    let mut failures = 0;
    sleep(delay(runner, probe)).await;
    loop {
        if check(runner, container, running, probe).await {
            return None;
        }
        failures += 1;
        if failures >= probe.failure_threshold.unwrap_or(3) {
            return Some(format!("the startup probe failed {failures} times"));
        }
        sleep(period(runner, probe)).await;
    }
}

async fn keep_ready(runner: &Runner<'_>, container: &Container, running: &Running, probe: &Probe) {
    let (mut good, mut bad) = (0, 0);
    sleep(delay(runner, probe)).await;
    loop {
        if check(runner, container, running, probe).await {
            (good, bad) = (good + 1, 0);
        } else {
            (good, bad) = (0, bad + 1);
        }
        if good >= probe.success_threshold.unwrap_or(1) {
            runner.status.ready(&container.name, true);
        } else if bad >= probe.failure_threshold.unwrap_or(3) {
            runner.status.ready(&container.name, false);
        }
        sleep(period(runner, probe)).await;
    }
}

async fn until_dead(runner: &Runner<'_>, container: &Container, running: &Running, probe: &Probe) -> String {
    let mut failures = 0;
    sleep(delay(runner, probe)).await;
    loop {
        failures = if check(runner, container, running, probe).await { 0 } else { failures + 1 };
        if failures >= probe.failure_threshold.unwrap_or(3) {
            return format!("the liveness probe failed {failures} times");
        }
        sleep(period(runner, probe)).await;
    }
}

fn seconds(value: Option<i32>, otherwise: u64) -> Duration {
    Duration::from_secs(value.map_or(otherwise, |seconds| u64::from(seconds.unsigned_abs())))
}

fn delay(runner: &Runner<'_>, probe: &Probe) -> Duration {
    match runner.shared.pace {
        Pace::AsSpecified => seconds(probe.initial_delay_seconds, 0),
        Pace::Hurried => HURRIED_DELAY,
    }
}

fn period(runner: &Runner<'_>, probe: &Probe) -> Duration {
    let specified = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    match runner.shared.pace {
        Pace::AsSpecified => specified,
        Pace::Hurried => specified.min(HURRIED_PERIOD),
    }
}

async fn check(runner: &Runner<'_>, container: &Container, running: &Running, probe: &Probe) -> bool {
    let patience = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let ip = IpAddr::from(runner.place.network.ip());
    let ask = async {
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return match health_probe_port(&command) {
                Some((port, service)) => serving(SocketAddr::new(ip, port), &service).await,
                None => runner.exec(container, running, &command, patience).await,
            };
        }
        if let Some(get) = &probe.http_get {
            let Some(address) = address(container, get.host.as_deref(), &get.port, ip) else { return false };
            let answer = http::get(address, get.path.as_deref().unwrap_or("/")).await;
            return answer.is_some_and(|(status, _)| (200..400).contains(&status));
        }
        if let Some(socket) = &probe.tcp_socket {
            let Some(address) = address(container, socket.host.as_deref(), &socket.port, ip) else { return false };
            return TcpStream::connect(address).await.is_ok();
        }
        if let Some(grpc) = &probe.grpc {
            let Ok(port) = u16::try_from(grpc.port) else { return false };
            return serving(SocketAddr::new(ip, port), grpc.service.as_deref().unwrap_or_default()).await;
        }
        true
    };
    timeout(patience, ask).await.unwrap_or(false)
}

fn address(container: &Container, host: Option<&str>, port: &IntOrString, ip: IpAddr) -> Option<SocketAddr> {
    let host = host.filter(|host| !host.is_empty()).map_or(Some(ip), |host| host.parse().ok())?;
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port)?
        }
    };
    Some(SocketAddr::new(host, u16::try_from(number).ok()?))
}

/// Asks the health service of gRPC.
async fn serving(address: SocketAddr, service: &str) -> bool {
    let Ok(endpoint) = tonic::transport::Endpoint::from_shared(format!("http://{address}")) else { return false };
    let Ok(channel) = endpoint.connect().await else { return false };
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// `grpc_health_probe` comes with images; the kubelet asks what it would, at the port and service that it is given.
fn health_probe_port(command: &[String]) -> Option<(u16, String)> {
    let (program, arguments) = command.split_first()?;
    if program.rsplit('/').next() != Some("grpc_health_probe") || arguments.iter().any(|word| word.contains("tls")) {
        return None;
    }
    let value = |name: &str| {
        let word = arguments.iter().map(|word| word.trim_start_matches('-'));
        word.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).next_back().map(str::to_owned)
    };
    let port = value("addr")?.rsplit(':').next()?.parse().ok()?;
    Some((port, value("service").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_probe_of_images_is_understood() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let port = |line: &str| health_probe_port(&words(line));
        assert_eq!(port("/bin/grpc_health_probe --addr=:50051"), Some((50051, String::new())));
        assert_eq!(port("grpc_health_probe -service=a -addr=localhost:1"), Some((1, "a".to_owned())));
        assert_eq!(port("/bin/grpc_health_probe --addr=:50051 --tls"), None);
        assert_eq!(port("curl --addr=:50051"), None);
    }

    #[tokio::test]
    async fn the_health_service_is_really_asked() {
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(!serving(address, "").await);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(address));
        let until = async |service: &str, wanted: bool| {
            for _ in 0..100 {
                if serving(address, service).await == wanted {
                    return true;
                }
                sleep(Duration::from_millis(20)).await;
            }
            false
        };
        assert!(until("", true).await);
        assert!(!serving(address, "medusa").await);
        reporter.set_service_status("medusa", tonic_health::ServingStatus::Serving).await;
        assert!(serving(address, "medusa").await);
        reporter.set_service_status("medusa", tonic_health::ServingStatus::NotServing).await;
        assert!(!serving(address, "medusa").await);
    }
}
