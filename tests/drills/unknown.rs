//! What a later build wrote: this one stops where it cannot know what follows, and goes on elsewhere.

use super::house::House;
use super::operators::{Place, Seat};
use super::writer::Writer;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stheno_events::{Fact, Process};
use tokio::time::sleep;

fn unknown(critical: bool) -> Fact {
    Fact::Unknown { name: "backup.teleported".into(), version: 1, critical, data: rmpv::Value::from("there") }
}

/// Nothing is decided for a new job of dc1, and one of dc2 runs.
async fn frozen(house: &House, operator: &mut Seat, tried: &str, sentence: &str) {
    let named = |text: &str| text.contains("LogNewerThanOperator") && text.contains(sentence);
    house.ground.map_once("stheno-status", "conditions", named).await;
    house.ground.job(tried).await;
    let elsewhere = format!("{tried}-elsewhere");
    let mut job = serde_json::json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackupJob",
        "metadata": { "name": elsewhere },
        "spec": { "cassandraDatacenter": "dc2" },
    });
    job["metadata"]["name"] = elsewhere.as_str().into();
    house.ground.create(job).await;
    house.ground.finished(&elsewhere).await;
    sleep(Duration::from_secs(2)).await;
    let status = house.ground.jobs().get(tried).await.unwrap().status;
    assert!(status.is_none_or(|status| status.start_time.is_none()), "{tried} was begun");
    assert!(!house.agent.backup(tried).exists(), "{tried} was begun");
    let (status, text) = operator.readiness().await.unwrap();
    assert_eq!(status, 200, "other datacenters are served: {text}");
}

/// A house whose datacenters share a node: backups of both are of that node.
async fn two_datacenters(name: &str) -> (House, Seat) {
    let mut house = House::simple(name).await;
    house.ground.datacenter_at("dc2", &[house.agent.port.number()]).await;
    let mut operator = house.operators.pop().unwrap();
    operator.start();
    operator.leads().await;
    house.ground.job("known").await;
    house.ground.finished("known").await;
    (house, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_critical_event_freezes_its_datacenter_and_no_other() {
    let (house, mut operator) = two_datacenters("critical").await;
    let mut writer = Writer::new(&house).await;
    let epoch = writer.world.operator.epoch;
    let dc1 = Writer::datacenter(&house);
    // An informational one changes nothing.
    writer.say(&dc1, Process::Backup, stheno::runtime::wall(), epoch, vec![unknown(false)]).await;
    house.ground.job("informed").await;
    house.ground.finished("informed").await;
    sleep(Duration::from_secs(1)).await;
    let mut writer = Writer::new(&house).await;
    writer.say(&dc1, Process::Backup, stheno::runtime::wall(), epoch, vec![unknown(true)]).await;
    let sentence = "the log holds backup.teleported v1, which this program does not know: use a newer stheno";
    frozen(&house, &mut operator, "tried", sentence).await;
    // Another process of the same build is no wiser.
    operator.stop().await;
    operator.start();
    operator.leads().await;
    frozen(&house, &mut operator, "tried-again", sentence).await;
    operator.stop().await;
    let (good, said, error) = house.stheno(&["audit", "verify"]).await;
    assert!(good && said.contains("cannot be judged by this one"), "{said}{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_an_unknown_process_freezes_its_datacenter_and_no_other() {
    let (house, mut operator) = two_datacenters("process").await;
    let writer = Writer::new(&house).await;
    let subject = Writer::datacenter(&house).filter(writer.log.id()).replace('>', "teleport");
    let client = async_nats::connect(house.ground.nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    jetstream.publish(subject, "of a later build".into()).await.unwrap().await.unwrap();
    frozen(&house, &mut operator, "tried", "cannot be read").await;
    operator.stop().await;
}

/// This program with another word for an event: an older build, which does not know that event yet.
fn older(folder: &Path, event: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_stheno")).unwrap();
    let other: String = event.chars().map(|c| if c == 'm' { 'n' } else { c }).collect();
    let places: Vec<usize> = bytes
        .windows(event.len())
        .enumerate()
        .filter(|(_, window)| *window == event.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the program does not hold {event}");
    for at in places {
        bytes[at..at + event.len()].copy_from_slice(other.as_bytes());
    }
    let program = folder.join("stheno");
    std::fs::write(&program, bytes).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_build_stops_at_what_it_does_not_know_and_a_newer_one_goes_on() {
    let (house, mut newer) = two_datacenters("older").await;
    newer.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Url(house.ground.nats.url());
    let mut former = Seat::new("older", &house.ground, &place);
    former.program = older(folder.path(), "backup.summarised");
    former.start();
    former.leads().await;
    let named = |text: &str| text.contains("the log holds backup.summarised v1");
    house.ground.map_once("stheno-status", "conditions", named).await;
    house.ground.job("patient").await;
    sleep(Duration::from_secs(4)).await;
    assert!(house.ground.jobs().get("patient").await.unwrap().status.is_none_or(|status| status.start_time.is_none()));
    former.stop().await;
    newer.start();
    newer.leads().await;
    let job = house.ground.finished("patient").await.status.unwrap();
    assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    newer.stop().await;
    let (good, said, error) = house.stheno(&["audit", "verify"]).await;
    assert!(good, "{said}{error}");
}
