//! The log against a real nats-server, and the log in memory beside it.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public interface")]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/memory_log.rs"]
mod memory_log;
#[path = "support/proxy.rs"]
mod proxy;

#[path = "log/append.rs"]
mod append;
#[path = "log/embedded.rs"]
mod embedded;
#[path = "log/fixture.rs"]
mod fixture;
#[path = "log/same.rs"]
mod same;
