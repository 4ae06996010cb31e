//! The envelope, attacked: round trips, strangers' encodings, newer writers, older readers, damage.

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
use rmpv::Value;
use samples::{envelope, event, unknown, value};
use std::collections::BTreeSet;
use stheno_events::backup::{Progress, Queued, WaitReason};
use stheno_events::envelope::DecodeError;
use stheno_events::{Envelope, Event, Fact, LAYOUT};

fn as_value(payload: &[u8]) -> Value {
    rmp_serde::from_slice(payload).unwrap()
}

fn as_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

/// The fields of a map, to be changed.
fn fields(value: &mut Value) -> &mut Vec<(Value, Value)> {
    match value {
        Value::Map(fields) => fields,
        other => panic!("{other} is no map"),
    }
}

fn field<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    &mut fields(value).iter_mut().find(|(key, _)| key.as_str() == Some(name)).unwrap().1
}

fn facts(value: &mut Value) -> &mut Vec<Value> {
    match field(value, "events") {
        Value::Array(facts) => facts,
        other => panic!("{other} is no list"),
    }
}

/// Every map of ours with its fields the other way round; what is inside data of unknown events stays.
fn reversed(envelope: &Value) -> Value {
    let mut envelope = envelope.clone();
    for fact in facts(&mut envelope) {
        reverse_all(field(fact, "data"));
        fields(fact).reverse();
    }
    fields(&mut envelope).reverse();
    envelope
}

fn reverse_all(value: &mut Value) {
    match value {
        Value::Map(fields) => {
            fields.reverse();
            fields.iter_mut().for_each(|(_, value)| reverse_all(value));
        }
        Value::Array(list) => list.iter_mut().for_each(reverse_all),
        _ => {}
    }
}

fn one_fact(mut sample: Envelope, fact: Fact) -> Envelope {
    sample.events = vec![fact];
    sample
}

fn sample() -> Envelope {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tree = envelope().new_tree(&mut runner).unwrap();
    proptest::strategy::ValueTree::current(&tree)
}

#[test]
fn every_kind_of_event_is_tried_and_named_once() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tried: Vec<&str> = samples::kinds()
        .iter()
        .map(|kind| proptest::strategy::ValueTree::current(&kind.new_tree(&mut runner).unwrap()).kind().name)
        .collect();
    let names: Vec<&str> = Event::kinds().map(|kind| kind.name).collect();
    assert_eq!(tried, names, "samples::kinds() lists all kinds, in the order of the families");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(envelope in envelope()) {
        let payload = envelope.encode().unwrap();
        prop_assert_eq!(Envelope::decode(&payload).unwrap(), envelope);
    }

    #[test]
    fn what_is_read_is_written_again_in_the_same_bytes(envelope in envelope()) {
        let payload = envelope.encode().unwrap();
        prop_assert_eq!(Envelope::decode(&payload).unwrap().encode().unwrap(), payload);
    }

    #[test]
    fn the_order_of_fields_means_nothing(envelope in envelope()) {
        let stored = as_value(&envelope.encode().unwrap());
        // Reversing a map inside an unknown event's data makes other data; the rest is equal.
        let decoded = Envelope::decode(&as_bytes(&reversed(&stored))).unwrap();
        for (fact, original) in decoded.events.iter().zip(&envelope.events) {
            match (fact, original) {
                (Fact::Known(fact), Fact::Known(original)) => prop_assert_eq!(fact, original),
                (Fact::Unknown { .. }, Fact::Unknown { .. }) => {
                    prop_assert_eq!((fact.name(), fact.version()), (original.name(), original.version()));
                }
                (_, _) => prop_assert!(false, "{:?} was {:?}", fact, original),
            }
        }
        prop_assert_eq!(Envelope { events: Vec::new(), ..decoded }, Envelope { events: Vec::new(), ..envelope });
    }

    #[test]
    fn fields_that_a_newer_writer_adds_are_passed_over(envelope in envelope(), extra in value(), at in any::<prop::sample::Index>()) {
        let mut stored = as_value(&envelope.encode().unwrap());
        let added = (Value::from("added_later"), extra.clone());
        let place = at.index(fields(&mut stored).len() + 1);
        fields(&mut stored).insert(place, added.clone());
        for (fact, original) in facts(&mut stored).iter_mut().zip(&envelope.events) {
            let place = at.index(fields(fact).len() + 1);
            fields(fact).insert(place, added.clone());
            if let Fact::Known(_) = original {
                let data = fields(field(fact, "data"));
                data.insert(at.index(data.len() + 1), added.clone());
            }
        }
        prop_assert_eq!(Envelope::decode(&as_bytes(&stored)).unwrap(), envelope);
    }

    #[test]
    fn an_older_reader_keeps_and_names_what_it_does_not_know(fact in unknown()) {
        let envelope = one_fact(sample(), fact);
        let payload = envelope.encode().unwrap();
        let decoded = Envelope::decode(&payload).unwrap();
        prop_assert_eq!(&decoded, &envelope);
        prop_assert_eq!(decoded.encode().unwrap(), payload);
    }

    #[test]
    fn a_newer_version_of_a_known_event_is_unknown(event in event(), critical in any::<bool>()) {
        let mut stored = as_value(&one_fact(sample(), event.clone().into()).encode().unwrap());
        let fact = &mut facts(&mut stored)[0];
        *field(fact, "v") = Value::from(event.kind().version + 1);
        *field(fact, "critical") = Value::from(critical);
        let decoded = Envelope::decode(&as_bytes(&stored)).unwrap();
        let Fact::Unknown { name, version, critical: stored_critical, .. } = &decoded.events[0] else {
            return Err(TestCaseError::fail("known"));
        };
        prop_assert_eq!((name.as_str(), *version), (event.kind().name, event.kind().version + 1));
        prop_assert_eq!(*stored_critical, critical);
    }

    #[test]
    fn without_a_word_an_unknown_event_is_critical(fact in unknown()) {
        let mut stored = as_value(&one_fact(sample(), fact).encode().unwrap());
        fields(&mut facts(&mut stored)[0]).retain(|(key, _)| key.as_str() != Some("critical"));
        let decoded = Envelope::decode(&as_bytes(&stored)).unwrap();
        let is_critical = matches!(decoded.events[0], Fact::Unknown { critical: true, .. });
        prop_assert!(is_critical);
    }

    #[test]
    fn a_known_event_that_cannot_be_read_does_not_take_the_others_with_it(good in event(), bad in event(), data in value()) {
        let mut envelope = sample();
        envelope.events = vec![good.clone().into(), bad.clone().into(), good.clone().into()];
        let mut stored = as_value(&envelope.encode().unwrap());
        *field(&mut facts(&mut stored)[1], "data") = data.clone();
        let decoded = Envelope::decode(&as_bytes(&stored)).unwrap();
        prop_assert_eq!(&decoded.events[0], &Fact::Known(good.clone()));
        prop_assert_eq!(&decoded.events[2], &Fact::Known(good));
        match &decoded.events[1] {
            // Some data fits by chance, such as an empty map where every field has a default.
            Fact::Known(event) => prop_assert_eq!(event.kind(), bad.kind()),
            Fact::Unknown { name, version, critical, data: kept } => {
                prop_assert_eq!((name.as_str(), *version, *critical), (bad.kind().name, bad.kind().version, bad.kind().critical));
                prop_assert_eq!(kept, &data);
            }
        }
    }

    #[test]
    fn later_layouts_say_so_whatever_else_they_hold(layout in u64::from(LAYOUT) + 1.., rest in value()) {
        for stored in [
            Value::Map(vec![(Value::from("v"), Value::from(layout))]),
            Value::Map(vec![(Value::from("v"), Value::from(layout)), (Value::from("events"), rest.clone())]),
            Value::Map(vec![(Value::from("at"), rest), (Value::from("v"), Value::from(layout))]),
        ] {
            let error = Envelope::decode(&as_bytes(&stored)).unwrap_err();
            prop_assert!(matches!(error, DecodeError::Newer(found) if found == layout), "{}", error);
        }
        let mut stored = as_value(&sample().encode().unwrap());
        *field(&mut stored, "v") = Value::from(layout);
        prop_assert!(matches!(Envelope::decode(&as_bytes(&stored)), Err(DecodeError::Newer(_))));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Envelope::decode(&bytes);
    }

    #[test]
    fn a_damaged_message_is_never_another_one_with_bytes_left(envelope in envelope(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = envelope.encode().unwrap();
        let cut = at.index(payload.len());
        prop_assert!(Envelope::decode(&payload[..cut]).is_err(), "cut");
        payload.push(byte);
        prop_assert!(Envelope::decode(&payload).is_err(), "longer");
        payload.pop();
        payload[cut] ^= byte;
        let _ = Envelope::decode(&payload);
    }
}

/// Time is counted on from what a message says: behind what can be said nothing may be counted.
#[test]
fn an_instant_that_nothing_can_be_added_to_is_refused() {
    for (key, text, read) in [
        ("at", "9999-12-31T23:59:59.999Z", true),
        ("at", "+262142-12-31T23:59:59.999Z", false),
        ("wall", "-262143-01-01T00:00:00Z", false),
    ] {
        let mut stored = as_value(&sample().encode().unwrap());
        *field(&mut stored, key) = Value::from(text);
        let found = Envelope::decode(&as_bytes(&stored));
        assert_eq!(found.is_ok(), read, "{text}");
        assert!(matches!(found, Ok(_) | Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn an_envelope_is_a_map_of_its_layout() {
    let good = sample();
    let positions = rmp_serde::to_vec(&good).unwrap();
    assert!(matches!(Envelope::decode(&positions), Err(DecodeError::Malformed(_))), "positions, not names");
    let mut zero = as_value(&good.encode().unwrap());
    *field(&mut zero, "v") = Value::from(0);
    assert!(matches!(Envelope::decode(&as_bytes(&zero)), Err(DecodeError::Malformed(_))), "layout 0 was never written");
    assert!(Envelope::decode(b"").is_err());
}

#[test]
fn a_field_that_comes_twice_is_refused() {
    let fact: Fact = Queued { job: "j".into(), reason: WaitReason::PodsMissing, message: "m".into() }.into();
    let stored = as_value(&one_fact(sample(), fact).encode().unwrap());
    for twice in ["type", "v", "critical", "data"] {
        let mut stored = stored.clone();
        let fact = &mut facts(&mut stored)[0];
        let again = field(fact, twice).clone();
        fields(fact).push((Value::from(twice), again));
        assert!(Envelope::decode(&as_bytes(&stored)).is_err(), "{twice}");
    }
    let mut stored = stored.clone();
    let again = field(&mut stored, "events").clone();
    fields(&mut stored).push((Value::from("events"), again));
    assert!(Envelope::decode(&as_bytes(&stored)).is_err(), "events");
}

#[test]
fn a_value_of_an_enum_that_is_not_known_yet_concerns_its_event_only() {
    let critical: Fact = Queued { job: "j".into(), reason: WaitReason::PodsMissing, message: "m".into() }.into();
    let mut stored = as_value(&one_fact(sample(), critical).encode().unwrap());
    *field(field(&mut facts(&mut stored)[0], "data"), "reason") = Value::from("MoonInTheWrongPhase");
    let decoded = Envelope::decode(&as_bytes(&stored)).unwrap();
    assert!(matches!(&decoded.events[0], Fact::Unknown { name, critical: true, .. } if name == "backup.queued"));

    let informational: Fact = Progress { job: "j".into(), nodes: Vec::new() }.into();
    let mut stored = as_value(&one_fact(sample(), informational).encode().unwrap());
    *field(field(&mut facts(&mut stored)[0], "data"), "nodes") = Value::from("all of them");
    let decoded = Envelope::decode(&as_bytes(&stored)).unwrap();
    assert!(matches!(&decoded.events[0], Fact::Unknown { critical: false, .. }));
}

#[test]
fn nested_too_deeply_is_an_error_and_no_crash() {
    for depth in [10, 50, 100, 1_000, 2_000, 100_000] {
        // Lists in lists, as bytes: building the value would be as deep.
        let mut data = vec![0x91; depth];
        data.push(0xc0);
        let stored = as_value(
            &one_fact(
                sample(),
                Fact::Unknown { name: "later.event".into(), version: 1, critical: true, data: Value::from("HERE") },
            )
            .encode()
            .unwrap(),
        );
        let payload = as_bytes(&stored);
        let mark = as_bytes(&Value::from("HERE"));
        let place = payload.windows(mark.len()).position(|window| window == mark).unwrap();
        let deep = [&payload[..place], &data, &payload[place + mark.len()..]].concat();
        let decoded = Envelope::decode(&deep);
        assert_eq!(decoded.is_ok(), depth <= 50, "{depth}");
    }
}
