//! Subjects, attacked: any text a user types, prefixes, foreign ones.

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
use samples::text;
use stheno_events::subject::{all, escape, namespace, unescape};
use stheno_events::{Aggregate, DcKey, LogId, Process};

fn log() -> LogId {
    LogId::of_cluster("cafe0000-0000-4000-8000-000000000000")
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    prop_oneof![
        (text(), text()).prop_map(|(namespace, name)| Aggregate::Datacenter(DcKey::new(namespace, name))),
        text().prop_map(|digest| Aggregate::Location(digest.to_string())),
        Just(Aggregate::Operator),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    prop::sample::select(vec![
        Process::Observed,
        Process::Backup,
        Process::Restore,
        Process::Schedule,
        Process::Task,
        Process::Configuration,
        Process::Datacenter,
        Process::Location,
        Process::Operator,
    ])
}

/// Whether a NATS server delivers `subject` to `filter`.
fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(a), Some(b)) if a == b => {}
            (_, _) => return false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_subject_is_read_back(aggregate in aggregate(), process in process()) {
        let subject = aggregate.subject(&log(), process);
        prop_assert_eq!(Aggregate::parse(&log(), &subject).unwrap(), (aggregate, Some(process)));
    }

    #[test]
    fn a_subject_is_one_that_nats_takes(aggregate in aggregate(), process in process()) {
        let subject = aggregate.subject(&log(), process);
        prop_assert!(subject.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_~.".contains(&b)), "{}", subject);
        prop_assert_eq!(subject.split('.').count(), 6);
        prop_assert!(subject.split('.').all(|token| !token.is_empty()));
        // A protocol line holds at most 4,096 bytes, with two of them in headers besides.
        prop_assert!(subject.len() < 1_800);
    }

    #[test]
    fn a_filter_takes_its_aggregate_and_no_other(one in aggregate(), other in aggregate(), process in process()) {
        let filter = one.filter(&log());
        prop_assert!(matches(&filter, &one.subject(&log(), process)));
        prop_assert_eq!(matches(&filter, &other.subject(&log(), process)), one == other);
        prop_assert!(matches(&all(&log()), &one.subject(&log(), process)));
        if let Aggregate::Datacenter(key) = &one {
            prop_assert!(matches(&namespace(&log(), &key.namespace), &one.subject(&log(), process)));
        }
    }

    #[test]
    fn escaping_is_undone_and_nothing_else_is(text in text(), token in "[a-z0-9~_.A-F-]{0,12}") {
        let escaped = escape(&text);
        let back = unescape(&escaped);
        prop_assert_eq!(back.as_deref(), Some(&*text));
        if let Some(text) = unescape(&token) {
            prop_assert_eq!(escape(&text), token);
        }
    }

    #[test]
    fn any_subject_is_read_or_foreign(subject in ".{0,60}") {
        let _ = Aggregate::parse(&log(), &subject);
    }

    #[test]
    fn a_text_of_any_length_has_a_subject(text in "(.{1,30}){0,40}", times in 1_usize..50) {
        let long = text.repeat(times);
        let aggregate = Aggregate::Datacenter(DcKey::new(long.as_str(), long.as_str()));
        let subject = aggregate.subject(&log(), Process::Observed);
        prop_assert!(subject.len() < 1_800, "{}", subject.len());
        prop_assert_eq!(Aggregate::parse(&log(), &subject).unwrap().0, aggregate);
        let longer = Aggregate::Datacenter(DcKey::new(long.as_str(), format!("{long}x")));
        prop_assert_ne!(longer.subject(&log(), Process::Observed), subject);
    }
}

#[test]
fn foreign_subjects() {
    for subject in [
        "",
        "stheno.v1.cafe0000",
        "stheno.v1.cafe0000.ns.dc",
        "stheno.v1.cafe00001.ns.dc.backup",
        "stheno.v1.beef0000.ns.dc.backup",
        "stheno.v2.cafe0000.ns.dc.backup",
        "stheno.v1.cafe0000..dc.backup",
        "stheno.v1.cafe0000._.dc.backup",
        "stheno.v1.cafe0000.ns._.backup",
        "stheno.v1.cafe0000._other.dc.backup",
        "stheno.v1.cafe0000.ns.Dc.backup",
        "stheno.v1.cafe0000.ns.~2E.backup",
        "stheno.v1.cafe0000.ns.~61.backup",
        "stheno.v1.cafe0000.ns.~ff.backup",
        "stheno.v1.cafe0000.ns.a~.backup",
    ] {
        assert!(Aggregate::parse(&log(), subject).is_err(), "{subject}");
    }
}

/// The filter of an aggregate takes them, so the next append is compared with them: they must not be overlooked.
#[test]
fn processes_of_another_build_are_the_aggregates() {
    let dc = Aggregate::Datacenter(DcKey::new("ns", "dc"));
    for (subject, aggregate) in [
        ("stheno.v1.cafe0000.ns.dc.unknown", &dc),
        ("stheno.v1.cafe0000.ns.dc.backup.more", &dc),
        ("stheno.v1.cafe0000.ns.dc.Backup", &dc),
        ("stheno.v1.cafe0000._._.eras", &Aggregate::Operator),
        ("stheno.v1.cafe0000._loc.d1.holds", &Aggregate::Location("d1".into())),
    ] {
        assert!(matches(&aggregate.filter(&log()), subject), "{subject}");
        assert_eq!(Aggregate::parse(&log(), subject), Ok((aggregate.clone(), None)), "{subject}");
    }
}

#[test]
fn a_log_id_fits_a_subject_whatever_the_uid() {
    for uid in ["", "-", "ABC", "a", "....", "> *", "🙂🙂🙂🙂🙂🙂🙂🙂"] {
        let id = LogId::of_cluster(uid);
        assert_eq!(id.as_str().len(), 8, "{uid}");
        assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
    assert_ne!(LogId::of_cluster("a"), LogId::of_cluster("b"));
    assert_eq!(LogId::of_cluster("0193d0c5-5d1f-7000-8000-000000000001").as_str(), "0193d0c5");
}
