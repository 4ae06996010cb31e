//! One of the five fields: which numbers it matches.

use std::fmt::Write as _;

/// What a field may hold.
#[derive(Debug)]
pub(super) struct Kind {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of the numbers from the least on.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Kind = Kind { name: "minute", least: 0, most: 59, names: &[] };
pub(super) const HOUR: Kind = Kind { name: "hour", least: 0, most: 23, names: &[] };
pub(super) const DAY_OF_MONTH: Kind = Kind { name: "day of month", least: 1, most: 31, names: &[] };
pub(super) const MONTH: Kind = Kind {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
pub(super) const DAY_OF_WEEK: Kind =
    Kind { name: "day of week", least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {text:?} {fault}")]
pub struct Error {
    /// Its name.
    pub field: &'static str,
    /// The part of it that is wrong.
    pub text: String,
    /// How.
    pub fault: Fault,
}

/// How a part of a field is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither a number nor a name that the field knows.
    #[error("is neither a number nor a name of this field (L, W, # and H are not known)")]
    Number,
    /// More than one hyphen.
    #[error("has more than one hyphen")]
    Hyphens,
    /// More than one slash.
    #[error("has more than one slash")]
    Slashes,
    /// Below the least.
    #[error("begins below {0}")]
    Below(u32),
    /// Above the most.
    #[error("ends above {0}")]
    Above(u32),
    /// A range that runs backwards.
    #[error("begins behind its end: write two ranges")]
    Backwards,
    /// A step of nothing.
    #[error("has a step of 0")]
    Step,
}

/// The numbers that a field matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    bits: u64,
    /// Whether it says nothing, by a star or a question mark without a step.
    pub(super) any: bool,
}

impl Field {
    pub(super) fn all(kind: &Kind) -> Self {
        Self { bits: range(kind.least, kind.most, 1), any: true }
    }

    pub(super) fn parse(kind: &Kind, text: &str) -> Result<Self, Error> {
        let mut field = Self { bits: 0, any: false };
        // Nothing between two commas is nothing.
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let one = part_of(kind, part).map_err(|fault| Error { field: kind.name, text: part.into(), fault })?;
            field.bits |= one.bits;
            field.any |= one.any;
        }
        Ok(field)
    }

    /// The numbers as a list, moved by `by`; none when nothing matches.
    pub(super) fn list(self, by: u32) -> Option<String> {
        let mut list = String::new();
        for number in (0..64_u32).filter(|number| self.bits >> number & 1 == 1) {
            let comma = if list.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(list, "{comma}{}", number + by);
        }
        (!list.is_empty()).then_some(list)
    }
}

/// `*`, `5`, `5-9`, each with an optional `/step`; `5/15` means from 5 on.
fn part_of(kind: &Kind, text: &str) -> Result<Field, Fault> {
    let (numbers, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(Fault::Slashes),
        Some((numbers, step)) => (numbers, Some(step)),
        None => (text, None),
    };
    let (low, high) = match numbers.split_once('-') {
        Some((low, high)) => (low, Some(high)),
        None => (numbers, None),
    };
    let star = matches!(low, "*" | "?");
    let (least, most) = match (star, high) {
        (true, _) => (kind.least, kind.most),
        (false, None) => {
            let number = number(kind, low)?;
            (number, if step.is_some() { kind.most } else { number })
        }
        (false, Some(high)) if high.contains('-') => return Err(Fault::Hyphens),
        (false, Some(high)) => (number(kind, low)?, number(kind, high)?),
    };
    let step = step.map_or(Ok(1), digits)?;
    match () {
        () if least < kind.least => Err(Fault::Below(kind.least)),
        () if most > kind.most => Err(Fault::Above(kind.most)),
        () if least > most => Err(Fault::Backwards),
        () if step == 0 => Err(Fault::Step),
        () => Ok(Field { bits: range(least, most, step), any: star && step == 1 }),
    }
}

fn number(kind: &Kind, text: &str) -> Result<u32, Fault> {
    let named = kind.names.iter().zip(kind.least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map_or_else(|| digits(text), |(_, number)| Ok(number))
}

fn digits(text: &str) -> Result<u32, Fault> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().ok()).flatten().ok_or(Fault::Number)
}

fn range(least: u32, most: u32, step: u32) -> u64 {
    (least..=most).step_by(step.try_into().unwrap_or(usize::MAX)).fold(0, |bits, number| bits | 1 << number)
}
