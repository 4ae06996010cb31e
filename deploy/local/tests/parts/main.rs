//! The parts of the ground, each as it is, in one program: what waits for a server or for cass-operator waits beside the
//! rest. `cargo test -p stheno-local --test parts kubelet::` runs one suite of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "../datacenter/mod.rs"]
mod datacenter;

mod cassandra;
mod cluster;
mod control_plane;
mod ground;
mod kubelet;
mod nats;
mod provision;
mod quickstart;
mod s3;
