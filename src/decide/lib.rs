//! What to do about it: the pure front door. State and time in; events, effects and the next moment of interest out.
//!
//! Nothing here awaits, reads a clock or an environment, or draws a random number. [`engine`] is the order of the arrows
//! as a state machine without I/O: the operator drives it with real edges, the simulation with false ones.

pub mod backup;
pub mod cron;
pub mod draft;
pub mod effect;
pub mod engine;
pub mod host_map;
pub mod listing;
pub mod names;
pub mod observation;
pub mod policy;
pub mod restorable;
pub mod schedule;
pub mod task;

pub use effect::{Call, Effect, EffectKey};
pub use observation::Observation;

use stheno_events::{DcKey, Epoch, Event, Time, datacenter};
use stheno_projections::Datacenter;

/// What a decision may know beside the datacenter's state.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The datacenter.
    pub key: &'a DcKey,
    /// The time of the decision: never earlier than the log's.
    pub now: Time,
    /// The term that decides.
    pub epoch: Epoch,
}

/// The decisions that follow from the state, in order; empty when there is nothing to decide. The caller folds them and
/// asks again until nothing follows.
#[must_use]
pub fn decide(dc: &Datacenter, context: Context<'_>) -> Vec<Event> {
    if dc.frozen.is_some() {
        return Vec::new();
    }
    if let (Some(object), Some(former)) = (&dc.object, &dc.uid)
        && object.meta.uid != *former
    {
        return replaced(dc, former, &object.meta.uid);
    }
    // Who waits is settled process by process: a task sees which backup took the datacenter, a schedule what runs.
    let decided = backup::decide(dc, context);
    if !decided.is_empty() {
        return decided;
    }
    let decided = task::decide(dc, context);
    if decided.is_empty() { schedule::decide(dc, context) } else { decided }
}

/// Another datacenter of the same name: what runs on the former one ends.
fn replaced(dc: &Datacenter, former: &stheno_events::Uid, uid: &stheno_events::Uid) -> Vec<Event> {
    let incarnation = datacenter::Incarnation { former: former.clone(), uid: uid.clone() };
    std::iter::once(incarnation.into()).chain(backup::abandon(dc)).chain(task::abandon(dc)).collect()
}

/// The effects that should be running in this term: those that are claimed and have no outcome.
#[must_use]
pub fn due(dc: &Datacenter, context: Context<'_>) -> Vec<Effect> {
    if dc.frozen.is_some() {
        return Vec::new();
    }
    let mut effects = backup::due(dc, context);
    effects.extend(task::due(dc, context));
    effects
}

/// The next moment at which [`decide`] may have something to say though nothing happens; none while it only waits for facts.
#[must_use]
pub fn wake(dc: &Datacenter, context: Context<'_>) -> Option<Time> {
    if dc.frozen.is_some() {
        return None;
    }
    let moments = [backup::wake(dc, context), task::wake(dc, context), schedule::wake(dc, context)];
    moments.into_iter().flatten().min()
}
