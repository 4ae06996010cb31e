//! The ground: real parts of a cluster as processes of this machine, without containers, for trying and for testing.
//!
//! [`provision`] builds and caches the programs, [`testing`] hands out running parts that end with their handle.
//! Of Stheno itself it knows only how to start it: [`stheno`].

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the ground needs Linux: its processes end with their parent by prctl, and ports are held by abstract sockets"
);

pub mod apply;
pub mod cassandra;
pub mod cluster;
pub mod control_plane;
pub mod datacenter;
pub mod grounds;
pub mod http;
pub mod kubelet;
pub mod nats;
pub mod ports;
pub mod process;
pub mod progress;
pub mod provision;
pub mod ring;
pub mod room;
pub mod run;
pub mod s3;
pub mod service;
pub mod stheno;
pub mod testing;

mod entry;
mod pki;
mod recipes;
mod remains;
mod toolchain;
