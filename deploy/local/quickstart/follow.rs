//! Follows the MedusaBackupJob to its end, with a progress bar for each node.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use stheno_crds::backup_job::{MedusaBackupJob, MedusaBackupJobStatus};
use stheno_local::progress::say;
use tokio::time::timeout;

/// A backup of one small node takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns when the job has ended well; a failed node, or a job that does not end, is an error.
pub(crate) async fn job(client: Client, name: &str) -> anyhow::Result<()> {
    let jobs: Api<MedusaBackupJob> = Api::default_namespaced(client);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut sights = pin!(watcher(jobs, config).default_backoff().applied_objects());
    let mut nodes = Nodes::default();
    let mut last = MedusaBackupJobStatus::default();
    let ended = timeout(PATIENCE, async {
        while let Some(job) = sights.try_next().await? {
            last = job.status.unwrap_or_default();
            nodes.show(&last);
            if last.finish_time.is_some() {
                return anyhow::Ok(());
            }
        }
        bail!("the watch of the job ended")
    });
    let outcome = ended.await;
    drop(nodes);
    let said = last.message.as_deref().unwrap_or("its status says nothing");
    outcome.with_context(|| format!("the job has not ended after {} s: {said}", PATIENCE.as_secs()))??;
    if last.failed.is_empty() { Ok(()) } else { bail!("the backup failed on {}: {said}", last.failed.join(", ")) }
}

/// One bar for each pod on a terminal; one line for each change of a pod's state elsewhere.
#[derive(Default)]
struct Nodes {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    states: BTreeMap<String, String>,
}

impl Nodes {
    fn show(&mut self, status: &MedusaBackupJobStatus) {
        let waiting = status.in_progress.iter().map(|pod| (pod, "running"));
        let done = status.finished.iter().map(|pod| (pod, "done"));
        let failed = status.failed.iter().map(|pod| (pod, "failed"));
        for (pod, state) in waiting.chain(done).chain(failed) {
            let detail = status.nodes.iter().find(|node| &node.pod == pod);
            let files = detail.and_then(|node| Some(format!(", {} files, {} bytes", node.files?, node.bytes?)));
            let line = format!("{state}{}", files.unwrap_or_default());
            if self.states.get(pod) == Some(&line) {
                continue;
            }
            self.states.insert(pod.clone(), line.clone());
            if std::io::stderr().is_terminal() {
                self.bar(pod, state != "running").set_message(line);
            } else {
                say(&format!("  {pod}: {line}"));
            }
        }
    }

    fn bar(&mut self, pod: &str, ended: bool) -> &ProgressBar {
        let all = &self.all;
        let bar = self.bars.entry(pod.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(1));
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix} {bar:20} {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(pod.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if ended {
            bar.set_position(1);
            bar.disable_steady_tick();
        }
        bar
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.bars.values().for_each(ProgressBar::abandon);
    }
}
