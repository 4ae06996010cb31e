//! The operator as a process: a real API server with the rights of `deploy/rbac.yaml`, a real nats-server, and sidecars
//! that speak real gRPC.

pub mod ground;

mod away;
mod backup;
mod clock;
mod doubt;
mod embedded;
mod frozen;
mod full;
mod jobs;
mod leaders;
mod refused;
mod schedule;
mod store;
mod suspended;
mod tasks;
mod tollgate;
mod waiting;
