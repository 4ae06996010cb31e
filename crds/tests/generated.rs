//! `deploy/crds.yaml` is what the code says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper may fail the test")]

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Deserialize;
use stheno_crds::{all_crds, all_crds_yaml};

const HEADER: &str =
    "# Generated from crds/; to write it anew: STHENO_UPDATE=1 cargo test -p stheno-crds --test generated\n";

#[test]
fn the_deployed_definitions_are_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds.yaml");
    let expected = format!("{HEADER}{}", all_crds_yaml().unwrap());
    if std::env::var_os("STHENO_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&file, &expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "deploy/crds.yaml is stale; run: STHENO_UPDATE=1 cargo test -p stheno-crds --test generated"
    );
}

#[test]
fn the_yaml_reads_back_as_the_definitions() {
    let yaml = all_crds_yaml().unwrap();
    assert_eq!(yaml, all_crds_yaml().unwrap());
    let read: Vec<CustomResourceDefinition> = serde_yaml_ng::Deserializer::from_str(&yaml)
        .map(|document| CustomResourceDefinition::deserialize(document).unwrap())
        .collect();
    assert_eq!(read, all_crds());
}

/// kubectl reads YAML 1.1, where more words than `true` and `false` are no text.
#[test]
fn no_text_turns_into_something_else_in_kubectl() {
    let yaml = all_crds_yaml().unwrap();
    for line in yaml.lines() {
        let value = line.rsplit_once(": ").map_or(line, |(_, value)| value);
        let value = value.trim_start().trim_start_matches("- ");
        let word = value.to_ascii_lowercase();
        let is_trap = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"].contains(&word.as_str());
        assert!(!is_trap || value == "true" || value == "false", "{line:?} needs quotes");
    }
    assert!(yaml.contains("- 'True'"), "the status of a condition is text");
}
