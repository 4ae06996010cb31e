//! The times of schedules beside what the parser of today's operator (robfig/cron v3) says of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use chrono::{DateTime, FixedOffset, TimeDelta};
use proptest::prelude::*;
use serde::Deserialize;
use std::sync::LazyLock;
use stheno_decide::cron::{Cron, Tz, zone};
use stheno_events::Time;

#[derive(Deserialize)]
struct Row {
    expr: String,
    from: DateTime<FixedOffset>,
    zone: String,
    next: Option<Vec<String>>,
    error: Option<String>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    include_str!("cron-oracle.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
});

/// Where ours is better: on the day on which Lord Howe sets its clocks ahead by half an hour, theirs goes on in steps of an
/// hour from half past and loses every slot before half past of all later hours of that day.
const THEIRS_LOSES: (&str, &str) = ("17 5 * 10-10,6-6,10-11 */2", "2027-10-02T18:17:00Z");

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

fn times(expression: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(expression).unwrap();
    let zone = cron.zone().unwrap_or(zone(zone_name).unwrap());
    let times = cron.times_after(at(from), zone).take(count);
    times.map(|time| time.with_timezone(&zone).to_rfc3339()).collect()
}

#[test]
fn times_and_refusals_are_those_of_the_parser_that_users_know() {
    let (mut good, mut bad, mut better) = (0, 0, 0);
    for row in &*ROWS {
        let what = format!("{:?} from {} in {}", row.expr, row.from, row.zone);
        match (Cron::parse(&row.expr), &row.next, &row.error) {
            (Ok(cron), Some(next), None) => {
                let mut ours: Vec<Time> =
                    cron.times_after(row.from.to_utc(), zone(&row.zone).unwrap()).take(next.len() + 1).collect();
                if row.expr == THEIRS_LOSES.0 {
                    ours.retain(|time| *time != at(THEIRS_LOSES.1));
                    better += 1;
                }
                ours.truncate(next.len());
                let theirs: Vec<Time> = next.iter().filter(|time| *time != "never").map(|time| at(time)).collect();
                assert_eq!(ours, theirs, "{what}");
                good += 1;
            }
            (Err(error), None, Some(_)) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
            (ours, _, theirs) => panic!("{what}: {ours:?}, and {theirs:?}"),
        }
    }
    assert_eq!((good, bad, better), (1_588, 72, 1));
}

#[test]
fn what_is_refused_is_said_with_the_field_and_the_way_out() {
    let said: Vec<String> = ROWS
        .iter()
        .filter(|row| row.zone == "UTC")
        .filter_map(|row| Cron::parse(&row.expr).err().map(|error| format!("{:?}\n    {error}", row.expr)))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_skipped_hour_has_no_slots_and_one_that_comes_twice_has_them_twice() {
    let berlin = |expression, from| times(expression, "Europe/Berlin", from, 2);
    assert_eq!(
        berlin("30 2 * * *", "2026-03-28T12:00:00Z"),
        ["2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"]
    );
    assert_eq!(
        berlin("30 2 * * *", "2026-10-24T12:00:00Z"),
        ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
    );
    assert_eq!(
        times("*/30 2 * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 5),
        [
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-26T02:00:00+01:00"
        ]
    );
    // Midnight itself is skipped in Cairo, and a whole day was in Apia.
    assert_eq!(
        times("CRON_TZ=Africa/Cairo 0 0 * * *", "UTC", "2026-04-22T23:00:00Z", 2),
        ["2026-04-25T00:00:00+03:00", "2026-04-26T00:00:00+03:00"]
    );
    assert_eq!(
        times("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 2),
        ["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00"]
    );
}

proptest! {
    #[test]
    fn the_next_time_does_not_depend_on_when_it_is_asked_for(
        row in 0_usize..1_660,
        // Around the changes of half the world's zones, and anywhere.
        from in prop_oneof![1_774_600_000_i64..1_774_900_000, 1_792_700_000_i64..1_793_000_000, 0_i64..4_000_000_000],
        part in 0.0_f64..1.0,
    ) {
        let row = &ROWS[row];
        let (Ok(cron), Ok(zone)) = (Cron::parse(&row.expr), zone(&row.zone)) else { return Ok(()) };
        prop_assume!(!row.expr.contains("@every"));
        let from = Time::from_timestamp(from, 0).unwrap();
        if let Some(next) = cron.next_after(from, zone) {
            prop_assert!(next > from);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any point between will do")]
            let between = from + TimeDelta::seconds(((next - from).num_seconds() as f64 * part) as i64);
            if between < next {
                prop_assert_eq!(cron.next_after(between, zone), Some(next), "asked at {}", between);
            }
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_refused(text in "(CRON_TZ=|TZ=|@every |)[-a-zA-Z0-9*?/,.@= #+µ]{0,40}", from in 0_i64..4_000_000_000) {
        if let Ok(cron) = Cron::parse(&text) {
            let from = Time::from_timestamp(from, 0).unwrap();
            prop_assert!(cron.next_after(from, Tz::UTC).is_none_or(|next| next > from));
        }
    }
}
