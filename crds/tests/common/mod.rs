//! What the tests of this crate share: the recorded cases, and a reader and a judge of structural schemas.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The recorded shapes of today's definitions, by kind.
pub(crate) fn recorded_kinds() -> Map<String, Value> {
    let text = fs::read_to_string(cases().join("crd-shapes.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    recorded["kinds"].as_object().unwrap().clone()
}

/// Every object in the manifests of a folder, with the file that it stands in.
pub(crate) fn manifests(folder: &str) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(cases().join("manifests").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            objects.push((name.clone(), Value::deserialize(document).unwrap()));
        }
    }
    objects
}

pub(crate) fn kind(crd: &CustomResourceDefinition) -> &str {
    &crd.spec.names.kind
}

pub(crate) fn schema(crd: &CustomResourceDefinition) -> Value {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap();
    serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// A schema as a flat list, in the form of crd-shapes.json: `[]` is an array's item, `{}` a map's value, and each
/// entry holds type, required and every constraint, but no description.
pub(crate) fn shape(schema: &Value) -> BTreeMap<String, Map<String, Value>> {
    let mut paths = BTreeMap::new();
    walk(schema, "", &mut |path, required, node| {
        let mut entry = Map::new();
        entry.insert("path".to_owned(), path.into());
        entry.insert("required".to_owned(), required.into());
        for (key, value) in node.as_object().unwrap() {
            let is_constraint = match key.as_str() {
                "description" | "properties" | "items" | "additionalProperties" | "required" => false,
                "nullable" => value == true,
                _ => true,
            };
            if is_constraint {
                entry.insert(key.clone(), whole(value));
            }
        }
        if node["x-kubernetes-int-or-string"] == true {
            entry.insert("type".to_owned(), "int-or-string".into());
        }
        paths.insert(path.to_owned(), entry);
    });
    paths
}

/// A bound such as `1.0`, which the definition's type holds as a float, as the whole number that was written.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 => (number as i64).into(),
        _ => value.clone(),
    }
}

/// Visits every node below the root with its path and whether the node above requires it.
pub(crate) fn walk(node: &Value, path: &str, visit: &mut impl FnMut(&str, bool, &Value)) {
    let required =
        |name: &str| node["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name));
    let properties = node["properties"].as_object().into_iter().flatten();
    for (name, child) in properties {
        let path = match path {
            "" => name.clone(),
            _ => format!("{path}.{name}"),
        };
        visit(&path, required(name), child);
        walk(child, &path, visit);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = node.get(key) {
            let path = format!("{path}{suffix}");
            visit(&path, false, child);
            walk(child, &path, visit);
        }
    }
}

/// What an API server would say against an object: refusals, and fields that it would drop.
///
/// It knows the keywords that this crate's schemas use and panics at any other, so that none goes unheeded.
pub(crate) fn complaints(schema: &Value, object: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "type" => {
                let fits = match rule.as_str().unwrap() {
                    "object" => object.is_object(),
                    "array" => object.is_array(),
                    "string" => object.is_string(),
                    "integer" => object.is_i64() || object.is_u64(),
                    "boolean" => object.is_boolean(),
                    other => panic!("{path}: a type that this check does not know: {other}"),
                };
                if !fits {
                    say(format!("{object} is no {rule}"));
                }
            }
            "x-kubernetes-int-or-string" => {
                if !(object.is_i64() || object.is_u64() || object.is_string()) {
                    say(format!("{object} is neither integer nor text"));
                }
            }
            "enum" => {
                if !rule.as_array().unwrap().contains(object) {
                    say(format!("{object} is none of {rule}"));
                }
            }
            "minLength" | "maxLength" => {
                let length = object.as_str().map_or(0, |text| text.chars().count()) as u64;
                let limit = rule.as_u64().unwrap();
                if object.is_string() && (keyword == "minLength") == (length < limit) && length != limit {
                    say(format!("{object} breaks {keyword} {limit}"));
                }
            }
            "minimum" => {
                if object.as_f64() < rule.as_f64() {
                    say(format!("{object} is less than {rule}"));
                }
            }
            "format" => match rule.as_str().unwrap() {
                "date-time" => {
                    if serde_json::from_value::<stheno_crds::Time>(object.clone()).is_err() {
                        say(format!("{object} is no time"));
                    }
                }
                "int32" => {
                    if object.as_i64().is_some_and(|number| i32::try_from(number).is_err()) {
                        say(format!("{object} has more than 32 bits"));
                    }
                }
                "int64" => {
                    if object.as_i64().is_none() {
                        say(format!("{object} has more than 64 bits"));
                    }
                }
                other => panic!("{path}: a format that this check does not know: {other}"),
            },
            "required" => {
                for name in rule.as_array().unwrap() {
                    if object.get(name.as_str().unwrap()).is_none() {
                        say(format!("{name} is missing"));
                    }
                }
            }
            // Judged below, or no judgement at all. Patterns are judged by a real API server only.
            "properties"
            | "items"
            | "additionalProperties"
            | "title"
            | "description"
            | "default"
            | "nullable"
            | "pattern"
            | "x-kubernetes-preserve-unknown-fields"
            | "x-kubernetes-list-type"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type" => {}
            other => panic!("{path}: a keyword that this check does not know: {other}"),
        }
    }
    for (name, value) in object.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
        match known {
            Some(schema) => found.extend(complaints(schema, value, &path)),
            None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => found.push(format!("{path}: would be dropped")),
        }
    }
    for (index, value) in object.as_array().into_iter().flatten().enumerate() {
        found.extend(complaints(&schema["items"], value, &format!("{path}[{index}]")));
    }
    found
}
