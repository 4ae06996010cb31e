//! room
pub mod log;
