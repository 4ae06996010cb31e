//! A datacenter as a unit of consistency: who leads it, and which one of its name it is.

use crate::{Epoch, PodName, Time, Uid, family::family};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

family! { "datacenter":
    /// A leader takes the aggregate: from here on nothing of an earlier leader can be appended.
    Led = "led" v 1 critical,
    /// Another CassandraDatacenter of the same name: open operations of the former one end.
    Incarnation = "incarnation" v 1 critical,
    /// A sidecar has served a later term than the one that runs: the log was put back, or begun anew. The leader begins
    /// a term above it.
    Overtaken = "overtaken" v 1 informational,
}

/// A leader takes the aggregate.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Led {
    /// The leader's term.
    pub epoch: Epoch,
    /// No effect is started here before: a paused former leader may still be finishing one. Absent when there was no
    /// leader before, or it stepped down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<Time>,
}

/// Another datacenter of the same name.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Incarnation {
    /// The former UID.
    pub former: Uid,
    /// The UID from now on.
    pub uid: Uid,
}

/// A sidecar has served a later term.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Overtaken {
    /// The pod whose sidecar says so.
    pub pod: PodName,
    /// The highest term that it has served: it refuses lower ones. One behind [`Epoch::LAST`] is no term.
    pub epoch: Epoch,
}
