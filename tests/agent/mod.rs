//! The sidecar on real parts: a Cassandra node, an S3 server, and Medusa itself as reader, writer and client.

mod acceptance;
mod claims;
mod clouds;
mod contents;
mod encrypted;
mod faults;
mod ground;
mod guarded;
mod hazards;
mod jolokia;
mod keeping;
mod medusa;
mod mounts;
mod progress;
mod proxy;
mod purge;
mod restore;
mod revive;
mod sealed;
mod several;
mod stops;
mod switched;
mod troubles;
