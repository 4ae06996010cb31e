//! Our schemas are structural, as the API server demands of definitions, and `kubectl explain` explains every field.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper may fail the test")]

mod common;

use common::{kind, schema, walk};
use serde_json::Value;
use stheno_crds::{all_crds, foreign_crds};

#[test]
fn every_node_has_a_type_and_no_forbidden_keyword() {
    for crd in all_crds().iter().chain(&foreign_crds()) {
        let schema = schema(crd);
        assert_eq!(schema["type"], "object", "{}", kind(crd));
        walk(&schema, "", &mut |path, _, node| {
            let at = format!("{} {path}", kind(crd));
            let typed = node["type"].is_string() != (node["x-kubernetes-int-or-string"] == true);
            assert!(typed, "{at}: {node}");
            for forbidden in [
                "$ref",
                "$defs",
                "definitions",
                "allOf",
                "anyOf",
                "oneOf",
                "not",
                "const",
                "uniqueItems",
                "patternProperties",
            ] {
                assert_eq!(node.get(forbidden), None, "{at}");
            }
            assert_ne!(node.get("nullable"), Some(&Value::Bool(true)), "{at}: an optional field is no nullable one");
            let both = node.get("properties").is_some() && node.get("additionalProperties").is_some();
            assert!(!both, "{at}: named properties and a map");
            if node["x-kubernetes-list-type"] == "map" {
                let key = node["x-kubernetes-list-map-keys"][0].as_str().unwrap();
                let required = node["items"]["required"].as_array().unwrap();
                assert!(required.iter().any(|name| name == key), "{at}: the key {key} may be absent");
            }
        });
    }
}

#[test]
fn every_field_is_explained_in_one_sentence() {
    for crd in all_crds() {
        let schema = schema(&crd);
        assert!(schema["description"].is_string(), "{}", kind(&crd));
        walk(&schema, "", &mut |path, _, node| {
            if path.ends_with("[]") || path.ends_with("{}") {
                return;
            }
            let at = format!("{} {path}", kind(&crd));
            let text = node["description"].as_str().unwrap_or_default();
            let sentence = text.ends_with('.') && text.len() > 8 || text == "Ignored.";
            assert!(sentence && !text.contains('\n'), "{at}: {text:?} explains nothing");
            assert!(!text.trim_end_matches('.').contains(". "), "{at}: {text:?} is more than a sentence");
        });
    }
}

#[test]
fn what_belongs_to_others_is_preserved_at_every_depth() {
    for crd in foreign_crds() {
        let schema = schema(&crd);
        assert_eq!(schema.get("x-kubernetes-preserve-unknown-fields"), None);
        let mut objects = 0;
        walk(&schema, "", &mut |path, _, node| {
            if node.get("properties").is_some() {
                objects += 1;
                let kept = node["x-kubernetes-preserve-unknown-fields"] == true;
                assert!(kept, "{} {path} would lose fields", kind(&crd));
            }
        });
        assert!(objects > 3, "{}", kind(&crd));
    }
}

#[test]
fn what_is_ours_preserves_nothing_unknown() {
    for crd in all_crds() {
        walk(&schema(&crd), "", &mut |path, _, node| {
            let preserved = node.get("x-kubernetes-preserve-unknown-fields");
            assert_eq!(preserved, None, "{} {path}", kind(&crd));
        });
    }
}
