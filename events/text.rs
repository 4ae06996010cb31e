//! Reading text without a detour over owned strings: a replay reads millions of them.

use crate::Time;
use chrono::Datelike as _;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

struct Shared;

impl Visitor<'_> for Shared {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(Arc::from(text))
    }
}

/// Text that is kept: one allocation (serde's own way makes a `String` first).
pub(crate) fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    deserializer.deserialize_str(Shared)
}

/// An instant. Ours are always written in one form, which is read without a parser for all forms there are. One outside the
/// years that have four digits is none: time that is counted on from it would leave what can be said at all.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = Glance::deserialize(deserializer)?.0;
    if let Some(time) = in_our_form(text.as_bytes()) {
        return Ok(time);
    }
    let time: Time = text.parse().map_err(D::Error::custom)?;
    if (0..=9999).contains(&time.year()) {
        Ok(time)
    } else {
        Err(D::Error::custom(format_args!("{text} lies outside the years 0 to 9999")))
    }
}

/// Reads `2026-03-01T02:00:00.125Z`.
fn in_our_form(text: &[u8]) -> Option<Time> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if marks.iter().any(|(at, mark)| text.get(*at) != Some(mark)) {
        return None;
    }
    let number = |digits: std::ops::Range<usize>| {
        text.get(digits)?
            .iter()
            .try_fold(0_u32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
    };
    let date = chrono::NaiveDate::from_ymd_opt(i32::try_from(number(0..4)?).ok()?, number(5..7)?, number(8..10)?)?;
    Some(date.and_hms_milli_opt(number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?)?.and_utc())
}

/// Text that is only looked at: borrowed where the bytes can be (serde's own way always copies).
pub(crate) struct Glance<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Glance<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Glancing;
        impl<'de> Visitor<'de> for Glancing {
            type Value = Glance<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Glance<'de>, E> {
                Ok(Glance(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Glance<'de>, E> {
                Ok(Glance(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Glancing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_form_of_an_instant_is_read_as_chrono_reads_it() {
        let begun = Time::from_timestamp_millis(-62_000_000_000_000).unwrap();
        for step in 0..200_000_i64 {
            let time = begun + chrono::TimeDelta::milliseconds(step * 1_555_200_077);
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            assert_eq!(in_our_form(text.as_bytes()), text.parse().ok(), "{text}");
            assert_eq!(in_our_form(text.as_bytes()), Some(time));
        }
        let others = [
            "2026-03-01T02:00:00Z",
            "2026-03-01T02:00:00.12Z",
            "2026-03-01T02:00:00.125z",
            "2026-03-01 02:00:00.125Z",
            "2026-02-30T02:00:00.125Z",
            "2026-03-01T24:00:00.125Z",
            "2026-03-01T02:60:00.125Z",
            "2026-03-01T02:00:60.125Z",
            "+026-03-01T02:00:00.125Z",
            "",
            "2026-03-01T02:00:00.125+0",
        ];
        for text in others {
            assert_eq!(in_our_form(text.as_bytes()), None, "{text} is left to chrono");
        }
    }
}
