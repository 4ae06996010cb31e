//! Schedules of a datacenter: which are there, what they asked for, and what is remembered of those that are gone.

use super::{Datacenter, Object};
use crate::schedule::{Schedule, Scheduled};
use crate::world::Touched;
use std::sync::Arc;
use stheno_events::schedule::{Event as ScheduleEvent, Requested};
use stheno_events::{Time, Uid, observed};

/// Names of schedules that are gone whose slots are remembered: beyond that the oldest are not.
const FORMER_SLOTS: usize = 1_000;

impl Datacenter {
    /// A schedule appeared, or was edited.
    pub(super) fn scheduling(&mut self, seen: &observed::Schedule, at: Time) {
        let meta = &seen.meta;
        if let Some(schedule) = self.schedules.get_mut(&meta.uid) {
            Arc::make_mut(schedule).edit(seen.clone(), at);
            return;
        }
        // One of its name is there no more, whether that was told or not.
        let former: Vec<Uid> = (self.schedules.iter())
            .filter(|(_, schedule)| schedule.request.meta.name == meta.name)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &former {
            self.drop_schedule(uid);
        }
        // The jobs of earlier ones of this name are its history.
        for made in self.scheduled.values_mut().filter(|made| made.schedule_name == meta.name) {
            Arc::make_mut(made).schedule = meta.uid.clone();
        }
        // Of one that was edited before the log met it nobody knows what it said then.
        let begin = if meta.generation > 1 { at } else { meta.created.min(at) };
        let cursor = self.former_slots.remove(&meta.name).map_or(begin, |ended| ended.max(begin));
        self.schedules.insert(meta.uid.clone(), Arc::new(Schedule::met(seen.clone(), cursor)));
    }

    /// A schedule is there no more: its slots are remembered, and what it still wanted nobody wants any more.
    pub(super) fn drop_schedule(&mut self, uid: &Uid) -> bool {
        let Some(schedule) = self.schedules.remove(uid) else { return false };
        self.remember_slots(&schedule);
        self.scheduled.retain(|_, made| made.schedule != *uid || made.object != Object::Wanted);
        true
    }

    fn remember_slots(&mut self, schedule: &Schedule) {
        let ended = self.former_slots.entry(schedule.request.meta.name.clone()).or_insert(schedule.cursor);
        *ended = schedule.cursor.max(*ended);
        if self.former_slots.len() > FORMER_SLOTS
            && let Some(oldest) =
                self.former_slots.iter().min_by_key(|(_, ended)| **ended).map(|(name, _)| name.clone())
        {
            self.former_slots.remove(&oldest);
        }
    }

    pub(super) fn schedule(&mut self, event: &ScheduleEvent, at: Time, touched: &mut Vec<Touched>) {
        let uid = event.schedule();
        touched.push(Touched::Schedule(uid.clone()));
        match event {
            ScheduleEvent::ObjectCreated(e) => {
                let Some(made) = self.scheduled.get_mut(&e.name).filter(|made| made.schedule == *uid) else { return };
                if e.foreign || !made.is_backup() {
                    // What became of it is not followed here.
                    self.scheduled.remove(&e.name);
                } else {
                    let made = Arc::make_mut(made);
                    (made.object, made.since) = (Object::Ours { uid: e.uid.clone() }, at);
                }
                return;
            }
            ScheduleEvent::Expired(e) => {
                if let Some(made) = self.scheduled.get_mut(&e.name).filter(|made| made.is(&e.job)) {
                    Arc::make_mut(made).expired = true;
                }
                return;
            }
            ScheduleEvent::Accepted(_)
            | ScheduleEvent::Rejected(_)
            | ScheduleEvent::Postponed(_)
            | ScheduleEvent::Ran(_)
            | ScheduleEvent::RanLate(_)
            | ScheduleEvent::Skipped(_)
            | ScheduleEvent::Missed(_) => {}
        }
        let legal = self.schedules.get_mut(uid).map(|schedule| {
            let schedule = Arc::make_mut(schedule);
            schedule.apply(event, at).then(|| schedule.request.meta.name.clone())
        });
        let Some(schedule_name) = legal.flatten() else {
            self.illegal += 1;
            return;
        };
        let wanted: Option<(Time, &Requested)> = match event {
            ScheduleEvent::Ran(e) => Some((e.slot, &e.object)),
            ScheduleEvent::RanLate(e) => Some((e.slot, &e.object)),
            ScheduleEvent::Accepted(_)
            | ScheduleEvent::Rejected(_)
            | ScheduleEvent::Postponed(_)
            | ScheduleEvent::Skipped(_)
            | ScheduleEvent::Missed(_)
            | ScheduleEvent::ObjectCreated(_)
            | ScheduleEvent::Expired(_) => None,
        };
        if let Some((slot, request)) = wanted {
            let made = Scheduled {
                schedule: uid.clone(),
                schedule_name,
                slot,
                request: request.clone(),
                since: at,
                object: Object::Wanted,
                expired: false,
            };
            self.scheduled.insert(request.name.clone(), Arc::new(made));
        }
    }
}
