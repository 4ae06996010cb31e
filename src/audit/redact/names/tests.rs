//! Pseudonyms keep the order of names, and what decisions rest on.

use super::*;
use proptest::prelude::*;

fn pseudonyms(names: &[(Kind, &str)]) -> Pseudonyms {
    let mut collection = Collection::default();
    names.iter().for_each(|(kind, name)| collection.learn(*kind, name, None));
    collection.finish()
}

fn datacenter(racks: &[&str]) -> observed::Datacenter {
    let meta = observed::Meta {
        uid: "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a001".into(),
        name: "DC_1".into(),
        resource_version: "1".into(),
        generation: 1,
        created: stheno_events::Time::UNIX_EPOCH,
        deleting: None,
    };
    observed::Datacenter {
        meta,
        cluster: "My Shop".into(),
        datacenter_name: None,
        size: 3,
        racks: racks.iter().map(|rack| Arc::from(*rack)).collect(),
        stopped: false,
        observed_generation: 1,
        progress: None,
        conditions: BTreeMap::new(),
    }
}

/// The pseudonyms of a datacenter's pods.
fn pods(racks: &[&str], others: &[&str]) -> Vec<String> {
    let home = DcKey::new("prod", "DC_1");
    let datacenter = datacenter(racks);
    let place = Place {
        name: &datacenter.meta.name,
        cluster: &datacenter.cluster,
        datacenter: None,
        named_by: None,
        size: 3,
        racks: racks.to_vec(),
    };
    let mut names: Vec<String> = place.pods().into_iter().flat_map(|(_, pods)| pods).collect();
    names.extend(others.iter().map(|name| (*name).to_owned()));
    names.sort();
    let mut collection = Collection::default();
    collection.learn(Kind::Cluster, "My Shop", Some(&home));
    collection.learn(Kind::Datacenter, "DC_1", Some(&home));
    racks.iter().for_each(|rack| collection.learn(Kind::Rack, rack, Some(&home)));
    names.iter().for_each(|name| collection.learn(Kind::Node, name, Some(&home)));
    collection.learn_sets(&datacenter);
    let pseudonyms = collection.finish();
    names.iter().map(|name| pseudonyms.of(Kind::Node, name).unwrap().to_string()).collect()
}

#[test]
fn pods_are_called_after_their_datacenter() {
    let composed = |rack: &str, number| format!("cluster-0001-dc-0001-{rack}-sts-{number}");
    assert_eq!(
        pods(&["r1", "r2"], &[]),
        [composed("rack-0001", 0), composed("rack-0001", 1), composed("rack-0002", 0)]
    );
    assert_eq!(pods(&[], &[]), [composed("default", 0), composed("default", 1), composed("default", 2)]);
    // A host of another name, and racks whose pods stand in another order than they.
    assert_eq!(pods(&[], &["node-7.example.org"]), ["pod-0001-0", "pod-0001-1", "pod-0001-2", "pod-0002"]);
    assert_eq!(pods(&["a", "a-b"], &[]), ["pod-0001-0", "pod-0002-0", "pod-0002-1"]);
    // What cass-operator would call the pods of the redacted datacenter.
    let place = Place {
        name: "dc-0001",
        cluster: "cluster-0001",
        datacenter: None,
        named_by: None,
        size: 1,
        racks: vec!["rack-0001"],
    };
    assert_eq!(place.pods(), [("rack-0001", vec![composed("rack-0001", 0)])]);
}

#[test]
fn what_decisions_rest_on_stays() {
    let (long, endless) = ("n".repeat(243), "d".repeat(1_000));
    let names = pseudonyms(&[
        (Kind::Schedule, "nightly"),
        (Kind::Schedule, long.as_str()),
        (Kind::Backup, "nightly-1772330400"),
        (Kind::Backup, "before-upgrade"),
        (Kind::Cluster, "My Shop!"),
        (Kind::Cron, "every night"),
        (Kind::Zone, "Mars/Olympus"),
        (Kind::Policy, "forbid"),
        (Kind::Datacenter, endless.as_str()),
    ]);
    let of = |kind, name: &str| names.of(kind, name).map(|name| name.to_string());
    let becomes = |kind, name: &str, pseudonym: &str| assert_eq!(of(kind, name).as_deref(), Some(pseudonym));
    becomes(Kind::Schedule, "nightly", "schedule-0001");
    becomes(Kind::Backup, "nightly-1772330400", "schedule-0001-1772330400");
    // One that a decision names before anybody has seen it.
    becomes(Kind::Backup, "nightly-1772416800", "schedule-0001-1772416800");
    becomes(Kind::Backup, "before-upgrade", "backup-0001");
    assert_eq!(of(Kind::Schedule, &long).unwrap().len(), long.len());
    becomes(Kind::Cluster, "MyShop", "cluster-0001");
    for (kind, name) in [(Kind::Cron, "every night"), (Kind::Zone, "Mars/Olympus"), (Kind::Policy, "forbid")] {
        assert!(!kind.is_plain(&of(kind, name).unwrap()), "{name:?} cannot be read, nor what stands for it");
    }
    for (kind, name) in [
        (Kind::Cron, "CRON_TZ=Europe/Berlin 0 2 * * MON-FRI"),
        (Kind::Cron, "61 * * * *"),
        (Kind::Zone, "Europe/Berlin"),
        (Kind::Policy, "Forbid"),
        (Kind::Version, "4711"),
        (Kind::Id, "0b7de1c2-7c8a-4d0e-9c7e-54f0c9b1a001"),
        (Kind::Rack, "default"),
        (Kind::Namespace, ""),
    ] {
        assert_eq!(of(kind, name), None, "{name:?} stays");
    }
    let cut = DcKey::new("prod", endless.as_str()).name;
    assert_eq!(of(Kind::Datacenter, &cut), of(Kind::Datacenter, &endless), "as typed, and as a key");
    becomes(Kind::Namespace, "nobody-learned-it", UNLEARNED);
}

proptest! {
    #[test]
    fn pseudonyms_stand_in_the_order_of_names(
        names in prop::collection::btree_set("[a-zA-Z]{1,8}(-[a-z]{1,4}){0,2}", 1..40),
        slot in 1_000_000_000_u64..4_000_000_000,
    ) {
        for kind in [Kind::Namespace, Kind::Datacenter, Kind::Rack, Kind::Node, Kind::Backup, Kind::Address] {
            let learned: Vec<(Kind, &str)> = names.iter().map(|name| (kind, name.as_str())).collect();
            let pseudonyms = pseudonyms(&learned);
            let found: Vec<_> = names.iter().filter_map(|name| pseudonyms.of(kind, name)).collect();
            prop_assert!(found.is_sorted_by(|a, b| a < b), "{kind:?}: {found:?}");
        }
        let learned: Vec<(Kind, &str)> = names.iter().map(|name| (Kind::Schedule, name.as_str())).collect();
        let pseudonyms = pseudonyms(&learned);
        let mut jobs: Vec<String> = names.iter().map(|name| format!("{name}-{slot}")).collect();
        jobs.sort();
        let found: Vec<_> = jobs.iter().filter_map(|job| pseudonyms.of(Kind::Backup, job)).collect();
        prop_assert_eq!(found.len(), jobs.len());
        prop_assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    }
}
