//! What a Prometheus sees of the operator.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use stheno_decide::Call;
use stheno_events::{backup, task};

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum AppendEnd {
    Committed,
    Conflict,
    Refused,
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppendLabels {
    end: AppendEnd,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

/// The operator's metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    appends: Family<AppendLabels, Counter>,
    append_seconds: Histogram,
    effects: Family<CallLabels, Counter>,
    pub(super) running: Gauge,
    pub(super) folded: Counter,
    pub(super) position: Gauge,
    pub(super) epoch: Gauge,
    pub(super) leading: Gauge,
    pub(super) connected: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            appends: Family::default(),
            // From half a millisecond to sixteen seconds.
            append_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            effects: Family::default(),
            running: Gauge::default(),
            folded: Counter::default(),
            position: Gauge::default(),
            epoch: Gauge::default(),
            leading: Gauge::default(),
            connected: Gauge::default(),
        };
        registry.register("stheno_appends", "Appends to the log, by how they ended", metrics.appends.clone());
        registry.register_with_unit(
            "stheno_append",
            "From sending a message to knowing its fate",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        registry.register("stheno_effects", "Calls to sidecars that were started", metrics.effects.clone());
        registry.register("stheno_effects_running", "Calls to sidecars that run", metrics.running.clone());
        registry.register("stheno_messages_folded", "Messages of the log that were folded", metrics.folded.clone());
        registry.register("stheno_log_position", "Stream sequence folded", metrics.position.clone());
        registry.register("stheno_epoch", "The term that runs, or ran last", metrics.epoch.clone());
        registry.register("stheno_leading", "Whether this process leads", metrics.leading.clone());
        registry.register("stheno_log_connected", "Whether the log can be reached", metrics.connected.clone());
        metrics
    }

    pub(super) fn appended(&self, end: AppendEnd, millis: u64) {
        self.appends.get_or_create(&AppendLabels { end }).inc();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one append")]
        self.append_seconds.observe(millis as f64 / 1_000.0);
    }

    pub(super) fn started(&self, call: &Call) {
        let call = match call {
            Call::Backup(backup::Call::Start(_)) => "start",
            Call::Backup(backup::Call::Resume(_)) => "resume",
            Call::Backup(backup::Call::Stop(_)) => "stop",
            Call::Backup(backup::Call::Summary(_)) => "summary",
            Call::Task(task::Call::Purge(_)) => "purge",
            Call::Task(task::Call::Prepare(_)) => "prepare",
            Call::Task(task::Call::List(_)) => "list",
            Call::Task(task::Call::Plan(_)) => "plan",
        };
        self.effects.get_or_create(&CallLabels { call }).inc();
    }
}
