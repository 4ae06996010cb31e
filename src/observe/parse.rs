//! Object -> observation: allow-listed fields only; what cannot be read becomes one sentence and stalls nobody.

use super::mirror::{Copy, StatusDigest, shared};
use chrono::DateTime;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time as KubeTime};
use kube::api::DynamicObject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno_crds::datacenter::{CLUSTER_LABEL, DATACENTER_LABEL};
use stheno_crds::{MedusaBackupJobStatus, MedusaBackupScheduleStatus, MedusaBackupStatus, MedusaTaskStatus};
use stheno_decide::Observation;
pub use stheno_events::observed::CANCEL;
use stheno_events::observed::{
    Adopted, Backup, BackupJob, BackupType, CatchUp, Datacenter, Gone, JobRules, Malformed, Meta, ObjectKind, Pod,
    Schedule, ScheduledOperation, Sidecar, Task, TaskOperation,
};
use stheno_events::{DcKey, PodName, Time, Uid, to_millis};
use stheno_projections::status::{OPERATION_LABEL, SCHEDULE_LABEL};

/// Annotation: the request may go on though it needs a person's consent.
pub use stheno_decide::task::APPROVE;
/// Annotation: the request is to wait.
pub const HOLD: &str = "stheno.io/hold";

/// Where a schedule names its datacenter.
const SCHEDULED_DATACENTER: &str = "/spec/backupSpec/cassandraDatacenter";
/// Bytes of a text that people type: in an expression all hours and minutes one by one fit.
const LONGEST_TEXT: usize = 1024;

/// The sidecar's container.
const SIDECAR: &str = "medusa";
/// The name of its port.
const GRPC: &str = "grpc";
/// Its port where the container names none.
const GRPC_PORT: u16 = 50051;

/// An object as it was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) uid: Uid,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) home: Option<DcKey>,
    pub(super) observation: Observation,
    /// For kinds that are published.
    pub(super) copy: Option<Copy>,
}

/// A field that is not what it should be: where, and what was expected.
type Wrong = String;

/// Reads an object; none for one without an identity, which no API server sends.
pub(super) fn parse(kind: ObjectKind, object: &DynamicObject) -> Option<Parsed> {
    let metadata = &object.metadata;
    let uid = Uid::from(metadata.uid.as_deref()?);
    let name: Arc<str> = metadata.name.as_deref()?.into();
    let namespace: Arc<str> = metadata.namespace.as_deref().unwrap_or_default().into();
    let meta = Meta {
        uid: uid.clone(),
        name: name.clone(),
        resource_version: metadata.resource_version.as_deref()?.into(),
        generation: metadata.generation.unwrap_or(0),
        created: instant(metadata.creation_timestamp.as_ref()?),
        deleting: metadata.deletion_timestamp.as_ref().map(instant),
    };
    let data = &object.data;
    let copy = match kind {
        ObjectKind::MedusaBackupJob => Some(status_digest::<MedusaBackupJobStatus>(data)),
        ObjectKind::MedusaBackup => Some(status_digest::<MedusaBackupStatus>(data)),
        ObjectKind::MedusaBackupSchedule => Some(status_digest::<MedusaBackupScheduleStatus>(data)),
        ObjectKind::MedusaTask => Some(status_digest::<MedusaTaskStatus>(data)),
        ObjectKind::CassandraDatacenter | ObjectKind::Pod => None,
    };
    let copy = copy.map(|status| Copy {
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
        resource_version: meta.resource_version.clone(),
        status,
        owned: owned(metadata),
        shared: shared(metadata),
    });
    let read = match kind {
        ObjectKind::MedusaBackupJob => backup_job(metadata, meta, data),
        ObjectKind::MedusaBackup => backup(metadata, meta, data),
        ObjectKind::MedusaBackupSchedule => schedule(metadata, meta, data),
        ObjectKind::MedusaTask => task(metadata, meta, data),
        ObjectKind::CassandraDatacenter => datacenter(meta, data),
        ObjectKind::Pod => Ok(Observation::Pod(pod(metadata, meta, data))),
    };
    let observation = read.unwrap_or_else(|wrong| {
        let reason = format!("{} {namespace}/{name} cannot be read: {wrong}", kind.as_str());
        Observation::Malformed(Malformed { kind, uid: uid.clone(), name: name.clone(), reason: reason.into() })
    });
    let home = match &observation {
        Observation::BackupJob(..)
        | Observation::Backup(_)
        | Observation::Schedule(..)
        | Observation::Task(..)
        | Observation::Datacenter(_) => None,
        Observation::Pod(_) | Observation::Malformed(_) | Observation::Gone(_) => {
            home(kind, metadata, data).map(|dc| DcKey::new(namespace.clone(), dc))
        }
    };
    Some(Parsed { uid, namespace, name, home, observation, copy })
}

/// The same object as gone.
pub(super) fn gone(kind: ObjectKind, object: &DynamicObject) -> Option<Parsed> {
    let parsed = parse(kind, object)?;
    let home = home(kind, &object.metadata, &object.data).map(|dc| DcKey::new(parsed.namespace.clone(), dc));
    let gone = Gone { kind, uid: parsed.uid.clone(), name: parsed.name.clone(), inferred: false };
    Some(Parsed { home, observation: Observation::Gone(gone), copy: None, ..parsed })
}

/// The datacenter that an object belongs to, as far as it can be read; the empty name where it cannot.
fn home<'a>(kind: ObjectKind, metadata: &'a ObjectMeta, data: &'a Value) -> Option<&'a str> {
    match kind {
        ObjectKind::MedusaBackupJob | ObjectKind::MedusaBackup | ObjectKind::MedusaTask => {
            Some(data.pointer("/spec/cassandraDatacenter").and_then(Value::as_str).unwrap_or_default())
        }
        ObjectKind::MedusaBackupSchedule => {
            Some(data.pointer(SCHEDULED_DATACENTER).and_then(Value::as_str).unwrap_or_default())
        }
        ObjectKind::CassandraDatacenter => metadata.name.as_deref(),
        ObjectKind::Pod => metadata.labels.as_ref()?.get(DATACENTER_LABEL).map(String::as_str),
    }
}

fn backup_job(metadata: &ObjectMeta, meta: Meta, data: &Value) -> Result<Observation, Wrong> {
    let adopted = adopted(ObjectKind::MedusaBackupJob, &meta.uid, data)?;
    let schedule = metadata.labels.iter().flatten().find(|(key, _)| *key == SCHEDULE_LABEL);
    let job = BackupJob {
        dc: datacenter_name(data, "/spec/cassandraDatacenter")?,
        backup_type: backup_type(data, "/spec/backupType")?,
        owned: owned(metadata),
        schedule: schedule.map(|(_, schedule)| Uid::from(schedule.as_str())),
        rules: rules(data, "/spec")?,
        annotations: annotations(metadata),
        meta,
    };
    Ok(Observation::BackupJob(job, adopted))
}

/// How a job is carried out; `spec` is where that stands.
fn rules(data: &Value, spec: &str) -> Result<JobRules, Wrong> {
    let limit = |field: &str| number(data, &format!("{spec}/{field}"));
    let parallelism = limit("parallelism")?;
    if parallelism == Some(0) {
        return Err(format!("{}.parallelism must be at least 1, or absent for all nodes at once", path(spec)));
    }
    let active_deadline = limit("activeDeadlineSeconds")?;
    if active_deadline == Some(0) {
        return Err(format!("{}.activeDeadlineSeconds must be at least 1, or absent for a day", path(spec)));
    }
    let (backoff_limit, ttl) = (limit("backoffLimit")?, limit("ttlSecondsAfterFinished")?);
    let suspended = boolean(data, &format!("{spec}/suspend"))?;
    Ok(JobRules { parallelism, backoff_limit, active_deadline, ttl, suspended })
}

/// The annotations that we give meaning to.
fn annotations(metadata: &ObjectMeta) -> BTreeMap<Arc<str>, Arc<str>> {
    let ours = metadata.annotations.iter().flatten();
    let ours = ours.filter(|(key, _)| [APPROVE, CANCEL, HOLD].contains(&key.as_str()));
    ours.map(|(key, value)| (key.as_str().into(), cut(value).into())).collect()
}

fn task(metadata: &ObjectMeta, meta: Meta, data: &Value) -> Result<Observation, Wrong> {
    let adopted = adopted(ObjectKind::MedusaTask, &meta.uid, data)?;
    let named = |pointer| Ok::<_, Wrong>(text(data, pointer)?.filter(|text| !text.is_empty()).map(Arc::from));
    let labels = metadata.labels.iter().flatten();
    let task = Task {
        dc: datacenter_name(data, "/spec/cassandraDatacenter")?,
        operation: match text(data, "/spec/operation")? {
            Some("sync") => TaskOperation::Sync,
            Some("purge") => TaskOperation::Purge,
            Some("prepare_restore") => TaskOperation::PrepareRestore,
            Some(_) | None => return Err("spec.operation must be sync, purge or prepare_restore".to_owned()),
        },
        backup: named("/spec/backupName")?,
        restore_key: named("/spec/restoreKey")?,
        owned: owned(metadata),
        labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        annotations: annotations(metadata),
        meta,
    };
    Ok(Observation::Task(task, adopted))
}

/// The status of a request: it counts only when the log meets the request for the first time.
fn adopted(kind: ObjectKind, uid: &Uid, data: &Value) -> Result<Option<Adopted>, Wrong> {
    let started = time(data, "/status/startTime")?;
    let finished = time(data, "/status/finishTime")?;
    if started.is_none() && finished.is_none() {
        return Ok(None);
    }
    Ok(Some(Adopted {
        kind,
        uid: uid.clone(),
        started,
        finished,
        in_progress: pod_names(data, "/status/inProgress")?,
        finished_pods: match kind {
            ObjectKind::MedusaTask => task_results(data)?,
            ObjectKind::MedusaBackupJob
            | ObjectKind::MedusaBackup
            | ObjectKind::MedusaBackupSchedule
            | ObjectKind::CassandraDatacenter
            | ObjectKind::Pod => pod_names(data, "/status/finished")?,
        },
        failed_pods: pod_names(data, "/status/failed")?,
    }))
}

fn backup(metadata: &ObjectMeta, meta: Meta, data: &Value) -> Result<Observation, Wrong> {
    let operation = metadata.labels.iter().flatten().find(|(key, _)| *key == OPERATION_LABEL);
    Ok(Observation::Backup(Backup {
        dc: datacenter_name(data, "/spec/cassandraDatacenter")?,
        backup_type: backup_type(data, "/spec/backupType")?,
        operation: operation.map(|(_, job)| Uid::from(job.as_str())),
        meta,
    }))
}

fn schedule(metadata: &ObjectMeta, meta: Meta, data: &Value) -> Result<Observation, Wrong> {
    // What another program made of it, or we before our log was lost: slots up to now are not made again.
    let times = ["/status/nextSchedule", "/status/lastExecution", "/status/conditions"];
    let touched = times.iter().any(|time| field(data, time).is_some());
    let adopted = touched.then(|| Adopted {
        kind: ObjectKind::MedusaBackupSchedule,
        uid: meta.uid.clone(),
        started: time(data, "/status/lastExecution").ok().flatten(),
        finished: None,
        in_progress: Vec::new(),
        finished_pods: Vec::new(),
        failed_pods: Vec::new(),
    });
    let typed = |pointer| Ok::<_, Wrong>(text(data, pointer)?.map(|text| Arc::from(cut(text))));
    let schedule = Schedule {
        dc: datacenter_name(data, SCHEDULED_DATACENTER)?,
        backup_type: backup_type(data, "/spec/backupSpec/backupType")?,
        rules: rules(data, "/spec/backupSpec")?,
        cron: typed("/spec/cronSchedule")?.unwrap_or_default(),
        time_zone: typed("/spec/timeZone")?,
        suspended: boolean(data, "/spec/disabled")? || boolean(data, "/spec/suspend")?,
        operation: match text(data, "/spec/operationType")? {
            None | Some("" | "backup") => ScheduledOperation::Backup,
            Some("purge") => ScheduledOperation::Purge,
            Some(_) => return Err("spec.operationType must be backup or purge".to_owned()),
        },
        concurrency: typed("/spec/concurrencyPolicy")?,
        catch_up: match text(data, "/spec/catchUp")? {
            None | Some("Latest") => CatchUp::Latest,
            Some("None") => CatchUp::None,
            Some("All") => CatchUp::All,
            Some(_) => return Err("spec.catchUp must be None, Latest or All".to_owned()),
        },
        starting_deadline: number(data, "/spec/startingDeadlineSeconds")?,
        keep_complete: number(data, "/spec/successfulJobsHistoryLimit")?,
        keep_failed: number(data, "/spec/failedJobsHistoryLimit")?,
        owned: owned(metadata),
        meta,
    };
    Ok(Observation::Schedule(schedule, adopted))
}

/// At most as much of a text as any expression has: what is longer is none, and is said to be none.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

fn number(data: &Value, pointer: &str) -> Result<Option<u32>, Wrong> {
    let number = integer(data, pointer)?.map(u32::try_from).transpose();
    number.map_err(|_| format!("{} must be a number from 0 to {}", path(pointer), u32::MAX))
}

fn datacenter(meta: Meta, data: &Value) -> Result<Observation, Wrong> {
    let cluster = text(data, "/spec/clusterName")?.filter(|name| !name.is_empty());
    let size = integer(data, "/spec/size")?;
    let racks = list(data, "/spec/racks")?.iter().map(|rack| {
        let name = text(rack, "/name")?;
        name.map(Arc::from).ok_or_else(|| "spec.racks holds a rack without a name".to_owned())
    });
    // cass-operator's own conditions: what is not one is none of our business.
    let conditions = list(data, "/status/conditions")?.iter().filter_map(|condition| {
        let field = |name| condition.get(name).and_then(Value::as_str);
        Some((field("type")?.into(), field("status")?.into()))
    });
    Ok(Observation::Datacenter(Datacenter {
        cluster: cluster.ok_or("spec.clusterName is missing")?.into(),
        datacenter_name: text(data, "/spec/datacenterName")?
            .filter(|name| !name.is_empty() && **name != *meta.name)
            .map(Arc::from),
        size: i32::try_from(size.ok_or("spec.size is missing")?).map_err(|_| "spec.size is out of range")?,
        racks: racks.collect::<Result<_, Wrong>>()?,
        stopped: boolean(data, "/spec/stopped")?,
        observed_generation: integer(data, "/status/observedGeneration")?.unwrap_or(0),
        progress: text(data, "/status/cassandraOperatorProgress")?.filter(|word| !word.is_empty()).map(Arc::from),
        conditions: conditions.collect(),
        meta,
    }))
}

/// Pods are a built-in kind: the API server has checked every field.
fn pod(metadata: &ObjectMeta, meta: Meta, data: &Value) -> Pod {
    let named = |list: &'static str| {
        let items = data.pointer(list).and_then(Value::as_array).into_iter().flatten();
        items.into_iter().find(|item| item.get("name").and_then(Value::as_str) == Some(SIDECAR))
    };
    let sidecar = named("/spec/containers").map(|container| {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let port = ports.into_iter().find(|port| port.get("name").and_then(Value::as_str) == Some(GRPC));
        let number = port.and_then(|port| port.get("containerPort")).and_then(Value::as_u64);
        let ready = named("/status/containerStatuses").and_then(|status| status.get("ready")).and_then(Value::as_bool);
        Sidecar {
            port: number.and_then(|number| u16::try_from(number).ok()).unwrap_or(GRPC_PORT),
            ready: ready.unwrap_or(false),
        }
    });
    let ip = data.pointer("/status/podIP").and_then(Value::as_str).filter(|ip| !ip.is_empty());
    let cluster = metadata.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL));
    Pod { cluster: cluster.map(String::as_str).unwrap_or_default().into(), ip: ip.map(Arc::from), sidecar, meta }
}

fn owned(metadata: &ObjectMeta) -> bool {
    metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
}

fn status_digest<S>(data: &Value) -> Option<StatusDigest>
where
    S: Default + for<'a> serde::Deserialize<'a> + serde::Serialize,
{
    match data.get("status") {
        None | Some(Value::Null) => StatusDigest::of(&S::default()),
        Some(status) => StatusDigest::of(&S::deserialize(status).ok()?),
    }
}

fn datacenter_name(data: &Value, pointer: &str) -> Result<Arc<str>, Wrong> {
    let name = text(data, pointer)?.filter(|name| !name.is_empty());
    name.map(Arc::from).ok_or_else(|| format!("{} is missing: name the datacenter", path(pointer)))
}

fn backup_type(data: &Value, pointer: &str) -> Result<BackupType, Wrong> {
    match text(data, pointer)? {
        None | Some("differential") => Ok(BackupType::Differential),
        Some("full") => Ok(BackupType::Full),
        Some(_) => Err(format!("{} must be differential or full", path(pointer))),
    }
}

fn path(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// A field, where it is there and not null.
fn field<'a>(data: &'a Value, pointer: &str) -> Option<&'a Value> {
    data.pointer(pointer).filter(|value| !value.is_null())
}

/// Which field is wrong. Its value is not repeated: it may be anything.
fn must_be(pointer: &str, wanted: &str, found: &Value) -> Wrong {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{} must be {wanted}, it is {found}", path(pointer))
}

fn text<'a>(data: &'a Value, pointer: &str) -> Result<Option<&'a str>, Wrong> {
    field(data, pointer).map(|value| value.as_str().ok_or_else(|| must_be(pointer, "a text", value))).transpose()
}

fn integer(data: &Value, pointer: &str) -> Result<Option<i64>, Wrong> {
    field(data, pointer)
        .map(|value| value.as_i64().ok_or_else(|| must_be(pointer, "a whole number", value)))
        .transpose()
}

fn boolean(data: &Value, pointer: &str) -> Result<bool, Wrong> {
    let read =
        field(data, pointer).map(|value| value.as_bool().ok_or_else(|| must_be(pointer, "true or false", value)));
    Ok(read.transpose()?.unwrap_or(false))
}

fn list<'a>(data: &'a Value, pointer: &str) -> Result<&'a [Value], Wrong> {
    let read = field(data, pointer).map(|value| value.as_array().ok_or_else(|| must_be(pointer, "a list", value)));
    Ok(read.transpose()?.map(Vec::as_slice).unwrap_or_default())
}

fn pod_names(data: &Value, pointer: &str) -> Result<Vec<PodName>, Wrong> {
    let names = list(data, pointer)?.iter();
    names
        .map(|name| name.as_str().map(PodName::from).ok_or_else(|| must_be(pointer, "a list of texts", name)))
        .collect()
}

/// The pods of a task that are done.
fn task_results(data: &Value) -> Result<Vec<PodName>, Wrong> {
    let done = list(data, "/status/finished")?.iter();
    done.filter_map(|result| text(result, "/podName").transpose()).map(|name| name.map(PodName::from)).collect()
}

fn time(data: &Value, pointer: &str) -> Result<Option<Time>, Wrong> {
    let Some(text) = text(data, pointer)? else { return Ok(None) };
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(Some(to_millis(time.to_utc()))),
        Err(_) => Err(format!("{} must be a time as in RFC 3339", path(pointer))),
    }
}

fn instant(time: &KubeTime) -> Time {
    DateTime::from_timestamp_millis(time.0.as_millisecond()).unwrap_or_default()
}
