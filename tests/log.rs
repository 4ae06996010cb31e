//! The log against a real nats-server, and the log in memory beside it.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test: it ends at the first surprise"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/memory_log.rs"]
mod memory_log;
#[path = "support/proxy.rs"]
mod proxy;

#[path = "log/append.rs"]
mod append;
#[path = "log/clock.rs"]
mod clock;
#[path = "log/embedded.rs"]
mod embedded;
#[path = "log/fixture.rs"]
mod fixture;
#[path = "log/follow.rs"]
mod follow;
#[path = "log/opening.rs"]
mod opening;
#[path = "log/replicated.rs"]
mod replicated;
#[path = "log/same.rs"]
mod same;
#[path = "log/snapshot.rs"]
mod snapshot;
#[path = "log/witness.rs"]
mod witness;
