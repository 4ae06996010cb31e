//! What must be true when all is quiet again: the API server, the log and the bucket agree on every job, and nothing was
//! done twice.

use super::house::House;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use stheno::audit::{Entry, Source};
use stheno_events::{Event, Fact, Time, Uid, backup, observed};
use tokio::time::{Instant, sleep};

/// What the log says of a job.
#[derive(Debug, Default)]
struct Told {
    name: String,
    started: u32,
    /// Claims of starts, by attempt, less the abandoned ones.
    starts: BTreeMap<u32, i32>,
    finished: Vec<Time>,
    completed: u32,
    failed: Vec<String>,
}

/// A backup's manifest as it lies in the bucket: who backs up again writes it again.
#[derive(Debug, PartialEq)]
pub struct Manifest {
    written: Time,
    content: Vec<u8>,
}

impl Manifest {
    pub fn of(house: &House, name: &str) -> Self {
        let path = house.agent.backup(name).join("meta/manifest.json");
        let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{name} is not in the bucket: {error}"));
        Self { written: std::fs::metadata(&path).unwrap().modified().unwrap().into(), content }
    }
}

/// Looks at everything. The operators are stopped.
pub async fn told(house: &mut House, jobs: &[String]) {
    published(house).await;
    for operator in &mut house.operators {
        operator.stop().await;
        let log = operator.log();
        assert!(!log.contains("panicked"), "an operator panicked:\n{log}");
    }
    assert!(!house.agent.log().contains("panicked"), "the sidecar panicked:\n{}", house.agent.log());
    let folder = tempfile::tempdir().unwrap();
    let (good, said, error) = house.stheno(&["audit", "verify"]).await;
    assert!(good, "the log is not whole: {said}{error}");
    let file = house.export(folder.path()).await;
    let (good, said, error) = house.stheno(&["audit", "verify", "--file", file.to_str().unwrap()]).await;
    assert!(good, "the exported log is not whole: {said}{error}");
    println!("{}", said.trim_end());
    suspected(house).await;

    let story = read(&file).await;
    let mut counts = (0, 0);
    for name in jobs {
        let told: Vec<&Told> = story.values().filter(|told| told.name == *name).collect();
        let [told] = told.as_slice() else { panic!("{name} is {} jobs in the log: {told:?}", told.len()) };
        assert_eq!(told.completed as usize + told.failed.len(), 1, "not one terminal event: {told:?}");
        assert!(told.started <= 1, "started again: {told:?}");
        assert!(told.finished.len() <= 1, "finished twice: {told:?}");
        assert!(told.starts.values().all(|claims| *claims <= 1), "an attempt was begun twice: {told:?}");
        if told.completed == 1 {
            counts.0 += 1;
            in_bucket(house, name, told.finished[0]);
        } else {
            counts.1 += 1;
            println!("  {name}: {}", told.failed[0]);
            let manifest = house.agent.backup(name).join("meta/manifest.json");
            assert!(!manifest.exists(), "{name} failed ({}), and the bucket has it", told.failed[0]);
        }
    }
    println!("{}: {} ended well, {} failed, all as the bucket has it", house.ground.namespace, counts.0, counts.1);
    assert!(counts.0 > 0, "no backup ended well");
    let known: BTreeSet<&str> = jobs.iter().map(String::as_str).collect();
    let node = house.agent.backup(&jobs[0]).parent().unwrap().to_owned();
    for entry in std::fs::read_dir(node).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "data" || known.contains(name.as_str()), "the bucket has {name}, which nobody asked for");
    }
}

/// Everything the log says about jobs.
async fn read(file: &Path) -> BTreeMap<Uid, Told> {
    let source = Source::file(file.to_owned()).unwrap();
    let mut reader = source.read(1, Default::default()).await.unwrap();
    let mut jobs: BTreeMap<Uid, Told> = BTreeMap::new();
    while let Some(entry) = reader.next().await.unwrap() {
        for fact in &entry.envelope.as_ref().unwrap().events {
            match fact {
                Fact::Known(Event::Observed(observed::Event::BackupJob(job))) => {
                    jobs.entry(job.meta.uid.clone()).or_default().name = job.meta.name.to_string();
                }
                Fact::Known(Event::Backup(event)) => note(jobs.get_mut(event.job()).unwrap(), event, &entry),
                Fact::Known(_) => {}
                Fact::Unknown { name, .. } => panic!("message {} holds an unknown event {name}", entry.sequence),
            }
        }
    }
    jobs
}

fn note(told: &mut Told, event: &backup::Event, entry: &Entry) {
    match event {
        backup::Event::Started(_) => told.started += 1,
        backup::Event::EffectClaimed(claim) if matches!(claim.call, backup::Call::Start(_)) => {
            *told.starts.entry(claim.attempt).or_default() += 1;
        }
        backup::Event::ClaimAbandoned(claim) if matches!(claim.call, backup::Call::Start(_)) => {
            *told.starts.entry(claim.attempt).or_default() -= 1;
        }
        backup::Event::NodeUnanswered(call) if matches!(call.call, backup::Call::Start(_)) && !call.in_doubt => {
            *told.starts.entry(call.attempt).or_default() -= 1;
        }
        backup::Event::NodeFinished(_) => told.finished.push(entry.stored),
        backup::Event::Completed(_) => told.completed += 1,
        backup::Event::Failed(failed) => told.failed.push(failed.message.to_string()),
        _ => {}
    }
}

/// The backup is in the bucket, whole, and was not written again after the log had said that it is.
fn in_bucket(house: &House, name: &str, finished: Time) {
    let Manifest { written, content } = Manifest::of(house, name);
    assert!(written <= finished, "{name}: its manifest was written at {written}, told as finished at {finished}");
    let sections: Vec<Value> = serde_json::from_slice(&content).unwrap();
    let mut objects = 0;
    for object in sections.iter().flat_map(|section| section["objects"].as_array().unwrap()) {
        let path = house.agent.bucket().join(object["path"].as_str().unwrap());
        let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {}: {error}", path.display()));
        assert_eq!(Some(content.len() as u64), object["size"].as_u64(), "{name}: {}", path.display());
        let sum = Md5::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(object["MD5"], json!(sum), "{name}: {}", path.display());
        objects += 1;
    }
    assert!(objects > 0, "{name} is empty");
    for part in ["schema.cql", "tokenmap.json"] {
        assert!(house.agent.backup(name).join("meta").join(part).exists(), "{name} has no {part}");
    }
}

/// What kubectl shows is what the log says: every status, and every MedusaBackup.
async fn published(house: &House) {
    let folder = tempfile::tempdir().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let file = house.export(folder.path()).await;
        let mut differences = Vec::new();
        for kind in ["MedusaBackupJob", "MedusaBackup"] {
            let arguments = ["audit", "at", "0s", kind, "-o", "json", "--file", file.to_str().unwrap()];
            let (good, said, error) = house.stheno(&arguments).await;
            assert!(good, "{error}");
            let folded = statuses(&serde_json::from_str::<Value>(&said).unwrap()["items"]);
            let shown = match kind {
                "MedusaBackupJob" => json!(house.ground.jobs().list(&Default::default()).await.unwrap().items),
                _ => json!(house.ground.backups().list(&Default::default()).await.unwrap().items),
            };
            let shown = statuses(&shown);
            let names: BTreeSet<&String> = folded.keys().chain(shown.keys()).collect();
            let differ = names.into_iter().filter(|name| folded.get(*name) != shown.get(*name));
            let pair =
                |name: &String| format!("{kind} {name}: {:?} folded, {:?} shown", folded.get(name), shown.get(name));
            differences.extend(differ.map(pair));
        }
        if differences.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the API server shows something else than the log says: {differences:#?}");
        sleep(Duration::from_secs(1)).await;
    }
}

fn statuses(items: &Value) -> BTreeMap<String, Value> {
    let items = items.as_array().unwrap().iter();
    items.map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item["status"].clone())).collect()
}

/// No operator doubted the log on the way.
async fn suspected(house: &House) {
    let events: kube::Api<k8s_openapi::api::events::v1::Event> =
        kube::Api::namespaced(house.ground.admin.clone(), &house.ground.namespace);
    for event in events.list(&Default::default()).await.unwrap() {
        let reason = event.reason.clone().unwrap_or_default();
        let doubtful = ["LogIntegrity", "LogNewer", "ClockSkew"].iter().any(|word| reason.starts_with(word));
        assert!(!doubtful, "{reason}: {}", event.note.unwrap_or_default());
    }
}
