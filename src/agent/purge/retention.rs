//! Which backups of a node have had their time. Pure: no bucket, no clock.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::Retention;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// One backup of this node, as far as retention cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name.
    pub name: String,
    /// When it began, in ms.
    pub started_ms: i64,
    /// Whether this node is done with it.
    pub complete: bool,
    /// Whether all nodes of the ring are done with it.
    pub good: bool,
    /// Whether somebody may be working on it.
    pub running: bool,
}

/// Why something is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Somebody named it.
    Asked,
    /// A deletion that was stopped on the way.
    Interrupted,
    /// Older than max_backup_age.
    Age {
        /// The limit.
        days: u32,
    },
    /// There are newer ones enough.
    Count {
        /// The limit.
        limit: usize,
    },
    /// A file of the pool to which no backup refers.
    Unreferenced {
        /// The grace period that is over.
        days: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => write!(f, "asked for by name"),
            Self::Interrupted => write!(f, "its deletion was interrupted"),
            Self::Age { days } => write!(f, "older than max_backup_age = {days} days"),
            Self::Count { limit } => write!(f, "{limit} newer complete backups are kept (max_backup_count)"),
            Self::Unreferenced { days } => {
                write!(f, "no backup has referred to it for {days} days (backup_grace_period_in_days)")
            }
        }
    }
}

/// The backups that go, with the reason. Never one that may be running; never the newest complete one of this node, nor the
/// newest that is complete on all nodes. Only complete ones count: failed ones push nothing out.
pub fn expired(backups: &[Seen], rules: &Retention, now_ms: i64) -> BTreeMap<String, Reason> {
    let newest = |of: fn(&Seen) -> bool| {
        let all = backups.iter().filter(|seen| of(seen));
        all.max_by_key(|seen| (seen.started_ms, &seen.name)).map(|seen| seen.name.as_str())
    };
    let kept = [newest(|seen| seen.complete), newest(|seen| seen.complete && seen.good)];
    let oldest_ms = now_ms.saturating_sub(i64::from(rules.max_age_days).saturating_mul(DAY_MS));
    let mut gone = BTreeMap::new();
    for seen in backups.iter().filter(|seen| !seen.running && !kept.contains(&Some(seen.name.as_str()))) {
        let newer = backups.iter().filter(|other| other.complete && age(other) > age(seen)).count();
        if rules.max_count > 0 && newer >= rules.max_count {
            gone.insert(seen.name.clone(), Reason::Count { limit: rules.max_count });
        } else if rules.max_age_days > 0 && seen.started_ms < oldest_ms {
            gone.insert(seen.name.clone(), Reason::Age { days: rules.max_age_days });
        }
    }
    gone
}

fn age(seen: &Seen) -> (i64, &str) {
    (seen.started_ms, &seen.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(name: &str, day: i64, marks: &str) -> Seen {
        let has = |mark| marks.contains(mark);
        Seen {
            name: name.to_owned(),
            started_ms: day * DAY_MS,
            complete: has('c') || has('g'),
            good: has('g'),
            running: has('r'),
        }
    }

    fn names(backups: &[Seen], max_age_days: u32, max_count: usize) -> Vec<String> {
        let rules = Retention { max_age_days, max_count, grace_days: 10 };
        expired(backups, &rules, 100 * DAY_MS).into_keys().collect()
    }

    #[test]
    fn the_oldest_go_by_count_and_by_age() {
        let backups = [seen("a", 80, "g"), seen("b", 90, "g"), seen("c", 99, "g")];
        assert_eq!(names(&backups, 0, 0), Vec::<String>::new());
        assert_eq!(names(&backups, 0, 2), ["a"]);
        assert_eq!(names(&backups, 15, 0), ["a"]);
        assert_eq!(names(&backups, 15, 1), ["a", "b"]);
    }

    #[test]
    fn failed_ones_neither_count_nor_stay() {
        let backups = [seen("a", 80, "g"), seen("b", 90, ""), seen("c", 95, ""), seen("d", 99, "g")];
        assert_eq!(names(&backups, 0, 2), Vec::<String>::new());
        assert_eq!(names(&backups, 0, 1), ["a", "b", "c"]);
    }

    #[test]
    fn the_last_good_one_stays_however_old() {
        assert_eq!(names(&[seen("a", 1, "g")], 5, 1), Vec::<String>::new());
        // Newer ones are complete here and not elsewhere.
        assert_eq!(names(&[seen("a", 1, "g"), seen("b", 2, "c"), seen("c", 3, "c")], 5, 1), ["b"]);
        assert_eq!(names(&[seen("a", 1, "g"), seen("b", 2, "")], 5, 1), ["b"]);
    }

    proptest! {
        #[test]
        fn no_rule_takes_what_runs_or_the_last_good_one(
            days in proptest::collection::vec((0_i64..100, 0_usize..4), 0..12),
            age in 0_u32..50,
            count in 0_usize..5,
        ) {
            let marks = ["", "c", "g", "r"];
            let backups: Vec<Seen> =
                days.iter().enumerate().map(|(at, (day, mark))| seen(&format!("{at:02}"), *day, marks[*mark])).collect();
            let gone = names(&backups, age, count);
            for good in [|seen: &Seen| seen.good, |seen: &Seen| seen.complete] {
                let left = backups.iter().any(|seen| good(seen) && !gone.contains(&seen.name));
                prop_assert_eq!(left, backups.iter().any(good));
            }
            prop_assert!(backups.iter().all(|seen| !seen.running || !gone.contains(&seen.name)));
            if count > 0 {
                let left = backups.iter().filter(|seen| seen.complete && !gone.contains(&seen.name)).count();
                prop_assert!(left <= count + 1);
            }
        }
    }
}
