//! The one place of the sidecar that reads a clock; a bucket's times are the store's.

use chrono::Utc;

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "the sidecar is an edge, and this is where it reads its clock")]
pub(crate) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}
