//! Sentences: names in them become pseudonyms, words that this program itself writes stay, and everything else goes.

use super::names::{Kind, Pseudonyms, is_uuid};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// What stands for everything that goes.
const GONE: &str = "…";

/// Words of the program's own sentences, of systems' errors, and of what clouds and Kubernetes answer: small, one by one.
static WORDS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| include_str!("words.txt").split_whitespace().collect());

/// Names that stand in sentences, those first that say most.
const NAMED: [Kind; 11] = [
    Kind::Backup,
    Kind::Task,
    Kind::Schedule,
    Kind::Node,
    Kind::Address,
    Kind::Datacenter,
    Kind::Namespace,
    Kind::Cluster,
    Kind::Rack,
    Kind::Operator,
    Kind::Id,
];

/// Digits of a number that stays: an exit code, an answer of HTTP, a port, minutes; not an account.
const DIGITS: usize = 5;

/// A sentence without what gives anybody away.
pub(super) fn text(pseudonyms: &Pseudonyms, sentence: &str) -> Arc<str> {
    let mut out = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some(first) = rest.chars().next() {
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii();
        if !inside(first) {
            out.push(if first.is_control() { ' ' } else { first });
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (run, behind) = rest.split_at(rest.find(|c: char| !inside(c)).unwrap_or(rest.len()));
        rest = behind;
        // A full stop ends the sentence, not the name.
        let word = run.trim_end_matches(['.', '-', '_']);
        let end = run.get(word.len()..).unwrap_or_default();
        match NAMED.iter().find_map(|kind| pseudonyms.known(*kind, word)) {
            Some(pseudonym) => out.push_str(&pseudonym),
            None if plain(word) => out.push_str(word),
            None => out.push_str(GONE),
        }
        out.push_str(end);
    }
    out.into()
}

/// What a person consents to: a UUID or a hash; anything else is a sentence.
pub(super) fn token(pseudonyms: &Pseudonyms, text: &str) -> Option<Arc<str>> {
    let hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!hash && !is_uuid(text)).then(|| self::text(pseudonyms, text))
}

/// Whether a run of letters, digits and signs between them says nothing of whom it is about.
fn plain(run: &str) -> bool {
    let number = |text: &str| text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = |text: &str| text.is_empty() || WORDS.contains(text.to_ascii_lowercase().as_str());
    number(run) || is_uuid(run) || run.split(['.', '-', '_']).all(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::redact::names::Collection;

    fn names() -> Pseudonyms {
        let mut names = Collection::default();
        for (kind, name) in [
            (Kind::Backup, "nightly-1700000000"),
            (Kind::Schedule, "nightly"),
            (Kind::Node, "shop-dc1-r1-sts-0"),
            (Kind::Address, "10.0.0.7"),
            (Kind::Namespace, "error"),
            (Kind::Datacenter, "Größe"),
        ] {
            names.learn(kind, name, None);
        }
        names.finish()
    }

    #[test]
    fn sentences_keep_what_says_nothing_of_anybody() {
        let names = names();
        for (sentence, expected) in [
            ("", ""),
            ("the connection was closed.", "the connection was closed."),
            ("the bucket answers 403: AccessDenied", "the bucket answers 403: AccessDenied"),
            (
                "waits for backup nightly-1700000000 of the same datacenter",
                "waits for backup schedule-0001-1700000000 of the same datacenter",
            ),
            ("shop-dc1-r1-sts-10: no answer from 10.0.0.7:50051", "pod-0001-10: no answer from ip-0001:50051"),
            ("no answer from 10.0.0.8", "no answer from …"),
            (
                "no CassandraDatacenter \"Größe\" in namespace error",
                "no CassandraDatacenter \"dc-0001\" in namespace ns-0001",
            ),
            ("User \"jane@example.org\" cannot list s3://acme-backups/eu/x.db", "User \"…@…\" cannot list s3://…/…/…"),
            ("account 123456789012 of AKIAIOSFODNN7EXAMPLE", "account … of …"),
            ("spec.cronSchedule is read-only", "spec.cronSchedule is read-only"),
            ("line one\nline two\u{1b}[31m", "line one line two […"),
            ("日本 は", "… …"),
            ("5f8c4a1e-0f8e-4f57-9a52-3b8c2f1d7e60 is unknown", "5f8c4a1e-0f8e-4f57-9a52-3b8c2f1d7e60 is unknown"),
        ] {
            assert_eq!(&*text(&names, sentence), expected);
        }
    }

    #[test]
    fn words_are_small_and_stand_once() {
        let list: Vec<&str> = include_str!("words.txt").split_whitespace().collect();
        assert!(list.is_sorted_by(|a, b| a < b), "the words are sorted, each stands once");
        assert!(list.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())));
    }
}
