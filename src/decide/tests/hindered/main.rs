//! The engine where something is in its way for a while: a kind that cannot be listed, a narrower view, clocks that were
//! set, a witness that cannot be written, objects that took the name of others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

#[path = "../stream/mod.rs"]
mod stream;
mod terms;

use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stheno_decide::engine::{Command, Role, WATCHED};
use stheno_decide::{Call, Effect, EffectKey, Observation};
use stheno_events::backup::{NodeFailed, NodeStarted, NodeUnanswered, SidecarKind};
use stheno_events::datacenter::Overtaken;
use stheno_events::observed::{
    Backup, BackupJob, BackupType, Datacenter, Gap, Malformed, Meta, ObjectKind, Pod, Sidecar,
};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Time};
use stheno_projections::backup::{NodeState, Stage};
use stream::{Stream, job, prod};

fn key() -> DcKey {
    DcKey::new("prod", "dc1")
}

fn meta(uid: &str, name: &str, version: u64) -> Meta {
    Meta {
        uid: uid.into(),
        name: name.into(),
        resource_version: version.to_string().into(),
        generation: 1,
        created: Time::UNIX_EPOCH,
        deleting: None,
    }
}

fn datacenter(uid: &str) -> Observation {
    Observation::Datacenter(Datacenter {
        meta: meta(uid, "dc1", 10),
        cluster: "cluster".into(),
        datacenter_name: None,
        size: 1,
        racks: Vec::new(),
        stopped: false,
        observed_generation: 1,
        progress: Some("Ready".into()),
        conditions: BTreeMap::new(),
    })
}

fn pod() -> Observation {
    Observation::Pod(Pod {
        meta: meta("pod-0", "sts-0", 11),
        cluster: "cluster".into(),
        ip: Some("10.0.0.1".into()),
        sidecar: Some(Sidecar { port: 50051, ready: true }),
    })
}

/// A leader that sees a datacenter with one node.
fn ready() -> Stream {
    let mut stream = Stream::of(&["leader"]);
    stream.lead(0);
    see(&mut stream);
    stream
}

fn see(stream: &mut Stream) {
    stream.all(|engine| {
        engine.observe(&prod(), None, datacenter("dc-a"));
        engine.observe(&prod(), Some(key()), pod());
    });
    stream.settle();
}

/// One job; the call that is started for it.
fn started(stream: &mut Stream) -> Effect {
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(1), None)));
    let commands = stream.settle();
    commands
        .into_iter()
        .find_map(|command| if let Command::Start(effect) = command { Some(effect) } else { None })
        .unwrap()
}

fn count(stream: &Stream, name: &str) -> usize {
    stream.names().iter().filter(|event| *event == name).count()
}

fn node(stream: &Stream) -> NodeState {
    let dc = stream.engines[0].world().datacenter(&key()).unwrap();
    dc.operation(&job(1).meta.uid).unwrap().nodes.values().next().unwrap().state.clone()
}

/// Nothing else may happen in a datacenter for hours: the job must not wait for it.
#[test]
fn a_job_that_came_while_a_kind_could_not_be_listed_starts_when_it_can_be() {
    let mut stream = ready();
    stream.all(|engine| engine.unobservable(ObjectKind::MedusaBackup, "forbidden".into()));
    stream.settle();
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(1), None)));
    stream.settle();
    assert_eq!((count(&stream, "observed.backup_job"), count(&stream, "backup.started")), (1, 0));
    stream.all(|engine| engine.listed(ObjectKind::MedusaBackup, None, &BTreeSet::new()));
    stream.settle();
    assert_eq!((count(&stream, "observed.observable"), count(&stream, "backup.started")), (1, 1));
}

/// The end of the first one was missed while the API server was away: two sights of one name are remembered until a list
/// says that one of them is gone, and a list may be long in coming.
#[test]
fn an_object_that_took_the_name_of_another_is_the_one_that_is_there() {
    for (first, second) in [("dc-a", "dc-b"), ("dc-b", "dc-a")] {
        let mut stream = Stream::of(&["leader", "other"]);
        stream.lead(0);
        let backup = |uid: &str| {
            let meta = meta(uid, "nightly", 20);
            let backup_type = BackupType::Full;
            Observation::Backup(Backup { meta, dc: "dc1".into(), backup_type, operation: None })
        };
        for uid in [first, second] {
            stream.all(|engine| {
                engine.observe(&prod(), None, datacenter(uid));
                engine.observe(&prod(), None, backup(&format!("backup-of-{uid}")));
            });
            stream.settle();
        }
        // A failover compares all that was seen with the log.
        stream.engines[0].lease(false);
        stream.settle();
        stream.lead_without_lists(1);
        let dc = stream.engines[0].world().datacenter(&key()).unwrap();
        assert_eq!(dc.object.as_ref().unwrap().meta.uid, second.into());
        assert_eq!(dc.uid, Some(second.into()));
        assert_eq!((count(&stream, "observed.datacenter"), count(&stream, "observed.backup")), (2, 2));
        assert_eq!(count(&stream, "datacenter.incarnation"), 1);
    }
}

/// Of namespaces that are not watched nothing is known: their pods are not gone, and their backups go on when somebody
/// looks again.
#[test]
fn what_a_narrower_view_does_not_show_is_not_gone() {
    let mut stream = Stream::of(&["wide", "narrow"]);
    WATCHED.into_iter().for_each(|kind| stream.engines[0].listed(kind, None, &BTreeSet::new()));
    stream.lead_without_lists(0);
    stream.engines[0].observe(&prod(), None, datacenter("dc-a"));
    stream.engines[0].observe(&prod(), Some(key()), pod());
    started(&mut stream);
    stream.engines[0].lease(false);
    let scope = BTreeSet::from(["elsewhere".into()]);
    for kind in WATCHED {
        stream.engines[1].listed(kind, Some(&scope), &BTreeSet::new());
    }
    stream.engines[1].lease(true);
    stream.settle();
    assert!(stream.engines[1].leads());
    for _ in 0..30 {
        stream.now += 60_000;
        stream.settle();
    }
    assert_eq!((count(&stream, "observed.gone"), count(&stream, "backup.node_lost")), (0, 0));
    assert!(matches!(node(&stream), NodeState::Called { .. }));
}

/// The watch of one namespace may have to begin anew: its list says nothing of the others, and takes none away.
#[test]
fn a_list_of_one_namespace_leaves_the_others_in_view() {
    let mut stream = Stream::of(&["leader"]);
    for kind in WATCHED {
        let both = BTreeSet::from([prod(), "elsewhere".into()]);
        stream.engines[0].listed(kind, Some(&both), &BTreeSet::new());
        stream.engines[0].listed(kind, Some(&BTreeSet::from(["elsewhere".into()])), &BTreeSet::new());
    }
    stream.lead_without_lists(0);
    see(&mut stream);
    started(&mut stream);
}

/// The append of one datacenter hangs, and its deadline passes: the others have theirs.
#[test]
fn a_datacenter_that_cannot_be_written_does_not_put_the_others_to_sleep() {
    let mut stream = Stream::of(&["leader"]);
    stream.lead(0);
    stream.all(|engine| {
        engine.observe(&prod(), None, Observation::BackupJob(job(1), None));
    });
    stream.settle();
    // Before it is to be refused, ten minutes later, another one comes: that message is on its way, and stays there.
    let minute = 60_000;
    stream.now += 5 * minute;
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(3), None)));
    let now = |stream: &Stream| Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(stream.now).unwrap());
    let (at, boot) = (now(&stream), stream.now);
    let sent = stream.engines[0].poll(at, boot, &mut || "hangs".into());
    assert!(matches!(sent.as_slice(), [Command::Append(_)]));
    let mut other = job(2);
    other.dc = "dc2".into();
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(other.clone(), None)));
    stream.settle();
    stream.now += 6 * minute;
    stream.settle();
    let left = stream.engines[0].wake_in();
    assert!(left.is_some_and(|left| left > Duration::from_secs(200) && left < Duration::from_secs(300)), "{left:?}");
}

fn accepted(effect: &Effect) -> NodeStarted {
    let EffectKey { job, call, attempt, .. } = effect.key.clone();
    NodeStarted { job, pod: call.pod().clone(), attempt, sidecar: SidecarKind::Medusa }
}

fn broken(effect: &Effect, heard: Time) -> NodeUnanswered {
    let EffectKey { job, call, attempt, serial, epoch } = effect.key.clone();
    let Call::Backup(call) = call else { panic!("{call:?}") };
    let (in_doubt, not_found, error) = (true, false, "the connection broke".into());
    NodeUnanswered { job, call, attempt, serial, epoch, in_doubt, not_found, heard: Some(heard), error }
}

/// The call notes when it heard of the node by the wall clock; decisions have a time of their own where that was set.
#[test]
fn a_node_that_was_heard_of_is_not_lost_by_a_clock_that_was_set() {
    let hour = 3_600_000;
    for ahead in [-hour, hour] {
        let mut stream = ready();
        let effect = started(&mut stream);
        stream.engines[0].outcome(&effect.key, &key(), vec![accepted(&effect).into()]);
        stream.settle();
        // The wall clock is set, and not followed; half an hour later the connection breaks.
        stream.ahead = ahead;
        stream.now += 1_800_000;
        stream.settle();
        let wall = Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(stream.now).unwrap() + ahead);
        stream.engines[0].outcome(&effect.key, &key(), vec![broken(&effect, wall).into()]);
        stream.engines[0].finished(&effect.key);
        stream.settle();
        let decided = Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(stream.now).unwrap());
        let heard = match node(&stream) {
            NodeState::Called { heard, .. } | NodeState::Doubt { heard, .. } => heard,
            state @ (NodeState::Pending { .. } | NodeState::Finished { .. } | NodeState::Failed { .. }) => {
                panic!("clock set by {ahead}: {state:?}")
            }
        };
        assert!((decided - heard).abs() < TimeDelta::seconds(10), "clock set by {ahead}: heard at {heard}, {decided}");
    }
}

/// Where the log is ahead of the wall clock, time goes on by the machine's clock however much is written, and never back.
#[test]
fn time_goes_on_at_its_pace_where_the_log_is_ahead() {
    let mut stream = Stream::of(&["leader"]);
    stream.ahead = 3_600_000;
    stream.lead(0);
    let envelope = stream.log.last().unwrap().clone();
    // A process whose clock is right takes over. Each message takes 50 ms to the log and back, and many are under way.
    let mut engine = stream::engine("other");
    let (first, begun) = (envelope.at, stream.now);
    let mut flying = std::collections::VecDeque::from([envelope]);
    let mut last = first;
    for step in 1..=2_000_u64 {
        let boot = begun + 10 * step;
        let wall = Time::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(boot).unwrap());
        if flying.len() > 5 || step == 1 {
            let message = flying.pop_front().unwrap();
            engine.delivered(step, &Aggregate::Operator, Digest::of(b"message"), Ok(&message));
        }
        engine.poll(wall, boot, &mut || "never".into());
        let now = engine.now().unwrap();
        assert!(now >= last, "time runs back from {last} to {now}");
        last = now;
        flying.push_back(Envelope { at: now, events: Vec::new(), ..stream.log[0].clone() });
    }
    let (passed, real) = (last - first, TimeDelta::milliseconds(20_000));
    assert!((passed - real).abs() < TimeDelta::milliseconds(200), "{passed} of {real} passed");
}

/// Nothing of what a store shows that went back is written twice, though the objects of both stores have one name.
#[test]
fn an_older_store_with_another_object_of_the_name_is_recorded_once() {
    let mut stream = ready();
    stream.all(|engine| {
        engine.gap(Gap { kind: ObjectKind::CassandraDatacenter, from: "20".into(), to: "5".into(), backwards: true });
        engine.observe(&prod(), None, datacenter("dc-older"));
        engine.listed(ObjectKind::CassandraDatacenter, None, &BTreeSet::from(["dc-older".into()]));
    });
    stream.settle();
    stream.engines[0].lease(false);
    stream.settle();
    stream.lead_without_lists(0);
    assert!(count(&stream, "observed.datacenter") <= 2, "{:?}", stream.names());
}

/// A request that names no datacenter is nobody's; once it names one it is that one's.
#[test]
fn a_job_that_could_not_be_read_belongs_where_it_says_when_it_can_be() {
    let mut stream = ready();
    let BackupJob { meta, .. } = job(1);
    let (kind, reason) = (ObjectKind::MedusaBackupJob, "spec.cassandraDatacenter is missing".into());
    let unread = Malformed { kind, uid: meta.uid, name: meta.name, reason };
    let nowhere = DcKey::new("prod", "");
    stream.all(|engine| {
        engine.observe(&prod(), Some(nowhere.clone()), Observation::Malformed(unread.clone()));
    });
    stream.settle();
    assert_eq!(count(&stream, "observed.malformed"), 1);
    let effect = started(&mut stream);
    assert_eq!(effect.dc, key());
    let before = stream.engines[0].world().datacenter(&nowhere).unwrap();
    assert!(before.malformed.is_empty() && before.operations.is_empty());
    // Nor does it move any more.
    let mut edited = job(1);
    (edited.dc, edited.meta.resource_version) = ("dc2".into(), "9000".into());
    stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(edited.clone(), None)));
    stream.settle();
    assert!(stream.engines[0].world().datacenter(&DcKey::new("prod", "dc2")).is_none());
}

/// Thousands of jobs at once, by a mistake of somebody: what follows from them does not fit into one message.
#[test]
fn decisions_about_thousands_of_jobs_fit_into_messages() {
    let mut stream = ready();
    let many = 6_000;
    for number in 1..=many {
        stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(number), None)));
    }
    stream.settle();
    assert_eq!(count(&stream, "backup.started"), 1);
    assert_eq!(count(&stream, "backup.queued"), usize::try_from(many - 1).unwrap());
    let largest = stream.log.iter().map(|envelope| envelope.encode().unwrap().len()).max().unwrap();
    assert!(largest < 512 << 10, "{largest} bytes");
}

/// Each backup that ends changes for whom the others wait: what is written of that must not grow with those that wait.
#[test]
fn a_long_line_of_jobs_is_not_written_anew_for_each_backup_that_ends() {
    let mut stream = ready();
    let many = 60;
    let first = started(&mut stream);
    for number in 2..=many {
        stream.all(|engine| engine.observe(&prod(), None, Observation::BackupJob(job(number), None)));
    }
    stream.settle();
    let mut effect = first;
    for number in 1..many {
        let (job, pod) = (effect.key.job.clone(), "sts-0".into());
        assert_eq!(job, crate::job(number).meta.uid, "in their order");
        let failed = NodeFailed { job, pod, attempt: 1, reason: "no".into(), retryable: false };
        stream.engines[0].outcome(&effect.key, &key(), vec![failed.into()]);
        stream.engines[0].finished(&effect.key);
        let next = |command| if let Command::Start(effect) = command { Some(effect) } else { None };
        effect = stream.settle().into_iter().find_map(next).unwrap();
        let dc = stream.engines[0].world().datacenter(&key()).unwrap();
        let told = |ahead: u64| match &dc.operation(&crate::job(number + ahead).meta.uid).map(|found| &found.stage) {
            Some(Stage::Waiting { wait: Some(wait), .. }) => wait.message.to_string(),
            _ => String::new(),
        };
        let name = effect.backup.clone();
        assert!(number + 2 > many || told(2).contains(&*name), "the next ones say whom they wait for: {}", told(2));
    }
    let (written, jobs) = (count(&stream, "backup.queued"), usize::try_from(many).unwrap());
    assert!(written <= jobs * 10, "{written} for {jobs} jobs");
}

/// Terminal is terminal: what a call finds out while the message that ends its operation is on its way comes too late.
#[test]
fn what_is_found_out_after_the_end_is_not_written() {
    let mut stream = ready();
    let effect = started(&mut stream);
    let failed = NodeFailed {
        job: effect.key.job.clone(),
        pod: "sts-0".into(),
        attempt: 1,
        reason: "no".into(),
        retryable: false,
    };
    stream.engines[0].outcome(&effect.key, &key(), vec![failed.into()]);
    let appends = stream.poll(&mut Vec::new());
    stream.engines[0].outcome(&effect.key, &key(), vec![broken(&effect, Time::UNIX_EPOCH).into()]);
    stream.deliver(appends);
    assert_eq!(count(&stream, "backup.failed"), 1);
    stream.settle();
    assert_eq!(count(&stream, "backup.node_unanswered"), 0, "{:?}", stream.names());
    assert_eq!(stream.engines[0].world().datacenter(&key()).unwrap().illegal, 0);
}

#[test]
fn stages_are_as_they_were() {
    // The scenarios above rest on a backup that starts: if it did not, they would prove nothing.
    let mut stream = ready();
    let effect = started(&mut stream);
    let dc = stream.engines[0].world().datacenter(&key()).unwrap();
    assert!(matches!(dc.operation(&effect.key.job).unwrap().stage, Stage::Running { .. }));
}
