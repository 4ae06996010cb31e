//! Drills: what an operator must live through, done to real parts. A control plane with RBAC, nats-server, operators and
//! a sidecar beside a real Cassandra node are killed, suspended and put back to older copies of themselves; afterwards
//! the API server, the log and the bucket must agree on what happened, and nothing may have happened twice.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/agent.rs"]
mod agent;
#[path = "../operator/ground.rs"]
mod ground;
#[path = "../support/sidecar.rs"]
mod sidecar;

mod clocks;
mod house;
mod kills;
mod old_copies;
mod operators;
mod replicas;
mod truth;
mod unknown;
mod writer;
