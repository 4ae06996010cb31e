//! Names, host maps and the checks before a restore, beside what today's operator and cass-operator answered.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stheno_decide::host_map::{Mapping, Refusal, Source, map};
use stheno_decide::names::{self, Place};
use stheno_decide::restorable::{self, Backup, judge};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Datacenter {
    name: String,
    cluster_name: String,
    datacenter_name: Option<String>,
    status_datacenter_name: Option<String>,
    size: u32,
    #[serde(default)]
    racks: Vec<String>,
}

impl Datacenter {
    fn place(&self) -> Place<'_> {
        Place {
            name: &self.name,
            cluster: &self.cluster_name,
            datacenter: self.datacenter_name.as_deref(),
            named_by: self.status_datacenter_name.as_deref(),
            size: self.size,
            racks: self.racks.iter().map(String::as_str).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    host: String,
    datacenter: String,
    rack: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    backup_name: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MapCase {
    name: String,
    restore_of_backup: String,
    backups: Vec<Listed>,
    datacenter: Datacenter,
    expected: Value,
}

fn cases(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn of<T: serde::de::DeserializeOwned>(cases: &Value, key: &str) -> Vec<T> {
    serde_json::from_value(cases[key].clone()).unwrap()
}

#[test]
fn names_are_those_of_cass_operator() {
    let cases = cases(include_str!("cases/names-cases.json"));
    let rows = cases["names"].as_array().unwrap();
    for row in rows {
        let name = row["in"].as_str().unwrap();
        let ours = [names::object(name), names::rack(name), names::label(name)];
        let theirs = ["object", "rack", "label"].map(|kind| row[kind].as_str().unwrap());
        assert_eq!(ours.each_ref().map(String::as_str), theirs, "{name:?}");
    }
    assert!(rows.len() > 12);
}

#[test]
fn pods_are_named_and_split_over_racks_as_cass_operator_does() {
    let cases = cases(include_str!("cases/hostmap-cases.json"));
    for case in cases["targetPods"].as_array().unwrap() {
        let datacenter: Datacenter = serde_json::from_value(case["datacenter"].clone()).unwrap();
        let place = datacenter.place();
        let ours: BTreeMap<&str, Vec<String>> = place.pods().into_iter().collect();
        let theirs: BTreeMap<&str, Vec<String>> = Deserialize::deserialize(&case["expected"]).unwrap();
        assert_eq!(ours, theirs, "{}", case["name"]);
    }
}

#[test]
fn host_maps_are_those_of_todays_operator_to_the_byte() {
    let cases = cases(include_str!("cases/hostmap-cases.json"));
    let (mut mapped, mut refused) = (0, 0);
    for case in of::<MapCase>(&cases, "hostMap") {
        // The first of that name counts; none is refused by whoever lists.
        let Some(backup) = case.backups.iter().find(|backup| backup.backup_name == case.restore_of_backup) else {
            assert_eq!(case.name, "backup-not-listed");
            continue;
        };
        let source = |node: &'_ Node| (node.host.clone(), node.datacenter.clone(), node.rack.clone());
        let nodes: Vec<_> = backup.nodes.iter().map(source).collect();
        let nodes: Vec<Source<'_>> =
            nodes.iter().map(|(host, datacenter, rack)| Source { host, datacenter, rack }).collect();
        match (map(&nodes, &case.datacenter.place()), case.expected["restoreMappingEnv"].as_str()) {
            (Ok(mapping), Some(theirs)) => {
                assert_eq!(serde_json::to_string(&mapping).unwrap(), theirs, "{}", case.name);
                let status: Mapping = serde_json::from_value(case.expected["restoreMapping"].clone()).unwrap();
                assert_eq!(status, mapping);
                mapped += 1;
            }
            (Err(refusal), None) => {
                // Theirs fails too, or crashes.
                let theirs = ["error", "upstreamPanics"].iter().any(|key| case.expected[key].is_string());
                assert!(theirs && !refusal.to_string().is_empty(), "{}", case.name);
                refused += 1;
            }
            (ours, _) => panic!("{}: {ours:?}", case.name),
        }
    }
    assert_eq!((mapped, refused), (9, 2));
}

#[test]
fn what_cannot_be_paired_is_refused_with_what_to_do() {
    let place = |size, racks: &'static [&'static str]| Place {
        name: "dc1",
        cluster: "c",
        datacenter: None,
        named_by: None,
        size,
        racks: racks.to_vec(),
    };
    let source = |host, rack| Source { host, datacenter: "dc1", rack };
    let said = |nodes: &[Source<'_>], place: &Place<'_>| map(nodes, place).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            said(&[], &place(1, &[])),
            said(&[source("a", "r1"), source("b", "r2")], &place(2, &[])),
            said(&[source("a", "r1"), source("b", "r1")], &place(1, &["r1"])),
            // Theirs leaves a pod without data.
            said(&[source("a", "r1")], &place(2, &["r1"])),
            said(&[source("", "r1")], &place(1, &["r1"])),
        ]
        .join("\n")
    );
    let elsewhere = Source { host: "a", datacenter: "dc2", rack: "r1" };
    assert_eq!(map(&[elsewhere], &place(1, &[])), Err(Refusal::NoNodes("dc1".into())));
}

#[test]
fn backups_are_judged_as_today_and_what_crashed_it_is_refused() {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        finish_time: Option<stheno_events::Time>,
        total_nodes: u32,
        finished_nodes: u32,
        nodes: Vec<Node>,
    }
    let cases = cases(include_str!("cases/restore-validation-cases.json"));
    for case in cases["cases"].as_array().unwrap() {
        let status: Status = serde_json::from_value(case["backupStatus"].clone()).unwrap();
        let datacenter: Datacenter = serde_json::from_value(case["datacenter"].clone()).unwrap();
        let backup = Backup {
            finished: status.finish_time,
            total_nodes: status.total_nodes,
            finished_nodes: status.finished_nodes,
            nodes: status.nodes.iter().map(|node| (node.datacenter.as_str(), node.rack.as_str())).collect(),
        };
        let ours = judge(&backup, &datacenter.place());
        if case["upstreamPanics"].is_string() {
            assert_eq!(ours, Err(restorable::Refusal::NoNodes), "{}", case["name"]);
        } else {
            let ours = ours.err().map(|refusal| refusal.to_string());
            assert_eq!(ours.as_deref(), case["error"].as_str(), "{}", case["name"]);
        }
    }
}

proptest! {
    /// Whatever people call things: every pod gets one source, every source goes to one pod, and a datacenter that was
    /// backed up as it is gets its own data back.
    #[test]
    fn everything_is_mapped_once(size in 1_u32..30, racks in proptest::collection::btree_set("[a-z][a-z0-9]{0,3}", 0..5)) {
        let names: Vec<&str> = racks.iter().map(String::as_str).collect();
        let place = Place { name: "dc1", cluster: "c", datacenter: None, named_by: None, size, racks: names };
        let pods = place.pods();
        let nodes: Vec<Source<'_>> = pods
            .iter()
            .flat_map(|(rack, pods)| pods.iter().map(move |host| Source { host, datacenter: "dc1", rack }))
            .collect();
        match map(&nodes, &place) {
            Ok(mapping) => {
                prop_assert!(mapping.in_place);
                let sources: BTreeSet<&String> = mapping.host_map.values().flat_map(|it| &it.source).collect();
                prop_assert_eq!(sources.len(), size as usize);
                prop_assert_eq!(mapping.host_map.len(), size as usize);
            }
            // More racks than pods: some hold nothing, and a backup does not know of them.
            Err(Refusal::Racks { .. }) => prop_assert!((size as usize) < racks.len()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// Names that Kubernetes takes, whatever was written.
    #[test]
    fn names_are_names(text in "\\PC{0,40}") {
        let object = names::object(&text);
        prop_assert!(object.is_empty() || object.starts_with(|c: char| c.is_ascii_lowercase()));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        prop_assert!(object.chars().all(fits), "{object}");
        let rack = names::rack(&text);
        prop_assert!(rack.split('.').all(|label| label.chars().all(fits) && !label.ends_with('-')), "{rack}");
    }
}
