//! What a run is: how many of what, and what goes wrong how often.

use crate::sidecar::Kind;
use stheno_events::observed::JobRules;

/// Chances in a thousand, at each occasion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost_request: u32,
    pub(crate) lost_ack: u32,
    pub(crate) late_request: u32,
    pub(crate) slow_calls: u32,
    pub(crate) lost_reply: u32,
    /// Pauses of a whole process, and how long at most.
    pub(crate) pauses: u32,
    pub(crate) kills: u32,
    pub(crate) lease_flaps: u32,
    /// Terms that end in order.
    pub(crate) hands_over: u32,
    /// What happens together with the next thing, before anything is made of either.
    pub(crate) crowds: u32,
    /// Clocks that cannot be trusted and the like, for a while.
    pub(crate) obstacles: u32,
    pub(crate) sidecar_restarts: u32,
    pub(crate) sidecar_failures: u32,
    pub(crate) pod_replacements: u32,
    pub(crate) user_deletes: u32,
}

impl Faults {
    pub(crate) fn leaders() -> Self {
        Self {
            lost_ack: 30,
            lost_request: 30,
            late_request: 30,
            slow_calls: 300,
            pauses: 4,
            lease_flaps: 4,
            hands_over: 4,
            crowds: 200,
            obstacles: 3,
            kills: 1,
            ..Self::default()
        }
    }

    pub(crate) fn everything() -> Self {
        Self {
            lost_reply: 30,
            sidecar_restarts: 3,
            sidecar_failures: 60,
            pod_replacements: 2,
            user_deletes: 30,
            ..Self::leaders()
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) nodes: u64,
    pub(crate) seed: u64,
    /// The side of an edge at which the operator dies.
    pub(crate) crash_at: Option<u64>,
    pub(crate) faults: Faults,
    pub(crate) operators: u64,
    /// Whether the API server's store is put back to an older copy on the way.
    pub(crate) put_back: bool,
    /// A schedule with these times instead of a job that a person asks for.
    pub(crate) schedule: Option<&'static str>,
    /// Whether all operators are away for a while.
    pub(crate) outages: bool,
    /// Whether people ask for purges and syncs too.
    pub(crate) tasks: bool,
    /// The rules of the job that a person asks for.
    pub(crate) rules: JobRules,
    /// What a person does to that job while it runs; then another one is asked for.
    pub(crate) wish: Option<Wish>,
}

/// What a person does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing: there is another job behind it.
    Patience,
    /// Cancels it by the annotation.
    Cancel,
    /// Deletes it.
    Delete,
    /// Suspends it, and lets it go on after a while.
    Suspend,
}
