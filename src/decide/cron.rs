//! The times of a schedule: standard five-field cron in the dialect that users of k8ssandra-operator write (robfig/cron v3,
//! `ParseStandard`), translated for the calendar of the `cron` crate and walked through time zones.

pub use chrono_tz::Tz;

mod every;
mod field;

use chrono::{NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH};
use std::str::FromStr as _;
use stheno_events::Time;

/// Clocks of no zone were ever set by more than this, and zones that crossed the date line skipped this much.
const LARGEST_SHIFT: TimeDelta = TimeDelta::hours(25);

/// Why a text is no schedule. Each sentence names what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing.
    #[error("the schedule is empty: write five fields (minute, hour, day of month, month, day of week), or @daily")]
    Empty,
    /// A zone and nothing else.
    #[error("the time zone is not followed by a schedule: write CRON_TZ=<zone>, a blank and five fields")]
    OnlyZone,
    /// A zone that is not in the IANA database.
    #[error("the time zone {0:?} is not known: use a name of the IANA database such as Europe/Berlin")]
    Zone(String),
    /// Too many fields, or too few.
    #[error("{0} fields where five are needed: minute, hour, day of month, month, day of week (there are no seconds)")]
    Fields(usize),
    /// A word behind `@`.
    #[error(
        "{0:?} is not known: use @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly or @every <duration>"
    )]
    Descriptor(String),
    /// A duration.
    #[error("{0:?} is no duration: write numbers with units, such as 1h30m")]
    Duration(String),
    /// What a field says.
    #[error(transparent)]
    Field(#[from] field::Error),
    /// Fields of the dialect that the calendar refuses.
    #[error("the calendar does not take this schedule: {0}")]
    Calendar(String),
}

/// When something is to happen, again and again.
#[derive(Debug, Clone)]
pub struct Cron {
    zone: Option<Tz>,
    times: Times,
}

#[derive(Debug, Clone)]
enum Times {
    /// A fixed distance from the time before.
    Every(TimeDelta),
    /// Local times; the earliest of all of these is next. None at all for fields that match nothing.
    Calendar(Vec<cron::Schedule>),
}

impl Cron {
    /// Reads an expression: five fields, a descriptor (`@daily`) or `@every <duration>`, each behind an optional
    /// `CRON_TZ=<zone>` or `TZ=<zone>`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        let (zone, rest) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            Some(rest) => {
                let (name, rest) = rest.split_once(' ').ok_or(Error::OnlyZone)?;
                (Some(zone(name)?), rest.trim())
            }
            None => (None, text),
        };
        let times = match rest.strip_prefix('@') {
            Some(_) => descriptor(rest)?,
            None => fields(rest)?,
        };
        Ok(Self { zone, times })
    }

    /// The zone that the expression itself names.
    #[must_use]
    pub const fn zone(&self) -> Option<Tz> {
        self.zone
    }

    /// The first time after `after`, in the expression's own zone, else in `zone`; none when it never comes.
    ///
    /// Local times that a clock skips when it is set ahead do not come; those that it shows twice come twice.
    /// The calendar of the `cron` crate ends with the year 2100.
    #[must_use]
    pub fn next_after(&self, after: Time, zone: Tz) -> Option<Time> {
        let schedules = match &self.times {
            Times::Every(distance) => {
                // From the whole second, as the times before it were.
                return chrono::SubsecRound::trunc_subsecs(after, 0).checked_add_signed(*distance);
            }
            Times::Calendar(schedules) => schedules,
        };
        let zone = self.zone.unwrap_or(zone);
        schedules.iter().filter_map(|schedule| next_local(schedule, after, zone)).min()
    }

    /// The times after `after`, in order.
    pub fn times_after(&self, after: Time, zone: Tz) -> impl Iterator<Item = Time> + '_ {
        std::iter::successors(self.next_after(after, zone), move |last| self.next_after(*last, zone))
    }
}

/// The zone of this name, as the field's own parser takes it: none at all is UTC.
///
/// # Errors
/// When the IANA database does not have it.
pub fn zone(name: &str) -> Result<Tz, Error> {
    match name {
        "" | "Local" => Ok(Tz::UTC),
        name => Tz::from_str(name).map_err(|_| Error::Zone(name.into())),
    }
}

fn descriptor(text: &str) -> Result<Times, Error> {
    match text {
        "@yearly" | "@annually" => fields("0 0 1 1 *"),
        "@monthly" => fields("0 0 1 * *"),
        "@weekly" => fields("0 0 * * 0"),
        "@daily" | "@midnight" => fields("0 0 * * *"),
        "@hourly" => fields("0 * * * *"),
        _ => match text.strip_prefix("@every ") {
            Some(duration) => every::parse(duration).map(Times::Every).ok_or_else(|| Error::Duration(duration.into())),
            None => Err(Error::Descriptor(text.into())),
        },
    }
}

fn fields(text: &str) -> Result<Times, Error> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return Err(Error::Fields(fields.len())) };
    let minute = Field::parse(&MINUTE, minute)?;
    let hour = Field::parse(&HOUR, hour)?;
    let day = Field::parse(&DAY_OF_MONTH, day)?;
    let month = Field::parse(&MONTH, month)?;
    let weekday = Field::parse(&DAY_OF_WEEK, weekday)?;
    // Days of either kind, where both are restricted; the calendar wants both at once.
    let days = match day.any || weekday.any {
        true => vec![(day, weekday)],
        false => vec![(day, Field::all(&DAY_OF_WEEK)), (Field::all(&DAY_OF_MONTH), weekday)],
    };
    let schedules = days.iter().filter_map(|(day, weekday)| {
        // Its weeks begin with 1, on Sunday.
        let text =
            format!("0 {} {} {} {} {}", minute.list(0)?, hour.list(0)?, day.list(0)?, month.list(0)?, weekday.list(1)?);
        Some(cron::Schedule::from_str(&text).map_err(|error| Error::Calendar(error.to_string())))
    });
    Ok(Times::Calendar(schedules.collect::<Result<_, _>>()?))
}

/// The first instant after `after` whose local time is one of the schedule's.
fn next_local(schedule: &cron::Schedule, after: Time, zone: Tz) -> Option<Time> {
    let offset = |time: Time| zone.offset_from_utc_datetime(&time.naive_utc()).fix();
    let local = after.with_timezone(&zone).naive_local();
    let steady = offset(after - LARGEST_SHIFT) == offset(after) && offset(after) == offset(after + LARGEST_SHIFT);
    if !steady {
        // Around a change local times are not in the order of instants: all near ones are looked at.
        let near = locals(schedule, local - LARGEST_SHIFT)
            .take_while(|time| *time <= local + LARGEST_SHIFT)
            .flat_map(|time| instants(zone, time))
            .filter(|instant| *instant > after);
        if let Some(next) = near.min() {
            return Some(next);
        }
    }
    locals(schedule, local).flat_map(|time| instants(zone, time)).find(|instant| *instant > after)
}

/// The schedule's local times after `local`.
fn locals(schedule: &cron::Schedule, local: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + '_ {
    // A calendar knows no zones: UTC stands for whatever is local.
    schedule.after_owned(local.and_utc()).map(|time| time.naive_utc())
}

/// When a clock of the zone shows this: never, once or twice.
fn instants(zone: Tz, local: NaiveDateTime) -> impl Iterator<Item = Time> {
    let shown = zone.from_local_datetime(&local);
    let (first, last) = (shown.earliest(), shown.latest());
    first.into_iter().chain(last.filter(|last| Some(last) != first.as_ref())).map(|time| time.to_utc())
}
