//! 400 days with outages, changed clocks, edits, suspensions and backups of any length: each slot has ended exactly once.
//!
//! The slots are counted by walking the expression, which `tests/cron.rs` compares with 1,660 recorded answers.

use crate::clockwork::{Clockwork, asked, at};
use chrono::TimeDelta;
use std::collections::BTreeMap;
use stheno_decide::cron::{Cron, Tz};
use stheno_events::Time;
use stheno_events::backup::Outcome;
use stheno_events::observed::CatchUp;
use stheno_events::schedule::Event as ScheduleEvent;

const DAYS: i64 = 400;

/// A small generator: the seed tells the whole life.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn minutes(&mut self, most: u64) -> TimeDelta {
        TimeDelta::seconds(i64::try_from(self.below(most * 60)).unwrap())
    }
}

const CRONS: [&str; 8] = [
    "30 2 * * *",
    "0 */6 * * *",
    "15 3 1 * *",
    "CRON_TZ=America/New_York 30 1 * * *",
    "@every 5h",
    "0 0 30 2 *",
    "61 * * * *",
    "*/20 * * * *",
];
const ZONES: [Option<&str>; 4] = [None, Some("Europe/Berlin"), Some("Australia/Lord_Howe"), Some("Europe/Berlim")];

/// The slots that a text asks for, in a span; none where it asks for nothing.
fn slots(cron: &str, zone: Option<&str>, since: Time, until: Time) -> Vec<Time> {
    let Ok(cron) = Cron::parse(cron) else { return Vec::new() };
    if zone.is_some() && cron.zone().is_some() {
        return Vec::new();
    }
    let Ok(zone) = zone.unwrap_or("UTC").parse::<Tz>() else { return Vec::new() };
    let mut found = Vec::new();
    let mut after = since;
    while let Some(slot) = cron.next_after(after, zone).filter(|slot| *slot <= until) {
        found.push(slot);
        after = slot;
    }
    found
}

/// What the log says of slots: how many ended, in order, and when each of those that ran was due.
fn ended(said: &[ScheduleEvent]) -> (u64, Vec<Time>) {
    let (mut total, mut ran, mut last) = (0, Vec::new(), None);
    for event in said {
        let (first, until, count) = match event {
            ScheduleEvent::Ran(e) => (e.slot, e.slot, 1),
            ScheduleEvent::RanLate(e) => (e.slot, e.slot, 1),
            ScheduleEvent::Skipped(e) => (e.first, e.last, e.count),
            ScheduleEvent::Missed(e) => (e.first, e.last, e.count),
            ScheduleEvent::Accepted(_)
            | ScheduleEvent::Rejected(_)
            | ScheduleEvent::Postponed(_)
            | ScheduleEvent::ObjectCreated(_)
            | ScheduleEvent::Expired(_) => continue,
        };
        if matches!(event, ScheduleEvent::Ran(_) | ScheduleEvent::RanLate(_)) {
            ran.push(first);
        }
        assert!(last.is_none_or(|last| last < first) && first <= until, "{event:?} behind {last:?}");
        last = Some(until);
        total += count;
    }
    (total, ran)
}

fn life(seed: u64) -> (Clockwork, u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut request = asked(dice.pick(&CRONS));
    request.catch_up = dice.pick(&[CatchUp::None, CatchUp::Latest, CatchUp::All]);
    request.concurrency = dice.pick(&[None, Some("Forbid"), Some("Allow"), Some("Replace")]).map(Into::into);
    request.starting_deadline = dice.pick(&[None, None, Some(600), Some(7_200)]);
    let mut clockwork = Clockwork::of(request);
    clockwork.then();
    let mut wanted = Vec::new();
    let mut since = at(0);
    let mut running: BTreeMap<String, Time> = BTreeMap::new();
    let end = at(DAYS * 1_440);
    while clockwork.now < end {
        // The operator sleeps until something comes, is away, or its clock is set ahead: time only goes on.
        let away = match dice.below(20) {
            0 => dice.minutes(60 * 24 * 5),
            1 => dice.minutes(60 * 12),
            _ => TimeDelta::zero(),
        };
        let next = clockwork.wake().into_iter().chain(running.values().copied()).min();
        let next = next.unwrap_or(clockwork.now + dice.minutes(60 * 24 * 3)).max(clockwork.now + TimeDelta::seconds(1));
        let now = (next + away).min(end);
        for (name, _) in
            running.iter().filter(|(_, over)| **over <= now).map(|(a, b)| (a.clone(), *b)).collect::<Vec<_>>()
        {
            clockwork.end(&name, dice.pick(&[Outcome::Complete, Outcome::Failed]));
            running.remove(&name);
        }
        clockwork.now = now;
        if dice.below(60) == 0 {
            let before = clockwork.request.clone();
            let (cron, zone) = (dice.pick(&CRONS), dice.pick(&ZONES));
            let suspended = dice.below(3) == 0;
            clockwork.edit(|request| {
                (request.cron, request.time_zone) = (cron.into(), zone.map(Into::into));
                request.suspended = suspended;
            });
            let same = before.cron == clockwork.request.cron
                && before.time_zone == clockwork.request.time_zone
                && before.suspended == clockwork.request.suspended;
            if !same {
                wanted.extend(slots(&before.cron, before.time_zone.as_deref(), since, now));
                since = now;
            }
        }
        clockwork.then();
        for name in clockwork.open() {
            running.entry(name).or_insert_with_key(|name| {
                if dice.below(4) > 0 {
                    clockwork.start(name);
                }
                now + dice.minutes(60 * 9)
            });
        }
        // One that was replaced has ended.
        running.retain(|name, _| clockwork.open().contains(name));
    }
    let request = clockwork.request.clone();
    wanted.extend(slots(&request.cron, request.time_zone.as_deref(), since, end));
    // What still waits has no outcome yet: everything that runs ends, and then nothing waits.
    clockwork.now = end;
    for _ in 0..500 {
        for name in clockwork.open() {
            clockwork.end(&name, Outcome::Complete);
        }
        clockwork.then();
        if clockwork.schedule().postponed.is_none() {
            break;
        }
    }
    let (total, ran) = ended(&clockwork.said);
    assert!(ran.iter().all(|slot| wanted.contains(slot)), "seed {seed}: something ran at no slot");
    assert_eq!(total, wanted.len() as u64, "seed {seed}: outcomes and slots");
    assert_eq!(clockwork.schedule().counts.total(), total, "seed {seed}: what is counted");
    (clockwork, total)
}

#[test]
fn over_400_days_each_slot_ends_exactly_once() {
    let seeds = std::env::var("STHENO_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let mut kinds = BTreeMap::<&str, u64>::new();
    let mut all = 0;
    for seed in 0..seeds {
        let (clockwork, total) = life(seed);
        all += total;
        let counts = clockwork.schedule().counts;
        for (kind, count) in
            [("ran", counts.ran), ("ran late", counts.ran_late), ("skipped", counts.skipped), ("missed", counts.missed)]
        {
            *kinds.entry(kind).or_default() += count;
        }
    }
    assert!(kinds.values().all(|count| *count > 0), "{kinds:?}");
    println!("{seeds} lives of {DAYS} days, {all} slots: {kinds:?}");
}
