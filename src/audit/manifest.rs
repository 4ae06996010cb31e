//! Projected objects as Kubernetes objects, and the columns in which kubectl shows them.

use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stheno_crds::{MedusaBackup, MedusaBackupJob, MedusaBackupJobStatus, MedusaBackupSchedule, MedusaTask};
use stheno_events::observed::{self, Meta, ObjectKind, Pod};
use stheno_events::{DcKey, Time};
use stheno_projections::backup::{Node, NodeState, Operation, Stage};
use stheno_projections::datacenter::{Backup, Object};
use stheno_projections::schedule::Schedule;
use stheno_projections::task::Task;
use stheno_projections::{Datacenter, World, status};

/// One object as it stood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    pub(super) kind: ObjectKind,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) value: Value,
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Every object that `world` knows to exist, by kind, namespace and name.
#[must_use]
pub(super) fn manifests(world: &World) -> Vec<Manifest> {
    let mut all: Vec<Manifest> = world.datacenters.iter().flat_map(|(key, dc)| of_datacenter(world, key, dc)).collect();
    all.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
    all
}

fn of_datacenter(world: &World, key: &DcKey, dc: &Datacenter) -> Vec<Manifest> {
    let manifest =
        |kind, name: &Arc<str>, value| Manifest { kind, namespace: key.namespace.clone(), name: name.clone(), value };
    let jobs = dc.operations.values().filter(|operation| !operation.gone).map(|operation| {
        manifest(ObjectKind::MedusaBackupJob, &operation.request.meta.name, job(world, key, dc, operation))
    });
    let backups =
        dc.backups.iter().map(|(name, made)| manifest(ObjectKind::MedusaBackup, name, backup(name, made, key)));
    let object = dc
        .object
        .iter()
        .map(|object| manifest(ObjectKind::CassandraDatacenter, &object.meta.name, datacenter(key, object)));
    let pods = dc.pods.values().map(|one| manifest(ObjectKind::Pod, &one.meta.name, pod(key, one)));
    let schedules = dc
        .schedules
        .values()
        .map(|one| manifest(ObjectKind::MedusaBackupSchedule, &one.request.meta.name, schedule(world, key, dc, one)));
    let tasks = dc
        .tasks
        .values()
        .filter(|task| !task.gone)
        .map(|one| manifest(ObjectKind::MedusaTask, &one.request.meta.name, task(world, key, dc, one)));
    jobs.chain(backups).chain(schedules).chain(tasks).chain(object).chain(pods).collect()
}

fn job(world: &World, key: &DcKey, dc: &Datacenter, operation: &Operation) -> Value {
    let request = &operation.request;
    let spec = status::job_spec(&request.dc, request.backup_type, &request.rules);
    let mut object = MedusaBackupJob::new(&request.meta.name, spec);
    object.status = status::job_status(operation, dc, &world.operator).or_else(|| adopted(operation));
    let mut metadata = metadata(key, &request.meta);
    if !request.annotations.is_empty() {
        metadata.insert("annotations".into(), json!(request.annotations));
    }
    if let Some(schedule) = &request.schedule {
        metadata.insert("labels".into(), json!({ status::SCHEDULE_LABEL: schedule }));
    }
    with_metadata(&object, metadata)
}

/// The status that another program left, as the log took it over.
fn adopted(operation: &Operation) -> Option<MedusaBackupJobStatus> {
    let finished = match &operation.stage {
        Stage::Ended { adopted: true, finished, .. } => Some(*finished),
        Stage::Running { .. } if operation.foreign => None,
        Stage::Waiting { .. } | Stage::Running { .. } | Stage::Closing { .. } | Stage::Ended { .. } => return None,
    };
    let pods = |wanted: fn(&Node) -> bool| {
        operation.nodes.iter().filter(|(_, node)| wanted(node)).map(|(pod, _)| pod.to_string()).collect()
    };
    let time = |time: Time| serde_json::from_value(json!(time)).ok();
    Some(MedusaBackupJobStatus {
        start_time: operation.started().and_then(time),
        finish_time: finished.and_then(time),
        in_progress: pods(|node| !node.state.ended()),
        finished: pods(|node| matches!(node.state, NodeState::Finished { .. })),
        failed: pods(|node| matches!(node.state, NodeState::Failed { .. })),
        ..MedusaBackupJobStatus::default()
    })
}

fn backup(name: &Arc<str>, made: &Backup, key: &DcKey) -> Value {
    let mut metadata =
        Map::from_iter([("name".to_owned(), json!(name)), ("namespace".to_owned(), json!(key.namespace))]);
    if let Object::Ours { uid } | Object::Foreign { uid } = &made.object {
        metadata.insert("uid".into(), json!(uid));
    }
    match status::backup_object(name, made, key) {
        Some(object) => {
            if let Some(labels) = &object.metadata.labels {
                metadata.insert("labels".into(), json!(labels));
            }
            with_metadata(&object, metadata)
        }
        // Somebody else's: the log holds what it was asked for, its status is not ours.
        None => json!({
            "apiVersion": format!("{}/{}", stheno_crds::GROUP, stheno_crds::VERSION),
            "kind": "MedusaBackup",
            "metadata": metadata,
            "spec": {"cassandraDatacenter": key.name, "backupType": made.backup_type.as_str()},
        }),
    }
}

fn schedule(world: &World, key: &DcKey, dc: &Datacenter, schedule: &Schedule) -> Value {
    let request = &schedule.request;
    let mut spec = json!({
        "cronSchedule": request.cron,
        "backupSpec": status::job_spec(&request.dc, request.backup_type, &request.rules),
        "operationType": request.operation.as_str(),
        "catchUp": request.catch_up.as_str(),
        "suspend": request.suspended,
    });
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec[field] = value;
        }
    };
    set("timeZone", request.time_zone.as_ref().map(|zone| json!(zone)));
    set("concurrencyPolicy", request.concurrency.as_ref().map(|policy| json!(policy)));
    set("startingDeadlineSeconds", request.starting_deadline.map(|seconds| json!(seconds)));
    set("successfulJobsHistoryLimit", request.keep_complete.map(|jobs| json!(jobs)));
    set("failedJobsHistoryLimit", request.keep_failed.map(|jobs| json!(jobs)));
    let mut object = json!({
        "apiVersion": format!("{}/{}", stheno_crds::GROUP, stheno_crds::VERSION),
        "kind": "MedusaBackupSchedule",
        "metadata": metadata(key, &request.meta),
        "spec": spec,
    });
    if let Some(status) = status::schedule_status(schedule, dc, &world.operator) {
        object["status"] = json!(status);
    }
    object
}

fn task(world: &World, key: &DcKey, dc: &Datacenter, task: &Task) -> Value {
    let request = &task.request;
    let mut spec = json!({"operation": request.operation.as_str(), "cassandraDatacenter": request.dc});
    if let Some(backup) = &request.backup {
        spec["backupName"] = json!(backup);
    }
    if let Some(restore_key) = &request.restore_key {
        spec["restoreKey"] = json!(restore_key);
    }
    let mut metadata = metadata(key, &request.meta);
    if !request.labels.is_empty() {
        metadata.insert("labels".into(), json!(request.labels));
    }
    if !request.annotations.is_empty() {
        metadata.insert("annotations".into(), json!(request.annotations));
    }
    let mut object = json!({
        "apiVersion": format!("{}/{}", stheno_crds::GROUP, stheno_crds::VERSION),
        "kind": "MedusaTask",
        "metadata": metadata,
        "spec": spec,
    });
    if let Some(status) = status::task_status(task, dc, &world.operator) {
        object["status"] = json!(status);
    }
    object
}

fn datacenter(key: &DcKey, object: &observed::Datacenter) -> Value {
    let conditions: Vec<Value> =
        object.conditions.iter().map(|(name, status)| json!({"type": name, "status": status})).collect();
    let mut spec = json!({
        "clusterName": object.cluster,
        "size": object.size,
        "racks": object.racks.iter().map(|rack| json!({"name": rack})).collect::<Vec<_>>(),
        "stopped": object.stopped,
    });
    if let Some(name) = &object.datacenter_name {
        spec["datacenterName"] = json!(name);
    }
    let mut status = json!({"observedGeneration": object.observed_generation, "conditions": conditions});
    if let Some(progress) = &object.progress {
        status["cassandraOperatorProgress"] = json!(progress);
    }
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1",
        "kind": "CassandraDatacenter",
        "metadata": metadata(key, &object.meta),
        "spec": spec,
        "status": status,
    })
}

fn pod(key: &DcKey, pod: &Pod) -> Value {
    let mut metadata = metadata(key, &pod.meta);
    metadata.insert("labels".into(), json!({"cassandra.datastax.com/cluster": pod.cluster}));
    let containers: Vec<Value> = pod
        .sidecar
        .iter()
        .map(|sidecar| json!({"name": "medusa", "ports": [{"name": "grpc", "containerPort": sidecar.port}]}))
        .collect();
    let statuses: Vec<Value> =
        pod.sidecar.iter().map(|sidecar| json!({"name": "medusa", "ready": sidecar.ready})).collect();
    let mut status = json!({"containerStatuses": statuses});
    if let Some(ip) = &pod.ip {
        status["podIP"] = json!(ip);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers},
        "status": status,
    })
}

fn metadata(key: &DcKey, meta: &Meta) -> Map<String, Value> {
    let seconds = |time: Time| json!(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    let mut metadata = Map::from_iter([
        ("name".to_owned(), json!(meta.name)),
        ("namespace".to_owned(), json!(key.namespace)),
        ("uid".to_owned(), json!(meta.uid)),
        ("resourceVersion".to_owned(), json!(meta.resource_version)),
        ("creationTimestamp".to_owned(), seconds(meta.created)),
    ]);
    if meta.generation > 0 {
        metadata.insert("generation".into(), json!(meta.generation));
    }
    if let Some(deleting) = meta.deleting {
        metadata.insert("deletionTimestamp".into(), seconds(deleting));
    }
    metadata
}

fn with_metadata(object: &impl serde::Serialize, metadata: Map<String, Value>) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["metadata"] = Value::Object(metadata);
    value
}

/// A column as kubectl shows it.
pub(super) struct Column {
    pub(super) name: String,
    path: String,
    date: bool,
}

/// The columns of a kind beside namespace and name: those of its definition, where it is ours.
pub(super) fn columns(kind: ObjectKind) -> Vec<Column> {
    let own = |columns: &[(&str, &str, bool)]| {
        let column = |(name, path, date): &(&str, &str, bool)| Column {
            name: (*name).into(),
            path: (*path).into(),
            date: *date,
        };
        columns.iter().map(column).collect()
    };
    let crd = match kind {
        ObjectKind::MedusaBackupJob => MedusaBackupJob::crd(),
        ObjectKind::MedusaBackup => MedusaBackup::crd(),
        ObjectKind::MedusaBackupSchedule => MedusaBackupSchedule::crd(),
        ObjectKind::MedusaTask => MedusaTask::crd(),
        ObjectKind::CassandraDatacenter => {
            return own(&[
                ("Size", ".spec.size", false),
                ("Stopped", ".spec.stopped", false),
                ("Progress", ".status.cassandraOperatorProgress", false),
                ("Age", ".metadata.creationTimestamp", true),
            ]);
        }
        ObjectKind::Pod => {
            return own(&[
                ("IP", ".status.podIP", false),
                ("Sidecar ready", ".status.containerStatuses.0.ready", false),
                ("Age", ".metadata.creationTimestamp", true),
            ]);
        }
    };
    let defined = crd.spec.versions.into_iter().filter_map(|version| version.additional_printer_columns).flatten();
    defined
        // kubectl shows the others with `-o wide` only.
        .filter(|column| column.priority.unwrap_or(0) == 0)
        .map(|column| Column { name: column.name, path: column.json_path, date: column.type_ == "date" })
        .collect()
}

impl Column {
    /// The cell of an object, seen at `at`.
    pub(super) fn cell(&self, object: &Value, at: Time) -> String {
        let mut value = object;
        for step in self.path.split('.').filter(|step| !step.is_empty()) {
            let next = match value {
                Value::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                Value::Object(map) => map.get(step),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            let Some(next) = next else { return String::new() };
            value = next;
        }
        match value {
            Value::String(text) if self.date => match text.parse::<Time>() {
                Ok(time) => age((at - time).num_seconds()),
                Err(_) => text.clone(),
            },
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        }
    }
}

/// An age as kubectl writes it: two units while the first one is small.
fn age(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: (i64, &str), small: (i64, &str)| {
        let rest = seconds % large.0 / small.0;
        let first = format!("{}{}", seconds / large.0, large.1);
        if rest == 0 { first } else { format!("{first}{rest}{}", small.1) }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two((MINUTE, "m"), (1, "s")),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two((HOUR, "h"), (MINUTE, "m")),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two((DAY, "d"), (HOUR, "h")),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two((YEAR, "y"), (DAY, "d")),
        252_288_000.. => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn columns_are_those_of_the_definitions() {
        let names = |kind| columns(kind).into_iter().map(|column| column.name).collect::<Vec<_>>();
        assert_eq!(names(ObjectKind::MedusaBackupJob), ["Started", "Finished", "Progress", "Message"]);
        assert_eq!(
            names(ObjectKind::MedusaBackup),
            ["Started", "Finished", "Nodes", "Files", "Size", "Completed", "Status"]
        );
    }
}
