//! Medusa 0.31 lists, verifies, downloads and continues what the sidecar wrote, and the sidecar what Medusa wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use stheno_rpc::medusa::{GetBackupsRequest, StatusType};
use stheno_rpc::sidecar::node_state::Phase;

use super::ground::{Bucket, Sidecar, cassandra, files, phase, rows, snapshots};
use super::medusa;

/// Two differential backups and a full one, all read back by Medusa. `prefix` ends with a slash, or is empty.
async fn medusa_reads(sidecar: &Sidecar, table: &str, prefix: &str, noise: usize) {
    let node = cassandra().await.ip().to_string();
    let [first, second, full] = ["one", "two", "all"].map(|name| format!("{table}-{name}"));
    rows(table, 0, 40, noise).await;
    let one = sidecar.backup(&first, false).await;
    assert_eq!(phase(&one), Phase::Finished, "{one:?}");
    assert_eq!((one.files_done, one.bytes_done, one.files_reused), (one.files_total, one.bytes_total, 0));
    rows(table, 40, 40, noise).await;
    let two = sidecar.backup(&second, false).await;
    assert_eq!(phase(&two), Phase::Finished, "{two:?}");
    assert!(two.files_reused > 0 && two.files_reused < two.files_total, "{two:?}");
    let all = sidecar.backup(&full, true).await;
    assert_eq!((phase(&all), all.files_reused), (Phase::Finished, 0), "{all:?}");

    let listed = medusa::cli(&sidecar.ini, &["list-backups"]).await;
    for (name, state) in [(&first, &one), (&second, &two), (&full, &all)] {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} ("))), "{listed}");
        let status = medusa::cli(&sidecar.ini, &["status", "--backup-name", name]).await;
        assert!(status.contains("1 nodes completed, 0 nodes incomplete, 0 nodes missing"), "{status}");
        assert!(status.contains(&format!("- {} files, ", state.files_total)), "{status}");
        let verified = medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
        assert!(verified.contains("Completion: OK!") && verified.contains("Manifest validated: OK!!"), "{verified}");
        download(sidecar, prefix, name, &node).await;
        assert!(snapshots(&format!("medusa-{name}")).await.is_empty(), "the snapshot of {name} is still there");
    }
    medusas_layout(sidecar, prefix, &first, &full, &node);
}

/// What Medusa downloads is what the sidecar read.
async fn download(sidecar: &Sidecar, prefix: &str, name: &str, node: &str) {
    let target = sidecar.run.folder(&format!("download-{name}")).unwrap();
    let arguments = ["download", "--backup-name", name, "--download-destination", target.to_str().unwrap()];
    medusa::cli(&sidecar.ini, &arguments).await;
    let manifest = sidecar.manifest(prefix, name, node);
    let data: Vec<_> =
        files(&target).into_iter().filter(|file| file.extension().is_some_and(|e| e != "json" && e != "cql")).collect();
    assert_eq!(data.len(), manifest.len());
    let sizes: BTreeMap<&str, u64> =
        manifest.iter().map(|object| (object.path.split_once("/data/").unwrap().1, object.size)).collect();
    for file in data {
        let place = file.strip_prefix(&target).unwrap().to_str().unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), sizes[place], "{place}");
    }
}

/// Every object has a place of Medusa's layout, but for the claim that a backup carries of its own.
fn medusas_layout(sidecar: &Sidecar, prefix: &str, differential: &str, full: &str, node: &str) {
    let keys = sidecar.keys();
    let index = format!("{prefix}index/backup_index/{differential}/");
    let stamps = ["started", "finished"].map(|word| format!("{index}{word}_{node}_"));
    for stamp in &stamps {
        let found: Vec<&String> = keys.iter().filter(|key| key.starts_with(stamp)).collect();
        let [key] = found.as_slice() else { panic!("{stamp}: {found:?}") };
        let epoch = key.strip_prefix(stamp).unwrap().strip_suffix(".timestamp").unwrap();
        assert_eq!(sidecar.object(key), epoch.as_bytes());
    }
    let meta = |name: &str, file: &str| format!("{prefix}{node}/{name}/meta/{file}");
    let mut expected: Vec<String> =
        ["schema.cql", "tokenmap.json", "server_version.json", "differential", "manifest.json"]
            .map(|file| meta(differential, file))
            .to_vec();
    expected.extend(
        ["tokenmap_H.json", "schema_H.cql", "manifest_H.json", "differential_H"]
            .map(|file| index.clone() + &file.replace('H', node)),
    );
    expected
        .extend(["tokenmap.json", "backup_name.txt"].map(|file| format!("{prefix}index/latest_backup/{node}/{file}")));
    for key in &expected {
        assert!(keys.contains(key), "{key} is not there");
    }
    assert!(!keys.contains(&meta(full, "differential")));
    assert_eq!(sidecar.object(&meta(differential, "differential")), b"differential");
    assert_eq!(sidecar.object(&format!("{prefix}index/latest_backup/{node}/backup_name.txt")), full.as_bytes());
    let schema = String::from_utf8(sidecar.object(&meta(differential, "schema.cql"))).unwrap();
    assert!(schema.contains("CREATE KEYSPACE shop ") && schema.contains("CREATE KEYSPACE system_auth "));
    assert!(!schema.contains("system_traces."));
    for object in sidecar.manifest(prefix, differential, node) {
        assert!(object.path.starts_with(&format!("{prefix}{node}/data/")) && keys.contains(&object.path), "{object:?}");
    }
    for object in sidecar.manifest(prefix, full, node) {
        assert!(
            object.path.starts_with(&format!("{prefix}{node}/{full}/data/")) && keys.contains(&object.path),
            "{object:?}"
        );
    }
}

#[tokio::test]
async fn medusa_reads_a_local_store() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    medusa_reads(&sidecar, "plain", "", 100).await;
}

#[tokio::test]
async fn medusa_reads_a_local_store_with_a_prefix() {
    let sidecar = Sidecar::launch(Bucket::Local, "prefix = mine\nconcurrent_transfers = 4").await;
    medusa_reads(&sidecar, "prefixed", "mine/", 100).await;
}

#[tokio::test]
async fn medusa_reads_s3_with_files_in_parts() {
    let storage = "multi_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB\nconcurrent_transfers = 4";
    let sidecar = Sidecar::launch(Bucket::s3().await, storage).await;
    medusa_reads(&sidecar, "parts", "", 300_000).await;
    let manifest = sidecar.manifest("", "parts-all", &cassandra().await.ip().to_string());
    let parted: Vec<_> = manifest.iter().filter(|object| object.size > 10 << 20).collect();
    assert!(
        !parted.is_empty() && parted.iter().all(|object| object.md5.as_deref().unwrap().contains('-')),
        "{parted:?}"
    );
    let whole = manifest.iter().find(|object| object.size < 5 << 20).unwrap();
    assert_eq!(whole.md5.as_deref().unwrap().len(), 32);
}

#[tokio::test]
async fn medusa_reads_s3_with_a_prefix() {
    let sidecar = Sidecar::launch(Bucket::s3().await, "prefix = mine").await;
    medusa_reads(&sidecar, "s3prefixed", "mine/", 100).await;
}

/// On one bucket: Medusa's backup, ours that reuses its objects, Medusa's that reuses ours.
#[tokio::test]
async fn medusa_and_the_sidecar_take_turns() {
    let sidecar = Sidecar::launch(Bucket::s3().await, "prefix = mine").await;
    rows("turns", 0, 50, 100).await;
    let backup = |name: &'static str| {
        let ini = sidecar.ini.clone();
        async move { medusa::cli(&ini, &["backup-node", "--backup-name", name, "--mode", "differential"]).await }
    };
    backup("turns-one").await;
    let ours = sidecar.backup("turns-two", false).await;
    assert_eq!(phase(&ours), Phase::Finished, "{ours:?}");
    // Other tests make and compact tables meanwhile, so what both have in common is looked up.
    let node = cassandra().await.ip().to_string();
    let [one, two] = ["turns-one", "turns-two"].map(|name| {
        let objects = sidecar.manifest("mine/", name, &node);
        objects.into_iter().map(|object| object.path).collect::<BTreeSet<_>>()
    });
    let common = one.intersection(&two).count();
    assert!(common > 20 && ours.files_reused == common as u64, "{common} in common: {ours:?}");
    backup("turns-three").await;
    for name in ["turns-one", "turns-two", "turns-three"] {
        medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
    }

    let listed = sidecar.medusa().await.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.overall_status(), StatusType::Success);
    let json = medusa::cli(&sidecar.ini, &["list-backups", "--show-all", "--output", "json"]).await;
    let json = json.lines().find(|line| line.starts_with('[')).unwrap();
    let theirs: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
    assert_eq!(listed.backups.len(), 3);
    for (ours, theirs) in listed.backups.iter().zip(&theirs) {
        assert_eq!(theirs["name"], ours.backup_name);
        assert_eq!(theirs["started"], ours.start_time);
        assert_eq!(theirs["finished"], ours.finish_time);
        assert_eq!(theirs["backup_type"], ours.backup_type);
        assert_eq!(theirs["size"], ours.total_size);
        assert_eq!(theirs["num_objects"], ours.total_objects);
        assert_eq!((ours.total_nodes, ours.finished_nodes, ours.nodes.len()), (1, 1, 1));
        assert_eq!((ours.nodes[0].datacenter.as_str(), ours.nodes[0].tokens.len()), ("dc1", 4));
    }
}

/// The client that stock programs use, over the wire.
#[tokio::test]
async fn medusas_client_drives_the_sidecar() {
    let sidecar = Sidecar::launch(Bucket::Local, "").await;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/client.py");
    let program = std::fs::read_to_string(program).unwrap();
    let said = medusa::python_alone(&program, &[&sidecar.address().to_string()]).await;
    assert_eq!(said.lines().last(), Some("all good"), "{said}");
    let node = cassandra().await;
    let mapping = node.data_dir().parent().unwrap().join(".restore_mapping/client-key");
    let mapping: serde_json::Value = serde_json::from_slice(&std::fs::read(mapping).unwrap()).unwrap();
    let own = node.ip().to_string();
    let expected =
        serde_json::json!({"in_place": true, "host_map": {own.as_str(): {"source": [own.as_str()], "seed": false}}});
    assert_eq!(mapping, expected);
}
