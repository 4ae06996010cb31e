//! Stheno: an event-sourced orchestrator for Medusa backups of Apache Cassandra on Kubernetes.

pub mod log;
pub mod observe;
pub mod publish;
