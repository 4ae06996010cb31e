//! Manifests that work today work here: our schemas let them in, and our types lose nothing of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper may fail the test")]

mod common;

use common::{complaints, kind, manifests, schema};
use kube::core::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stheno_crds::{
    CassandraDatacenter, K8ssandraCluster, MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration,
    MedusaRestoreJob, MedusaTask, all_crds, foreign_crds,
};

/// What an API server with our definitions would say against the object; `None` when the kind is not ours.
fn judged(object: &Value) -> Option<Vec<String>> {
    let (ours, foreign) = (all_crds(), foreign_crds());
    let crd = ours.iter().chain(&foreign).find(|crd| object["kind"] == kind(crd))?;
    let group = format!("{}/{}", crd.spec.group, crd.spec.versions[0].name);
    assert_eq!(object["apiVersion"], group.as_str());
    let schema = schema(crd);
    let mut object = object.clone();
    let object = object.as_object_mut().unwrap();
    object.retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
    Some(complaints(&schema, &json!(object), kind(crd)))
}

/// Reads the object into our type and writes it again.
fn round_trip(object: &Value) -> Result<Value, serde_json::Error> {
    fn through<K: Resource + DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<K>(object.clone())?)
    }
    match object["kind"].as_str().unwrap() {
        "MedusaBackupJob" => through::<MedusaBackupJob>(object),
        "MedusaBackup" => through::<MedusaBackup>(object),
        "MedusaBackupSchedule" => through::<MedusaBackupSchedule>(object),
        "MedusaRestoreJob" => through::<MedusaRestoreJob>(object),
        "MedusaTask" => through::<MedusaTask>(object),
        "MedusaConfiguration" => through::<MedusaConfiguration>(object),
        "K8ssandraCluster" => through::<K8ssandraCluster>(object),
        other => panic!("no type for {other}"),
    }
}

/// The paths of `left` whose value `right` lacks or has otherwise.
fn lost(left: &Value, right: &Value, path: &str) -> Vec<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => left
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                match right.get(key) {
                    Some(other) => lost(value, other, &path),
                    None => vec![path],
                }
            })
            .collect(),
        (left, right) if left == right => vec![],
        _ => vec![path.to_owned()],
    }
}

#[test]
fn what_is_accepted_today_is_accepted_and_read_whole() {
    let mut seen = Vec::new();
    for (file, object) in manifests("accepted") {
        let Some(complaints) = judged(&object) else {
            continue;
        };
        assert!(complaints.is_empty(), "{file}: {complaints:?}");
        let read = round_trip(&object).unwrap_or_else(|error| panic!("{file}: {error}"));
        // Of a cluster only a slice is read; the medusa section is in it.
        let (written, read) = match object["kind"].as_str() {
            Some("K8ssandraCluster") => (&object["spec"]["medusa"], &read["spec"]["medusa"]),
            _ => (&object, &read),
        };
        assert_eq!(lost(written, read, ""), Vec::<String>::new(), "{file}");
        seen.push(object["kind"].as_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            vec!["K8ssandraCluster"; 5],
            vec!["MedusaBackup", "MedusaBackupSchedule"],
            vec!["MedusaConfiguration"; 2],
            vec!["MedusaRestoreJob"],
            vec!["MedusaTask"; 2],
        ]
        .concat()
    );
}

#[test]
fn what_is_refused_today_is_refused() {
    let refused = manifests("refused");
    assert_eq!(refused.len(), 3);
    for (file, object) in refused {
        let complaints = judged(&object).unwrap_or_else(|| panic!("{file}: not a kind of ours"));
        let dropped = complaints.iter().filter(|complaint| complaint.ends_with("would be dropped"));
        assert!(complaints.len() > dropped.count(), "{file}: {complaints:?}");
        assert!(round_trip(&object).is_err(), "{file} was read");
    }
}

#[test]
fn absent_values_read_as_today() {
    let job: MedusaBackupJob =
        serde_json::from_value(json!({ "metadata": {}, "spec": { "cassandraDatacenter": "dc1" } })).unwrap();
    assert_eq!(job.spec.backup_type, stheno_crds::BackupType::Differential);
    assert_eq!(job.status, None);
    let empty: MedusaConfiguration = serde_json::from_value(json!({ "metadata": {}, "spec": {} })).unwrap();
    assert_eq!(empty.spec.storage_properties, None);
    // Nothing that is unknown is written, no time of 1970, no empty list.
    let status = serde_json::to_value(stheno_crds::MedusaBackupJobStatus::default()).unwrap();
    assert_eq!(status, json!({}));
}

/// `spec` is optional in today's schemas. Who watches must expect such an object: it says nothing that could be done,
/// and a watch without kube's `DeserializeGuard` would stumble over it.
#[test]
fn an_object_without_a_spec_is_stored_and_read_as_malformed() {
    for crd in all_crds() {
        let object = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": kind(&crd), "metadata": { "name": "bare" },
        });
        assert_eq!(judged(&object), Some(vec![]), "{}", kind(&crd));
        let error = round_trip(&object).unwrap_err().to_string();
        assert!(error.contains("missing field `spec`"), "{}: {error}", kind(&crd));
    }
}

#[test]
fn a_datacenter_of_cass_operator_is_read() {
    let datacenter: CassandraDatacenter = serde_json::from_value(json!({
        "apiVersion": "cassandra.datastax.com/v1beta1",
        "kind": "CassandraDatacenter",
        "metadata": { "name": "cluster1-dc1", "namespace": "ns", "generation": 3 },
        "spec": {
            "clusterName": "First Cluster", "datacenterName": "dc1", "size": 3, "serverVersion": "4.1.9",
            "racks": [{ "name": "r1", "nodeAffinityLabels": { "zone": "a" } }, { "name": "r2" }],
            // No container has an image: cass-operator completes them.
            "podTemplateSpec": { "spec": {
                "initContainers": [{ "name": "server-config-init" }],
                "containers": [{ "name": "medusa", "ports": [{ "name": "grpc", "containerPort": 50051 }] }],
            } },
        },
        "status": {
            "observedGeneration": 2, "cassandraOperatorProgress": "Ready", "quietPeriod": null,
            "conditions": [
                { "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": null },
            ],
            "nodeStatuses": { "first-cluster-dc1-r1-sts-0": { "hostID": "h", "ip": "10.0.0.1", "rack": "r1" } },
        },
    }))
    .unwrap();
    assert_eq!(datacenter.cassandra_name(), "dc1");
    assert_eq!(datacenter.rack_names(), ["r1", "r2"]);
    assert!(datacenter.is_condition_true("Ready") && !datacenter.is_condition_true("Stopped"));
    assert!(!datacenter.is_settled(), "generation 3 is not observed");
    let template = datacenter.pod_template().unwrap().unwrap();
    let container = &template.spec.unwrap().containers[0];
    assert_eq!(container.ports.as_ref().unwrap()[0].container_port, 50051);
    let status = datacenter.status.unwrap();
    assert_eq!(status.node_statuses["first-cluster-dc1-r1-sts-0"].host_id.as_deref(), Some("h"));
}

#[test]
fn quantities_are_read_as_numbers_and_as_text() {
    for size in [json!(5), json!("100Mi")] {
        let object = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration", "metadata": {},
            "spec": { "storageProperties": { "podStorage": { "size": size } } },
        });
        assert_eq!(judged(&object), Some(vec![]));
        let read = round_trip(&object).unwrap();
        assert_eq!(read["spec"]["storageProperties"]["podStorage"]["size"], size);
    }
}
