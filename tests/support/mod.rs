//! What several suites use: false sidecars, ours as a process, a proxy, the log in memory and what every log must do, and
//! what comes from registries.

pub mod agent;
pub mod conformance;
pub mod memory_log;
pub mod proxy;
pub mod registries;
pub mod sidecar;
