//! A hundred thousand tamperings, each found, each at the message where it was made: against a signed checkpoint and the
//! witness, as somebody with all rights on the server could make them, but for the key.

use crate::story::two_backups;
use crate::vouch::{checkpoint, signer, witness};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use stheno::audit::Entry;
use stheno::audit::verify::{Fault, Verifier};
use stheno::audit::vouch::Vouchers;
use stheno::log::checkpoint::Verifier as Key;
use stheno_events::{LogId, Time};

type Message = (String, Time, Bytes);

/// A log with what vouches for it, and the judge behind each of its messages: what lies before a tampering is judged once.
struct Log {
    id: LogId,
    messages: Vec<Message>,
    judges: Vec<Verifier>,
}

impl Log {
    fn new() -> Self {
        let mut story = two_backups();
        checkpoint(&mut story, &signer());
        let key = Key::from_hex(&signer().public_hex()).unwrap();
        let vouchers = Vouchers { key: Some(key), witness: Some(witness(&story)) };
        let mut judge = Verifier::new(vouchers, story.log.clone(), None).unwrap();
        let mut judges = vec![judge.clone()];
        for (sequence, message) in (1..).zip(&story.messages) {
            assert!(judge.add(&entry(&story.log, sequence, message)));
            judges.push(judge.clone());
        }
        assert_eq!(judge.finish(None).fault, None);
        Self { id: story.log, messages: story.messages, judges }
    }

    /// Judges a log that is as it was before `from`, and goes on like this: sequences and messages.
    fn judged(&self, from: usize, rest: impl IntoIterator<Item = (u64, Message)>) -> Option<Fault> {
        let mut judge = self.judges[from].clone();
        for (sequence, message) in rest {
            if !judge.add(&entry(&self.id, sequence, &message)) {
                break;
            }
        }
        judge.finish(None).fault
    }

    fn rest(&self, from: usize) -> Vec<Message> {
        self.messages[from..].to_vec()
    }
}

fn entry(log: &LogId, sequence: u64, (subject, stored, payload): &Message) -> Entry {
    Entry::read(log, sequence, subject.clone(), *stored, payload.clone())
}

fn numbered(from: usize, rest: Vec<Message>) -> impl Iterator<Item = (u64, Message)> {
    (from as u64 + 1..).zip(rest)
}

#[test]
fn a_hundred_thousand_tamperings_are_found_where_they_were_made() {
    let log = Log::new();
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let count = log.messages.len();
    let mut tried = [0_u32; 6];
    for round in 0.. {
        if tried.iter().sum::<u32>() == 100_000 {
            break;
        }
        let at = rng.random_range(0..count);
        let kind = round % tried.len();
        let mut rest = log.rest(at);
        let fault = match kind {
            // One bit.
            0 => {
                let mut payload = rest[0].2.to_vec();
                let place = rng.random_range(0..payload.len());
                payload[place] ^= 1 << rng.random_range(0..8);
                rest[0].2 = payload.into();
                log.judged(at, numbered(at, rest))
            }
            // A message is taken out, and leaves a hole.
            1 => log.judged(at, numbered(at, rest).skip(1)),
            // The end is cut off.
            2 => log.judged(at, []),
            // A message comes twice, the second time somewhere later; what follows is counted anew.
            3 => {
                let later = rng.random_range(0..rest.len());
                let again = rest[0].clone();
                rest.insert(later + 1, again);
                let fault = log.judged(at, numbered(at, rest));
                let expected = (at + later + 2) as u64;
                assert_eq!(
                    fault.as_ref().map(|fault| fault.sequence),
                    Some(expected),
                    "seed {seed}, round {round}: {fault:?}"
                );
                tried[kind] += 1;
                continue;
            }
            // Two messages change places.
            4 => {
                if rest.len() < 2 {
                    continue;
                }
                let other = rng.random_range(1..rest.len());
                rest.swap(0, other);
                log.judged(at, numbered(at, rest))
            }
            // A message gets another subject.
            _ => {
                let other = log.messages[rng.random_range(0..count)].0.clone();
                if other == rest[0].0 || other.rsplit_once('.').map(|s| s.0) == rest[0].0.rsplit_once('.').map(|s| s.0)
                {
                    continue;
                }
                rest[0].0 = other;
                log.judged(at, numbered(at, rest))
            }
        };
        let found = fault.as_ref().map(|fault| fault.sequence);
        assert_eq!(found, Some(at as u64 + 1), "seed {seed}, round {round}, kind {kind}: {fault:?}");
        tried[kind] += 1;
    }
    println!("{tried:?} tamperings of each kind");
    assert!(tried.iter().all(|tried| *tried > 3_000), "{tried:?}");
}
