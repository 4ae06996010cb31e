//! Given events, when it is this time, then these events and effects: one scenario for each rule of the task process.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says so, and tells of an event what matters"
)]

mod purge;
mod scenario;
mod sync;
