//! Our definitions accept everything that today's accept, and print what today's print.
//!
//! `cases/crd-shapes.json` holds the shape of k8ssandra-operator's published definitions. The comparison is exact,
//! field by field and constraint by constraint, but for the differences that are listed here with their reasons.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper may fail the test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{kind, recorded_kinds, schema, shape};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};
use stheno_crds::{GROUP, KINDS, VERSION, all_crds, foreign_crds};

type Shape = BTreeMap<String, Map<String, Value>>;

/// Where our constraint is another one, on purpose: path, constraint, ours.
fn recorded_differences(kind: &str) -> Vec<(&'static str, &'static str, Value)> {
    let providers = json!([
        "google_storage",
        "azure_blobs",
        "s3",
        "s3_compatible",
        "s3_rgw",
        "ibm_storage",
        // Wider: the documentation says that `local` is for tests, the published schema refuses it.
        "local",
    ]);
    match kind {
        "MedusaConfiguration" => {
            vec![("spec.storageProperties.storageProvider", "enum", providers)]
        }
        "K8ssandraCluster" => {
            vec![("spec.medusa.storageProperties.storageProvider", "enum", providers)]
        }
        _ => vec![],
    }
}

/// Our own fields: they stand beside today's.
fn own_fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "MedusaBackupJob" => &[
            "spec.activeDeadlineSeconds",
            "spec.backoffLimit",
            "spec.parallelism",
            "spec.suspend",
            "spec.ttlSecondsAfterFinished",
            "status.conditions",
            "status.message",
            "status.nodes",
            "status.observedGeneration",
            "status.progress",
        ],
        "MedusaBackup" => &["status.conditions"],
        "MedusaTask" => &["status.conditions", "status.message", "status.observedGeneration", "status.progress"],
        "MedusaBackupSchedule" => &[
            "spec.backupSpec.activeDeadlineSeconds",
            "spec.backupSpec.backoffLimit",
            "spec.backupSpec.parallelism",
            "spec.backupSpec.suspend",
            "spec.backupSpec.ttlSecondsAfterFinished",
            "spec.catchUp",
            "spec.failedJobsHistoryLimit",
            "spec.startingDeadlineSeconds",
            "spec.successfulJobsHistoryLimit",
            "spec.suspend",
            "spec.timeZone",
            "status.conditions",
            "status.counts",
            "status.message",
            "status.observedGeneration",
            "status.outcomes",
        ],
        _ => &[],
    }
}

/// Our own columns: they stand after today's.
fn own_columns(kind: &str) -> Value {
    match kind {
        "MedusaBackupJob" | "MedusaTask" => json!([
            ["Progress", "string", ".status.progress", 0],
            ["Message", "string", ".status.message", 0],
            ["Age", "date", ".metadata.creationTimestamp", 1],
        ]),
        "MedusaBackupSchedule" => json!([["Message", "string", ".status.message", 0]]),
        _ => json!([]),
    }
}

fn recorded_shape(entries: &Value) -> Shape {
    let entries = entries.as_array().unwrap().iter();
    let mut recorded: Shape = entries
        .map(|entry| {
            let entry = entry.as_object().unwrap().clone();
            (entry["path"].as_str().unwrap().to_owned(), entry)
        })
        .collect();
    assert!(recorded.len() > 5, "the record is empty");
    for entry in recorded.values_mut() {
        entry.retain(|_, value| !value.is_null());
    }
    recorded
}

/// Every way in which `ours` is not `theirs`; empty when the two are the same but for what is recorded.
fn differences(kind: &str, theirs: &Shape, ours: &Shape) -> Vec<String> {
    let mut theirs = theirs.clone();
    let mut found = Vec::new();
    for (path, constraint, value) in recorded_differences(kind) {
        match theirs.get_mut(path) {
            Some(entry) if entry.get(constraint) != Some(&value) => {
                entry.insert(constraint.to_owned(), value);
            }
            _ => found.push(format!("{kind} {path}: the recorded difference is none")),
        }
    }
    for (path, theirs) in &theirs {
        match ours.get(path) {
            None => found.push(format!("{kind} {path}: missing")),
            Some(ours) if ours != theirs => {
                found.push(format!("{kind} {path}: {} instead of {}", json!(ours), json!(theirs)))
            }
            Some(_) => {}
        }
    }
    // Of what is only ours, the topmost fields.
    let added: BTreeSet<&str> = ours
        .keys()
        .filter(|path| !theirs.contains_key(*path))
        .filter(|path| {
            let above = path.rfind(['.', '[', '{']).map(|end| &path[..end]);
            above.is_none_or(|above| theirs.contains_key(above))
        })
        .map(String::as_str)
        .collect();
    let allowed: BTreeSet<&str> = own_fields(kind).iter().copied().collect();
    for path in added.symmetric_difference(&allowed) {
        found.push(format!("{kind} {path}: a field of ours that is not recorded as such"));
    }
    for path in added {
        if ours[path]["required"] == true || ours[path].contains_key("default") {
            found.push(format!("{kind} {path}: our own field is required or has a default"));
        }
    }
    found
}

fn names(crd: &CustomResourceDefinition) -> Value {
    let version = &crd.spec.versions[0];
    let subresources = version.subresources.as_ref().unwrap();
    json!({
        "group": crd.spec.group,
        "version": version.name,
        "kind": crd.spec.names.kind,
        "listKind": format!("{}List", crd.spec.names.kind),
        "plural": crd.spec.names.plural,
        "singular": crd.spec.names.singular,
        "shortNames": crd.spec.names.short_names.clone().unwrap_or_default(),
        "categories": crd.spec.names.categories.clone().unwrap_or_default(),
        "scope": crd.spec.scope,
        "served": version.served,
        "storage": version.storage,
        "deprecated": version.deprecated.unwrap_or(false),
        "subresources": if subresources.status.is_some() { json!(["status"]) } else { json!([]) },
        "conversion": crd.spec.conversion,
    })
}

#[test]
fn the_six_kinds_have_the_recorded_shape() {
    let recorded = recorded_kinds();
    let crds = all_crds();
    assert_eq!(crds.iter().map(kind).collect::<Vec<_>>(), KINDS);
    let mut found = Vec::new();
    for crd in &crds {
        let theirs = recorded_shape(&recorded[kind(crd)]["paths"]);
        found.extend(differences(kind(crd), &theirs, &shape(&schema(crd))));
        assert_eq!(schema(crd).get("required"), None, "{}: spec is optional", kind(crd));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn names_and_scope_are_the_recorded_ones() {
    let recorded = recorded_kinds();
    for crd in all_crds().iter().chain(&foreign_crds()) {
        let Some(theirs) = recorded.get(kind(crd)) else {
            assert_eq!(kind(crd), "CassandraDatacenter", "a kind without a record");
            continue;
        };
        assert_eq!(crd.spec.versions.len(), 1);
        for (key, ours) in names(crd).as_object().unwrap() {
            assert_eq!(ours, &theirs[key], "{} {key}", kind(crd));
        }
    }
    for crd in all_crds() {
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.versions[0].name, VERSION);
    }
}

#[test]
fn columns_are_the_recorded_ones_and_then_ours() {
    let recorded = recorded_kinds();
    for crd in &all_crds() {
        let mut expected: Vec<Value> = Vec::new();
        for column in recorded[kind(crd)]["columns"].as_array().unwrap() {
            let (name, path) = (&column["name"], &column["jsonPath"]);
            // The recorded change: kubectl prints a date in the future as `<invalid>`.
            let type_ = if name == "ScheduledExecution" { &json!("string") } else { &column["type"] };
            expected.push(json!([name, type_, path, column["priority"]]));
        }
        expected.extend(own_columns(kind(crd)).as_array().unwrap().clone());
        let columns = crd.spec.versions[0].additional_printer_columns.as_deref();
        let columns: Vec<Value> = columns
            .unwrap_or_default()
            .iter()
            .map(|c| json!([c.name, c.type_, c.json_path, c.priority.unwrap_or(0)]))
            .collect();
        assert_eq!(columns, expected, "{}", kind(crd));

        let shape = shape(&schema(crd));
        for column in &columns {
            let path = column[2].as_str().unwrap().trim_start_matches('.');
            let known = shape.contains_key(path) || path == "metadata.creationTimestamp";
            assert!(known, "{}: a column of {path}, which is no field", kind(crd));
        }
    }
}

#[test]
fn the_slice_of_the_cluster_refuses_and_defaults_nothing_more() {
    let recorded = recorded_kinds();
    let cluster = &foreign_crds()[0];
    let mut theirs = recorded_shape(&recorded["K8ssandraCluster"]["paths"]);
    theirs.extend(recorded_shape(&recorded["K8ssandraCluster"]["readOutsideMedusa"]));
    let mut ours = shape(&schema(cluster));

    // Types that are Kubernetes' own: today's schema was made from other versions of them, so they need to be no
    // stricter, not the same. What is newer there is no field of ours.
    let kubernetes = [
        "spec.medusa.containerResources",
        "spec.medusa.initContainerResources",
        "spec.medusa.livenessProbe",
        "spec.medusa.readinessProbe",
        "spec.medusa.securityContext",
    ];
    let is_kubernetes = |path: &str| {
        kubernetes.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with(['.', '[', '{'])))
    };
    let mut found = Vec::new();
    for (path, entry) in ours.iter().filter(|(path, _)| is_kubernetes(path)) {
        let strict = |key: &str| entry.get(key).filter(|value| **value != json!(false)).cloned();
        for key in ["type", "required", "enum", "format", "pattern", "minimum", "minLength", "maxLength"] {
            let recorded = theirs.get(path);
            if recorded.is_some() && strict(key).is_some() && recorded.and_then(|r| r.get(key)) != strict(key).as_ref()
            {
                found.push(format!("{path}: {key} {}", json!(strict(key))));
            }
        }
    }
    let missing = theirs.keys().filter(|path| is_kubernetes(path) && !ours.contains_key(*path));
    found.extend(missing.map(|path| format!("{path}: missing")));
    theirs.retain(|path, _| !is_kubernetes(path));
    ours.retain(|path, _| !is_kubernetes(path));

    // Outside the medusa section only the leaves are recorded; fields above and below them are the slice's own.
    let outside = |path: &str| !path.starts_with("spec.medusa");
    ours.retain(|path, _| !outside(path) || theirs.contains_key(path));
    for entry in ours.values_mut().chain(theirs.values_mut()) {
        entry.remove("x-kubernetes-preserve-unknown-fields");
    }
    found.extend(differences("K8ssandraCluster", &theirs, &ours));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_comparison_sees_each_kind_of_change() {
    let theirs = recorded_shape(&recorded_kinds()["MedusaBackupJob"]["paths"]);
    let job = schema(&all_crds()[0]);
    assert_eq!(differences("MedusaBackupJob", &theirs, &shape(&job)), Vec::<String>::new());
    let changes: [(&str, Value); 9] = [
        ("/properties/spec/required", json!(["cassandraDatacenter", "backupType"])),
        ("/properties/spec/properties/backupType/enum", json!(["differential"])),
        ("/properties/spec/properties/backupType/default", json!("full")),
        ("/properties/spec/properties/cassandraDatacenter/minLength", json!(2)),
        ("/properties/status/properties/startTime/type", json!("integer")),
        ("/properties/status/properties/failed/items/maxLength", json!(63)),
        ("/properties/status/properties/progress/default", json!("0")),
        ("/properties/status/required", json!(["nodes"])),
        ("/properties/spec/properties/wish", json!({ "type": "string" })),
    ];
    for (pointer, value) in changes {
        let mut changed = job.clone();
        let (above, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(above).unwrap()[key] = value;
        let found = differences("MedusaBackupJob", &theirs, &shape(&changed));
        assert!(!found.is_empty(), "{pointer} was changed, and nobody saw it");
    }
    for pointer in ["/properties/spec/properties/backupType", "/properties/status/properties/finishTime/format"] {
        let mut changed = job.clone();
        let (above, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(key);
        let found = differences("MedusaBackupJob", &theirs, &shape(&changed));
        assert!(!found.is_empty(), "{pointer} was removed, and nobody saw it");
    }
}
