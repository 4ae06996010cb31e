//! room
pub mod audit;
pub mod log;
pub mod observe;
pub mod publish;
pub mod tail;
