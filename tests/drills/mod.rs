//! Drills: what an operator must live through, done to real parts. A control plane with RBAC, nats-server, operators and
//! a sidecar beside a real Cassandra node are killed, suspended and put back to older copies of themselves; afterwards
//! the API server, the log and the bucket must agree on what happened, and nothing may have happened twice.

mod clocks;
pub mod house;
mod kills;
mod old_copies;
mod operators;
mod replicas;
mod truth;
mod unknown;
mod writer;
