//! All that is tried on real parts, as one program: whatever waits for a server, a Lease or a deadline waits beside the
//! rest. `cargo test --test parts operator::` runs one suite of it.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no public interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "a test is an edge: it reads the clock itself")]

mod support;

mod agent;
mod drills;
mod effects;
mod kubernetes;
mod log;
mod operator;
mod path;
