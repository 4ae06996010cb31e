//! Stheno's shell: the edges around the pure rooms, and the order in which they are driven.

pub mod effects;
pub mod log;
pub mod runtime;
