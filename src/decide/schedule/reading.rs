//! What a schedule says, or one sentence about why it cannot be followed.

use crate::cron::{Cron, Tz, zone};
use stheno_events::observed::Schedule;

/// The longest name of a Kubernetes object, in bytes; and what a slot adds to the name of its schedule.
const LONGEST_NAME: usize = 253;
const SUFFIX: usize = "-4102444800".len();

/// A schedule that can be followed.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) times: Times,
    pub(super) policy: Policy,
}

/// When its slots come.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) cron: Cron,
    pub(super) zone: Tz,
}

/// What a slot does while the operation before it still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// It starts all the same.
    Allow,
    /// It waits until the next slot.
    Forbid,
    /// It takes the place of one that has not started; for one that has it waits.
    Replace,
}

/// Reads a schedule.
pub(super) fn read(request: &Schedule) -> Result<Reading, String> {
    let times = times(&request.cron, request.time_zone.as_deref())?;
    let policy = match request.concurrency.as_deref() {
        None | Some("" | "Forbid") => Policy::Forbid,
        Some("Allow") => Policy::Allow,
        Some("Replace") => Policy::Replace,
        Some(other) => {
            return Err(format!("spec.concurrencyPolicy {other:?} is not known: write Allow, Forbid or Replace"));
        }
    };
    if request.meta.name.len() + SUFFIX > LONGEST_NAME {
        let most = LONGEST_NAME - SUFFIX;
        return Err(format!("jobs are named after the schedule: create it under a name of at most {most} characters"));
    }
    Ok(Reading { times, policy })
}

/// Reads an expression and the zone beside it.
pub(super) fn times(cron: &str, time_zone: Option<&str>) -> Result<Times, String> {
    let cron = Cron::parse(cron).map_err(|error| format!("spec.cronSchedule: {error}"))?;
    let Some(name) = time_zone else { return Ok(Times { cron, zone: Tz::UTC }) };
    if cron.zone().is_some() {
        return Err("spec.timeZone and CRON_TZ= in spec.cronSchedule both name a zone: keep one of them".to_owned());
    }
    let zone = zone(name).map_err(|error| format!("spec.timeZone: {error}"))?;
    Ok(Times { cron, zone })
}
