//! What it means: folds over the log. State and event in, state out; no clock, no network, no choice.
//!
//! [`World`] is the whole state. It is serialisable, so it is also the snapshot; [`LAYOUT`] invalidates older ones.

pub mod backup;
pub mod datacenter;
pub mod operator;
pub mod schedule;
pub mod status;
pub mod task;
pub mod world;

pub use datacenter::Datacenter;
pub use world::{Head, Message, Touched, World};

/// The layout of the serialised [`World`]: raised with every change of its shape or of what a fold does.
pub const LAYOUT: u32 = 7;
