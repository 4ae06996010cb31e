//! `audit why` of a schedule: what it asks for, how its last times ended and why, what it waits for now, what to do next.

use super::{Line, held};
use crate::audit::describe::{clock, missed, outcome, skipped};
use crate::audit::object::NameArg;
use crate::audit::similar::Similar;
use crate::audit::source::{Scope, Source};
use crate::audit::text::count;
use std::collections::VecDeque;
use std::sync::Arc;
use stheno_events::observed::{Event as ObservedEvent, ObjectKind, Schedule as Request};
use stheno_events::schedule::{Event as ScheduleEvent, MissReason, SkipReason};
use stheno_events::{DcKey, Event, Fact, Time, Uid, datacenter};
use stheno_projections::backup::Stage;
use stheno_projections::schedule::{Ended, Plan, Schedule};
use stheno_projections::{Datacenter, World};

/// Times that are told of one by one: the latest.
const TIMES: usize = 6;

/// What the log says of one schedule on the way.
#[derive(Default)]
struct Story {
    asked: Option<(u64, Time, String)>,
    /// The last edit.
    edited: Option<(u64, Time, String)>,
    /// The last times that ended: message, when, and how.
    times: VecDeque<(u64, Time, String)>,
    /// What the time that waits, or waited last, waits for.
    postponed: Option<(Time, Arc<str>)>,
    /// The last change of hands: who was not there before it misses times.
    led: Option<(Time, u64)>,
}

/// The chain of the latest schedule of that name.
pub(super) async fn lines(name: &NameArg, source: &Source) -> anyhow::Result<Vec<Line>> {
    let kind = ObjectKind::MedusaBackupSchedule.as_str();
    let (found, similar) = find(name, source).await?;
    let Some((key, uid)) = found else { anyhow::bail!("the log has never met {kind} {name}{similar}") };
    let (mut world, mut story) = (World::default(), Story::default());
    let mut reader = source.read(1, Scope::default()).await?;
    while let Some(entry) = reader.next().await? {
        if let (Some(place), Ok(envelope)) = (entry.datacenter(), &entry.envelope)
            && *place == key
        {
            for fact in &envelope.events {
                if let Fact::Known(event) = fact {
                    story.hear(event, &uid, entry.sequence, envelope.at);
                }
            }
        }
        entry.fold(entry.digest(), &mut world);
    }
    let dc = world.datacenter(&key);
    let Some((dc, schedule)) = dc.and_then(|dc| Some((dc, dc.schedules.get(&uid)?))) else {
        anyhow::bail!("{kind} {name} is gone: see `stheno audit show`");
    };
    Ok(story.lines(&world, dc, schedule))
}

/// The latest schedule of a name, and names like it.
async fn find(name: &NameArg, source: &Source) -> anyhow::Result<(Option<(DcKey, Uid)>, Similar)> {
    let mut reader = source.read(1, Scope::default()).await?;
    let (mut found, mut similar) = (None, Similar::to(name.to_string()));
    while let Some(entry) = reader.next().await? {
        let (Some(key), Ok(envelope)) = (entry.datacenter(), &entry.envelope) else { continue };
        for fact in &envelope.events {
            if let Fact::Known(Event::Observed(ObservedEvent::Schedule(seen))) = fact {
                if key.namespace == name.namespace && seen.meta.name == name.name {
                    found = Some((key.clone(), seen.meta.uid.clone()));
                } else {
                    similar.offer(format!("{}/{}", key.namespace, seen.meta.name));
                }
            }
        }
    }
    Ok((found, similar))
}

/// What a schedule asks for.
fn request(seen: &Request) -> String {
    let zone = seen.time_zone.as_ref().map(|zone| format!(" in {zone}")).unwrap_or_default();
    let suspended = if seen.suspended { ", suspended" } else { "" };
    format!("a {} of {} at {:?}{zone}{suspended}", seen.operation.as_str(), seen.dc, seen.cron)
}

impl Story {
    fn hear(&mut self, event: &Event, uid: &Uid, sequence: u64, at: Time) {
        match event {
            Event::Observed(ObservedEvent::Schedule(seen)) if seen.meta.uid == *uid => {
                let text = request(seen);
                match &self.asked {
                    None => self.asked = Some((sequence, at, text)),
                    Some((.., asked)) => {
                        let before = self.edited.as_ref().map_or(asked, |(.., edited)| edited);
                        if *before != text {
                            self.edited = Some((sequence, at, text));
                        }
                    }
                }
            }
            Event::Schedule(event) if event.schedule() == uid => self.heard(event, sequence, at),
            Event::Datacenter(datacenter::Event::Led(led)) if self.asked.is_some() => {
                self.led = Some((at, led.epoch.0));
            }
            Event::Observed(_)
            | Event::Backup(_)
            | Event::Schedule(_)
            | Event::Task(_)
            | Event::Datacenter(_)
            | Event::Operator(_) => {}
        }
    }

    fn heard(&mut self, event: &ScheduleEvent, sequence: u64, at: Time) {
        let text = match event {
            ScheduleEvent::Postponed(e) => {
                self.postponed = Some((e.slot, e.message.clone()));
                return;
            }
            ScheduleEvent::Ran(e) => format!("for {}: {} was asked for", clock(e.slot), e.object.name),
            ScheduleEvent::RanLate(e) => {
                let why = self.waited(e.slot).map_or_else(|| self.nobody(e.slot), |why| format!(" ({why})"));
                format!("for {}, late: {} was asked for{why}", clock(e.slot), e.object.name)
            }
            ScheduleEvent::Skipped(e) => {
                let why = match e.reason {
                    SkipReason::OperationRunning => self.waited(e.last).map(|why| format!(" ({why})")),
                    SkipReason::Suspended => None,
                };
                let times = times(e.first, e.last, e.count);
                format!("for {times}: nothing was started, {}{}", skipped(e.reason), why.unwrap_or_default())
            }
            ScheduleEvent::Missed(e) => {
                let (times, why) = (times(e.first, e.last, e.count), missed(e.reason));
                format!("for {times}: nothing was started, {why}{}", self.nobody(e.first))
            }
            ScheduleEvent::Accepted(_)
            | ScheduleEvent::Rejected(_)
            | ScheduleEvent::ObjectCreated(_)
            | ScheduleEvent::Expired(_) => return,
        };
        self.times.push_back((sequence, at, text));
        if self.times.len() > TIMES {
            self.times.pop_front();
        }
    }

    /// What a time waited for, where it did.
    fn waited(&self, slot: Time) -> Option<Arc<str>> {
        self.postponed.as_ref().filter(|(postponed, _)| *postponed == slot).map(|(_, message)| message.clone())
    }

    /// Who came after a time for which nobody was there.
    fn nobody(&self, slot: Time) -> String {
        let after = self.led.filter(|(at, _)| *at > slot);
        after.map(|(at, epoch)| format!("; term {epoch} took over at {}", clock(at))).unwrap_or_default()
    }

    fn lines(&self, world: &World, dc: &Datacenter, schedule: &Schedule) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = |about, at: Option<(u64, Time)>, text: String| {
            lines.push(Line { about, time: at.map(|at| at.1), sequence: at.map(|at| at.0), text });
        };
        if let Some((sequence, at, text)) = &self.asked {
            line("asked", Some((*sequence, *at)), format!("{text} was asked for"));
        }
        if let Some((sequence, at, text)) = &self.edited {
            line("edited", Some((*sequence, *at)), format!("{text} is asked for since then"));
        }
        let counts = &schedule.counts;
        if counts.total() > 0 {
            let all = count(counts.total(), "time");
            let text = format!(
                "{all} ended: {} ran, {} ran late, {} skipped, {} missed",
                counts.ran, counts.ran_late, counts.skipped, counts.missed
            );
            line("times", None, text);
        }
        for (sequence, at, text) in &self.times {
            line("time", Some((*sequence, *at)), text.clone());
        }
        if let Some(text) = last_backup(dc, schedule) {
            line("backup", None, text);
        }
        let (now, next) = stands(world, dc, schedule);
        line("now", None, now);
        line("next", None, next);
        lines
    }
}

fn times(first: Time, last: Time, number: u64) -> String {
    match number {
        1 => clock(last),
        _ => format!("{} from {} to {}", count(number, "time"), clock(first), clock(last)),
    }
}

/// What became of the last job that it asked for, while that is remembered.
fn last_backup(dc: &Datacenter, schedule: &Schedule) -> Option<String> {
    let name = schedule.outcomes.iter().rev().find_map(|ended| match &ended.ended {
        Ended::Ran(name) | Ended::RanLate(name) => Some(name),
        Ended::Skipped(_) | Ended::Missed(_) => None,
    })?;
    let operation = dc.operations.values().find(|operation| operation.request.meta.name == *name)?;
    let stage = match &operation.stage {
        Stage::Ended { outcome: how, .. } => outcome(*how),
        Stage::Waiting { .. } => "waits",
        Stage::Running { .. } => "runs",
        Stage::Closing { .. } => "ends",
    };
    Some(format!("{name}: {stage}"))
}

/// What it waits for now, and what to do next.
fn stands(world: &World, dc: &Datacenter, schedule: &Schedule) -> (String, String) {
    if let Some(held) = held(world, dc) {
        return held;
    }
    if let Plan::Refused { message } = &schedule.plan {
        return (format!("has no times: {message}"), "edit the schedule: it goes on by itself".into());
    }
    if let Some(postponed) = &schedule.postponed {
        let until = postponed.until.map(|until| format!(" at {}", clock(until))).unwrap_or_default();
        let now = format!("the time {} {}", clock(postponed.slot), postponed.message);
        let skipped = if until.is_empty() { String::new() } else { format!(", or is skipped{until}") };
        return (now, format!("nothing: it starts by itself{skipped}"));
    }
    if schedule.request.suspended {
        return ("starts nothing: it is suspended".into(), "set spec.suspend and spec.disabled to false".into());
    }
    let now = match &schedule.plan {
        Plan::Times { next: Some(next) } => format!("waits for the next time, {}", clock(*next)),
        Plan::Times { next: None } => return ("its expression never comes again".into(), "edit the schedule".into()),
        Plan::Unread | Plan::Refused { .. } => "waits for the operator to read its times".into(),
    };
    // What went wrong since a time last ran as it should.
    let since = schedule.outcomes.iter().rev().take_while(|time| !matches!(time.ended, Ended::Ran(_)));
    let next = since.map(|time| &time.ended).find_map(|ended| match ended {
        Ended::Skipped(SkipReason::OperationRunning) => {
            Some("see why the operation before it took so long: `stheno audit why medusabackupjob`")
        }
        Ended::Missed(MissReason::Superseded | MissReason::TooMany) => {
            Some("see why no operator was there: its own log, and `stheno audit log --type operator.*`")
        }
        Ended::Missed(MissReason::DeadlinePassed) => {
            Some("allow a later start (spec.startingDeadlineSeconds), or see why no operator was there")
        }
        Ended::Missed(MissReason::NotInTime) => Some("have times made up for (spec.catchUp: Latest)"),
        Ended::Ran(_) | Ended::RanLate(_) | Ended::Skipped(SkipReason::Suspended) => None,
    });
    let next = next.unwrap_or("nothing: it goes on by itself");
    (now, next.into())
}
