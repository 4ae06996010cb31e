//! What is read off: percentiles, resident memory, requests as the API server counts them, ends as a watch sees them.

use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;
use stheno_crds::MedusaBackupJob;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Median, 99th percentile and maximum.
pub fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (median, late, last) = (millis(at(0.5)), millis(at(0.99)), millis(at(1.0)));
    format!("p50 {median:.0} ms, p99 {late:.0} ms, most {last:.0} ms")
}

/// Memory of a process, in KiB.
pub struct Footprint(BTreeMap<String, u64>);

impl Footprint {
    pub fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().strip_suffix(" kB")?.parse().ok()?))
        };
        Self(status.lines().filter_map(value).collect())
    }

    /// What is resident now, in MiB.
    pub fn resident(&self) -> f64 {
        self.0.get("VmRSS").copied().unwrap_or_default() as f64 / 1024.0
    }
}

impl Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |name: &str| self.0.get(name).copied().unwrap_or_default() as f64 / 1024.0;
        let (all, own, most) = (mib("VmRSS"), mib("RssAnon"), mib("VmHWM"));
        write!(f, "{all:.1} MiB ({own:.1} its own, the rest is mapped from the program), at most {most:.1}")
    }
}

/// Requests that the API server has answered, by verb and resource: of what an operator asks for, and nobody else here.
#[derive(Default)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    pub async fn read(admin: &Client) -> Self {
        let request = tonic::codegen::http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = admin.request_text(request).await.unwrap();
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_default();
                rest.split('"').next().unwrap_or_default()
            };
            let (verb, resource, part) = (label("verb"), label("resource"), label("subresource"));
            let watched =
                ["medusabackupjobs", "medusabackups", "medusabackupschedules", "cassandradatacenters", "pods"]
                    .contains(&resource);
            let kept = watched || ["events", "configmaps"].contains(&resource);
            // Jobs are created by the benchmark; a watch is counted when it ends.
            let own = (verb, resource, part) == ("POST", "medusabackupjobs", "");
            if !kept || own || verb == "WATCH" {
                continue;
            }
            let part = if part.is_empty() { String::new() } else { format!("/{part}") };
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *counts.entry(format!("{verb} {resource}{part}")).or_default() += count as u64;
        }
        Self(counts)
    }

    /// What came since.
    pub fn since(mut self, before: &Self) -> Self {
        self.0.iter_mut().for_each(|(name, count)| *count -= before.0.get(name).copied().unwrap_or_default());
        self.0.retain(|_, count| *count > 0);
        self
    }

    /// Those that change something, but for the witness, a ConfigMap.
    pub fn writes(&self) -> u64 {
        let changes = |name: &str| !["GET", "LIST", "WATCH"].iter().any(|verb| name.starts_with(verb));
        let counted = |name: &str| changes(name) && !name.contains("configmaps");
        self.0.iter().filter(|(name, _)| counted(name)).map(|(_, count)| count).sum()
    }

    /// The mean of `parts`.
    pub fn each(&self, parts: usize) -> String {
        let mean = |count: u64| count as f64 / parts as f64;
        let parts: Vec<String> = self.0.iter().map(|(name, count)| format!("{:.2} {name}", mean(*count))).collect();
        format!("{:.1}: {}", mean(self.0.values().sum()), parts.join(", "))
    }
}

impl Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, count)| format!("{count} {name}")).collect();
        write!(f, "{}: {}", self.0.values().sum::<u64>(), parts.join(", "))
    }
}

/// When a watch showed the ends of jobs.
pub struct Ends(mpsc::UnboundedReceiver<(String, Instant)>);

impl Ends {
    pub async fn watch(jobs: Api<MedusaBackupJob>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (ready, listed) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            let mut ended = std::collections::BTreeSet::new();
            let mut events = std::pin::pin!(watcher::watcher(jobs, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let at = Instant::now();
                // It goes on by itself after an error; whoever waits for an end has a deadline.
                let Ok(event) = event else { continue };
                match event {
                    watcher::Event::Apply(job) | watcher::Event::InitApply(job) => {
                        let over = job.status.as_ref().is_some_and(|status| status.finish_time.is_some());
                        if over && ended.insert(job.name_any()) {
                            sender.send((job.name_any(), at)).unwrap();
                        }
                    }
                    watcher::Event::InitDone => ready.take().into_iter().for_each(|ready| ready.send(()).unwrap()),
                    watcher::Event::Init | watcher::Event::Delete(_) => {}
                }
            }
        });
        listed.await.unwrap();
        Self(receiver)
    }

    /// When the job of this name, the only one that runs, was seen to have ended.
    pub async fn of(&mut self, name: &str) -> Instant {
        let (ended, at) = tokio::time::timeout(Duration::from_secs(60), self.0.recv()).await.expect("an end").unwrap();
        assert_eq!(ended, name);
        at
    }

    /// Waits for as many ends.
    pub async fn all(&mut self, count: usize) {
        for number in 0..count {
            let end = tokio::time::timeout(Duration::from_secs(120), self.0.recv()).await;
            assert!(end.is_ok(), "{number} of {count} ended");
        }
    }
}
