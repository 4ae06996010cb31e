//! room
pub mod audit;
pub mod log;
