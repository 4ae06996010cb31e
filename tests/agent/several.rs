//! What a data volume can look like: several data directories, secondary indexes' folders, files without a byte.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use scylla::client::session_builder::SessionBuilder;
use stheno_local::cassandra;
use stheno_rpc::sidecar::VerifyRequest;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::time::{Instant, sleep};

use super::ground::{Bucket, ELSEWHERE, Sidecar, cassandra as shared_node, files, phase, rows, rows_on};
use super::jolokia::Jolokia;
use super::medusa;

/// Content by place below its data directory, over all of them.
pub(crate) fn tree(dirs: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    let place = |dir: &Path, file: &Path| file.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    let mut found = BTreeMap::new();
    for dir in dirs {
        for file in files(dir) {
            let twice = found.insert(place(dir, &file), std::fs::read(&file).unwrap());
            assert!(twice.is_none(), "{} lies in two directories", file.display());
        }
    }
    found
}

/// The one line of a restore's end, which is an error when it fails.
pub(crate) fn restored(sidecar: &Sidecar, name: &str, key: &str) -> Result<String, String> {
    let output = sidecar.restore(&[("BACKUP_NAME", name), ("RESTORE_KEY", key)]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said.lines().last().unwrap_or_default().to_owned()) }
}

/// Reads every object of a backup; how many there are.
pub(crate) async fn verified(sidecar: &Sidecar, name: &str) -> u64 {
    let request = VerifyRequest { name: name.to_owned(), read: true, bandwidth: 0 };
    let mut states = sidecar.keeper().await.verify(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        assert_eq!((state.faults.as_slice(), state.unhashed), ([].as_slice(), 0));
        last = Some(state);
    }
    let last = last.unwrap();
    assert!(last.done);
    last.objects_total
}

/// Three directories, one of them on another file system where there is one.
#[tokio::test]
async fn a_restore_fills_several_directories() {
    let sidecar = Sidecar::over_medusas("", |bucket| {
        // Cassandra 5.0 has such files.
        let manifest = bucket.join("127.0.0.1/f1/meta/manifest.json");
        let mut sections: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
        for section in sections.as_array_mut().unwrap() {
            let table =
                format!("{}/{}", section["keyspace"].as_str().unwrap(), section["columnfamily"].as_str().unwrap());
            for file in ["da-7-bti-Rows.db", ".things/da-7-bti-Rows.db"] {
                let path = format!("127.0.0.1/f1/data/{table}/{file}");
                std::fs::create_dir_all(bucket.join(&path).parent().unwrap()).unwrap();
                std::fs::write(bucket.join(&path), "").unwrap();
                let object = serde_json::json!({"path": path, "MD5": "d41d8cd98f00b204e9800998ecf8427e", "size": 0});
                section["objects"].as_array_mut().unwrap().push(object);
            }
        }
        std::fs::write(manifest, sections.to_string()).unwrap();
    })
    .await;
    let shared = Path::new("/dev/shm");
    let other = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let dirs = [sidecar.run.path().join("data"), sidecar.run.path().join("more"), other.path().join("deep/data")];
    let yaml = format!("data_file_directories: [{}]", dirs.each_ref().map(|dir| dir.display().to_string()).join(", "));
    std::fs::write(&sidecar.beside.yaml, yaml).unwrap();

    let objects = sidecar.manifest("", "f1", ELSEWHERE);
    let place = |path: &str| path.split_once("/data/").unwrap().1.to_owned();
    let expected: BTreeMap<String, Vec<u8>> =
        objects.iter().map(|object| (place(&object.path), sidecar.object(&object.path))).collect();
    assert!(expected.values().filter(|content| content.is_empty()).count() > 50);
    restored(&sidecar, "f1", "one").unwrap();
    assert_eq!(tree(&dirs), expected);
    let mut homes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, dir) in dirs.iter().enumerate() {
        let all = files(dir);
        assert!(all.len() > 20, "{} got {}", dir.display(), all.len());
        for file in all {
            let text = file.strip_prefix(dir).unwrap().to_str().unwrap();
            homes.entry(text.rsplit_once('-').unwrap().0.to_owned()).or_default().insert(at);
        }
    }
    assert!(homes.values().all(|homes| homes.len() == 1), "an SSTable was torn apart");
    assert!(homes.iter().all(|(of, homes)| !of.starts_with("system/") || homes.contains(&0)));

    // What the node has is linked where it is, and what it has in the wrong place goes.
    let said = restored(&sidecar, "f1", "two").unwrap();
    assert!(said.contains(&format!("kept={}", objects.len())), "{said}");
    let table = expected.keys().next().unwrap().splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    for dir in &dirs {
        std::fs::create_dir_all(dir.join(&table)).unwrap();
        std::fs::write(dir.join(&table).join("nb-99-big-Data.db"), "newer").unwrap();
    }
    restored(&sidecar, "f1", "three").unwrap();
    assert_eq!(tree(&dirs), expected);

    // Nothing is touched when a part of it cannot be brought.
    let gone = objects.iter().find(|object| object.path.contains("/e2e/") && object.size > 100).unwrap();
    std::fs::remove_file(sidecar.objects().join(&gone.path)).unwrap();
    std::fs::remove_dir_all(&dirs[2]).unwrap();
    let left = tree(&dirs[..2]);
    if left.contains_key(&place(&gone.path)) {
        std::fs::write(dirs[0].join(place(&gone.path)), "x").unwrap_or_default();
        std::fs::write(dirs[1].join(place(&gone.path)), "x").unwrap_or_default();
    }
    let left: BTreeSet<String> =
        dirs[..2].iter().flat_map(|dir| files(dir)).map(|file| file.display().to_string()).collect();
    let error = restored(&sidecar, "f1", "four").unwrap_err();
    assert!(error.contains("it is not there; nothing was touched"), "{error}");
    let now: BTreeSet<String> =
        dirs[..2].iter().flat_map(|dir| files(dir)).map(|file| file.display().to_string()).collect();
    assert_eq!(now, left);
}

/// A node with two directories: backed up, verified, changed, restored, and its rows are those of the backup.
#[tokio::test]
async fn a_node_with_two_directories_lives_on() {
    let (mut node, jolokia) = Jolokia::node(cassandra::Options::default()).await;
    node.stop().await;
    let dirs = [node.data_dir(), node.data_dir().with_file_name("data-2")];
    let yaml = std::fs::read_to_string(node.yaml()).unwrap();
    let line = format!("  - {}\n", dirs[0].display());
    assert!(yaml.contains(&line));
    std::fs::write(node.yaml(), yaml.replace(&line, &format!("{line}  - {}\n", dirs[1].display()))).unwrap();
    node.start().await.unwrap();
    for from in 0..4 {
        rows_on(&node, "spread", from * 50, 50, 2000).await;
        jolokia.flush("shop").await;
    }
    let sidecar = Sidecar::launch_with_jolokia(&node, &jolokia, Bucket::Local).await;
    let one = sidecar.backup("spread-one", false).await;
    assert_eq!(phase(&one), Phase::Finished, "{one:?}");
    let again = sidecar.backup("spread-two", false).await;
    assert_eq!(phase(&again), Phase::Finished, "{again:?}");
    assert!(again.files_reused * 10 > again.files_total * 8, "the pool went up again: {again:?}");
    verified(&sidecar, "spread-one").await;
    let ip = node.ip().to_string();
    let stored: BTreeSet<String> =
        sidecar.manifest("", "spread-one", &ip).into_iter().map(|object| object.path).collect();
    let mut held = [0; 2];
    for (count, dir) in held.iter_mut().zip(&dirs) {
        for file in files(dir) {
            let (dir, text) = (dir.to_str().unwrap(), file.to_str().unwrap());
            let place = text.strip_prefix(dir).unwrap();
            if place.contains("/spread-") && place.contains("/snapshots/") {
                panic!("{place} is left");
            }
            if place.contains("/spread-") && !place.contains("/backups/") {
                assert!(stored.contains(&format!("{ip}/data{place}")), "{place} is not in the backup");
                *count += 1;
            }
        }
    }
    assert!(held.iter().all(|count| *count > 0), "Cassandra did not use both: {held:?}");
    assert!(stored.iter().any(|path| path.contains("/spread-") && path.contains("/.spread_colour/")));

    let cql = SessionBuilder::new().known_node_addr(node.cql()).build().await.unwrap();
    cql.query_unpaged("TRUNCATE shop.spread", ()).await.unwrap();
    drop(cql);
    node.stop().await;
    let said = restored(&sidecar, "spread-one", "k").unwrap();
    assert!(!said.contains("kept=0 "), "{said}");
    node.start().await.unwrap();
    let cql = SessionBuilder::new().known_node_addr(node.cql()).build().await.unwrap();
    for (query, expected) in
        [("SELECT count(*) FROM shop.spread", 200), ("SELECT count(*) FROM shop.spread WHERE colour = 'c1'", 40)]
    {
        let rows = cql.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
        assert_eq!(rows.single_row::<(i64,)>().unwrap().0, expected, "{query}");
    }
}

/// A snapshot with files that hold nothing, of a table and of its index: up, verified by both, down again.
#[tokio::test]
async fn files_without_a_byte_are_files() {
    rows("hollow", 0, 10, 10).await;
    for bucket in [Bucket::Local, Bucket::s3().await] {
        let mut sidecar = Sidecar::launch(bucket, "").await;
        sidecar.stop().await;
        // The snapshot of the real node, and beside its files such as Cassandra 5.0 would have.
        let script = format!(
            "#!/bin/sh\n'{}' \"$@\" || exit\nfor name; do :; done\n[ \"$2\" = clearsnapshot ] && exit\n\
             for dir in '{}'/shop/hollow-*/snapshots/\"$name\"; do\n: > \"$dir/da-9-bti-Rows.db\"\n\
             : > \"$dir/.hollow_colour/da-9-bti-Rows.db\"\ndone\n",
            sidecar.beside.nodetool.display(),
            shared_node().await.data_dir().display()
        );
        let nodetool = sidecar.run.file("nodetool", &script).unwrap();
        std::fs::set_permissions(&nodetool, std::fs::Permissions::from_mode(0o755)).unwrap();
        sidecar.by_nodetool(nodetool);
        sidecar.configure("", "").await;
        sidecar.start().await;
        let node = shared_node().await.ip().to_string();
        for (name, full) in [("hollow-a", false), ("hollow-b", false), ("hollow-c", true)] {
            let state = sidecar.backup(name, full).await;
            assert_eq!(phase(&state), Phase::Finished, "{state:?}");
            let objects = sidecar.manifest("", name, &node);
            let hollow: Vec<_> = objects.iter().filter(|object| object.path.ends_with("/da-9-bti-Rows.db")).collect();
            assert_eq!(hollow.len(), 2, "{hollow:?}");
            let md5 = "d41d8cd98f00b204e9800998ecf8427e";
            assert!(hollow.iter().all(|object| object.size == 0 && object.md5.as_deref() == Some(md5)), "{hollow:?}");
            assert_eq!(verified(&sidecar, name).await, objects.len() as u64);
            medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
        }
        let home = sidecar.run.folder("elsewhere").unwrap();
        let yaml =
            sidecar.run.file("elsewhere.yaml", &format!("data_file_directories: [{}]", home.join("data").display()));
        let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
        let (old, new) = (sidecar.beside.yaml.display().to_string(), yaml.unwrap().display().to_string());
        std::fs::write(&sidecar.ini, ini.replace(&old, &new)).unwrap();
        restored(&sidecar, "hollow-b", "k").unwrap();
        let empty = files(&home.join("data")).into_iter().filter(|file| file.metadata().unwrap().size() == 0);
        assert_eq!(empty.filter(|file| file.ends_with("da-9-bti-Rows.db")).count(), 2);
    }
}

/// A table that is made while the snapshot is taken: the schema in the bucket has it, and so has the snapshot.
#[tokio::test]
async fn the_schema_is_that_of_the_snapshot() {
    rows("ddl", 0, 5, 10).await;
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    sidecar.stop().await;
    // The first snapshot waits until the table is there.
    let [reached, go] = ["reached", "go"].map(|name| sidecar.run.path().join(name));
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in snapshot) : > '{}'; while [ ! -e '{}' ]; do sleep 0.1; done;; esac; done\n\
         exec '{}' \"$@\"\n",
        reached.display(),
        go.display(),
        sidecar.beside.nodetool.display()
    );
    let nodetool = sidecar.run.file("nodetool", &script).unwrap();
    std::fs::set_permissions(&nodetool, std::fs::Permissions::from_mode(0o755)).unwrap();
    sidecar.by_nodetool(nodetool);
    sidecar.configure("", "").await;
    sidecar.start().await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, "ddl", false).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached.exists() {
        assert!(Instant::now() < deadline, "no snapshot is taken\n{}", sidecar.log());
        sleep(Duration::from_millis(50)).await;
    }
    rows("late_comer", 0, 5, 10).await;
    std::fs::write(go, "").unwrap();
    let state = sidecar.follow(&claim, "ddl").await;
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");
    let node = shared_node().await.ip().to_string();
    let schema = String::from_utf8(sidecar.object(&format!("{node}/ddl/meta/schema.cql"))).unwrap();
    assert!(schema.contains("CREATE TABLE shop.late_comer "));
    assert!(sidecar.manifest("", "ddl", &node).iter().any(|object| object.path.contains("/shop/late_comer-")));
    let started = sidecar.keys().into_iter().filter(|key| key.contains("/ddl/started_")).count();
    assert_eq!(started, 1);
}
