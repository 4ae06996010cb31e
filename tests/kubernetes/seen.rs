//! What watches tell: every object once, then a complete list, then changes; and nothing that is secret.

use super::fixture::{Ground, job};
use super::operator::Operator;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stheno::observe::{Mirror, Options, Sight, start};
use stheno_decide::Observation;
use stheno_decide::engine::WATCHED;
use stheno_events::observed::{self, ObjectKind};
use stheno_events::{DcKey, Event, Uid};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Watches of some namespaces, and what they tell.
struct Eyes {
    seen: mpsc::Receiver<Sight>,
    mirror: Mirror,
    stop: CancellationToken,
}

impl Eyes {
    async fn open(ground: &Ground, namespaces: &[&str]) -> Self {
        let (sights, seen) = mpsc::channel(1024);
        let (mirror, stop) = (Mirror::default(), CancellationToken::new());
        let namespaces = namespaces.iter().map(|name| Arc::from(*name)).collect();
        let options = Options { namespaces: Some(namespaces), highest: None };
        tokio::spawn(start(ground.operator().await.0, options, mirror.clone(), sights, stop.clone()));
        Self { seen, mirror, stop }
    }

    async fn next(&mut self) -> Sight {
        tokio::time::timeout(Duration::from_secs(30), self.seen.recv()).await.expect("a sight in 30 s").unwrap()
    }

    /// All sights up to the list of every kind.
    async fn lists(&mut self) -> Vec<Sight> {
        let mut missing = BTreeSet::from(WATCHED);
        let mut sights = Vec::new();
        while !missing.is_empty() {
            let sight = self.next().await;
            match &sight {
                Sight::Listed { kind, .. } => assert!(missing.remove(kind), "{kind:?} was listed twice"),
                Sight::Object { observation, .. } => {
                    assert!(missing.contains(&observation.kind()), "seen after the list: {observation:?}");
                }
                Sight::Unobservable { .. } | Sight::Gap(_) => panic!("{sight:?}"),
            }
            sights.push(sight);
        }
        sights
    }
}

#[tokio::test]
async fn objects_then_lists_then_changes() {
    let ground = Ground::new("seen").await;
    let other = Ground::new("seen-too").await;
    ground.datacenter("dc1", 2).await;
    let mut requested = job("nightly", json!({ "cassandraDatacenter": "dc1", "backupType": "full" }));
    requested["metadata"]["annotations"] =
        json!({ "stheno.io/hold": "yes", "elsewhere.io/token": "planted-annotation" });
    requested["status"] = json!({ "startTime": "2026-01-02T03:04:05Z", "inProgress": ["shop-dc1-r1-sts-0"] });
    let uid = Uid::from(ground.create(requested).await.uid().unwrap());
    let elsewhere = Uid::from(other.job("elsewhere").await.uid().unwrap());

    let mut eyes = Eyes::open(&ground, &["seen", "seen-too"]).await;
    let sights = eyes.lists().await;
    let jobs = sights.iter().find_map(|sight| match sight {
        Sight::Listed { kind: ObjectKind::MedusaBackupJob, namespaces, present } => {
            Some((namespaces.clone(), present.clone()))
        }
        Sight::Listed { .. } | Sight::Object { .. } | Sight::Unobservable { .. } | Sight::Gap(_) => None,
    });
    let both = BTreeSet::from([Arc::from("seen"), Arc::from("seen-too")]);
    assert_eq!(
        jobs,
        Some((Some(both), BTreeSet::from([uid.clone(), elsewhere.clone()]))),
        "one list of both namespaces"
    );
    insta::assert_debug_snapshot!("sights", redacted(&sights));
    assert!(!format!("{sights:?}").contains("planted"), "only allow-listed fields");
    assert!(eyes.mirror.get(&uid).is_some_and(|copy| !copy.owned));
    assert_eq!(eyes.mirror.len(), 2, "no pods and datacenters");

    // A change.
    let cancel = json!({ "metadata": { "annotations": { "stheno.io/cancel": "now" } } });
    ground.jobs().patch("nightly", &PatchParams::default(), &Patch::Merge(cancel)).await.unwrap();
    let Sight::Object { observation: Observation::BackupJob(changed, _), .. } = eyes.next().await else { panic!() };
    assert_eq!(
        changed.annotations.keys().map(|key| &**key).collect::<Vec<_>>(),
        ["stheno.io/cancel", "stheno.io/hold"]
    );

    // The end of an object; its datacenter is told with it.
    ground.jobs().delete("nightly", &Default::default()).await.unwrap();
    let Sight::Object { home, observation: Observation::Gone(gone), .. } = eyes.next().await else { panic!() };
    assert_eq!((home, gone.inferred), (Some(DcKey::new("seen", "dc1")), false));
    assert!(eyes.mirror.get(&uid).is_none());
    eyes.stop.cancel();
}

/// What differs from run to run, and what may come in any order, is taken out.
fn redacted(sights: &[Sight]) -> Vec<String> {
    let mut texts: Vec<String> = sights
        .iter()
        .filter_map(|sight| match sight {
            Sight::Object { namespace, home, observation } => {
                let mut text = format!("{namespace} {home:?} {observation:?}");
                for (from, to) in [("uid: Uid(\"", "\""), ("resource_version: \"", "\""), ("created: ", "Z")] {
                    let mut parts = text.split(from);
                    let first = parts.next().unwrap_or_default().to_owned();
                    text = parts.fold(first, |text, part| {
                        let rest = part.split_once(to).map_or("", |(_, rest)| rest);
                        format!("{text}{from}_{to}{rest}")
                    });
                }
                Some(text)
            }
            Sight::Listed { .. } | Sight::Unobservable { .. } | Sight::Gap(_) => None,
        })
        .collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn what_vanished_while_nobody_looked_is_inferred() {
    let ground = Ground::new("vanished").await;
    // It waits for a datacenter that does not come.
    ground.job("nightly").await;
    ground.job("staying").await;
    let mut operator = Operator::start(&ground).await;
    let known =
        |world: &stheno_projections::World| world.datacenters.values().map(|dc| dc.operations.len()).sum::<usize>();
    operator.until("both are known", |world| known(world) == 2).await;
    let world = operator.crash();
    ground.jobs().delete("nightly", &Default::default()).await.unwrap();
    let mut next = Operator::resume(&ground, world).await;
    next.until("one is gone", |world| {
        super::operator::operation(world, "staying", |operation| !operation.gone) && known(world) == 1
    })
    .await;
    let gone = next.log.iter().filter_map(|event| match event {
        Event::Observed(observed::Event::Gone(gone)) => Some((&*gone.name, gone.inferred)),
        Event::Observed(_)
        | Event::Backup(_)
        | Event::Schedule(_)
        | Event::Task(_)
        | Event::Datacenter(_)
        | Event::Operator(_) => None,
    });
    assert_eq!(gone.collect::<Vec<_>>(), [("nightly", true)]);
}
