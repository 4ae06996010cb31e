//! `audit replay`: recorded logs are decided once more as they were, and a decision that differs is found where it stands.

use crate::story::audit;
use std::path::Path;
use stheno::audit::Source;
use stheno::audit::source::Scope;
use stheno_events::{Envelope, Event, Fact, backup};

/// The recorded log as messages in memory, each changed by `change`.
async fn recorded(change: impl Fn(u64, &mut Envelope)) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/first-path.stheno");
    let file = Source::file(path).unwrap();
    let mut reader = file.read(1, Scope::default()).await.unwrap();
    let mut messages = Vec::new();
    while let Some(entry) = reader.next().await.unwrap() {
        let mut envelope = entry.envelope.unwrap();
        change(entry.sequence, &mut envelope);
        messages.push((entry.subject, entry.stored, envelope.encode().unwrap().into()));
    }
    Source::Memory { log: file.log().clone(), messages }
}

/// Changes the first message that holds such an event; returns its number.
async fn changed(what: &str, change: impl Fn(&mut Vec<Fact>)) -> (u64, Result<String, String>) {
    let first = std::cell::Cell::new(0);
    let source = recorded(|sequence, envelope| {
        if first.get() == 0 && envelope.events.iter().any(|fact| fact.name() == what) {
            first.set(sequence);
            change(&mut envelope.events);
        }
    })
    .await;
    (first.get(), audit(&source, &["replay"]).await)
}

#[tokio::test]
async fn a_recorded_log_is_decided_as_it_was() {
    let said = audit(&recorded(|_, _| {}).await, &["replay"]).await.unwrap();
    assert_eq!(
        said,
        "12 decisions in 19 messages taken once more: this build decides all of them as they were decided.\n"
    );
    let json = audit(&recorded(|_, _| {}).await, &["replay", "-o", "json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!({ "messages": 19, "decisions": 12, "unjudged": 0, "differences": [] }));
}

#[tokio::test]
async fn a_decision_that_differs_is_found_where_it_stands() {
    // Another one than follows.
    let (sequence, said) = changed("backup.effect_claimed", |events| {
        for fact in events {
            if let Fact::Known(Event::Backup(backup::Event::EffectClaimed(claim))) = fact {
                claim.attempt += 1;
            }
        }
    })
    .await;
    let error = said.unwrap_err();
    let found = format!("in 1 step of 19, first at message {sequence}");
    assert!(error.starts_with("this build decides differently") && error.ends_with(&found), "{error}");

    // One that is missing; nobody decides it later.
    let (sequence, said) = changed("backup.completed", |events| {
        events.retain(|fact| fact.name() != "backup.completed");
    })
    .await;
    let error = said.unwrap_err();
    assert!(error.ends_with(&format!("first at message {sequence}")), "{error}");

    // One too many.
    let (sequence, said) = changed("backup.started", |events| {
        let again = events.iter().find(|fact| fact.name() == "backup.started").cloned().unwrap();
        events.push(again);
    })
    .await;
    assert!(said.unwrap_err().contains(&format!("first at message {sequence}")));
}

#[tokio::test]
async fn what_this_build_does_not_know_is_counted_and_not_judged() {
    let (_, said) = changed("observed.pod", |events| {
        events.push(Fact::Unknown {
            name: "observed.weather".into(),
            version: 1,
            critical: false,
            data: rmpv::Value::Nil,
        });
    })
    .await;
    let said = said.unwrap();
    assert!(said.ends_with("1 message not judged: this build does not know all that they say.\n"), "{said}");
}
