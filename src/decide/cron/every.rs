//! Durations as Go writes them (`time.ParseDuration`): what stands behind `@every`.

use chrono::TimeDelta;

/// Unit and its length in nanoseconds; longer names first where one begins with another.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// The distance between times: whole seconds, at least one. None for a text that is no duration.
pub(super) fn parse(text: &str) -> Option<TimeDelta> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(TimeDelta::seconds(1));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        if !number.contains(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds += number.parse::<f64>().ok()? * length;
        rest = behind;
    }
    // What Go keeps in 64 bits: 292 years.
    if nanoseconds > 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above, and cut to whole seconds on purpose")]
    let seconds = (nanoseconds / 1e9) as i64;
    Some(TimeDelta::seconds(if negative { 1 } else { seconds.max(1) }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let seconds = |text: &str| parse(text).map(|distance| distance.num_seconds());
        let good =
            [("1h30m", 5_400), ("90s", 90), ("500ms", 1), ("1.5s", 1), ("1.5h", 5_400), (".5m", 30), ("+2m", 120)];
        for (text, wanted) in good.into_iter().chain([("-5m", 1), ("0", 1), ("1h1h", 7_200), ("3000000000ns", 3)]) {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
        for text in ["", "x", "1", "1d", "h", ".s", "1..5s", "1h 30m", "-", "9999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
