//! room
pub mod log;
pub mod observe;
pub mod publish;
