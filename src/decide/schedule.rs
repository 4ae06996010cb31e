//! The schedule process: which slots are due, how each of them ends, and which jobs are kept.

mod reading;
mod slots;

use crate::{Context, policy};
use reading::{Policy, Reading};
use slots::{Fate, Slots};
use std::sync::Arc;
use stheno_events::backup::{Outcome, OutcomeDecided};
use stheno_events::observed::{BackupJob, ScheduledOperation, Task, TaskOperation};
use stheno_events::schedule::{
    Accepted, Expired, MissReason, Missed, Postponed, Ran, RanLate, Rejected, Requested, SkipReason, Skipped,
};
use stheno_events::{Event, Time, Uid};
use stheno_projections::Datacenter;
use stheno_projections::backup::Stage;
use stheno_projections::datacenter::Object;
use stheno_projections::schedule::{Plan, Schedule, Scheduled};
use stheno_projections::status::SCHEDULE_LABEL;

/// The decisions about the first schedule of a datacenter that has any: what it starts is seen by those behind it.
#[must_use]
pub fn decide(dc: &Datacenter, context: Context<'_>) -> Vec<Event> {
    let there = dc.schedules.iter().filter(|(_, schedule)| schedule.request.meta.deleting.is_none());
    there
        .map(|(uid, schedule)| {
            let mut events = Turn { dc, context, uid, schedule }.decide();
            events.extend(expired(dc, uid, schedule));
            events
        })
        .find(|events| !events.is_empty())
        .unwrap_or_default()
}

/// The next moment at which a slot comes, or the wait of one ends.
#[must_use]
pub fn wake(dc: &Datacenter, context: Context<'_>) -> Option<Time> {
    let there = dc.schedules.values().filter(|schedule| schedule.request.meta.deleting.is_none());
    let moments = there.flat_map(|schedule| {
        let next = match &schedule.plan {
            Plan::Times { next } => *next,
            Plan::Unread | Plan::Refused { .. } => None,
        };
        let until = schedule.postponed.as_ref().and_then(|postponed| postponed.until);
        [next, until].into_iter().flatten()
    });
    // A job that was created and that nobody has seen is not waited for without end.
    let seen = |made: &Scheduled| match &made.object {
        Object::Ours { uid } if !dc.operations.contains_key(uid) => Some(made.since + policy::SEEN_WITHIN),
        Object::Ours { .. } | Object::Foreign { .. } | Object::Wanted => None,
    };
    moments.chain(dc.scheduled.values().filter_map(|made| seen(made))).filter(|moment| *moment > context.now).min()
}

/// One schedule, whose turn it is.
#[derive(Clone, Copy)]
struct Turn<'a> {
    dc: &'a Datacenter,
    context: Context<'a>,
    uid: &'a Uid,
    schedule: &'a Schedule,
}

impl Turn<'_> {
    fn decide(self) -> Vec<Event> {
        let Turn { context, uid, schedule, .. } = self;
        let waits = match &schedule.plan {
            Plan::Refused { .. } | Plan::Times { next: None } => true,
            Plan::Times { next: Some(next) } => *next > context.now,
            Plan::Unread => false,
        };
        if waits {
            return Vec::new();
        }
        let reading = reading::read(&schedule.request);
        let policy = reading.as_ref().map_or(Policy::Forbid, |reading| reading.policy);
        if let Some(postponed) = &schedule.postponed {
            let waits = postponed.until.is_none_or(|until| until > context.now);
            // Nothing changed: the times need not be walked to see that.
            if waits && matches!(schedule.plan, Plan::Times { .. }) && self.blocked(policy).is_some() {
                return Vec::new();
            }
        }
        let slots = Slots::of(schedule, reading.as_ref().ok().map(|reading| &reading.times), context.now);
        if slots.due() == 0 {
            return vec![read(uid, schedule, reading, &slots)];
        }
        self.due(policy, &slots)
    }

    /// How the first slots that are due end; nothing where the first one waits.
    fn due(self, policy: Policy, slots: &Slots) -> Vec<Event> {
        let Turn { context, uid, schedule, .. } = self;
        let (request, now) = (&schedule.request, context.now);
        let Some(slot) = slots.first() else { return Vec::new() };
        if let Some(postponed) = schedule.postponed.as_ref().filter(|postponed| postponed.slot == slot) {
            if postponed.until.is_some_and(|until| until <= now) {
                let reason = if request.suspended { SkipReason::Suspended } else { SkipReason::OperationRunning };
                return vec![skipped(uid, slots, 1, reason)];
            }
            if self.blocked(policy).is_some() {
                return Vec::new();
            }
            return self.run(policy, slots);
        }
        let (fate, count) = slots.fate(request, now);
        let missed = |reason| {
            let (first, last) = (slot, slots.last_of(count));
            let next = slots.behind(count);
            vec![Missed { schedule: uid.clone(), first, last, count: count as u64, reason, next }.into()]
        };
        match fate {
            Fate::Suspended => vec![skipped(uid, slots, count, SkipReason::Suspended)],
            Fate::DeadlinePassed => missed(MissReason::DeadlinePassed),
            Fate::Superseded => missed(MissReason::Superseded),
            Fate::TooMany => missed(MissReason::TooMany),
            Fate::NotInTime => missed(MissReason::NotInTime),
            Fate::Candidate => match self.blocked(policy) {
                None => self.run(policy, slots),
                Some(message) => {
                    let deadline = slots::deadline(request, slot).map(|at| at.max(now));
                    let until = slots.future().into_iter().chain(deadline).min();
                    vec![Postponed { schedule: uid.clone(), slot, until, message: message.into() }.into()]
                }
            },
        }
    }

    /// The first slot runs.
    fn run(self, policy: Policy, slots: &Slots) -> Vec<Event> {
        let Turn { dc, context, uid, schedule } = self;
        let Some(slot) = slots.first() else { return Vec::new() };
        let request = &schedule.request;
        let object = Requested {
            name: format!("{}-{}", request.meta.name, slot.timestamp()).into(),
            operation: request.operation,
            dc: request.dc.clone(),
            backup_type: request.backup_type,
            rules: request.rules,
        };
        let mut events = Vec::new();
        if policy == Policy::Replace {
            events.extend(waiting_jobs(dc, uid).map(|job| {
                let message =
                    format!("did not start before the next time of its schedule: {} takes its place", object.name);
                OutcomeDecided { job, outcome: Outcome::Refused, message: message.into() }.into()
            }));
        }
        let (schedule, next) = (uid.clone(), slots.behind(1));
        events.push(if context.now > slot + policy::ON_TIME {
            RanLate { schedule, slot, object, next }.into()
        } else {
            Ran { schedule, slot, object, next }.into()
        });
        events
    }

    /// What a slot has to wait for, in the middle of a sentence. Jobs that people made by hand count for nobody.
    fn blocked(self, policy: Policy) -> Option<String> {
        let Turn { dc, context, uid, schedule } = self;
        if policy == Policy::Allow {
            return None;
        }
        let operation = schedule.request.operation;
        let unseen = dc.scheduled.iter().find(|(_, made)| {
            made.request.operation == operation
                && match &made.object {
                    Object::Wanted => true,
                    Object::Ours { uid } | Object::Foreign { uid } => {
                        !dc.operations.contains_key(uid) && context.now < made.since + policy::SEEN_WITHIN
                    }
                }
        });
        if let Some((name, _)) = unseen {
            return Some(format!("waits for {} {name}, which is being created", operation.as_str()));
        }
        match operation {
            ScheduledOperation::Backup => {
                let mut open = dc.open.iter().filter_map(|(_, job)| dc.operation(job));
                let other = open.find(|open| {
                    let replaced = policy == Policy::Replace
                        && open.request.schedule.as_ref() == Some(uid)
                        && matches!(open.stage, Stage::Waiting { .. });
                    open.request.schedule.is_some() && !replaced
                })?;
                Some(format!("waits for backup {} of the same datacenter", other.request.meta.name))
            }
            ScheduledOperation::Purge => {
                let mut open = dc.tasks_open().map(|task| &task.request);
                let scheduled =
                    |task: &&Task| task.operation == TaskOperation::Purge && task.labels.contains_key(SCHEDULE_LABEL);
                Some(format!("waits for purge {} of the same datacenter", open.find(scheduled)?.meta.name))
            }
        }
    }
}

/// What the times come to, once nothing of former ones is open.
fn read(uid: &Uid, schedule: &Schedule, reading: Result<Reading, String>, slots: &Slots) -> Event {
    let (schedule, generation) = (uid.clone(), schedule.request.meta.generation);
    match reading {
        Ok(_) => Accepted { schedule, generation, next: slots.behind(0) }.into(),
        Err(message) => Rejected { schedule, generation, message: message.into() }.into(),
    }
}

fn skipped(uid: &Uid, slots: &Slots, count: usize, reason: SkipReason) -> Event {
    let first = slots.first().unwrap_or_default();
    let (last, next) = (slots.last_of(count), slots.behind(count));
    Skipped { schedule: uid.clone(), first, last, count: count as u64, reason, next }.into()
}

/// Why a job must not run that a leader of a former term created once more, after the job of the slot had gone: a slot
/// runs once.
pub(crate) fn repeats(dc: &Datacenter, job: &BackupJob) -> Option<String> {
    let schedule = dc.schedules.get(job.schedule.as_ref()?)?;
    let name = &schedule.request.meta.name;
    let slot: i64 = job.meta.name.strip_prefix(&**name)?.strip_prefix('-')?.parse().ok()?;
    let ended = slot <= schedule.cursor.timestamp();
    let known = dc.scheduled.get(&job.meta.name).is_some_and(|made| made.is(&job.meta.uid));
    (ended && !known).then(|| {
        format!("this time of schedule {name} has ended: for another backup create a job of a name of your own")
    })
}

/// Jobs of a schedule that have not started.
fn waiting_jobs<'a>(dc: &'a Datacenter, schedule: &'a Uid) -> impl Iterator<Item = Uid> + 'a {
    let open = dc.open.iter().filter_map(|(_, job)| dc.operation(job));
    open.filter(|operation| {
        operation.request.schedule.as_ref() == Some(schedule) && matches!(operation.stage, Stage::Waiting { .. })
    })
    .map(|operation| operation.request.meta.uid.clone())
}

/// Jobs that have ended and are more than the schedule keeps, the oldest first.
fn expired(dc: &Datacenter, uid: &Uid, schedule: &Schedule) -> Vec<Event> {
    let request = &schedule.request;
    if request.keep_complete.is_none() && request.keep_failed.is_none() {
        return Vec::new();
    }
    let mut ended: Vec<(Time, &Arc<str>, &Uid, bool)> = dc
        .scheduled
        .iter()
        .filter(|(_, made)| made.schedule == *uid && !made.expired)
        .filter_map(|(name, made)| {
            let Object::Ours { uid: job } = &made.object else { return None };
            match &dc.operation(job)?.stage {
                Stage::Ended { outcome, .. } => Some((made.slot, name, job, *outcome == Outcome::Complete)),
                Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } => None,
            }
        })
        .collect();
    ended.sort_by_key(|job| std::cmp::Reverse(job.0));
    let beyond = |well: bool, keep: Option<u32>| {
        let keep = keep.map_or(usize::MAX, |keep| usize::try_from(keep).unwrap_or(usize::MAX));
        ended.iter().filter(move |job| job.3 == well).skip(keep)
    };
    let mut gone: Vec<_> = beyond(true, request.keep_complete).chain(beyond(false, request.keep_failed)).collect();
    gone.sort_by_key(|job| job.0);
    gone.into_iter()
        .map(|(_, name, job, _)| Expired { schedule: uid.clone(), name: (*name).clone(), job: (*job).clone() }.into())
        .collect()
}
