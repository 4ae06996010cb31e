//! The log against a real nats-server, and the log in memory beside it.

mod append;
mod clock;
mod embedded;
mod fixture;
mod follow;
mod opening;
mod replicated;
mod same;
mod snapshot;
mod witness;
