//! Effects against a sidecar that speaks real gRPC: ours and stock, well and badly behaved.

mod fixture;

mod ours;
mod stock;
mod stops;
mod summary;
mod tasks;
