//! Stheno's shell: the edges around the pure rooms, and the order in which they are driven.

pub mod audit;
pub mod cli;
pub mod effects;
pub mod http;
pub mod lease;
pub mod log;
pub mod observe;
pub mod operator;
pub mod publish;
pub mod runtime;
pub mod tail;
