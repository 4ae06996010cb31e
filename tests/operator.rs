//! The operator as a process: a real API server with the rights of `deploy/rbac.yaml`, a real nats-server, and sidecars
//! that speak real gRPC.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "operator/ground.rs"]
mod ground;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/sidecar.rs"]
mod sidecar;

#[path = "operator/away.rs"]
mod away;
#[path = "operator/backup.rs"]
mod backup;
#[path = "operator/clock.rs"]
mod clock;
#[path = "operator/doubt.rs"]
mod doubt;
#[path = "operator/embedded.rs"]
mod embedded;
#[path = "operator/frozen.rs"]
mod frozen;
#[path = "operator/full.rs"]
mod full;
#[path = "operator/leaders.rs"]
mod leaders;
#[path = "operator/refused.rs"]
mod refused;
#[path = "operator/store.rs"]
mod store;
#[path = "operator/suspended.rs"]
mod suspended;
#[path = "operator/tollgate.rs"]
mod tollgate;
#[path = "operator/waiting.rs"]
mod waiting;
