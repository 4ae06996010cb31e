//! The process's edges: clocks, signals, tracing. The only file that reads a clock.

use stheno_events::Time;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The wall clock, to the millisecond that the log keeps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> Time {
    stheno_events::to_millis(chrono::Utc::now())
}

/// Milliseconds since boot, by a clock that goes on while the machine is suspended.
#[must_use]
pub fn boot_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // Linux has this clock since 2.6.39; a kernel without it is not one that runs a container.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    time.map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds * 1_000 + nanos / 1_000_000
    })
}

/// Why the process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    /// The filter of the logs is no filter.
    #[error("{0:?} is no filter for logs: use a level such as info, or directives such as stheno=debug,warn")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Somebody set up tracing before.
    #[error("logs are set up already")]
    Tracing(#[source] tracing_subscriber::util::TryInitError),
}

/// Chooses the cryptography of all TLS here: several are linked in by what we use, and none is the default then.
pub fn crypto() {
    // An error means that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How the process's own logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the process's own logs to stderr.
///
/// # Errors
/// When the filter cannot be read, or logs are set up already.
pub fn trace(filter: &str, format: LogFormat) -> Result<(), Error> {
    use std::io::IsTerminal as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let directives = EnvFilter::try_new(filter).map_err(|error| Error::Filter(filter.to_owned(), error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.with_target(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(Error::Tracing)
}

/// A token that SIGTERM or SIGINT cancels; a second signal ends the process at once.
///
/// # Errors
/// When signals cannot be received.
pub fn shutdown() -> Result<CancellationToken, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if again {
                tracing::warn!("{name} for the second time: ending without waiting for what is under way");
                std::process::exit(1);
            }
            tracing::info!("{name}: stopping");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// A new message id: ordered by time.
#[must_use]
pub fn new_id() -> stheno_events::EventId {
    uuid::Uuid::now_v7().to_string().into()
}

/// A name for this process that no other one has: the pod's, or the machine's, and something drawn.
#[must_use]
pub fn identity() -> String {
    let machine = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()).or_else(machine);
    let drawn = uuid::Uuid::new_v4().simple().to_string();
    format!("{}_{}", name.as_deref().unwrap_or("stheno"), &drawn[..8])
}

/// The user's folder for what programs keep: `$XDG_STATE_HOME/stheno`, else `~/.local/state/stheno`.
#[must_use]
pub fn data_dir() -> Option<std::path::PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(std::path::PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("stheno"))
}
