//! `deploy/crds.yaml` as a real API server takes it: what it lets in, what it refuses and how it says so, and the columns
//! that `kubectl get` prints.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, CustomResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::path::Path;
use stheno_local::testing;
use tonic::codegen::http::Request;

const NAMESPACE: &str = "kinds";
const GROUP: &str = "medusa.k8ssandra.io";

#[tokio::test]
async fn the_definitions_let_in_refuse_and_show_what_they_should() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plane = testing::control_plane().await.unwrap();
    plane.apply(include_str!("../../deploy/crds.yaml")).await.unwrap();
    // Of another operator; recorded manifests of users hold it, and we read it.
    plane.apply(&serde_json::to_string(&stheno_crds::K8ssandraCluster::crd()).unwrap()).await.unwrap();
    plane.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}")).await.unwrap();
    let client = plane.client().await.unwrap();
    what_is_accepted_today_is_accepted(&client).await;
    what_is_refused_today_is_refused_by_the_name_of_its_field(&client).await;
    what_our_own_schemas_refuse_names_its_field(&client).await;
    columns_are_those_that_users_know(&client).await;
}

/// The objects of the recorded manifests of a folder, of kinds that the definitions above are of.
fn manifests(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/tests/cases/manifests").join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let ours = object["apiVersion"].as_str().unwrap().starts_with(GROUP);
            if ours || object["kind"] == "K8ssandraCluster" {
                found.push((path.file_name().unwrap().to_string_lossy().into_owned(), object));
            }
        }
    }
    found
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind))
}

fn said(error: kube::Error) -> String {
    let kube::Error::Api(status) = error else { panic!("{error}") };
    status.message
}

/// `kubectl apply --server-side --dry-run=server`: a field that the schema does not know is an error.
async fn dry_run(client: &Client, object: &Value) -> Result<DynamicObject, String> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(NAMESPACE);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("kubectl").dry_run().validation_strict();
    api(client, &object).patch(&name, &params, &Patch::Apply(&object)).await.map_err(said)
}

/// `kubectl create --dry-run=server --validate=ignore`: only what the schema forbids is an error.
async fn dry_create(client: &Client, object: &Value) -> Result<DynamicObject, String> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(NAMESPACE);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    api(client, &object).create(&params, &serde_json::from_value(object).unwrap()).await.map_err(said)
}

async fn what_is_accepted_today_is_accepted(client: &Client) {
    let mut kinds = Vec::new();
    for (file, object) in manifests("accepted") {
        let answer = dry_run(client, &object).await.unwrap_or_else(|refusal| panic!("{file}: {refusal}"));
        // Nothing of what the user wrote is dropped.
        let kept = serde_json::to_value(&answer).unwrap();
        assert_eq!(lost(&object["spec"], &kept["spec"], "spec"), Vec::<String>::new(), "{file}");
        kinds.push(object["kind"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    kinds.dedup();
    let expected = [
        "K8ssandraCluster",
        "MedusaBackup",
        "MedusaBackupSchedule",
        "MedusaConfiguration",
        "MedusaRestoreJob",
        "MedusaTask",
    ];
    assert_eq!(kinds, expected);
}

/// The paths of `left` that `right` lacks or has otherwise.
fn lost(left: &Value, right: &Value, path: &str) -> Vec<String> {
    match (left, right) {
        (Value::Object(left), right) => left
            .iter()
            .flat_map(|(key, value)| lost(value, right.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}")))
            .collect(),
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            left.iter().zip(right).flat_map(|(left, right)| lost(left, right, &format!("{path}[]"))).collect()
        }
        (left, right) if left == right => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

async fn what_is_refused_today_is_refused_by_the_name_of_its_field(client: &Client) {
    let mut refusals = Vec::new();
    for (file, object) in manifests("refused") {
        match dry_create(client, &object).await {
            Ok(accepted) => panic!("{file} was accepted: {accepted:?}"),
            Err(refusal) => refusals.push(format!("{file}: {refusal}")),
        }
    }
    refusals.sort();
    insta::assert_yaml_snapshot!("refused", refusals);
}

async fn what_our_own_schemas_refuse_names_its_field(client: &Client) {
    let object = |kind: &str, spec: Value| json!({ "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": { "name": "x" }, "spec": spec });
    let dc = "dc1";
    let mut refusals = Vec::new();
    for (kind, spec) in [
        ("MedusaBackupJob", json!({ "cassandraDatacenter": "" })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": 5 })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "backupType": "weekly" })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "parallelism": 0 })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "backoffLimit": -1 })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "activeDeadlineSeconds": 0 })),
        ("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "ttlSecondsAfterFinished": -1 })),
        ("MedusaBackup", json!({ "backupType": "full" })),
        ("MedusaBackupSchedule", json!({ "backupSpec": { "cassandraDatacenter": dc } })),
        ("MedusaBackupSchedule", json!({ "cronSchedule": "@daily", "backupSpec": {} })),
        (
            "MedusaBackupSchedule",
            json!({ "cronSchedule": "@daily", "backupSpec": { "cassandraDatacenter": dc, "parallelism": 0 } }),
        ),
        ("MedusaTask", json!({ "cassandraDatacenter": dc, "operation": "clean" })),
        ("MedusaConfiguration", json!({ "storageProperties": { "storageProvider": "floppy" } })),
    ] {
        match dry_create(client, &object(kind, spec.clone())).await {
            Ok(_) => panic!("{kind} {spec} was accepted"),
            Err(refusal) => refusals.push(format!("{kind} {spec}: {refusal}")),
        }
    }
    let misspelt = object("MedusaBackupJob", json!({ "cassandraDatacenter": dc, "bakupType": "full" }));
    refusals.push(format!("misspelt: {}", dry_run(client, &misspelt).await.unwrap_err()));
    insta::assert_yaml_snapshot!("refused_by_ours", refusals);
}

/// What the API server prints for kubectl: names of the columns, and the cells of one object that has everything.
async fn columns_are_those_that_users_know(client: &Client) {
    let (started, finished, future) = ("2026-01-01T02:00:00Z", "2026-01-01T02:10:00Z", "2099-01-01T02:00:00Z");
    let nodes = json!([{ "host": "shop-dc1-r1-sts-0", "tokens": [-1], "datacenter": "dc1", "rack": "r1" }]);
    let mut tables = Vec::new();
    for (kind, plural, spec, status) in [
        (
            "MedusaBackupJob",
            "medusabackupjobs",
            json!({ "cassandraDatacenter": "dc1" }),
            json!({ "startTime": started, "finishTime": finished }),
        ),
        (
            "MedusaBackup",
            "medusabackups",
            json!({ "cassandraDatacenter": "dc1" }),
            json!({
                "startTime": started, "finishTime": finished, "totalNodes": 3, "finishedNodes": 2, "nodes": nodes,
                "totalFiles": 120, "totalSize": "127.67 KB", "status": "SUCCESS",
            }),
        ),
        (
            "MedusaBackupSchedule",
            "medusabackupschedules",
            json!({ "cronSchedule": "30 1 * * *", "backupSpec": { "cassandraDatacenter": "dc1" } }),
            json!({ "nextSchedule": future, "lastExecution": started }),
        ),
        (
            "MedusaRestoreJob",
            "medusarestorejobs",
            json!({ "cassandraDatacenter": "dc1", "backup": "nightly" }),
            json!({ "restoreKey": "5f8c4a1e-0f8e-4f57-9a52-3b8c2f1d7e60", "startTime": started, "finishTime": finished,
                    "message": "rack r2 has no node" }),
        ),
        (
            "MedusaTask",
            "medusatasks",
            json!({ "cassandraDatacenter": "dc1", "operation": "purge" }),
            json!({ "startTime": started, "finishTime": finished }),
        ),
        ("MedusaConfiguration", "medusaconfigurations", json!({ "storageProperties": {} }), json!({})),
    ] {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": { "name": "nightly" }, "spec": spec,
        });
        let api = api(client, &object);
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status("nightly", &PatchParams::default(), &patch).await.unwrap();
        let request = Request::get(format!("/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/{plural}"))
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .unwrap();
        let table: Value = client.request(request).await.unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        let shown = columns.zip(cells).map(|(column, cell)| {
            let name = column["name"].as_str().unwrap();
            // kubectl prints ages, which the server has worked out; how long ago that is now does not matter.
            let age = column["type"] == "date" && cell.as_str().is_some_and(|age| !age.starts_with('<'));
            if age { format!("{name}: some time ago") } else { format!("{name}: {cell}") }
        });
        tables.push(format!("{kind}: {}", shown.collect::<Vec<_>>().join(", ")));
    }
    insta::assert_yaml_snapshot!("columns", tables);
}
