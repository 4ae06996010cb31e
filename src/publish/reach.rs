//! Whether the API server takes writes at all: what one object's trouble says of it, and what it does not.

use super::write::Trouble;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// So many objects that fail one after the other, and no answer that says otherwise between them: it is not they.
const MANY: usize = 8;
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of the API server.
#[derive(Debug)]
pub(super) struct Reach<K> {
    /// It is away: until when nothing is tried, and how often it was in vain.
    away: Option<(Instant, u32)>,
    /// Objects that it failed to write since it last answered otherwise.
    failing: BTreeSet<K>,
    /// It was said that it is away.
    told: bool,
}

impl<K: Ord> Reach<K> {
    pub(super) const fn new() -> Self {
        Self { away: None, failing: BTreeSet::new(), told: false }
    }

    /// Until when nothing may be tried, and how much may then be under way at once.
    pub(super) fn room(&self, now: Instant, most: usize) -> Result<usize, Instant> {
        match self.away {
            None => Ok(most),
            Some((until, _)) if now < until => Err(until),
            // One write finds out whether it is back.
            Some(_) => Ok(1),
        }
    }

    /// Whether the next write is to find out: then of an object that has not failed, if there is one.
    pub(super) const fn probes(&self) -> bool {
        self.away.is_some()
    }

    /// A write has ended. `key` names the object where its trouble may be its own.
    pub(super) fn heard(&mut self, key: Option<K>, trouble: Option<&Trouble>, now: Instant) {
        match trouble {
            Some(Trouble::Away(text)) => self.lost(text, now),
            Some(Trouble::Failed(text)) => {
                self.failing.extend(key);
                if self.failing.len() >= MANY || self.away.is_some() {
                    self.lost(text, now);
                }
            }
            Some(Trouble::Refused(_) | Trouble::Conflict | Trouble::Gone) | None => {
                self.away = None;
                self.failing.clear();
                if std::mem::take(&mut self.told) {
                    tracing::info!("the API server takes writes again");
                }
            }
        }
    }

    fn lost(&mut self, text: &str, now: Instant) {
        let failures = self.away.map_or(0, |(_, failures)| failures) + 1;
        self.away = Some((now + backoff(failures), failures));
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("the API server takes no writes, they are tried again: {text}");
        }
    }
}

/// 1, 2, 4 … 60 s.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Trouble {
        Trouble::Failed("a webhook does not answer".to_owned())
    }

    #[tokio::test]
    async fn one_object_that_fails_says_nothing_of_the_others() {
        let (mut reach, now) = (Reach::new(), Instant::now());
        for _ in 0..100 {
            reach.heard(Some("bad"), Some(&failed()), now);
        }
        assert_eq!(reach.room(now, 16), Ok(16));
    }

    #[tokio::test]
    async fn many_that_fail_in_a_row_do_and_one_that_is_written_clears_it() {
        let (mut reach, now) = (Reach::new(), Instant::now());
        for number in 0..MANY {
            assert_eq!(reach.room(now, 16), Ok(16));
            reach.heard(Some(number), Some(&failed()), now);
        }
        assert_eq!(reach.room(now, 16), Err(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        assert_eq!((reach.room(later, 16), reach.probes()), (Ok(1), true));
        // The one that finds out fails too: the wait grows.
        reach.heard(Some(0), Some(&failed()), later);
        assert_eq!(reach.room(later, 16), Err(later + Duration::from_secs(2)));
        reach.heard(Some(0), None, later);
        assert_eq!(reach.room(later, 16), Ok(16));
        reach.heard(Some(0), Some(&failed()), later);
        assert_eq!(reach.room(later, 16), Ok(16), "counted anew");
    }

    #[tokio::test]
    async fn no_connection_is_everybodys_trouble() {
        let (mut reach, now) = (Reach::<u8>::new(), Instant::now());
        reach.heard(None, Some(&Trouble::Away("connection refused".to_owned())), now);
        assert!(reach.room(now, 16).is_err());
    }

    #[test]
    fn waits_grow_to_a_minute() {
        assert_eq!([1, 2, 3, 6, 7, 40].map(|failures| backoff(failures).as_secs()), [1, 2, 4, 32, 60, 60]);
    }
}
