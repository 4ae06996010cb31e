//! What a Prometheus sees of a sidecar. Units are in the names; sizes are bytes, times are seconds.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::backup::Progress;
use crate::purge::Totals;
use crate::state::{Phase, Record};

/// How a backup or a purge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum End {
    Finished,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    end: End,
}

/// The sidecar's metrics. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    backups: Family<Ended, Counter>,
    seconds: Option<Histogram>,
    running: Gauge,
    files_total: Gauge,
    files_done: Gauge,
    bytes_total: Gauge,
    bytes_done: Gauge,
    uploaded_bytes: Counter,
    uploaded_files: Counter,
    reused_files: Counter,
    finished: Gauge<f64, AtomicU64>,
    purges: Family<Ended, Counter>,
    purged_backups: Counter,
    purged_objects: Counter,
    purged_bytes: Counter,
    within_grace: Gauge,
    pub(crate) certificates: Counter,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        // From a second to nine hours.
        let seconds = Histogram::new(exponential_buckets(1.0, 2.0, 16));
        let metrics = Self { seconds: Some(seconds.clone()), ..Self::default() };
        let it = &metrics;
        let on = registry.sub_registry_with_prefix("stheno_agent");
        on.register("backups", "Backups of this node, by how they ended", it.backups.clone());
        on.register_with_unit("backup_duration", "From accepting a backup to its end", Unit::Seconds, seconds);
        on.register("backup_running", "Whether a backup runs", it.running.clone());
        on.register("backup_files", "Files of the backup that runs", it.files_total.clone());
        on.register("backup_done_files", "Of these, files that are in the bucket", it.files_done.clone());
        on.register_with_unit("backup_size", "The backup that runs", Unit::Bytes, it.bytes_total.clone());
        on.register_with_unit("backup_done_size", "Of it, what is in the bucket", Unit::Bytes, it.bytes_done.clone());
        let help = "When the last backup of this process finished, since the Unix epoch";
        on.register_with_unit("backup_finished_time", help, Unit::Seconds, it.finished.clone());
        let help = "Files of finished backups, new in the bucket";
        on.register("uploaded_files", help, it.uploaded_files.clone());
        let help = "Files of finished backups that were in the bucket already";
        on.register("reused_files", help, it.reused_files.clone());
        on.register_with_unit("backed_up", "Size of finished backups", Unit::Bytes, it.uploaded_bytes.clone());
        on.register("purges", "Purges and deletions, by how they ended", it.purges.clone());
        on.register("purged_backups", "Backups that were deleted", it.purged_backups.clone());
        on.register("purged_objects", "Objects that were deleted", it.purged_objects.clone());
        on.register_with_unit("purged", "Objects that were deleted", Unit::Bytes, it.purged_bytes.clone());
        let help = "Files of the pool that the last purge left for their grace period";
        on.register("unreferenced_files", help, it.within_grace.clone());
        let help = "Times that the certificates of gRPC were read anew";
        on.register("certificates_changed", help, it.certificates.clone());
        metrics
    }

    /// The backup that runs, as far as it is.
    pub(crate) fn progress(&self, progress: &Progress) {
        let count = |counter: &AtomicU64| i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.running.set(1);
        self.files_total.set(count(&progress.files_total));
        self.files_done.set(count(&progress.files_done));
        self.bytes_total.set(count(&progress.bytes_total));
        self.bytes_done.set(count(&progress.bytes_done));
    }

    /// A backup that has ended, accepted at `record.accepted_ms`.
    pub(crate) fn ended(&self, record: &Record, phase: &Phase, now_ms: i64) {
        self.idle();
        let (end, at_ms) = match phase {
            Phase::Finished { finished_ms, totals, .. } => {
                #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
                self.finished.set(*finished_ms as f64 / 1000.0);
                self.uploaded_bytes.inc_by(totals.bytes);
                self.uploaded_files.inc_by(totals.files.saturating_sub(totals.reused));
                self.reused_files.inc_by(totals.reused);
                (End::Finished, now_ms)
            }
            Phase::Failed { finished_ms, .. } => (End::Failed, *finished_ms),
            Phase::Starting { .. } | Phase::Uploading { .. } => return,
        };
        self.backups.get_or_create(&Ended { end }).inc();
        if let Some(seconds) = &self.seconds {
            #[allow(clippy::cast_precision_loss, reason = "milliseconds of one backup")]
            seconds.observe(at_ms.saturating_sub(record.accepted_ms).max(0) as f64 / 1000.0);
        }
    }

    /// No backup runs.
    pub(crate) fn idle(&self) {
        for gauge in [&self.running, &self.files_total, &self.files_done, &self.bytes_total, &self.bytes_done] {
            gauge.set(0);
        }
    }

    /// A purge or a deletion that has ended.
    pub(crate) fn purged(&self, totals: Option<&Totals>) {
        let end = if totals.is_some() { End::Finished } else { End::Failed };
        self.purges.get_or_create(&Ended { end }).inc();
        if let Some(totals) = totals {
            self.purged_backups.inc_by(totals.backups);
            self.purged_objects.inc_by(totals.objects);
            self.purged_bytes.inc_by(totals.bytes);
            self.within_grace.set(i64::try_from(totals.within_grace).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Done;

    #[test]
    fn what_happened_is_counted_in_named_units() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let record = Record {
            operation: "o".into(),
            attempt: 1,
            name: "n".into(),
            full: false,
            accepted_ms: 1_000,
            phase: Phase::Starting { touched: false },
        };
        let totals = Done { files: 10, bytes: 5000, reused: 4 };
        metrics.progress(&Progress::default());
        metrics.ended(&record, &Phase::Finished { started_ms: 1, finished_ms: 3_500, totals }, 4_000);
        metrics.purged(Some(&Totals { backups: 2, objects: 7, bytes: 70, within_grace: 3 }));
        metrics.purged(None);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "stheno_agent_backups_total{end=\"Finished\"} 1",
            "stheno_agent_backup_duration_seconds_sum 3.0",
            "stheno_agent_backup_running 0",
            "stheno_agent_backup_finished_time_seconds 3.5",
            "stheno_agent_uploaded_files_total 6",
            "stheno_agent_reused_files_total 4",
            "stheno_agent_backed_up_bytes_total 5000",
            "stheno_agent_purges_total{end=\"Failed\"} 1",
            "stheno_agent_purged_objects_total 7",
            "stheno_agent_purged_bytes_total 70",
            "stheno_agent_unreferenced_files 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
