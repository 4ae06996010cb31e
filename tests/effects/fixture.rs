//! What the tests of effects share: a runner in a hurry, an effect, and what comes of it.

use crate::support::sidecar::Serving;
use std::time::Duration;
use stheno::effects::{Pace, Report, Runner, Sidecars};
use stheno_decide::{Effect, EffectKey};
use stheno_events::backup::{self, Call, NodeUnanswered};
use stheno_events::observed::BackupType;
use stheno_events::{DcKey, Epoch, Event};

/// Short enough for a test, long enough for a busy machine.
pub fn pace() -> Pace {
    Pace {
        connect: Duration::from_secs(2),
        unary: Duration::from_millis(500),
        async_backup: Duration::from_millis(700),
        stop: Duration::from_millis(500),
        listing: Duration::from_millis(500),
        listing_all: Duration::from_millis(500),
        purge: Duration::from_secs(2),
        quiet: Duration::from_millis(300),
        progress: Duration::from_millis(200),
        first_poll: Duration::from_millis(10),
        longest_poll: Duration::from_millis(40),
        visible: Duration::from_millis(600),
    }
}

pub fn runner() -> Runner {
    Runner::new(Sidecars::new(pace()))
}

pub fn start() -> Call {
    Call::Start("dc1-r1-sts-0".into())
}

pub fn resume() -> Call {
    Call::Resume("dc1-r1-sts-0".into())
}

pub fn effect(call: impl Into<stheno_decide::Call>, serving: &Serving) -> Effect {
    Effect {
        key: EffectKey { job: "job-uid".into(), call: call.into(), attempt: 1, serial: 1, epoch: Epoch(7) },
        dc: DcKey::new("ns", "dc1"),
        backup: "nightly".into(),
        backup_type: BackupType::Differential,
        address: Some((serving.address.ip().to_string().into(), serving.address.port())),
        foreign: false,
        sidecar: None,
        accepted: false,
        task: None,
        command_by_ms: stheno::runtime::boot_ms() + stheno_decide::policy::COMMAND_WITHIN_MS,
    }
}

pub async fn report(runner: &mut Runner) -> Option<Vec<backup::Event>> {
    match tokio::time::timeout(Duration::from_secs(10), runner.next()).await.expect("the effect hangs") {
        Report::Ended(_) => None,
        Report::Facts { events, .. } => {
            let fact = |event| match event {
                Event::Backup(event) => event,
                other @ (Event::Observed(_)
                | Event::Schedule(_)
                | Event::Task(_)
                | Event::Datacenter(_)
                | Event::Operator(_)) => {
                    panic!("{other:?}")
                }
            };
            Some(events.into_iter().map(fact).collect())
        }
    }
}

/// Facts, up to the effect's end.
pub async fn facts(runner: &mut Runner) -> Vec<backup::Event> {
    let mut facts = Vec::new();
    while let Some(events) = report(runner).await {
        facts.extend(events);
    }
    facts
}

/// The next fact, alone in its report; none at the effect's end.
pub async fn next(runner: &mut Runner) -> Option<backup::Event> {
    let events = report(runner).await?;
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next()
}

pub async fn next_kind(runner: &mut Runner) -> &'static str {
    next(runner).await.map_or("end", |event| event.kind().name)
}

pub fn kinds(facts: &[backup::Event]) -> Vec<&'static str> {
    facts.iter().map(|event| event.kind().name.trim_start_matches("backup.")).collect()
}

pub fn unanswered(facts: &[backup::Event]) -> &NodeUnanswered {
    match facts.last() {
        Some(backup::Event::NodeUnanswered(event)) => event,
        other => panic!("{other:?}"),
    }
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
