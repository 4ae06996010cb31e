//! Hazards of Medusa's listing (docs/HAZARDS.md), on a bucket as it leaves it: f, g, h, j, and that a listing only reads.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::layout::NodeName;
use crate::store::Tags;

fn bucket() -> Store {
    let objects = Arc::new(object_store::memory::InMemory::new());
    Store { tags: Tags::Etag, objects, root: None, attributes: Default::default(), opaque: Arc::default() }
}

fn seen_from(store: &Store, node: &str) -> Catalogue {
    Catalogue::new(store.clone(), Layout::new(None, NodeName::parse(node).unwrap()))
}

/// The ring of a datacenter, as each of its nodes writes it.
fn ring(dc: &str, hosts: &[&str]) -> String {
    let node = json!({"tokens": [1], "is_up": true, "rack": "r1", "dc": dc});
    serde_json::Value::Object(hosts.iter().map(|host| ((*host).to_owned(), node.clone())).collect()).to_string()
}

async fn begin(store: &Store, name: &str, node: &str, at: i64, ring: &str) {
    for (key, content) in [
        (format!("{node}/{name}/meta/schema.cql"), "CREATE"),
        (format!("index/backup_index/{name}/schema_{node}.cql"), "CREATE"),
        (format!("index/backup_index/{name}/tokenmap_{node}.json"), ring),
        (format!("index/backup_index/{name}/started_{node}_{at}.timestamp"), "x"),
    ] {
        store.put(&key, content.to_owned()).await.unwrap();
    }
}

async fn finish(store: &Store, name: &str, node: &str, at: i64) {
    let manifest =
        json!([{"keyspace": "k", "columnfamily": "t-1", "objects": [{"path": "p", "MD5": null, "size": 3}]}]);
    for (key, content) in [
        (format!("index/backup_index/{name}/manifest_{node}.json"), manifest.to_string()),
        (format!("index/backup_index/{name}/finished_{node}_{at}.timestamp"), "x".to_owned()),
    ] {
        store.put(&key, content).await.unwrap();
    }
}

async fn whole(store: &Store, name: &str, node: &str, at: i64) {
    begin(store, name, node, at, &ring("dc1", &[node])).await;
    finish(store, name, node, at + 1).await;
}

async fn listed(catalogue: &Catalogue) -> Vec<(String, StatusType, i32, i32)> {
    let all = catalogue.all(|_| false).await.unwrap();
    all.iter().map(|one| (one.backup_name.clone(), one.status(), one.finished_nodes, one.total_nodes)).collect()
}

/// Hazard f: the words of the index in a name. Medusa allows it, and lists nothing any more.
#[tokio::test]
async fn a_name_with_tokenmap_breaks_no_listing() {
    let store = bucket();
    for (at, name) in ["a", "my-tokenmap", "tokenmap_h", "schema-1", "manifest"].into_iter().enumerate() {
        whole(&store, name, "h", at as i64).await;
    }
    let before = store.list("index").await.unwrap();
    let found = listed(&seen_from(&store, "h")).await;
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|(_, status, ..)| *status == StatusType::Success), "{found:?}");
    assert_eq!(store.list("index").await.unwrap(), before);
}

/// Hazard g: no name makes a backup malformed, and none makes a full one differential.
#[tokio::test]
async fn a_name_with_started_or_differential_is_a_name() {
    let store = bucket();
    for (at, name) in
        ["restarted", "finished", "started_h_17.timestamp", "differential-1", "incremental"].into_iter().enumerate()
    {
        whole(&store, name, "h", at as i64).await;
    }
    store.put("index/backup_index/differential-1/differential_h", "differential").await.unwrap();
    let all = seen_from(&store, "h").all(|_| false).await.unwrap();
    let kinds: Vec<(&str, &str)> = all.iter().map(|one| (one.backup_name.as_str(), one.backup_type.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("restarted", "full"),
            ("finished", "full"),
            ("started_h_17.timestamp", "full"),
            ("differential-1", "differential"),
            ("incremental", "full")
        ]
    );
}

/// Hazard h: a node that is not in its own tokenmap (an address instead of a name) costs its backup, not the listing.
#[tokio::test]
async fn a_node_outside_of_its_tokenmap_costs_one_backup() {
    let store = bucket();
    whole(&store, "good", "h", 10).await;
    begin(&store, "odd", "10.0.0.1", 20, &ring("dc1", &["pod-0"])).await;
    finish(&store, "odd", "10.0.0.1", 21).await;
    begin(&store, "empty", "h", 30, "{}").await;
    finish(&store, "empty", "h", 31).await;
    for node in ["h", "10.0.0.1", "stranger"] {
        let found = listed(&seen_from(&store, node)).await;
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["good", "odd", "empty"]);
        assert_eq!(found[0].1, StatusType::Success);
        assert!(found[1..].iter().all(|(_, status, ..)| *status != StatusType::Success), "{found:?}");
    }
}

/// Hazard j: two datacenters, one prefix and one name. Medusa judges by whichever node began first; a node of ours judges by
/// its own datacenter, and what is seen from outside is complete when all that began are done.
#[tokio::test]
async fn datacenters_with_one_name_do_not_judge_for_each_other() {
    let store = bucket();
    let (one, two) = (ring("dc1", &["a1", "a2"]), ring("dc2", &["b1"]));
    let (ours, theirs, outside) = (seen_from(&store, "a1"), seen_from(&store, "b1"), seen_from(&store, "elsewhere"));
    let of = async |catalogue: &Catalogue| {
        let (name, status, finished, total) = listed(catalogue).await.pop().unwrap();
        assert_eq!(name, "shared");
        // The same by its name, and on a page.
        let single = catalogue.one("shared", false).await.unwrap().unwrap();
        assert_eq!((single.status(), single.finished_nodes, single.total_nodes), (status, finished, total));
        assert_eq!(catalogue.page(None, 9, |_| false).await.unwrap().0[0].nodes.len(), usize::try_from(total).unwrap());
        (status, finished, total)
    };
    let (running, good) = (StatusType::InProgress, StatusType::Success);
    // The other datacenter is first, and done, before ours has begun.
    begin(&store, "shared", "b1", 10, &two).await;
    finish(&store, "shared", "b1", 11).await;
    assert_eq!(of(&theirs).await, (good, 1, 1));
    for node in ["a1", "a2"] {
        begin(&store, "shared", node, 20, &one).await;
    }
    assert_eq!(
        (of(&ours).await, of(&theirs).await, of(&outside).await),
        ((running, 0, 2), (good, 1, 1), (running, 1, 3))
    );
    finish(&store, "shared", "a1", 21).await;
    assert_eq!(
        (of(&ours).await, of(&theirs).await, of(&outside).await),
        ((running, 1, 2), (good, 1, 1), (running, 2, 3))
    );
    finish(&store, "shared", "a2", 22).await;
    assert_eq!((of(&ours).await, of(&theirs).await, of(&outside).await), ((good, 2, 2), (good, 1, 1), (good, 3, 3)));
}
