//! Effects against a sidecar that speaks real gRPC: ours and stock, well and badly behaved.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "effects/fixture.rs"]
mod fixture;
#[path = "support/sidecar.rs"]
mod sidecar;

#[path = "effects/ours.rs"]
mod ours;
#[path = "effects/stock.rs"]
mod stock;
#[path = "effects/stops.rs"]
mod stops;
#[path = "effects/summary.rs"]
mod summary;
