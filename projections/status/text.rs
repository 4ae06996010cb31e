//! Words and numbers for people: sizes, times, bounded sentences.

use stheno_crds::{Condition, Time as KubeTime};
use stheno_events::Time;

/// No text from outside grows a status beyond this many characters.
const SENTENCE: usize = 1024;

const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];

/// A size in steps of 1024 with two decimals, such as `127.67 KB`: the form of `MedusaBackup.status.totalSize`.
#[must_use]
pub fn size(bytes: i64) -> String {
    let (number, unit) = scaled(bytes);
    format!("{number:.2} {unit}")
}

/// A size for running text, with one decimal.
pub(super) fn brief_size(bytes: u64) -> String {
    let (number, unit) = scaled(i64::try_from(bytes).unwrap_or(i64::MAX));
    if unit == UNITS[0] { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") }
}

fn scaled(bytes: i64) -> (f64, &'static str) {
    // Two decimals need no more than the 52 bits that a double keeps.
    #[allow(clippy::cast_precision_loss)]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    (number, UNITS[unit])
}

/// An instant as Kubernetes writes it: whole seconds.
pub(super) fn time(time: Time) -> KubeTime {
    use k8s_openapi::jiff::Timestamp;
    let seconds = time.timestamp();
    let edge = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    KubeTime(Timestamp::from_second(seconds).unwrap_or(edge))
}

/// A condition of an object of this generation: its type and whether it holds, one word, one sentence, since when.
pub(super) fn condition(
    generation: i64,
    (type_, holds): (&str, bool),
    reason: &str,
    message: &str,
    since: Time,
) -> Condition {
    Condition {
        last_transition_time: time(since),
        message: sentence(message),
        observed_generation: Some(generation),
        reason: reason.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        type_: type_.to_owned(),
    }
}

/// A text of bounded length.
pub(super) fn sentence(text: &str) -> String {
    match text.char_indices().nth(SENTENCE - 1) {
        Some((end, _)) if text[end..].chars().nth(1).is_some() => format!("{}…", &text[..end]),
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts that k8ssandra-operator writes, from its own tests and from running its function.
    #[test]
    fn sizes_are_those_of_today() {
        for (bytes, text) in [
            (0, "0.00 B"),
            (1, "1.00 B"),
            (1024, "1.00 KB"),
            (1025, "1.00 KB"),
            (1536, "1.50 KB"),
            (130_734, "127.67 KB"),
            (1_048_575, "1024.00 KB"),
            (1_048_576, "1.00 MB"),
            (1 << 30, "1.00 GB"),
            (1 << 40, "1.00 TB"),
            (1 << 50, "1.00 PB"),
            (1 << 60, "1024.00 PB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn long_texts_end_with_an_ellipsis() {
        let fits = "ä".repeat(SENTENCE);
        assert_eq!(sentence(&fits), fits);
        let long = sentence(&"ä".repeat(SENTENCE + 1));
        assert_eq!((long.chars().count(), long.ends_with("ä…")), (SENTENCE, true));
    }

    #[test]
    fn times_are_whole_seconds() {
        let at = chrono::DateTime::from_timestamp_millis(1_999).unwrap_or_default();
        assert_eq!(time(at).0.to_string(), "1970-01-01T00:00:01Z");
    }
}
