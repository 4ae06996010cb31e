//! Which events are meant: the filters that `audit log` and `events` share, and points in time.

use super::entry::Entry;
use super::source::Scope;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use clap::Args;
use std::str::FromStr;
use stheno_events::{Event, Time};

/// Filters. All of them must fit.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only events of this namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE", env = "STHENO_NAMESPACE")]
    pub namespace: Option<String>,
    /// Only events of datacenters of this name.
    #[arg(long, value_name = "NAME", env = "STHENO_DATACENTER")]
    pub datacenter: Option<String>,
    /// Only events whose type fits, such as `backup.node_*`; may be given several times.
    #[arg(long = "type", value_name = "GLOB", env = "STHENO_TYPE", value_delimiter = ',')]
    pub types: Vec<Glob>,
    /// Only events since a time (RFC 3339) or for a duration (`90m`, `2h30m`, `7d`).
    #[arg(long, value_name = "TIME|DURATION", env = "STHENO_SINCE")]
    pub since: Option<Moment>,
    /// Only from this sequence on.
    #[arg(long, value_name = "SEQ", env = "STHENO_FROM_SEQUENCE", value_parser = clap::value_parser!(u64).range(1..))]
    pub from_sequence: Option<u64>,
    /// Only up to this sequence.
    #[arg(long, value_name = "SEQ", env = "STHENO_TO_SEQUENCE", value_parser = clap::value_parser!(u64).range(1..))]
    pub to_sequence: Option<u64>,
}

/// A selection with `now` known.
#[derive(Debug, Clone)]
pub struct Window {
    /// What the server can leave out.
    pub scope: Scope,
    types: Vec<Glob>,
    since: Option<Time>,
    /// The first sequence.
    pub from: u64,
    /// The last sequence.
    pub to: u64,
}

impl Selection {
    /// The selection as seen at `now`.
    #[must_use]
    pub fn at(&self, now: Time) -> Window {
        Window {
            scope: Scope { namespace: self.namespace.clone(), datacenter: self.datacenter.as_deref().map(bounded) },
            types: self.types.clone(),
            since: self.since.map(|since| since.before(now)),
            from: self.from_sequence.unwrap_or(1),
            to: self.to_sequence.unwrap_or(u64::MAX),
        }
    }

    /// Patterns that fit no type of this build: probably mistyped, though a newer build may know one.
    pub fn fitting_nothing(&self) -> impl Iterator<Item = &Glob> {
        self.types.iter().filter(|glob| !Event::kinds().any(|kind| glob.fits(kind.name)))
    }
}

/// A datacenter's name as the log keeps it: a text that is too long for one is cut.
fn bounded(name: &str) -> String {
    stheno_events::DcKey::new("", name).name.to_string()
}

impl Window {
    /// Whether a message lies in it. Types are looked at fact by fact.
    #[must_use]
    pub fn contains(&self, entry: &Entry) -> bool {
        entry.sequence >= self.from
            && entry.sequence <= self.to
            && self.since.is_none_or(|since| entry.at() >= since)
            && self.scope.contains(entry)
    }

    /// Whether a type is meant; `None` stands for a message that cannot be read.
    #[must_use]
    pub fn wants(&self, name: Option<&str>) -> bool {
        self.types.is_empty() || name.is_some_and(|name| self.types.iter().any(|glob| glob.fits(name)))
    }

    /// Whether it begins later than the log.
    #[must_use]
    pub const fn begins_late(&self) -> bool {
        self.from > 1 || self.since.is_some()
    }
}

/// A pattern for event types: `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Whether `text` fits.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on when what follows the last `*` does not fit.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
                Some(_) | None => match star {
                    Some((after, taken)) => {
                        star = Some((after, taken + 1));
                        (p, t) = (after, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern such as backup.* is expected".into());
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// An instant.
    At(Time),
    /// This long before now.
    Ago(TimeDelta),
}

impl Moment {
    /// The instant, seen from `now`.
    #[must_use]
    pub fn before(self, now: Time) -> Time {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.checked_sub_signed(duration).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(time) = time(text) {
            return Ok(Self::At(time));
        }
        duration(text.strip_suffix(" ago").unwrap_or(text))
            .map(Self::Ago)
            .ok_or_else(|| "expected a time (2026-03-01T02:00:00Z, 2026-03-01) or a duration (90m, 2h30m, 7d)".into())
    }
}

/// A point of the log: behind a message, or at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Behind the message with this sequence.
    Sequence(u64),
    /// At this moment.
    Moment(Moment),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            Ok(0) => Err("the first sequence is 1".into()),
            Ok(sequence) => Ok(Self::Sequence(sequence)),
            Err(_) => text.parse().map(Self::Moment).map_err(|_: String| {
                "expected a sequence (812), a time (2026-03-01T02:00:00Z, 2026-03-01) or a duration ago (90m, 7d)"
                    .into()
            }),
        }
    }
}

/// RFC 3339, also without seconds, without a zone (UTC), or a date alone.
fn time(text: &str) -> Option<Time> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    if let Ok(time) = DateTime::parse_from_str(&text.replace('Z', "+00:00"), "%Y-%m-%dT%H:%M%:z") {
        return Some(time.to_utc());
    }
    let plain = text.strip_suffix('Z').unwrap_or(text).replace(' ', "T");
    let civil = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&plain, format).ok())
        .or_else(|| NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN)))?;
    Some(civil.and_utc())
}

/// `90m`, `2h30m`, `7d`: numbers with the units w, d, h, m, s.
fn duration(text: &str) -> Option<TimeDelta> {
    let mut rest = text;
    let mut total = TimeDelta::zero();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let seconds = match rest.as_bytes().get(digits)? {
            b'w' => 604_800,
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(&TimeDelta::try_seconds(number.checked_mul(seconds)?)?)?;
        rest = rest.get(digits + 1..)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fits = |pattern: &str, text| pattern.parse::<Glob>().unwrap().fits(text);
        for pattern in ["backup.*", "*", "*.node_started", "backup.node_????ted", "b*.*_*d", "backup.node_started"] {
            assert!(fits(pattern, "backup.node_started"), "{pattern}");
        }
        for pattern in ["backup", "*.node", "backup.node_???ted", "?", "backup.node_started?", "x*"] {
            assert!(!fits(pattern, "backup.node_started"), "{pattern}");
        }
    }

    #[test]
    fn points_as_people_type_them() {
        let point = |text: &str| match text.parse::<Point>() {
            Ok(Point::Sequence(sequence)) => format!("message {sequence}"),
            Ok(Point::Moment(Moment::At(time))) => time.to_rfc3339(),
            Ok(Point::Moment(Moment::Ago(ago))) => format!("{} s ago", ago.num_seconds()),
            Err(error) => error,
        };
        assert_eq!(point("812"), "message 812");
        assert_eq!(point("2026-03-01T02:00Z"), "2026-03-01T02:00:00+00:00");
        assert_eq!(point("2026-03-01T02:00+02:00"), "2026-03-01T00:00:00+00:00");
        assert_eq!(point("2026-03-01T02:00:05.25+02:00"), "2026-03-01T00:00:05.250+00:00");
        assert_eq!(point("2026-03-01 02:00"), "2026-03-01T02:00:00+00:00");
        assert_eq!(point("2026-03-01"), "2026-03-01T00:00:00+00:00");
        assert_eq!(point("1w2d3h4m5s"), "788645 s ago");
        assert_eq!(point("90m ago"), "5400 s ago");
        assert_eq!(point("0"), "the first sequence is 1");
        for bad in ["", "yesterday", "5", "-1", "1h5", "99999999999999999999w", "2026-13-01", "h"] {
            if bad != "5" {
                assert!(point(bad).starts_with("expected a sequence"), "{bad}: {}", point(bad));
            }
        }
    }
}
