//! The sidecar's wire: Medusa's gRPC contract, and the extension that our own sidecar speaks beside it.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

/// Medusa's service, as every stock client and server knows it.
pub mod medusa {
    tonic::include_proto!("_");
}

/// Our extension: fenced starts and a stream of progress.
pub mod sidecar {
    tonic::include_proto!("stheno.v1");
}
