//! A datacenter with one schedule, a clock that a test sets, and jobs that a test starts and ends.

use chrono::{TimeDelta, TimeZone, Utc};
use std::collections::BTreeMap;
use stheno_decide::{Context, schedule};
use stheno_events::backup::{Completed, Failed, Outcome, OutcomeDecided, Started};
use stheno_events::observed::{
    self, BackupJob, BackupType, CatchUp, Gone, JobRules, Meta, ObjectKind, ScheduledOperation,
};
use stheno_events::schedule::{Event as ScheduleEvent, ObjectCreated, Requested};
use stheno_events::{DcKey, Epoch, Event, Time, Uid};
use stheno_projections::Datacenter;
use stheno_projections::datacenter::Object;
use stheno_projections::schedule::Schedule;

/// Minutes after midnight of a Sunday.
pub(crate) fn at(minutes: i64) -> Time {
    Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 0).unwrap() + TimeDelta::minutes(minutes)
}

pub(crate) fn asked(cron: &str) -> observed::Schedule {
    observed::Schedule {
        meta: Meta {
            uid: "schedule-1".into(),
            name: "nightly".into(),
            resource_version: "1".into(),
            generation: 1,
            created: at(0),
            deleting: None,
        },
        dc: "dc1".into(),
        backup_type: BackupType::Full,
        cron: cron.into(),
        time_zone: None,
        suspended: false,
        operation: ScheduledOperation::Backup,
        concurrency: None,
        catch_up: CatchUp::Latest,
        starting_deadline: None,
        rules: JobRules::default(),
        keep_complete: None,
        keep_failed: None,
        owned: false,
    }
}

pub(crate) struct Clockwork {
    pub(crate) dc: Datacenter,
    pub(crate) now: Time,
    pub(crate) request: observed::Schedule,
    /// What is requested is created at once.
    pub(crate) creating: bool,
    pub(crate) said: Vec<ScheduleEvent>,
}

impl Clockwork {
    /// The log meets the schedule when it is created.
    pub(crate) fn of(request: observed::Schedule) -> Self {
        let mut clockwork = Self { dc: Datacenter::default(), now: at(0), request, creating: true, said: Vec::new() };
        clockwork.see();
        clockwork
    }

    pub(crate) fn fold(&mut self, event: impl Into<Event>) {
        self.dc.fold(&event.into(), self.now);
    }

    fn see(&mut self) {
        let request = self.request.clone();
        self.fold(request);
    }

    /// The spec is edited, and seen.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut observed::Schedule)) {
        change(&mut self.request);
        self.request.meta.generation += 1;
        self.see();
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        self.dc.schedules.values().next().unwrap()
    }

    /// The time of a decision: what follows from it, in words.
    pub(crate) fn when(&mut self, now: Time) -> Vec<String> {
        self.now = now;
        self.then()
    }

    pub(crate) fn then(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..2_000 {
            let key = DcKey::new("prod", "dc1");
            let events = schedule::decide(&self.dc, Context { key: &key, now: self.now, epoch: Epoch(1) });
            if events.is_empty() {
                assert_eq!(self.dc.illegal, 0, "an event broke a law of the log");
                return said;
            }
            for event in events {
                said.push(words(&event));
                self.fold(event.clone());
                let Event::Schedule(event) = event else { continue };
                let object = requested(&event).cloned();
                self.said.push(event);
                if let Some(object) = object.filter(|_| self.creating) {
                    self.create(&object);
                }
            }
        }
        panic!("decisions without end: {said:?}");
    }

    /// The next moment at which something may follow.
    pub(crate) fn wake(&self) -> Option<Time> {
        let key = DcKey::new("prod", "dc1");
        schedule::wake(&self.dc, Context { key: &key, now: self.now, epoch: Epoch(1) })
    }

    /// What was requested is created, and seen.
    pub(crate) fn create(&mut self, object: &Requested) {
        let (schedule, name) = (self.request.meta.uid.clone(), object.name.clone());
        let uid = Uid::from(format!("uid-of-{name}"));
        self.fold(ObjectCreated { schedule, name, uid, foreign: false });
        if object.operation == ScheduledOperation::Backup {
            self.seen(&object.name);
        }
    }

    /// A job of the schedule.
    pub(crate) fn job(&self, name: &str) -> BackupJob {
        let meta = Meta {
            uid: format!("uid-of-{name}").into(),
            name: name.into(),
            resource_version: "2".into(),
            generation: 1,
            created: self.now,
            deleting: None,
        };
        BackupJob {
            meta,
            dc: "dc1".into(),
            backup_type: BackupType::Full,
            owned: true,
            schedule: Some(self.request.meta.uid.clone()),
            rules: JobRules::default(),
            annotations: BTreeMap::new(),
        }
    }

    /// A job of the schedule is seen.
    pub(crate) fn seen(&mut self, name: &str) {
        self.fold(self.job(name));
    }

    pub(crate) fn start(&mut self, name: &str) {
        self.fold(Started { job: format!("uid-of-{name}").into(), nodes: Vec::new() });
    }

    pub(crate) fn end(&mut self, name: &str, outcome: Outcome) {
        let job = Uid::from(format!("uid-of-{name}"));
        self.fold(OutcomeDecided { job: job.clone(), outcome, message: "done".into() });
        let message = "done".into();
        if outcome == Outcome::Complete {
            self.fold(Completed { job, message });
        } else {
            self.fold(Failed { job, outcome, message });
        }
    }

    /// The job that is there and has not ended.
    pub(crate) fn open(&self) -> Vec<String> {
        self.dc.open.iter().map(|(_, job)| self.dc.operation(job).unwrap().request.meta.name.to_string()).collect()
    }

    /// What is to be created.
    pub(crate) fn wanted(&self) -> Vec<&str> {
        let wanted = self.dc.scheduled.iter().filter(|(_, made)| made.object == Object::Wanted);
        wanted.map(|(name, _)| &**name).collect()
    }

    pub(crate) fn gone(&mut self, kind: ObjectKind, uid: &str, name: &str) {
        self.fold(Gone { kind, uid: uid.into(), name: name.into(), inferred: false });
    }
}

/// What an event asks for.
fn requested(event: &ScheduleEvent) -> Option<&Requested> {
    match event {
        ScheduleEvent::Ran(e) => Some(&e.object),
        ScheduleEvent::RanLate(e) => Some(&e.object),
        ScheduleEvent::Accepted(_)
        | ScheduleEvent::Rejected(_)
        | ScheduleEvent::Postponed(_)
        | ScheduleEvent::Skipped(_)
        | ScheduleEvent::Missed(_)
        | ScheduleEvent::ObjectCreated(_)
        | ScheduleEvent::Expired(_) => None,
    }
}

fn clock(time: Time) -> String {
    time.format("%d.%H:%M").to_string()
}

fn next(next: Option<Time>) -> String {
    next.map_or_else(|| "none".into(), clock)
}

/// What an event says, without the schedule.
pub(crate) fn words(event: &Event) -> String {
    let Event::Schedule(event) = event else { return event.kind().name.to_owned() };
    let range = |first: Time, last: Time, count: u64| match count {
        1 => clock(first),
        _ => format!("{}..{} ({count})", clock(first), clock(last)),
    };
    match event {
        ScheduleEvent::Accepted(e) => format!("accepted, next {}", next(e.next)),
        ScheduleEvent::Rejected(e) => format!("rejected: {}", e.message),
        ScheduleEvent::Postponed(e) => format!("postponed {} until {}: {}", clock(e.slot), next(e.until), e.message),
        ScheduleEvent::Ran(e) => format!("ran {}, next {}", clock(e.slot), next(e.next)),
        ScheduleEvent::RanLate(e) => format!("ran late {}, next {}", clock(e.slot), next(e.next)),
        ScheduleEvent::Skipped(e) => format!("skipped {} {:?}", range(e.first, e.last, e.count), e.reason),
        ScheduleEvent::Missed(e) => format!("missed {} {:?}", range(e.first, e.last, e.count), e.reason),
        ScheduleEvent::ObjectCreated(e) => format!("created {}", e.name),
        ScheduleEvent::Expired(e) => format!("expired {}", e.name),
    }
}
