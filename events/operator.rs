//! The operator itself: the log's first moment, terms, checkpoints.

use crate::{Digest, Epoch, Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

family! { "operator":
    /// The log's first moment: objects that are older than it are adopted, not obeyed.
    Genesis = "genesis" v 1 critical,
    /// A new term begins.
    Leading = "leading" v 1 critical,
    /// The leader ended its term with nothing in flight.
    SteppedDown = "stepped_down" v 1 critical,
    /// A person accepted an API server whose store went back to an older state: what it lacks is gone, and work goes on.
    ApiAccepted = "api_accepted" v 1 critical,
    /// What the log holds up to here, for later comparison.
    Checkpoint = "checkpoint" v 1 informational,
}

/// The log's first moment.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Genesis {
    /// UID of namespace kube-system: the cluster that this log is about.
    pub cluster: Uid,
    /// The moment.
    pub at: Time,
}

/// A new term begins.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Leading {
    /// The term.
    pub epoch: Epoch,
    /// The leader's identity in the Lease.
    pub identity: Arc<str>,
}

/// A term ended in order.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SteppedDown {
    /// The term.
    pub epoch: Epoch,
}

/// A person accepted the API server's store as it is.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ApiAccepted {
    /// The message of the log up to which the person knew of it: what went back later is not accepted.
    pub until: u64,
}

/// What the log holds up to here.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The stream sequence that it speaks of.
    pub sequence: u64,
    /// The last message of each aggregate that changed since the checkpoint before: subject filter to digest.
    pub heads: BTreeMap<Arc<str>, Digest>,
    /// The root over the heads of all aggregates.
    pub root: Digest,
    /// Ed25519 over `stheno checkpoint v1\0`, `sequence` (big endian) and `root`, hexadecimal, where a key is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Arc<str>>,
}
