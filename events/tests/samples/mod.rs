//! Arbitrary values of every event, for properties.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;
use stheno_events::backup::{self, BackupNode, Call, NodeProgress, Outcome, SidecarKind, WaitReason};
use stheno_events::datacenter::{Incarnation, Led, Overtaken};
use stheno_events::observed::{
    self, BackupType, CatchUp, JobRules, Meta, ObjectKind, ScheduledOperation, Sidecar, TaskOperation,
};
use stheno_events::operator::{ApiAccepted, Checkpoint, Genesis, Leading, SteppedDown};
use stheno_events::schedule::{self, MissReason, SkipReason};
use stheno_events::task::{self, Completeness, Found, Purged};
use stheno_events::{Digest, Envelope, Epoch, Event, EventId, Fact, LAYOUT, PodName, Time, Uid};

/// Any text, with what formats trip over.
pub fn text() -> BoxedStrategy<Arc<str>> {
    prop_oneof![
        3 => "[a-z0-9-]{0,20}",
        1 => ".{0,40}",
        1 => prop::sample::select(vec!["", "> *", "a.b", "~", "_", "ü€😀", "\u{0}", "a\r\nb", "null", "1"]).prop_map(String::from),
    ]
    .prop_map(Arc::from)
    .boxed()
}

pub fn time() -> BoxedStrategy<Time> {
    // Years 1 to 9999, in milliseconds.
    (-62_135_596_800_000_i64..253_402_300_800_000).prop_map(|ms| Time::from_timestamp_millis(ms).unwrap()).boxed()
}

pub fn uid() -> BoxedStrategy<Uid> {
    text().prop_map(Uid::from).boxed()
}

fn pod() -> BoxedStrategy<PodName> {
    text().prop_map(PodName::from).boxed()
}

pub fn digest() -> BoxedStrategy<Digest> {
    any::<[u8; 32]>().prop_map(Digest).boxed()
}

fn epoch() -> BoxedStrategy<Epoch> {
    any::<u64>().prop_map(Epoch).boxed()
}

fn kind() -> BoxedStrategy<ObjectKind> {
    prop::sample::select(vec![
        ObjectKind::MedusaBackupJob,
        ObjectKind::MedusaBackup,
        ObjectKind::MedusaBackupSchedule,
        ObjectKind::MedusaTask,
        ObjectKind::CassandraDatacenter,
        ObjectKind::Pod,
    ])
    .boxed()
}

fn backup_type() -> BoxedStrategy<BackupType> {
    prop::sample::select(vec![BackupType::Differential, BackupType::Full]).boxed()
}

fn operation() -> BoxedStrategy<ScheduledOperation> {
    prop::sample::select(vec![ScheduledOperation::Backup, ScheduledOperation::Purge]).boxed()
}

fn catch_up() -> BoxedStrategy<CatchUp> {
    prop::sample::select(vec![CatchUp::None, CatchUp::Latest, CatchUp::All]).boxed()
}

fn requested() -> BoxedStrategy<schedule::Requested> {
    (text(), operation(), text(), backup_type(), rules())
        .prop_map(|(name, operation, dc, backup_type, rules)| schedule::Requested {
            name,
            operation,
            dc,
            backup_type,
            rules,
        })
        .boxed()
}

fn rules() -> BoxedStrategy<JobRules> {
    any::<([Option<u32>; 4], bool)>()
        .prop_map(|([parallelism, backoff_limit, active_deadline, ttl], suspended)| JobRules {
            parallelism,
            backoff_limit,
            active_deadline,
            ttl,
            suspended,
        })
        .boxed()
}

fn meta() -> BoxedStrategy<Meta> {
    (uid(), text(), text(), any::<i64>(), time(), option::of(time()))
        .prop_map(|(uid, name, resource_version, generation, created, deleting)| Meta {
            uid,
            name,
            resource_version,
            generation,
            created,
            deleting,
        })
        .boxed()
}

fn call() -> BoxedStrategy<Call> {
    prop_oneof![
        pod().prop_map(Call::Start),
        pod().prop_map(Call::Resume),
        pod().prop_map(Call::Stop),
        pod().prop_map(Call::Summary)
    ]
    .boxed()
}

fn task_call() -> BoxedStrategy<task::Call> {
    prop_oneof![
        pod().prop_map(task::Call::Purge),
        pod().prop_map(task::Call::Prepare),
        pod().prop_map(task::Call::List),
        pod().prop_map(task::Call::Plan)
    ]
    .boxed()
}

fn task_operation() -> BoxedStrategy<TaskOperation> {
    prop::sample::select(vec![TaskOperation::Sync, TaskOperation::Purge, TaskOperation::PrepareRestore]).boxed()
}

fn sidecar_kind() -> BoxedStrategy<SidecarKind> {
    prop::sample::select(vec![SidecarKind::Stheno, SidecarKind::Medusa]).boxed()
}

fn node() -> BoxedStrategy<BackupNode> {
    (text(), vec(any::<i64>(), 0..4), text(), text())
        .prop_map(|(host, tokens, datacenter, rack)| BackupNode { host, tokens, datacenter, rack })
        .boxed()
}

fn found() -> BoxedStrategy<Found> {
    let completeness = vec![Completeness::Complete, Completeness::Unfinished, Completeness::Failed];
    (
        (text(), backup_type(), option::of(time()), option::of(time()), any::<[i32; 2]>()),
        (vec(node(), 0..3), any::<[i64; 2]>(), prop::sample::select(completeness)),
    )
        .prop_map(
            |(
                (name, backup_type, started, finished, [total_nodes, finished_nodes]),
                (nodes, [files, bytes], completeness),
            )| {
                Found {
                    name,
                    backup_type,
                    started,
                    finished,
                    total_nodes,
                    finished_nodes,
                    nodes,
                    files,
                    bytes,
                    completeness,
                }
            },
        )
        .boxed()
}

fn outcome() -> BoxedStrategy<Outcome> {
    prop::sample::select(vec![
        Outcome::Complete,
        Outcome::Partial,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::DatacenterReplaced,
        Outcome::DeadlineExceeded,
        Outcome::Cancelled,
    ])
    .boxed()
}

fn wait_reason() -> BoxedStrategy<WaitReason> {
    prop::sample::select(vec![
        WaitReason::DatacenterNotFound,
        WaitReason::DatacenterStopped,
        WaitReason::PodsMissing,
        WaitReason::SidecarMissing,
        WaitReason::SidecarNotReady,
        WaitReason::OperationRunning,
        WaitReason::Suspended,
    ])
    .boxed()
}

/// A strategy for each kind of event: a list that the compiler cannot check, so a test does.
pub fn kinds() -> Vec<BoxedStrategy<Event>> {
    let texts = || btree_map(text(), text(), 0..3);
    vec![
        // observed
        (meta(), text(), backup_type(), any::<bool>(), option::of(uid()), rules(), texts())
            .prop_map(|(meta, dc, backup_type, owned, schedule, rules, annotations)| {
                observed::BackupJob { meta, dc, backup_type, owned, schedule, rules, annotations }.into()
            })
            .boxed(),
        (meta(), text(), backup_type(), option::of(uid()))
            .prop_map(|(meta, dc, backup_type, operation)| observed::Backup { meta, dc, backup_type, operation }.into())
            .boxed(),
        (
            (meta(), text(), backup_type(), text(), option::of(text()), any::<bool>()),
            (operation(), option::of(text()), catch_up(), any::<[Option<u32>; 3]>(), any::<bool>(), rules()),
        )
            .prop_map(
                |(
                    (meta, dc, backup_type, cron, time_zone, suspended),
                    (operation, concurrency, catch_up, limits, owned, rules),
                )| {
                    let [starting_deadline, keep_complete, keep_failed] = limits;
                    observed::Schedule {
                        meta,
                        dc,
                        backup_type,
                        rules,
                        cron,
                        time_zone,
                        suspended,
                        operation,
                        concurrency,
                        catch_up,
                        starting_deadline,
                        keep_complete,
                        keep_failed,
                        owned,
                    }
                    .into()
                },
            )
            .boxed(),
        ((meta(), text(), task_operation(), option::of(text())), (option::of(text()), any::<bool>(), texts(), texts()))
            .prop_map(|((meta, dc, operation, backup), (restore_key, owned, labels, annotations))| {
                observed::Task { meta, dc, operation, backup, restore_key, owned, labels, annotations }.into()
            })
            .boxed(),
        (
            (meta(), text(), option::of(text()), any::<i32>(), vec(text(), 0..3)),
            (any::<bool>(), any::<i64>(), option::of(text()), texts()),
        )
            .prop_map(
                |(
                    (meta, cluster, datacenter_name, size, racks),
                    (stopped, observed_generation, progress, conditions),
                )| {
                    observed::Datacenter {
                        meta,
                        cluster,
                        datacenter_name,
                        size,
                        racks,
                        stopped,
                        observed_generation,
                        progress,
                        conditions,
                    }
                    .into()
                },
            )
            .boxed(),
        (meta(), text(), option::of(text()), option::of((any::<u16>(), any::<bool>())))
            .prop_map(|(meta, cluster, ip, sidecar)| {
                let sidecar = sidecar.map(|(port, ready)| Sidecar { port, ready });
                observed::Pod { meta, cluster, ip, sidecar }.into()
            })
            .boxed(),
        (kind(), uid(), text(), any::<bool>())
            .prop_map(|(kind, uid, name, inferred)| observed::Gone { kind, uid, name, inferred }.into())
            .boxed(),
        (
            (kind(), uid(), option::of(time()), option::of(time())),
            (vec(pod(), 0..3), vec(pod(), 0..3), vec(pod(), 0..3)),
        )
            .prop_map(|((kind, uid, started, finished), (in_progress, finished_pods, failed_pods))| {
                observed::Adopted { kind, uid, started, finished, in_progress, finished_pods, failed_pods }.into()
            })
            .boxed(),
        (kind(), uid(), text(), text())
            .prop_map(|(kind, uid, name, reason)| observed::Malformed { kind, uid, name, reason }.into())
            .boxed(),
        (kind(), text(), text(), any::<bool>())
            .prop_map(|(kind, from, to, backwards)| observed::Gap { kind, from, to, backwards }.into())
            .boxed(),
        (kind(), text()).prop_map(|(kind, reason)| observed::Unobservable { kind, reason }.into()).boxed(),
        kind().prop_map(|kind| observed::Observable { kind }.into()).boxed(),
        // backup
        (uid(), wait_reason(), text())
            .prop_map(|(job, reason, message)| backup::Queued { job, reason, message }.into())
            .boxed(),
        (uid(), vec(pod(), 0..4)).prop_map(|(job, nodes)| backup::Started { job, nodes }.into()).boxed(),
        (uid(), call(), any::<[u32; 2]>(), epoch())
            .prop_map(|(job, call, [attempt, serial], epoch)| {
                backup::EffectClaimed { job, call, attempt, serial, epoch }.into()
            })
            .boxed(),
        (uid(), call(), any::<[u32; 2]>(), epoch())
            .prop_map(|(job, call, [attempt, serial], epoch)| {
                backup::ClaimAbandoned { job, call, attempt, serial, epoch }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), prop::sample::select(vec![SidecarKind::Stheno, SidecarKind::Medusa]))
            .prop_map(|(job, pod, attempt, sidecar)| backup::NodeStarted { job, pod, attempt, sidecar }.into())
            .boxed(),
        (uid(), vec((pod(), any::<[u64; 4]>()), 0..3))
            .prop_map(|(job, nodes)| {
                let nodes = nodes.into_iter().map(|(pod, [bytes, bytes_total, files, files_total])| NodeProgress {
                    pod,
                    bytes,
                    bytes_total,
                    files,
                    files_total,
                });
                backup::Progress { job, nodes: nodes.collect() }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), any::<[Option<u64>; 3]>())
            .prop_map(|(job, pod, attempt, [bytes, files, reused])| {
                backup::NodeFinished { job, pod, attempt, bytes, files, reused }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), text(), any::<bool>())
            .prop_map(|(job, pod, attempt, reason, retryable)| {
                backup::NodeFailed { job, pod, attempt, reason, retryable }.into()
            })
            .boxed(),
        ((uid(), call(), any::<[u32; 2]>(), epoch()), (any::<bool>(), any::<bool>(), option::of(time()), text()))
            .prop_map(|((job, call, [attempt, serial], epoch), (in_doubt, not_found, heard, error))| {
                backup::NodeUnanswered { job, call, attempt, serial, epoch, in_doubt, not_found, heard, error }.into()
            })
            .boxed(),
        (uid(), pod(), text()).prop_map(|(job, pod, reason)| backup::NodeLost { job, pod, reason }.into()).boxed(),
        (uid(), outcome(), text())
            .prop_map(|(job, outcome, message)| backup::OutcomeDecided { job, outcome, message }.into())
            .boxed(),
        (
            (uid(), option::of(time()), option::of(time()), any::<[i32; 2]>()),
            (vec((text(), vec(any::<i64>(), 0..4), text(), text()), 0..3), any::<[i64; 2]>(), any::<bool>()),
        )
            .prop_map(|((job, started, finished, [total_nodes, finished_nodes]), (nodes, [files, bytes], complete))| {
                let nodes = nodes.into_iter().map(|(host, tokens, datacenter, rack)| BackupNode {
                    host,
                    tokens,
                    datacenter,
                    rack,
                });
                backup::Summarised {
                    job,
                    started,
                    finished,
                    total_nodes,
                    finished_nodes,
                    nodes: nodes.collect(),
                    files,
                    bytes,
                    complete,
                }
                .into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), epoch(), text())
            .prop_map(|(job, pod, attempt, epoch, error)| {
                backup::SummaryFailed { job, pod, attempt, epoch, error }.into()
            })
            .boxed(),
        (uid(), text()).prop_map(|(job, message)| backup::Completed { job, message }.into()).boxed(),
        (uid(), outcome(), text())
            .prop_map(|(job, outcome, message)| backup::Failed { job, outcome, message }.into())
            .boxed(),
        (uid(), uid(), any::<bool>())
            .prop_map(|(job, uid, foreign)| backup::ObjectCreated { job, uid, foreign }.into())
            .boxed(),
        uid().prop_map(|job| backup::Expired { job }.into()).boxed(),
        // schedule
        (uid(), any::<i64>(), option::of(time()))
            .prop_map(|(schedule, generation, next)| schedule::Accepted { schedule, generation, next }.into())
            .boxed(),
        (uid(), any::<i64>(), text())
            .prop_map(|(schedule, generation, message)| schedule::Rejected { schedule, generation, message }.into())
            .boxed(),
        (uid(), time(), option::of(time()), text())
            .prop_map(|(schedule, slot, until, message)| schedule::Postponed { schedule, slot, until, message }.into())
            .boxed(),
        (uid(), time(), requested(), option::of(time()))
            .prop_map(|(schedule, slot, object, next)| schedule::Ran { schedule, slot, object, next }.into())
            .boxed(),
        (uid(), time(), requested(), option::of(time()))
            .prop_map(|(schedule, slot, object, next)| schedule::RanLate { schedule, slot, object, next }.into())
            .boxed(),
        (
            (uid(), time(), time(), any::<u64>(), option::of(time())),
            prop::sample::select(vec![SkipReason::Suspended, SkipReason::OperationRunning]),
        )
            .prop_map(|((schedule, first, last, count, next), reason)| {
                schedule::Skipped { schedule, first, last, count, reason, next }.into()
            })
            .boxed(),
        (
            (uid(), time(), time(), any::<u64>(), option::of(time())),
            prop::sample::select(vec![
                MissReason::Superseded,
                MissReason::DeadlinePassed,
                MissReason::NotInTime,
                MissReason::TooMany,
            ]),
        )
            .prop_map(|((schedule, first, last, count, next), reason)| {
                schedule::Missed { schedule, first, last, count, reason, next }.into()
            })
            .boxed(),
        (uid(), text(), uid(), any::<bool>())
            .prop_map(|(schedule, name, uid, foreign)| schedule::ObjectCreated { schedule, name, uid, foreign }.into())
            .boxed(),
        (uid(), text(), uid())
            .prop_map(|(schedule, name, job)| schedule::Expired { schedule, name, job }.into())
            .boxed(),
        // task
        (uid(), wait_reason(), text())
            .prop_map(|(task, reason, message)| task::Queued { task, reason, message }.into())
            .boxed(),
        (uid(), text(), any::<[u64; 2]>(), vec(text(), 0..3), text())
            .prop_map(|(task, token, [removes, known], names, message)| {
                task::ApprovalNeeded { task, token, removes, known, names, message }.into()
            })
            .boxed(),
        (uid(), vec(pod(), 0..4)).prop_map(|(task, nodes)| task::Started { task, nodes }.into()).boxed(),
        (uid(), task_call(), any::<[u32; 2]>(), epoch())
            .prop_map(|(task, call, [attempt, serial], epoch)| {
                task::EffectClaimed { task, call, attempt, serial, epoch }.into()
            })
            .boxed(),
        (uid(), task_call(), any::<[u32; 2]>(), epoch())
            .prop_map(|(task, call, [attempt, serial], epoch)| {
                task::ClaimAbandoned { task, call, attempt, serial, epoch }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), option::of(any::<[i64; 4]>()))
            .prop_map(|(task, pod, attempt, purged)| {
                let purged = purged.map(|[backups, objects, bytes, within_grace]| Purged {
                    backups,
                    objects,
                    bytes,
                    within_grace,
                });
                task::NodeFinished { task, pod, attempt, purged }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), text(), any::<bool>())
            .prop_map(|(task, pod, attempt, reason, retryable)| {
                task::NodeFailed { task, pod, attempt, reason, retryable }.into()
            })
            .boxed(),
        ((uid(), task_call(), any::<[u32; 2]>(), epoch()), (any::<bool>(), option::of(sidecar_kind()), text()))
            .prop_map(|((task, call, [attempt, serial], epoch), (in_doubt, sidecar, error))| {
                task::NodeUnanswered { task, call, attempt, serial, epoch, in_doubt, sidecar, error }.into()
            })
            .boxed(),
        (uid(), pod(), text()).prop_map(|(task, pod, reason)| task::NodeLost { task, pod, reason }.into()).boxed(),
        (
            (uid(), pod(), any::<[u32; 2]>(), epoch(), any::<bool>()),
            (digest(), any::<[u64; 2]>(), vec(found(), 0..3), vec(text(), 0..3)),
        )
            .prop_map(|((task, pod, [serial, page], epoch, last), (digest, [total, ours], found, missing))| {
                task::Listed { task, pod, serial, epoch, page, last, digest, total, ours, found, missing }.into()
            })
            .boxed(),
        (uid(), pod(), any::<u32>(), epoch(), digest(), option::of(vec(text(), 0..3)))
            .prop_map(|(task, pod, serial, epoch, digest, backups)| {
                task::Planned { task, pod, serial, epoch, digest, backups }.into()
            })
            .boxed(),
        (uid(), vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3))
            .prop_map(|(task, created, corrected, removed)| {
                task::Reconciled { task, created, corrected, removed }.into()
            })
            .boxed(),
        (uid(), text()).prop_map(|(task, name)| task::SyncRequested { task, name }.into()).boxed(),
        (uid(), text()).prop_map(|(task, message)| task::Completed { task, message }.into()).boxed(),
        (uid(), outcome(), text())
            .prop_map(|(task, outcome, message)| task::Failed { task, outcome, message }.into())
            .boxed(),
        (uid(), text(), uid(), any::<bool>())
            .prop_map(|(task, name, uid, foreign)| task::SyncCreated { task, name, uid, foreign }.into())
            .boxed(),
        (uid(), text(), uid(), any::<bool>())
            .prop_map(|(task, name, uid, foreign)| task::BackupCreated { task, name, uid, foreign }.into())
            .boxed(),
        // datacenter
        (epoch(), option::of(time())).prop_map(|(epoch, quiet_until)| Led { epoch, quiet_until }.into()).boxed(),
        (uid(), uid()).prop_map(|(former, uid)| Incarnation { former, uid }.into()).boxed(),
        (pod(), epoch()).prop_map(|(pod, epoch)| Overtaken { pod, epoch }.into()).boxed(),
        // operator
        (uid(), time()).prop_map(|(cluster, at)| Genesis { cluster, at }.into()).boxed(),
        (epoch(), text()).prop_map(|(epoch, identity)| Leading { epoch, identity }.into()).boxed(),
        epoch().prop_map(|epoch| SteppedDown { epoch }.into()).boxed(),
        any::<u64>().prop_map(|until| ApiAccepted { until }.into()).boxed(),
        (any::<u64>(), btree_map(text(), digest(), 0..3), digest(), option::of(text()))
            .prop_map(|(sequence, heads, root, signature)| Checkpoint { sequence, heads, root, signature }.into())
            .boxed(),
    ]
}

pub fn event() -> BoxedStrategy<Event> {
    proptest::strategy::Union::new(kinds()).boxed()
}

/// Any MessagePack value, as a newer build may write one.
pub fn value() -> BoxedStrategy<rmpv::Value> {
    let leaf = prop_oneof![
        Just(rmpv::Value::Nil),
        any::<bool>().prop_map(rmpv::Value::from),
        any::<i64>().prop_map(rmpv::Value::from),
        any::<u64>().prop_map(rmpv::Value::from),
        any::<f64>().prop_filter("NaN equals nothing", |f| !f.is_nan()).prop_map(rmpv::Value::from),
        text().prop_map(|text| rmpv::Value::from(&*text)),
        vec(any::<u8>(), 0..20).prop_map(rmpv::Value::from),
        (any::<i8>(), vec(any::<u8>(), 0..20)).prop_map(|(tag, bytes)| rmpv::Value::Ext(tag, bytes)),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(rmpv::Value::Array),
            vec((inner.clone(), inner), 0..5).prop_map(rmpv::Value::Map),
        ]
    })
    .boxed()
}

/// An event that this build does not know: another name, or another version of a known one.
pub fn unknown() -> BoxedStrategy<Fact> {
    let names: Vec<String> = Event::kinds().map(|kind| kind.name.to_owned()).collect();
    let name = prop_oneof!["[a-z]{1,8}\\.[a-z_]{1,12}", prop::sample::select(names)];
    (name, any::<u16>(), any::<bool>(), value())
        .prop_filter("a known one", |(name, version, _, _)| {
            !Event::kinds().any(|kind| kind.name == name && kind.version == *version)
        })
        .prop_map(|(name, version, critical, data)| Fact::Unknown { name, version, critical, data })
        .boxed()
}

pub fn envelope() -> BoxedStrategy<Envelope> {
    let fact = prop_oneof![4 => event().prop_map(Fact::Known), 1 => unknown()];
    (
        (text(), time(), time(), any::<u64>(), epoch(), text(), text()),
        (option::of(uid()), option::of(digest()), option::of(text()), option::of(uid()), text(), vec(fact, 0..5)),
    )
        .prop_map(|((id, at, wall, seen, epoch, ns, dc), (dc_uid, prev, cause, corr, by, events))| Envelope {
            v: LAYOUT,
            id: EventId::from(id),
            at,
            wall,
            seen,
            epoch,
            ns,
            dc,
            dc_uid,
            prev,
            cause: cause.map(EventId::from),
            corr,
            by,
            events,
        })
        .boxed()
}
