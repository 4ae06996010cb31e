//! The hash chain, attacked: every change of what is stored, missing or moved is found.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test: it ends at the first surprise"
)]

mod samples;

use proptest::prelude::*;
use samples::envelope;
use stheno_events::chain::{Broken, Heads};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, LogId};

fn dc(name: &str) -> Aggregate {
    Aggregate::Datacenter(DcKey::new("ns", name))
}

/// Stored messages of two aggregates, each naming its predecessor.
fn chained(envelopes: Vec<(bool, Envelope)>) -> Vec<(Aggregate, Vec<u8>)> {
    let mut heads = Heads::default();
    envelopes
        .into_iter()
        .map(|(first, envelope)| {
            let aggregate = dc(if first { "a" } else { "b" });
            let prev = heads.head(&aggregate).copied();
            let payload = Envelope { prev, ..envelope }.encode().unwrap();
            heads.link(&aggregate, prev, &payload).unwrap();
            (aggregate, payload)
        })
        .collect()
}

/// Index of the first message that does not follow.
fn first_fault(messages: &[(Aggregate, Vec<u8>)]) -> Option<usize> {
    let mut heads = Heads::default();
    messages.iter().position(|(aggregate, payload)| {
        let named = Envelope::decode(payload).map(|envelope| envelope.prev).unwrap_or_default();
        heads.link(aggregate, named, payload).is_err()
    })
}

fn root(messages: &[(Aggregate, Vec<u8>)]) -> Digest {
    let mut heads = Heads::default();
    for (aggregate, payload) in messages {
        heads.push(aggregate, payload);
    }
    heads.root(&LogId::of_cluster("cafe0000"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_whole_holds_and_every_change_is_found(
        envelopes in prop::collection::vec((any::<bool>(), envelope()), 2..12),
        at in any::<prop::sample::Index>(),
    ) {
        let whole = chained(envelopes);
        prop_assert_eq!(first_fault(&whole), None);
        let at = at.index(whole.len());
        let last_of = |aggregate: &Aggregate| whole.iter().rposition(|(one, _)| one == aggregate).unwrap();
        let next_of = |at: usize| (at + 1..whole.len()).find(|&later| whole[later].0 == whole[at].0);

        // A changed message breaks its successor's link; the last one of an aggregate only the root tells.
        let mut changed = whole.clone();
        let mut envelope = Envelope::decode(&changed[at].1).unwrap();
        envelope.by = format!("{}!", envelope.by).into();
        changed[at].1 = envelope.encode().unwrap();
        prop_assert_eq!(first_fault(&changed), next_of(at));
        if last_of(&whole[at].0) == at {
            prop_assert_ne!(root(&changed), root(&whole));
        }

        // So does a missing one.
        let mut missing = whole.clone();
        missing.remove(at);
        prop_assert_eq!(first_fault(&missing), next_of(at).map(|next| next - 1));
        prop_assert!(first_fault(&missing).is_some() || root(&missing) != root(&whole));

        // And one that was put into the other aggregate.
        let mut moved = whole.clone();
        moved[at].0 = if moved[at].0 == dc("a") { dc("b") } else { dc("a") };
        prop_assert!(first_fault(&moved).is_some() || root(&moved) != root(&whole));
    }
}

#[test]
fn a_fault_says_what_was_named_and_what_was_found_and_is_reported_once() {
    let mut heads = Heads::default();
    let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
    heads.link(&dc("a"), None, b"1").unwrap();
    assert_eq!(heads.link(&dc("a"), None, b"2"), Err(Broken { named: None, found: Some(first) }));
    assert_eq!(heads.link(&dc("a"), Some(second), b"3"), Ok(()));
    assert_eq!(heads.link(&dc("b"), Some(second), b"1"), Err(Broken { named: Some(second), found: None }));
}

#[test]
fn the_root_depends_on_which_aggregate_has_which_head_and_not_on_the_order_of_reading() {
    let message = |name: &str, text: &str| (dc(name), text.as_bytes().to_vec());
    assert_eq!(root(&[message("a", "1"), message("b", "2")]), root(&[message("b", "2"), message("a", "1")]));
    assert_ne!(root(&[message("a", "1"), message("b", "2")]), root(&[message("a", "2"), message("b", "1")]));
    assert_ne!(root(&[]), root(&[message("a", "1")]));
}

#[test]
fn digests_are_bytes_in_the_log_and_text_for_people() {
    let digest = Digest::of(b"x");
    let packed = rmp_serde::to_vec(&digest).unwrap();
    assert_eq!(packed.len(), 34, "two bytes of length");
    assert_eq!(rmp_serde::from_slice::<Digest>(&packed).unwrap(), digest);
    let text = serde_json::to_string(&digest).unwrap();
    assert_eq!(text.len(), 66);
    assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    for bad in ["", "ab", &"0g".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
    assert!(
        rmp_serde::from_slice::<Digest>(&rmp_serde::to_vec(&vec![1_u8; 32]).unwrap()).is_err(),
        "a list of numbers"
    );
}
