//! Watching and publishing against a real API server, as the service account of `deploy/rbac.yaml`.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "a test is an edge: it reads the clock itself")]

#[path = "kubernetes/fixture.rs"]
mod fixture;
#[path = "kubernetes/operator.rs"]
mod operator;

#[allow(dead_code, reason = "it serves another test too")]
#[path = "operator/ground.rs"]
mod process;
#[allow(dead_code, reason = "it serves other tests too")]
#[path = "support/sidecar.rs"]
mod sidecar;

#[path = "kubernetes/adoption.rs"]
mod adoption;
#[path = "kubernetes/arrows.rs"]
mod arrows;
#[path = "kubernetes/fences.rs"]
mod fences;
#[path = "kubernetes/interrupted.rs"]
mod interrupted;
#[path = "kubernetes/kinds.rs"]
mod kinds;
#[path = "kubernetes/seen.rs"]
mod seen;
#[path = "kubernetes/troubled.rs"]
mod troubled;
