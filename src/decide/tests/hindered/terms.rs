//! A term: how it begins, what it may still do, and how it ends.

use super::*;
use stheno_decide::policy;

/// A claim that was never started is said to be abandoned before the log is told that nothing is in flight: a stock
/// sidecar would be waited for in vain.
#[test]
fn a_term_that_ends_before_it_is_witnessed_takes_its_claims_back() {
    let mut stream = Stream::of(&["leader"]);
    stream.witnessing = false;
    stream.lead(0);
    see(&mut stream);
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(1), None)));
    let commands = stream.settle();
    assert!(!commands.iter().any(|command| matches!(command, Command::Start(_))), "the witness knows of no term");
    assert!(matches!(node(&stream), NodeState::Called { .. }));
    stream.engines[0].finish();
    stream.settle();
    let names = stream.names();
    let place = |name: &str| names.iter().position(|event| event == name);
    assert!(place("operator.stepped_down").is_some());
    assert!(place("backup.claim_abandoned").is_some_and(|at| Some(at) < place("operator.stepped_down")), "{names:?}");
}

/// A sidecar that names a term which nobody can lead is broken or means harm: it must not end all terms.
#[test]
fn a_term_that_cannot_be_is_not_followed() {
    let mut stream = ready();
    let effect = started(&mut stream);
    let overtaken = Overtaken { pod: "sts-0".into(), epoch: Epoch(u64::MAX) };
    stream.engines[0].outcome(&effect.key, &key(), vec![overtaken.into()]);
    stream.settle();
    assert_eq!(count(&stream, "datacenter.overtaken"), 1);
    assert!(matches!(stream.engines[0].role(), Role::Leading { epoch: Epoch(1), ending: false, .. }));
    let overtaken = Overtaken { pod: "sts-0".into(), epoch: Epoch(70) };
    stream.engines[0].outcome(&effect.key, &key(), vec![overtaken.into()]);
    stream.engines[0].finished(&effect.key);
    stream.settle();
    stream.engines[0].lease(true);
    stream.settle();
    assert_eq!(stream.engines[0].world().operator.epoch, Epoch(71));
}

/// A log that takes its time: until `led` is stored the former leader can claim, and start what it claimed five seconds
/// later. The ten quiet seconds count from when it can no more.
#[test]
fn the_quiet_time_counts_from_when_the_former_leader_can_write_no_more() {
    let mut stream = Stream::of(&["new", "former"]);
    stream.lead(1);
    see(&mut stream);
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(1), None)));
    stream.settle();
    // Killed: its call stays open. The message of its successor is six seconds on its way.
    stream.engines[1].lease(false);
    stream.slow_ms = 6_000;
    stream.engines[0].lease(true);
    stream.settle_once();
    stream.settle_once();
    stream.slow_ms = 0;
    let stored = stream.now;
    let mut claimed = None;
    for _ in 0..300 {
        let before = count(&stream, "backup.effect_claimed");
        stream.settle();
        if count(&stream, "backup.effect_claimed") > before {
            claimed = Some(stream.now);
            break;
        }
    }
    let waited = claimed.unwrap() - stored;
    assert!((9_000..=12_000).contains(&waited), "resumed {waited} ms after the successor was alone");
    assert!(count(&stream, "datacenter.led") <= 3, "{:?}", stream.names());
}

/// A successor waits no quiet time behind a term that ended in order: so it has not, while a call is out.
#[test]
fn a_term_ends_in_order_when_its_calls_have_come_back() {
    let mut stream = ready();
    let effect = started(&mut stream);
    stream.engines[0].finish();
    assert!(stream.settle().contains(&Command::Stop(effect.key.clone())));
    assert_eq!(count(&stream, "operator.stepped_down"), 0);
    stream.engines[0].outcome(&effect.key, &key(), vec![accepted(&effect).into()]);
    stream.engines[0].finished(&effect.key);
    stream.settle();
    let names = stream.names();
    assert_eq!(names.last().map(String::as_str), Some("operator.stepped_down"));
    assert!(names.iter().any(|name| name == "backup.node_started"), "what it found out is in: {names:?}");
}

/// However long the append took: a successor's quiet time begins with its own append, not with our start.
#[test]
fn what_a_claim_allows_is_counted_from_its_append() {
    let mut stream = ready();
    stream.slow_ms = 3_000;
    let appended = stream.now;
    let effect = started(&mut stream);
    assert!(stream.now > appended + stream.slow_ms, "the log took its time");
    let by = effect.command_by_ms;
    assert!(by > stream.now && by < stream.now - stream.slow_ms + policy::COMMAND_WITHIN_MS, "{by} at {}", stream.now);
    let quiet = u64::try_from(policy::QUIET.num_milliseconds()).unwrap();
    assert!(policy::START_WITHIN_MS < policy::COMMAND_WITHIN_MS && policy::COMMAND_WITHIN_MS < quiet);
}
