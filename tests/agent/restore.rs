//! `stheno restore` on files: what Medusa wrote comes back byte by byte, and nothing that goes wrong touches the node.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use stheno_rpc::sidecar::node_state::Phase;

use super::ground::{Bucket, ELSEWHERE, Sidecar, cassandra, files, phase, rows};

/// A file of the node, with a hash of what it holds.
type Tree = BTreeMap<String, u64>;

fn hash(content: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// The files of the tables that a backup has: others stay as they are.
fn of_tables(all: &Tree, backup: &Tree) -> Tree {
    let table = |file: &String| file.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let tables: BTreeSet<String> = backup.keys().map(table).collect();
    all.iter().filter(|(file, _)| tables.contains(&table(file))).map(|(file, hash)| (file.clone(), *hash)).collect()
}

fn tree(root: &Path) -> Tree {
    let entry = |file: &PathBuf| {
        (file.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), hash(&std::fs::read(file).unwrap()))
    };
    files(root).iter().map(entry).collect()
}

/// What a backup of Medusa's holds, by place on a node.
fn content(sidecar: &Sidecar, name: &str) -> Tree {
    let place = |path: &str| path.split_once("/data/").unwrap().1.to_owned();
    sidecar
        .manifest("", name, ELSEWHERE)
        .iter()
        .map(|object| (place(&object.path), hash(&sidecar.object(&object.path))))
        .collect()
}

fn data(sidecar: &Sidecar) -> PathBuf {
    sidecar.run.path().join("data")
}

fn marker(sidecar: &Sidecar) -> Option<String> {
    std::fs::read_to_string(sidecar.run.path().join(".last-restore")).ok()
}

fn write(root: &Path, file: &str, content: &str) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a restore in place; the one sentence when it fails.
fn restore(sidecar: &Sidecar, backup: &str, key: &str, more: &[(&str, &str)]) -> Result<String, String> {
    let environment = [&[("BACKUP_NAME", backup), ("RESTORE_KEY", key)], more].concat();
    let output = sidecar.restore(&environment).output().unwrap();
    let said = said(&output);
    if output.status.success() { Ok(said) } else { Err(said.lines().last().unwrap_or_default().to_owned()) }
}

#[tokio::test]
async fn what_medusa_wrote_comes_back() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let (data, home) = (data(&sidecar), sidecar.run.path().to_owned());
    for (file, text) in
        [("data/e2e/later-0a/nb-1-big-Data.db", "made later"), ("commitlog/CommitLog-7-1.log", "x"), ("hints/h", "x")]
    {
        write(&home, file, text);
    }
    for (round, name) in ["b1", "b2", "f1", "b1"].into_iter().enumerate() {
        let key = format!("key-{name}-{}", round);
        let expected = content(&sidecar, name);
        // What was there of a table of the backup goes, snapshots too.
        let (first, _) = expected.first_key_value().unwrap();
        let table = first.rsplit_once('/').unwrap().0;
        write(&data, &format!("{table}/nb-99-big-Data.db"), "newer");
        restore(&sidecar, name, &key, &[]).unwrap();
        let found = tree(&data);
        assert_eq!(found["e2e/later-0a/nb-1-big-Data.db"], hash(b"made later"));
        assert_eq!(of_tables(&found, &expected), expected, "{name}");
        assert_eq!(marker(&sidecar).as_deref(), Some(key.as_str()));
        let again = restore(&sidecar, name, &key, &[]).unwrap();
        assert!(again.contains("done already"), "{again}");
    }
    assert_eq!(tree(&home.join("commitlog")), Tree::new());
    assert_eq!(tree(&home.join("hints")), Tree::new());
    assert_eq!(files(&home.join(".stheno-restore")).len(), 2, "more than the lock and the stage is left");
}

/// A backup, more of the environment, and what the sentence says.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Hazards l and m, and whatever else is wrong: an error, and the node is as it was.
#[tokio::test]
async fn what_cannot_be_restored_leaves_the_node_alone() {
    let change = |bucket: &Path| {
        let copy = |name: &str, other: &str| {
            let of = |name: &str| bucket.join(ELSEWHERE).join(name);
            let copied = std::process::Command::new("cp").arg("-rp").args([of(name), of(other)]).status();
            assert!(copied.unwrap().success());
        };
        copy("f1", "unfinished");
        std::fs::remove_file(bucket.join("127.0.0.1/unfinished/meta/manifest.json")).unwrap();
        for (other, from, to) in [
            ("outside", "127.0.0.1/f1/data/e2e/", "127.0.0.1/f1/data/../../../../e2e/"),
            ("garbage", "[{", "{"),
            ("short", "\"size\": 104", "\"size\": 105"),
        ] {
            copy("f1", other);
            let path = bucket.join(format!("127.0.0.1/{other}/meta/manifest.json"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{from}");
            let text = text.replace(from, to).replace("127.0.0.1/f1/data", &format!("127.0.0.1/{other}/data"));
            std::fs::write(path, text).unwrap();
        }
        for other in ["gone", "flipped"] {
            copy("f1", other);
            let path = bucket.join(format!("127.0.0.1/{other}/meta/manifest.json"));
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("127.0.0.1/f1/data", &format!("127.0.0.1/{other}/data"))).unwrap();
        }
        let some = |name: &str| {
            let all = files(&bucket.join(format!("127.0.0.1/{name}/data/e2e_two")));
            all.into_iter().find(|file| file.ends_with("nb-1-big-Data.db")).unwrap()
        };
        std::fs::remove_file(some("gone")).unwrap();
        let mut content = std::fs::read(some("flipped")).unwrap();
        content[3] ^= 1;
        std::fs::write(some("flipped"), content).unwrap();
    };
    let sidecar = Sidecar::over_medusas("", change).await;
    let home = sidecar.run.path();
    write(home, "data/ks/t-1/nb-1-big-Data.db", "mine");
    write(home, "data/e2e/x-1/nb-1-big-Data.db", "mine");
    write(home, "commitlog/CommitLog-7-1.log", "mine");
    let before = (tree(&data(&sidecar)), tree(&home.join("commitlog")));
    let mapping = |pod: &str, sources: &str| {
        format!(r#"{{"in_place": true, "host_map": {{"{pod}": {{"source": [{sources}], "seed": false}}}}}}"#)
    };
    let (two, elsewhere) = (mapping(ELSEWHERE, r#""a", "b""#), mapping(ELSEWHERE, r#""other""#));
    let cases: [Case<'_>; 14] = [
        ("nobody", &[], "has no backup nobody in the bucket: nothing was touched"),
        ("unfinished", &[], "never finished backup unfinished: nothing was touched"),
        ("outside", &[], "nothing was touched"),
        ("garbage", &[], "cannot be read"),
        ("gone", &[], "it is not there; nothing was touched"),
        ("short", &[], "bytes instead of 105; nothing was touched"),
        ("flipped", &[], "its content has another hash; nothing was touched"),
        ("../f1", &[], "letters, digits"),
        ("f1", &[("RESTORE_MAPPING", "{")], "RESTORE_MAPPING is not what an operator writes"),
        ("f1", &[("RESTORE_MAPPING", &two)], "names 2 sources"),
        ("f1", &[("RESTORE_MAPPING", &elsewhere)], "node other has no backup f1"),
        ("f1", &[("RESTORE_TABLES", "e2e.nothing")], "the backup has no table e2e.nothing"),
        ("f1", &[("RESTORE_TABLES", "plain")], "write keyspace.table"),
        ("f1", &[("RESTORE_KEYSPACES", "e2e")], "was dropped or made anew"),
    ];
    for (at, (name, more, sentence)) in cases.into_iter().enumerate() {
        let error =
            restore(&sidecar, name, &format!("key-{at}"), &[&[("POD_NAME", ELSEWHERE)], more].concat()).unwrap_err();
        assert!(error.starts_with("stheno: ") && error.contains(sentence), "{name}: {error}");
        assert_eq!((tree(&data(&sidecar)), tree(&home.join("commitlog"))), before, "{name}");
        assert_eq!(marker(&sidecar), None);
    }
    // A pod that came after the restore of its datacenter starts as it is.
    let others = mapping("another-pod", r#""a""#);
    let skipped = restore(&sidecar, "nobody", "k", &[("POD_NAME", "pod-9"), ("RESTORE_MAPPING", &others)]).unwrap();
    assert!(skipped.contains("does not name this node"), "{skipped}");
    let skipped = restore(&sidecar, "", "k", &[]).unwrap();
    assert!(skipped.contains("no backup is asked for"), "{skipped}");
    assert_eq!(tree(&data(&sidecar)), before.0);
    // And after all that the good one goes through.
    restore(&sidecar, "f1", "good", &[]).unwrap();
}

#[tokio::test]
async fn a_part_of_the_data_is_restored_and_no_more() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    restore(&sidecar, "f1", "all", &[]).unwrap();
    let home = sidecar.run.path();
    write(home, "commitlog/CommitLog-7-1.log", "mine");
    let root = data(&sidecar);
    for file in files(&root) {
        if file.ends_with("nb-1-big-Data.db") && file.to_str().unwrap().contains("/e2e") {
            std::fs::write(file, "changed").unwrap();
        }
    }
    let changed = tree(&root);
    restore(&sidecar, "f1", "some", &[("RESTORE_TABLES", "e2e.plain, e2e.indexed"), ("RESTORE_KEYSPACES", "e2e_two")])
        .unwrap();
    let (found, good) = (tree(&root), content(&sidecar, "f1"));
    for (file, content) in found {
        let asked = ["e2e/plain-", "e2e/indexed-", "e2e_two/"].iter().any(|start| file.starts_with(start));
        assert_eq!(content, if asked { &good } else { &changed }[&file], "{file}");
    }
    // Other tables may have writes there.
    assert_eq!(tree(&home.join("commitlog")).len(), 1);
}

#[tokio::test]
async fn a_restore_survives_kills_at_any_moment() {
    let [untouched, half, whole] = killed((0..20).map(|round| 15 + round * 12)).await;
    println!("killed with the node untouched {untouched}, half switched {half}, complete {whole} times");
}

#[tokio::test]
#[ignore = "takes half an hour: cargo nightly"]
async fn night_of_kills_of_a_restore() {
    let [untouched, half, whole] = killed((0..500).map(|_| rand::random_range(5..300))).await;
    println!("killed with the node untouched {untouched}, half switched {half}, complete {whole} times");
}

/// Killed at any moment (after so many milliseconds): the next start ends with a complete restore. Gives how often the node
/// was untouched, half switched, and complete.
async fn killed(waits: impl Iterator<Item = u64>) -> [u32; 3] {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let (root, home) = (data(&sidecar), sidecar.run.path().to_owned());
    let backups = ["f1", "b1"].map(|name| (name, content(&sidecar, name)));
    let (mut untouched, mut half, mut whole) = (0, 0, 0);
    let mut before = tree(&root);
    for (round, wait) in waits.enumerate() {
        let (name, expected) = &backups[round % 2];
        let key = format!("round-{round}");
        let environment = [("BACKUP_NAME", *name), ("RESTORE_KEY", key.as_str())];
        let mut running = sidecar.restore(&environment).stderr(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        running.kill().unwrap();
        running.wait().unwrap();
        let left = tree(&root);
        match (left == before, of_tables(&left, expected) == *expected) {
            (_, true) => whole += 1,
            (true, false) => untouched += 1,
            (false, false) => half += 1,
        }
        // Until the decision is written down, nothing is touched.
        let stage = std::fs::read_to_string(home.join(".stheno-restore/restore.json")).unwrap_or_default();
        if left != before {
            assert!(stage.contains("switching") || stage.contains("done"), "round {round}: {stage}");
        }
        restore(&sidecar, name, &key, &[]).unwrap();
        assert_eq!(of_tables(&tree(&root), expected), *expected, "round {round}");
        assert_eq!(marker(&sidecar), Some(key));
        before = tree(&root);
    }
    [untouched, half, whole]
}

/// Half switched, and then another restore is asked for: first the one, then the other.
#[tokio::test]
async fn an_interrupted_switch_is_finished_before_anything_else() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let root = data(&sidecar);
    restore(&sidecar, "f1", "first", &[]).unwrap();
    let folder = sidecar.run.path().join(".stheno-restore");
    // As a kill after the decision leaves it: two tables are still to be switched.
    let stage = r#"{"key": "second", "stage": {"stage": "switching", "sums": {"files": 2, "bytes": 2, "kept": 0, "resumed": 0},
        "switch": {"tables": [{"keyspace": "ks", "table": "a-1"}, {"keyspace": "ks", "table": "b-1"}],
        "remote": false, "clear": true, "tokens": null}}}"#;
    std::fs::write(folder.join("restore.json"), stage).unwrap();
    write(&folder, "new/ks/a-1/f", "a");
    write(&folder, "new/ks/b-1/f", "b");
    write(&root, "ks/b-1/f", "old");
    let error = restore(&sidecar, "nobody", "third", &[]).unwrap_err();
    assert!(error.contains("nothing was touched"), "{error}");
    assert_eq!((tree(&root)["ks/a-1/f"], tree(&root)["ks/b-1/f"]), (hash(b"a"), hash(b"b")));
    assert_eq!(marker(&sidecar).as_deref(), Some("second"));
}

/// Half switched, and nobody asks for a restore any more: Cassandra must not start on half of one.
#[tokio::test]
async fn an_interrupted_switch_is_finished_though_nothing_is_asked_for() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let root = data(&sidecar);
    restore(&sidecar, "f1", "first", &[]).unwrap();
    let folder = sidecar.run.path().join(".stheno-restore");
    let foreign = r#"{"in_place": true, "host_map": {"somebody-else": {"source": ["x"], "seed": false}}}"#;
    for (key, asked) in [("second", vec![]), ("third", vec![("BACKUP_NAME", "f1"), ("RESTORE_KEY", "fourth")])] {
        let stage = format!(
            r#"{{"key": "{key}", "stage": {{"stage": "switching", "sums": {{"files": 1, "bytes": 2, "kept": 0, "resumed": 0}},
            "switch": {{"tables": [{{"keyspace": "ks", "table": "a-1"}}], "remote": false, "clear": true, "tokens": null}}}}}}"#
        );
        std::fs::write(folder.join("restore.json"), stage).unwrap();
        write(&folder, "new/ks/a-1/f", key);
        let asked: Vec<(&str, &str)> = asked.into_iter().chain([("RESTORE_MAPPING", foreign)]).collect();
        let output = sidecar.restore(&asked).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(tree(&root)["ks/a-1/f"], hash(key.as_bytes()));
        assert_eq!(marker(&sidecar).as_deref(), Some(key));
    }
}

/// What an interrupted run brought is not brought again, and what the node has is not brought at all.
#[tokio::test]
async fn nothing_is_brought_twice() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    restore(&sidecar, "f1", "first", &[]).unwrap();
    let said = restore(&sidecar, "f1", "second", &[]).unwrap();
    assert!(said.contains("kept=344"), "{said}");
    let error = {
        let object = sidecar.objects().join("127.0.0.1/b1/meta/tokenmap.json");
        assert!(object.exists());
        let gone = &sidecar.manifest("", "b1", ELSEWHERE)[100];
        let (path, aside) = (sidecar.objects().join(&gone.path), sidecar.run.path().join("aside"));
        std::fs::remove_dir_all(data(&sidecar)).unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let error = restore(&sidecar, "b1", "third", &[]).unwrap_err();
        std::fs::rename(&aside, &path).unwrap();
        error
    };
    assert!(error.contains("it is not there"), "{error}");
    let said = restore(&sidecar, "b1", "third", &[]).unwrap();
    let resumed: u32 = said.split_once("resumed=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    assert!(resumed > 50, "{said}");

    // As a kill right after the end leaves it: the old data still takes its room.
    let folder = sidecar.run.path().join(".stheno-restore");
    write(&folder, "old/ks/t-1/nb-1-big-Data.db", "old");
    write(&folder, "new/ks/t-1/nb-2-big-Data.db", "new");
    let said = restore(&sidecar, "b1", "third", &[]).unwrap();
    assert!(said.contains("done already"), "{said}");
    assert!(!folder.join("old").exists() && !folder.join("new").exists());
}

/// Over the network, big files in parts: what comes back is what went up, and what was changed there does not come back.
#[tokio::test]
async fn files_come_back_from_s3() {
    let storage = "multi_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB\nconcurrent_transfers = 4";
    let sidecar = Sidecar::launch(Bucket::s3().await, storage).await;
    rows("returned", 0, 40, 300_000).await;
    assert_eq!(phase(&sidecar.backup("returned", true).await), Phase::Finished);
    let node = cassandra().await.ip().to_string();
    let objects = sidecar.manifest("", "returned", &node);
    let home = sidecar.run.folder("elsewhere").unwrap();
    let yaml = format!("data_file_directories: [{}]", home.join("data").display());
    let yaml = sidecar.run.file("elsewhere.yaml", &yaml).unwrap();
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    std::fs::write(&sidecar.ini, ini.replace(sidecar.beside.yaml.to_str().unwrap(), yaml.to_str().unwrap())).unwrap();

    let parted = objects.iter().find(|object| object.md5.as_deref().unwrap().contains('-')).unwrap();
    let path = sidecar.objects().join(&parted.path);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[5 << 20] ^= 1;
    // In place: the server keeps its tags beside the file.
    let overwrite = |content: &[u8]| {
        std::os::unix::fs::FileExt::write_all_at(&std::fs::File::options().write(true).open(&path).unwrap(), content, 0)
    };
    overwrite(&bad).unwrap();
    let error = restore(&sidecar, "returned", "one", &[]).unwrap_err();
    assert!(error.contains("its content has another hash; nothing was touched"), "{error}");
    assert_eq!(tree(&home.join("data")), Tree::new());
    overwrite(&good).unwrap();
    let said = restore(&sidecar, "returned", "one", &[]).unwrap();
    let resumed: usize = said.split_once("resumed=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    assert!(resumed > 10, "{said}");
    let place = |path: &str| path.split_once("/data/").unwrap().1.to_owned();
    let expected: Tree =
        objects.iter().map(|object| (place(&object.path), hash(&sidecar.object(&object.path)))).collect();
    assert_eq!(tree(&home.join("data")), expected);
}
