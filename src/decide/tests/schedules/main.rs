//! Schedules without edges: scenarios, the defects of today's operator, and 400 days of a bad life.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod attacked;
mod clockwork;
mod days;
mod defects;
mod jobs;
mod scenarios;
