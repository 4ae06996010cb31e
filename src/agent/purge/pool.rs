//! Files of the pool to which no backup refers, and since when. Pure: no bucket, no clock.
//!
//! The grace period counts from the last reference, not from the file's age: an old file that a backup referred to until
//! today is as precious as one that was written today.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::store::Found;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Since when each file has been without a reference, in ms, as far as was seen here. A lost ledger starts all periods anew.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    since: BTreeMap<String, i64>,
}

/// What becomes of the pool.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What goes.
    pub(crate) gone: Vec<Found>,
    /// How many files stay for the grace period only.
    pub(crate) within_grace: u64,
    /// The ledger from now on.
    pub(crate) ledger: Ledger,
}

/// Judges each file of the pool.
pub(crate) fn judge(
    pool: Vec<Found>,
    referenced: &BTreeSet<String>,
    before: &Ledger,
    grace_days: u32,
    now_ms: i64,
) -> Verdict {
    let mut verdict = Verdict::default();
    let over_ms = now_ms.saturating_sub(i64::from(grace_days).saturating_mul(DAY_MS));
    for found in pool {
        if referenced.contains(&found.key) {
            continue;
        }
        let since = before.since.get(&found.key).copied().unwrap_or(now_ms);
        // A file that was written since then is another one under the same name.
        let since = since.max(found.modified.timestamp_millis().min(now_ms));
        if since <= over_ms {
            verdict.gone.push(found);
        } else {
            verdict.within_grace += 1;
            verdict.ledger.since.insert(found.key, since);
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, day: i64) -> Found {
        let modified = chrono::DateTime::from_timestamp_millis(day * DAY_MS).unwrap();
        Found { key: key.to_owned(), size: 1, modified, etag: None }
    }

    fn keys(verdict: &Verdict) -> Vec<&str> {
        verdict.gone.iter().map(|found| found.key.as_str()).collect()
    }

    #[test]
    fn grace_counts_from_the_last_reference() {
        let (none, both) = (BTreeSet::new(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        let pool = || vec![file("a", 1), file("b", 1)];
        let first = judge(pool(), &both, &Ledger::default(), 10, 50 * DAY_MS);
        assert_eq!(first, Verdict::default());
        let second = judge(pool(), &none, &first.ledger, 10, 60 * DAY_MS);
        assert_eq!((keys(&second).len(), second.within_grace), (0, 2));
        // "b" is referred to again for a while.
        let third = judge(pool(), &BTreeSet::from(["b".to_owned()]), &second.ledger, 10, 65 * DAY_MS);
        let fourth = judge(pool(), &none, &third.ledger, 10, 70 * DAY_MS);
        assert_eq!((keys(&fourth), fourth.within_grace), (vec!["a"], 1));
        let fifth = judge(vec![file("b", 1)], &none, &fourth.ledger, 10, 80 * DAY_MS);
        assert_eq!((keys(&fifth), &fifth.ledger), (vec!["b"], &Ledger::default()));
    }

    #[test]
    fn no_grace_is_none_and_a_new_file_is_young() {
        let none = BTreeSet::new();
        let now = 50 * DAY_MS;
        assert_eq!(keys(&judge(vec![file("a", 50)], &none, &Ledger::default(), 0, now)), ["a"]);
        let old = Ledger { since: [("a".to_owned(), DAY_MS)].into() };
        let verdict = judge(vec![file("a", 45)], &none, &old, 10, now);
        assert_eq!((verdict.gone, verdict.within_grace), (vec![], 1));
    }
}
