//! Everything that a bucket or the volume can hold instead of what belongs there: an answer or one sentence, never a panic.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::hash::{Expected, Hasher};
use crate::jobs::sentence;
use crate::known::Known;
use crate::layout::{BackupName, Layout, NodeName};
use crate::manifest::{self, Object, Section};
use crate::presence::presence;
use crate::state::StateDir;
use crate::store::{Store, Tags};
use crate::verify;

fn bucket() -> Store {
    let objects = Arc::new(object_store::memory::InMemory::new());
    Store { tags: Tags::Etag, objects, root: None, attributes: Default::default(), opaque: Arc::default() }
}

fn layout() -> Layout {
    Layout::new(Some("p"), NodeName::parse("h").unwrap())
}

fn plain(said: &str) {
    assert!(said.len() > 10 && !said.contains('\n'), "{said:?}");
}

fn sections() -> Value {
    json!([
        {"keyspace": "ks", "columnfamily": "t-1", "objects": [
            {"path": "p/h/data/ks/t-1/nb-1-big-Data.db", "MD5": "ab56b4d92b40713acc5af89985d4b786", "size": 5},
            {"path": "p/h/data/ks/t-1/.i/nb-1-big-Data.db", "MD5": "fd279fa64fe1fa9a3551a4a88ae83424-2", "size": 5},
            {"path": "p/h/data/ks/t-1/nb-1-big-Filter.db", "MD5": null, "size": 0},
        ]},
        {"keyspace": "ks", "columnfamily": "u-2", "objects": []},
    ])
}

fn tokenmap() -> Value {
    json!({"h": {"tokens": [-5, 7], "is_up": true, "rack": "r1", "dc": "dc1"}})
}

/// Any JSON, not deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("../../etc/passwd")),
        Just(Value::from(u64::MAX)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-zA-Z5]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The text of a document with one of its values replaced, cut, or with bytes changed.
fn damaged(document: Value) -> impl Strategy<Value = Vec<u8>> {
    let text = document.to_string().into_bytes();
    let (cut, changed, length) = (text.clone(), text.clone(), text.len());
    prop_oneof![
        (0..length).prop_map(move |end| cut[..end].to_vec()),
        proptest::collection::vec((0..length, any::<u8>()), 1..6).prop_map(move |changes| {
            let mut bytes = changed.clone();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            bytes
        }),
        (any::<prop::sample::Index>(), any_json()).prop_map(move |(at, value)| {
            let mut document = document.clone();
            let mut pointers = Vec::new();
            walk(&document, String::new(), &mut pointers);
            let pointer = &pointers[at.index(pointers.len())];
            *document.pointer_mut(pointer).unwrap() = value;
            document.to_string().into_bytes()
        }),
    ]
}

/// Pointers to all values of a document.
fn walk(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().enumerate().for_each(|(n, v)| walk(v, format!("{at}/{n}"), found)),
        Value::Object(all) => all.iter().for_each(|(k, v)| walk(v, format!("{at}/{k}"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found.push(at);
}

/// A later version adds fields, or begins anew: the first is read, the second is an error that says so.
#[tokio::test]
async fn manifests_of_a_later_version() {
    let (store, layout, name) = (bucket(), layout(), BackupName::parse("b").unwrap());
    let key = layout.meta(&name, "manifest.json");
    let mut more = sections();
    more[0]["compression"] = json!("zstd");
    more[0]["objects"][0]["SHA256"] = json!("00");
    store.put(&key, more.to_string()).await.unwrap();
    assert_eq!(verify::manifest(&store, &layout, &name).await.unwrap().len(), 2);
    assert_eq!(manifest::totals(more.to_string().as_bytes()).unwrap().bytes, 10);
    for other in [
        json!({"version": 2, "sections": []}).to_string(),
        json!([{"keyspace": "ks", "objects": {"count": 3}}]).to_string(),
        sections().to_string()[..100].to_owned(),
        "<html>503</html>".to_owned(),
        String::new(),
    ] {
        store.put(&key, other).await.unwrap();
        let said = sentence(&verify::manifest(&store, &layout, &name).await.unwrap_err());
        plain(&said);
        assert!(said.contains("\"p/h/b/meta/manifest.json\" cannot be read"), "{said}");
    }
}

#[test]
fn state_of_a_later_version_is_said_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("state.json"), text).unwrap();
    write(r#"{"epoch": 3, "records": [], "snapshots": [], "deleting": [], "added": {"later": 1}}"#);
    assert_eq!(state.load().unwrap().epoch, 3);
    let later = r#"{"epoch": 3, "records": [{"operation": "o", "attempt": 1, "name": "n", "full": true, "accepted_ms": 1,
        "phase": {"phase": "verifying"}}], "snapshots": []}"#;
    for text in [later, "", "[]", "null", r#"{"epoch": -1}"#] {
        write(text);
        let said = sentence(&state.load().unwrap_err());
        plain(&said);
        assert!(said.contains("state.json is damaged: move it away"), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// All readers of a manifest agree whether it is one, and no sum is too big for them.
    #[test]
    fn a_damaged_manifest_gets_an_answer(json in damaged(sections())) {
        let mut paths = 0_u64;
        let each = manifest::each_path(&json, |_| paths += 1).is_ok();
        let (whole, totals) = (serde_json::from_slice::<Vec<Section>>(&json), manifest::totals(&json));
        if let Ok(whole) = whole {
            // What can be restored can be listed and purged too.
            prop_assert!(each);
            let totals = totals.unwrap();
            prop_assert_eq!(totals.objects, paths);
            for object in whole.iter().flat_map(|section| &section.objects) {
                let expected = Expected::of(object, 5 << 20);
                let mut hasher = Hasher::new(&expected);
                hasher.update(Bytes::from_static(b"abcde"));
                let _ = hasher.finish();
            }
            crate::restore::hostile(&whole);
        }
    }

    #[test]
    fn any_tag_gets_an_answer(tag in "\\PC{0,40}|[0-9a-f]{32}-[0-9]{1,20}|[A-Za-z0-9+/]{22}==", size: u64, part: u64) {
        let object = Object { path: "p".into(), md5: Some(tag), size };
        let expected = Expected::of(&object, part);
        let mut hasher = Hasher::new(&expected);
        hasher.update(Bytes::from_static(b"abcde"));
        let _ = hasher.finish();
    }

    /// Index, tokenmap, schema, manifest and claim of one backup, any of them damaged: a listing, of this and of its neighbour.
    #[test]
    fn a_damaged_entry_costs_itself(
        map in damaged(tokenmap()), manifest in damaged(sections()), claim in damaged(json!({"operation": "o"})),
        schema in proptest::collection::vec(any::<u8>(), 0..40), which in 0..4_u8,
        stamp in prop_oneof![Just("17".to_owned()), any::<i64>().prop_map(|at| at.to_string()), "[0-9-]{0,25}"],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(async {
            let (store, layout) = (bucket(), layout());
            for (name, bad) in [("good", false), ("bad", true)] {
                let pick = |at: u8, good: Vec<u8>, damaged: &[u8]| if bad && which == at { damaged.to_vec() } else { good };
                let (map, manifest) = (pick(0, tokenmap().to_string().into(), &map), pick(1, sections().to_string().into(), &manifest));
                let stamp = if bad && which == 2 { stamp.as_str() } else { "17" };
                for (file, content) in [
                    ("schema.cql", pick(3, b"CREATE".to_vec(), &schema)), ("tokenmap.json", map.clone()),
                    ("manifest.json", manifest.clone()), ("stheno.json", pick(3, b"{}".to_vec(), &claim)),
                ] {
                    store.put(&format!("p/h/{name}/meta/{file}"), content).await.unwrap();
                }
                for (file, content) in [
                    ("schema_h.cql".to_owned(), b"x".to_vec()), ("tokenmap_h.json".to_owned(), map),
                    ("manifest_h.json".to_owned(), manifest), (format!("started_h_{stamp}.timestamp"), b"x".to_vec()),
                    (format!("finished_h_{stamp}.timestamp"), b"x".to_vec()),
                ] {
                    store.put(&format!("p/index/backup_index/{name}/{file}"), content).await.unwrap();
                }
            }
            let name = BackupName::existing("bad").unwrap();
            presence(&store, &layout, &name).await.unwrap();
            let _ = crate::restore::tokens_of(&store, &layout, &name).await.map_err(|error| plain(&sentence(&error)));
            let catalogue = Catalogue::new(store, layout);
            let page = catalogue.page(None, 10, |_| false).await.unwrap();
            assert_eq!(page.0.len(), 2);
            catalogue.complete().await.unwrap();
            catalogue.all(|_| false).await.unwrap()
        });
        prop_assert_eq!(outcome.len(), 2);
        let good = outcome.iter().find(|backup| backup.backup_name == "good").unwrap();
        prop_assert_eq!(good.status(), stheno_rpc::medusa::StatusType::Success);
        prop_assert_eq!(good.total_objects, 3);
    }

    #[test]
    fn any_index_key_gets_an_answer(key in "p/index/backup_index/\\PC{0,40}|\\PC{0,60}|p/index/backup_index/[a-z]{1,5}/(started|finished|tokenmap)_[_.0-9a-z-]{0,30}") {
        if let Some((name, node, _)) = layout().read_index(&key) {
            prop_assert!(!name.is_empty() && !node.is_empty() && !name.contains('/') && !node.contains('/'));
        }
    }

    /// Our own files on the volume.
    #[test]
    fn a_damaged_volume_gets_an_answer(text in damaged(json!({
        "epoch": 1, "records": [{"operation": "o", "attempt": 1, "name": "n", "full": true, "accepted_ms": 1,
        "phase": {"phase": "uploading", "started_ms": 1, "snapshot": {"files": 1, "bytes": 2}}}], "snapshots": ["medusa-n"],
        "deleting": [{"node": "h", "name": "b"}], "pool": {}, "private": {}, "since": {"a": 1},
    }))) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for file in ["state.json", "known.json", "restore.json"] {
            std::fs::write(dir.path().join(file), &text).unwrap();
        }
        let _ = Known::load(&state);
        let _ = state.load().map_err(|error| plain(&sentence(&error)));
    }
}
