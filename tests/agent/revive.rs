//! Real Cassandra nodes after a restore: rows, indexes, counters and views are those of the backup, whoever wrote and whoever
//! restored it.

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use stheno_local::cassandra::{Cassandra, Options};
use stheno_local::cluster::Server;
use stheno_local::run::Run;
use stheno_local::testing;
use stheno_rpc::sidecar::node_state::Phase;

use super::ground::{Bucket, Sidecar, files, phase, unpack};
use super::jolokia::Jolokia;
use super::medusa;

/// What both versions want to be told before they make a view.
const VIEWS: &str = "materialized_views_enabled: true\n";

async fn session(node: &Cassandra) -> Session {
    SessionBuilder::new().known_node_addr(node.cql()).build().await.unwrap()
}

async fn cql(node: &Cassandra, statement: &str) {
    session(node).await.query_unpaged(statement, ()).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn count(node: &Cassandra, query: &str) -> i64 {
    let rows = session(node).await.query_unpaged(query, ()).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let (count,) = rows.into_rows_result().unwrap().single_row::<(i64,)>().unwrap();
    count
}

fn restored(sidecar: &Sidecar, environment: &[(&str, &str)]) -> String {
    let output = sidecar.restore(environment).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

async fn fill(node: &Cassandra) {
    for statement in [
        "CREATE KEYSPACE life WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}",
        "CREATE TABLE life.things (id int PRIMARY KEY, colour text)",
        "CREATE INDEX things_colour ON life.things (colour)",
        "CREATE MATERIALIZED VIEW life.by_colour AS SELECT id, colour FROM life.things \
         WHERE colour IS NOT NULL AND id IS NOT NULL PRIMARY KEY (colour, id)",
        "CREATE TABLE life.dropped (id int PRIMARY KEY)",
        "CREATE TABLE life.anew (id int PRIMARY KEY)",
        "CREATE TABLE life.hits (id int PRIMARY KEY, n counter)",
        "UPDATE life.hits SET n = n + 41 WHERE id = 1",
        "UPDATE life.hits SET n = n + 1 WHERE id = 1",
    ] {
        cql(node, statement).await;
    }
    for id in 0..60 {
        for statement in [
            format!("INSERT INTO life.things (id, colour) VALUES ({id}, 'c{}')", id % 3),
            format!("INSERT INTO life.dropped (id) VALUES ({id})"),
            format!("INSERT INTO life.anew (id) VALUES ({id})"),
        ] {
            cql(node, &statement).await;
        }
    }
}

/// What comes after the backup, flushed and not flushed.
async fn change(node: &Cassandra, jolokia: &Jolokia) {
    for statement in [
        "DROP TABLE life.dropped",
        "DROP TABLE life.anew",
        "CREATE TABLE life.anew (id text PRIMARY KEY)",
        "UPDATE life.hits SET n = n + 1000 WHERE id = 1",
        "DELETE FROM life.things WHERE id = 3",
        "INSERT INTO life.things (id, colour) VALUES (1000, 'c0')",
    ] {
        cql(node, statement).await;
    }
    jolokia.flush("life").await;
    cql(node, "INSERT INTO life.things (id, colour) VALUES (2000, 'c0')").await;
}

async fn as_backed_up(node: &Cassandra) {
    for (query, expected) in [
        ("SELECT count(*) FROM life.things", 60),
        ("SELECT count(*) FROM life.things WHERE colour = 'c0'", 20),
        ("SELECT count(*) FROM life.by_colour WHERE colour = 'c0'", 20),
        ("SELECT count(*) FROM life.dropped", 60),
        ("SELECT count(*) FROM life.anew", 60),
        ("SELECT count(*) FROM life.hits WHERE id = 1", 1),
    ] {
        assert_eq!(count(node, query).await, expected, "{query}");
    }
    let hits = session(node).await.query_unpaged("SELECT n FROM life.hits WHERE id = 1", ()).await.unwrap();
    let (hits,) = hits.into_rows_result().unwrap().single_row::<(scylla::value::Counter,)>().unwrap();
    assert_eq!(hits.0, 42);
}

/// Ours restored by us, ours by Medusa, Medusa's by us; in place, and on another node.
#[tokio::test]
async fn a_node_lives_on_with_the_data_of_its_backup() {
    let (mut node, jolokia) = Jolokia::node(Options { extra: VIEWS.to_owned(), ..Options::default() }).await;
    let sidecar = Sidecar::launch_with_jolokia(&node, &jolokia, Bucket::Local).await;
    fill(&node).await;
    let ours = sidecar.backup("life-ours", false).await;
    assert_eq!(phase(&ours), Phase::Finished, "{ours:?}");
    medusa::cli(&sidecar.ini, &["backup-node", "--backup-name", "life-theirs", "--mode", "full"]).await;
    change(&node, &jolokia).await;
    node.stop().await;
    let said = restored(&sidecar, &[("BACKUP_NAME", "life-ours"), ("RESTORE_KEY", "1")]);
    assert!(!said.contains("kept=0 "), "nothing of the node was used: {said}");
    node.start().await.unwrap();
    as_backed_up(&node).await;

    change(&node, &jolokia).await;
    node.stop().await;
    restored(&sidecar, &[("BACKUP_NAME", "life-theirs"), ("RESTORE_KEY", "2")]);
    node.start().await.unwrap();
    as_backed_up(&node).await;

    change(&node, &jolokia).await;
    node.stop().await;
    medusas_restore(&sidecar, &node, "life-ours").await;
    node.start().await.unwrap();
    as_backed_up(&node).await;

    // On another node, which was never part of this ring.
    let mut other = testing::cassandra_with(&Options { extra: VIEWS.to_owned(), ..Options::default() }).await.unwrap();
    cql(&other, "CREATE KEYSPACE own WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}").await;
    other.stop().await;
    let tokens = tokens(&node).await;
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let yaml = |node: &Cassandra| node.yaml().display().to_string();
    std::fs::write(&sidecar.ini, ini.replace(&yaml(&node), &yaml(&other))).unwrap();
    let mapping =
        format!(r#"{{"in_place": false, "host_map": {{"pod-b": {{"source": ["{}"], "seed": false}}}}}}"#, node.ip());
    let environment =
        [("BACKUP_NAME", "life-ours"), ("RESTORE_KEY", "3"), ("RESTORE_MAPPING", &mapping), ("POD_NAME", "pod-b")];
    restored(&sidecar, &environment);
    // An operator writes cassandra.yaml anew at the next start, before the init container runs again.
    let changed = std::fs::read_to_string(other.yaml()).unwrap();
    let lines: Vec<&str> = changed.lines().filter(|line| !line.starts_with("initial_token")).collect();
    std::fs::write(other.yaml(), lines.join("\n")).unwrap();
    assert!(restored(&sidecar, &environment).contains("done already"));
    other.start().await.unwrap();
    as_backed_up(&other).await;
    assert_eq!(self::tokens(&other).await, tokens);
    assert_eq!(count(&other, "SELECT count(*) FROM system.peers").await, 0);
}

/// Cassandra 5.0, with an index attached to its SSTables (SAI), and the system's own tables in a directory of their own. The
/// restored backup is a differential one that came after a compaction.
#[tokio::test]
async fn a_node_of_5_0_lives_on_with_the_data_of_its_backup() {
    let run = Run::temporary().unwrap();
    let system = run.folder("system-data").unwrap();
    let extra = format!("{VIEWS}local_system_data_file_directory: {}\n", system.display());
    let (mut node, jolokia) = Jolokia::node(Options { server: Server::Cassandra50, extra, ..Options::default() }).await;
    let sidecar = Sidecar::launch_with_jolokia(&node, &jolokia, Bucket::Local).await;
    fill(&node).await;
    cql(&node, "CREATE TABLE life.sizes (id int PRIMARY KEY, size int)").await;
    cql(&node, "CREATE INDEX sizes_size ON life.sizes (size) USING 'sai'").await;
    for half in [0..30, 30..60] {
        for id in half {
            cql(&node, &format!("INSERT INTO life.sizes (id, size) VALUES ({id}, {})", id % 4)).await;
        }
        jolokia.flush("life").await;
    }
    let before = sidecar.backup("five-before", false).await;
    assert_eq!(phase(&before), Phase::Finished, "{before:?}");
    jolokia.compact("life").await;
    let after = sidecar.backup("five-after", false).await;
    assert_eq!(phase(&after), Phase::Finished, "{after:?}");
    assert!(after.files_reused > 0, "nothing of the pool was used: {after:?}");
    let ip = node.ip().to_string();
    let objects = |name: &str| -> Vec<String> {
        let all = sidecar.manifest("", name, &ip).into_iter().map(|object| object.path);
        all.filter(|path| path.contains("/life/sizes-")).collect()
    };
    let (old, new) = (objects("five-before"), objects("five-after"));
    assert!(new.iter().any(|path| path.contains("SAI+")), "{new:?}");
    assert!(!new.iter().any(|path| old.contains(path)), "the compaction changed nothing");
    assert!(sidecar.manifest("", "five-after", &ip).iter().any(|object| object.path.contains("/data/system/local-")));
    for name in ["five-before", "five-after"] {
        medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
    }

    change(&node, &jolokia).await;
    cql(&node, "TRUNCATE life.sizes").await;
    node.stop().await;
    let said = restored(&sidecar, &[("BACKUP_NAME", "five-after"), ("RESTORE_KEY", "1")]);
    assert!(!said.contains("kept=0 "), "nothing of the node was used: {said}");
    let local = |root: &std::path::Path| {
        let all = files(root).into_iter().filter(|file| file.to_str().unwrap().contains("/system/local-"));
        all.filter(|file| !file.to_str().unwrap().contains("/snapshots/")).count()
    };
    assert!(local(&system) > 0 && local(&node.data_dir()) == 0, "the system's own tables are in the wrong place");
    node.start().await.unwrap();
    as_backed_up(&node).await;
    for (query, expected) in
        [("SELECT count(*) FROM life.sizes", 60), ("SELECT count(*) FROM life.sizes WHERE size = 3", 15)]
    {
        assert_eq!(count(&node, query).await, expected, "{query}");
    }
    assert!(local(&system) > 0 && local(&node.data_dir()) == 0);
}

async fn tokens(node: &Cassandra) -> Vec<String> {
    let rows = session(node).await.query_unpaged("SELECT tokens FROM system.local", ()).await.unwrap();
    let (mut tokens,) = rows.into_rows_result().unwrap().single_row::<(Vec<String>,)>().unwrap();
    tokens.sort();
    tokens
}

/// Medusa's own init container.
async fn medusas_restore(sidecar: &Sidecar, node: &Cassandra, name: &str) {
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap() + "\n[kubernetes]\nenabled = True\n";
    let ini = sidecar.run.file("kubernetes.ini", &ini).unwrap();
    let program = "import os, runpy, sys\n\
        os.environ.update(BACKUP_NAME=sys.argv[1], RESTORE_KEY='k', POD_IP=sys.argv[3], MEDUSA_TMP_DIR=sys.argv[4],\n\
        \tRESTORE_MAPPING='{\"in_place\": true, \"host_map\": {}}')\n\
        sys.argv = ['restore', sys.argv[2], 'k']\n\
        runpy.run_module('medusa.service.grpc.restore', run_name='__main__')";
    let (ip, volume) = (node.ip().to_string(), sidecar.volume.to_str().unwrap());
    let said = medusa::python(program, &[name, ini.to_str().unwrap(), &ip, volume]).await;
    assert!(!said.contains("Skipped"), "{said}");
}

/// The backup that Medusa took of a Cassandra 4.1 on another machine, with what it was known to hold.
#[tokio::test]
async fn medusas_backup_of_another_machine_lives_on_a_new_node() {
    let mut node = testing::cassandra().await.unwrap();
    node.stop().await;
    let mut sidecar = Sidecar::launch_beside(&node, Bucket::Local, "", "").await;
    sidecar.stop().await;
    let store = sidecar.run.path().join("store");
    let _ = std::fs::remove_dir_all(store.join("backups"));
    unpack(&store);
    let mapping = r#"{"in_place": false, "host_map": {"pod": {"source": ["127.0.0.1"], "seed": false}}}"#;
    for (name, indexed, red) in [("b1", 1000, 250), ("f1", 1500, 750)] {
        let environment =
            [("BACKUP_NAME", name), ("RESTORE_KEY", name), ("RESTORE_MAPPING", mapping), ("POD_NAME", "pod")];
        restored(&sidecar, &environment);
        node.start().await.unwrap();
        for (table, rows) in [
            ("e2e.plain", 2000),
            ("e2e.wide", 1000),
            ("e2e.indexed", indexed),
            ("e2e.recreated", 500),
            ("e2e_two.plain", 500),
        ] {
            assert_eq!(count(&node, &format!("SELECT count(*) FROM {table}")).await, rows, "{name}: {table}");
        }
        let column = column(&node).await;
        let query = format!("SELECT count(*) FROM e2e.indexed WHERE {column} = 'red'");
        assert_eq!(count(&node, &query).await, red, "{name}");
        assert_eq!(tokens(&node).await.len(), 4);
        node.stop().await;
    }
    assert!(!files(&node.data_dir()).is_empty());
}

/// The column of the one index.
async fn column(node: &Cassandra) -> String {
    let query = "SELECT options FROM system_schema.indexes WHERE keyspace_name = 'e2e'";
    let rows = session(node).await.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let (options,) = rows.first_row::<(std::collections::HashMap<String, String>,)>().unwrap();
    options["target"].clone()
}
