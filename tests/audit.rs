//! The audit tool and the event stream: on messages in memory, on exported files, and on a real nats-server.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public interface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what a test needs may fail the test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the case that it means")]

#[path = "audit/accounts.rs"]
mod accounts;
#[path = "audit/archive.rs"]
mod archive;
#[path = "audit/bad_input.rs"]
mod bad_input;
#[path = "audit/catalogue.rs"]
mod catalogue;
#[path = "audit/consumers.rs"]
mod consumers;
#[path = "audit/golden.rs"]
mod golden;
#[path = "audit/history.rs"]
mod history;
#[path = "audit/import.rs"]
mod import;
#[path = "audit/nats.rs"]
mod nats;
#[path = "audit/process.rs"]
mod process;
#[path = "audit/redact.rs"]
mod redact;
#[path = "audit/redecide.rs"]
mod redecide;
#[path = "support/registries.rs"]
#[allow(dead_code, reason = "shared with other tests, which take more")]
mod registries;
#[path = "audit/schema.rs"]
mod schema;
#[path = "support/story.rs"]
mod story;
#[path = "audit/tampering.rs"]
mod tampering;
#[path = "audit/verify.rs"]
mod verify;
#[path = "audit/vouch.rs"]
mod vouch;
#[path = "audit/why.rs"]
mod why;
