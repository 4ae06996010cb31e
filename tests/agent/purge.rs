//! Deletions and purges: they take what Medusa's take, none of what its hazards take, and survive what interrupts them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use stheno_rpc::medusa::{
    DeleteBackupRequest, GetBackupsRequest, PurgeBackupsRequest, PurgeBackupsResponse, StatusType,
};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::{PlanPurgeRequest, PurgePlan};
use tonic::{Code, Status};

use super::ground::{Bucket, ELSEWHERE, Sidecar, files, phase, rows_on, unpack};
use super::jolokia::Jolokia;
use super::medusa;

const NO_GRACE: &str = "backup_grace_period_in_days = 0";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn delete(sidecar: &Sidecar, name: &str) -> Result<StatusType, Status> {
    let request = DeleteBackupRequest { name: name.to_owned() };
    Ok(sidecar.medusa().await.delete_backup(request).await?.into_inner().status())
}

async fn purge(sidecar: &Sidecar) -> Result<PurgeBackupsResponse, Status> {
    Ok(sidecar.medusa().await.purge_backups(PurgeBackupsRequest {}).await?.into_inner())
}

async fn plan(sidecar: &Sidecar, name: &str) -> Result<Vec<PurgePlan>, Status> {
    let request = PlanPurgeRequest { name: name.to_owned() };
    let mut stream = sidecar.keeper().await.plan_purge(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

async fn names(sidecar: &Sidecar) -> Vec<(String, StatusType)> {
    let listed = sidecar.medusa().await.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    listed.backups.iter().map(|backup| (backup.backup_name.clone(), backup.status())).collect()
}

/// Every object of a backup is there with its size.
fn whole(sidecar: &Sidecar, name: &str, node: &str) {
    for object in sidecar.manifest("", name, node) {
        let found = std::fs::metadata(sidecar.objects().join(&object.path));
        assert_eq!(found.map(|found| found.len()).ok(), Some(object.size), "{name} lost {}", object.path);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "files are made older than they are, by the clock that the sidecar reads"
)]
fn days_ago(days: u32) -> SystemTime {
    SystemTime::now() - DAY * days
}

/// Makes everything in a bucket as old as it would be after some days.
fn age(bucket: &Path, days: u32) {
    for file in files(bucket) {
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_modified(days_ago(days)).unwrap();
    }
}

/// A copy of a backup under another name, as Medusa would have made it.
fn copy_as(bucket: &Path, name: &str, other: &str) {
    for (root, _) in [(format!("{ELSEWHERE}/"), ()), ("index/backup_index/".to_owned(), ())] {
        let (from, to) = (bucket.join(&root).join(name), bucket.join(&root).join(other));
        assert!(Command::new("cp").args(["-rp"]).args([&from, &to]).status().unwrap().success());
        for file in files(&to).into_iter().filter(|file| file.to_str().unwrap().contains("manifest")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace(&format!("{ELSEWHERE}/{name}/"), &format!("{ELSEWHERE}/{other}/"));
            std::fs::write(&file, text).unwrap();
        }
    }
}

fn keys(bucket: &Path) -> BTreeSet<String> {
    let key = |file: &std::path::PathBuf| file.strip_prefix(bucket).unwrap().to_str().unwrap().to_owned();
    files(bucket).iter().map(key).filter(|key| !key.starts_with("index/latest_backup/")).collect()
}

/// The number after "Purged " in what Medusa says.
fn purged(said: &str) -> i32 {
    let (_, rest) = said.split_once("Purged ").unwrap_or_else(|| panic!("{said}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Medusa on a copy of the bucket and the sidecar on another: the same objects are left, and as many are counted.
#[tokio::test]
async fn what_medusa_wrote_is_purged_and_deleted_as_medusa_does() {
    let storage = format!("{NO_GRACE}\nmax_backup_count = 1");
    let sidecar = Sidecar::over_medusas(&storage, |_| {}).await;
    let other = sidecar.run.folder("medusas").unwrap();
    unpack(&other);
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let ini = ini.replace(sidecar.run.path().join("store").to_str().unwrap(), other.to_str().unwrap());
    let ini = sidecar.run.file("medusas.ini", &ini).unwrap();

    let planned = plan(&sidecar, "b1").await.unwrap();
    let said = medusa::cli(&ini, &["delete-backup", "--backup-name", "b1", "--all-nodes"]).await;
    let before = keys(&sidecar.objects());
    assert_eq!(delete(&sidecar, "b1").await.unwrap(), StatusType::Success);
    let after = keys(&sidecar.objects());
    assert_eq!(after, keys(&other.join("backups")));
    let totals = planned.last().unwrap().totals.clone().unwrap();
    assert_eq!((totals.backups, totals.objects), (1, purged(&said) as u64));
    // The plan named exactly what went.
    let named: BTreeSet<String> =
        planned.iter().flat_map(|part| &part.deletions).map(|gone| gone.key.clone()).collect();
    assert_eq!(named, before.difference(&after).cloned().collect());
    assert!(planned.iter().flat_map(|part| &part.deletions).all(|gone| !gone.reason.is_empty()));
    whole(&sidecar, "b2", ELSEWHERE);

    let said = medusa::cli(&ini, &["purge"]).await;
    let answer = purge(&sidecar).await.unwrap();
    assert_eq!(keys(&sidecar.objects()), keys(&other.join("backups")));
    assert_eq!((answer.nb_backups_purged, answer.nb_objects_purged), (1, purged(&said)));
    assert!(answer.total_purged_size > 0);
    assert_eq!(names(&sidecar).await, [("f1".to_owned(), StatusType::Success)]);
    assert_eq!(purge(&sidecar).await.unwrap(), PurgeBackupsResponse::default());
    whole(&sidecar, "f1", ELSEWHERE);

    // A name that is gone is free, and nothing points at it.
    assert_eq!(delete(&sidecar, "b1").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(delete(&sidecar, "f1").await.unwrap(), StatusType::Success);
    assert_eq!(sidecar.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn the_pointer_to_the_latest_backup_follows() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let pointer = format!("index/latest_backup/{ELSEWHERE}/backup_name.txt");
    assert_eq!(sidecar.object(&pointer), b"f1");
    delete(&sidecar, "b1").await.unwrap();
    assert_eq!(sidecar.object(&pointer), b"f1");
    delete(&sidecar, "f1").await.unwrap();
    assert_eq!(sidecar.object(&pointer), b"b2");
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", "b2"]).await;
}

/// Hazards a and b: names that begin alike, and names that look like the pool.
#[tokio::test]
async fn neighbours_of_a_name_are_untouched() {
    let change = |bucket: &Path| {
        copy_as(bucket, "b1", "b10");
        copy_as(bucket, "f1", "data-2026");
        age(bucket, 30);
    };
    let sidecar = Sidecar::over_medusas(NO_GRACE, change).await;
    assert_eq!(delete(&sidecar, "b1").await.unwrap(), StatusType::Success);
    purge(&sidecar).await.unwrap();
    for name in ["b10", "b2", "f1", "data-2026"] {
        whole(&sidecar, name, ELSEWHERE);
        medusa::cli(&sidecar.ini, &["verify", "--backup-name", name]).await;
    }
    assert_eq!(names(&sidecar).await.len(), 4);
    for (name, code) in [
        ("", Code::InvalidArgument),
        ("..", Code::InvalidArgument),
        ("a/b", Code::InvalidArgument),
        ("nobody", Code::NotFound),
    ] {
        assert_eq!(delete(&sidecar, name).await.unwrap_err().code(), code, "{name:?}");
    }
    // A backup in the pool's own directory: deleting it would take everything.
    let pool = keys(&sidecar.objects());
    let bucket = sidecar.objects();
    for (from, to) in [
        (format!("{ELSEWHERE}/b2/meta"), format!("{ELSEWHERE}/data/meta")),
        ("index/backup_index/b2".into(), "index/backup_index/data".into()),
    ] {
        assert!(Command::new("cp").arg("-rp").args([bucket.join(from), bucket.join(to)]).status().unwrap().success());
    }
    assert_eq!(delete(&sidecar, "data").await.unwrap_err().code(), Code::FailedPrecondition);
    purge(&sidecar).await.unwrap();
    assert!(pool.is_subset(&keys(&bucket)));
    assert!(bucket.join(format!("{ELSEWHERE}/data/meta/manifest.json")).exists());
}

/// Hazard c, first half: an old file that a backup needed until now is kept as long as a new one.
#[tokio::test]
async fn grace_counts_from_the_last_reference() {
    let sidecar = Sidecar::over_medusas("max_backup_count = 1", |bucket| age(bucket, 100)).await;
    let pool = |sidecar: &Sidecar| sidecar.keys().into_iter().filter(|key| key.starts_with("127.0.0.1/data/")).count();
    let before = pool(&sidecar);
    let answer = purge(&sidecar).await.unwrap();
    // Aged alike, they are ordered by name: f1 is the newest.
    assert_eq!((answer.nb_backups_purged, pool(&sidecar)), (2, before));
    assert_eq!(answer.total_objects_within_gc_grace, i32::try_from(before).unwrap());
    assert_eq!(names(&sidecar).await, [("f1".to_owned(), StatusType::Success)]);
    // Ten days later, by the ledger on the volume.
    let ledger = sidecar.volume.join(".stheno/unreferenced.json");
    let text = std::fs::read_to_string(&ledger).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let since = json["since"].as_object_mut().unwrap();
    assert_eq!(since.len(), before);
    for (at, time) in since.values_mut().enumerate() {
        if at % 2 == 0 {
            *time = serde_json::json!(time.as_i64().unwrap() - 11 * 24 * 60 * 60 * 1000);
        }
    }
    std::fs::write(&ledger, json.to_string()).unwrap();
    let answer = purge(&sidecar).await.unwrap();
    assert_eq!(usize::try_from(answer.nb_objects_purged).unwrap(), before.div_ceil(2));
    assert_eq!(pool(&sidecar), before / 2);
}

/// The last good backup stays, however old; a failed one neither counts nor stays.
#[tokio::test]
async fn the_last_good_backup_is_never_purged() {
    let change = |bucket: &Path| {
        age(bucket, 100);
        for file in files(bucket) {
            let text = file.to_str().unwrap();
            let finish = text.contains("manifest") || text.contains("finished_");
            if finish && (text.contains("/b2/") || text.contains("/f1/")) {
                std::fs::remove_file(&file).unwrap();
            }
        }
    };
    let sidecar = Sidecar::over_medusas("max_backup_count = 1\nmax_backup_age = 5", change).await;
    let answer = purge(&sidecar).await.unwrap();
    assert_eq!(answer.nb_backups_purged, 2);
    assert_eq!(names(&sidecar).await, [("b1".to_owned(), StatusType::Success)]);
    whole(&sidecar, "b1", ELSEWHERE);
}

/// Hazard c, second half: a purge beside a running backup takes nothing that it uses, and not the backup it began after.
#[tokio::test]
async fn a_purge_beside_a_running_backup_takes_nothing_of_it() {
    // A node of its own: what goes up is what is written here.
    let (node, jolokia) = Jolokia::node(Default::default()).await;
    let mut sidecar = Sidecar::launch_with_jolokia(&node, &jolokia, Bucket::s3().await).await;
    rows_on(&node, "beside", 0, 40, 200).await;
    assert_eq!(phase(&sidecar.backup("beside-one", false).await), Phase::Finished);
    sidecar.stop().await;
    let storage = format!("{NO_GRACE}\nmax_backup_count = 1\ntransfer_max_bandwidth = 100KB/s");
    sidecar.configure(&storage, "").await;
    sidecar.start().await;
    rows_on(&node, "beside", 40, 40, 50_000).await;
    let claim = sidecar.claim();
    sidecar.begin(&claim, "beside-two", false).await.unwrap();
    sidecar.states(&claim, "beside-two", |state| phase(state) == Phase::Uploading && state.files_done > 5).await;
    let refused = delete(&sidecar, "beside-two").await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let planned = plan(&sidecar, "").await.unwrap();
    assert_eq!(planned.last().unwrap().totals.as_ref().unwrap().pool_left_alone, "a backup of this node runs");
    assert_eq!(delete(&sidecar, "beside-one").await.unwrap(), StatusType::Success);
    let answer = purge(&sidecar).await.unwrap();
    assert_eq!((answer.nb_backups_purged, answer.nb_objects_purged), (0, 0));
    let last = sidecar.follow(&claim, "beside-two").await;
    assert_eq!(phase(&last), Phase::Finished, "{last:?}");
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", "beside-two", "--enable-md5-checks"]).await;
    // Now nobody uses the pool.
    purge(&sidecar).await.unwrap();
    medusa::cli(&sidecar.ini, &["verify", "--backup-name", "beside-two", "--enable-md5-checks"]).await;
    let node = node.ip().to_string();
    let used = sidecar.manifest("", "beside-two", &node).len();
    assert_eq!(sidecar.keys().iter().filter(|key| key.starts_with(&format!("{node}/data/"))).count(), used);
}

/// An error is an answer, and the process stays up.
#[tokio::test]
async fn a_purge_that_cannot_be_done_says_why() {
    let damage = |bucket: &Path| std::fs::write(bucket.join("127.0.0.1/b2/meta/manifest.json"), "{").unwrap();
    let sidecar = Sidecar::over_medusas(NO_GRACE, damage).await;
    let before = sidecar.keys();
    let refused = purge(&sidecar).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("b2/meta/manifest.json\" cannot be read"), "{}", refused.message());
    assert_eq!(sidecar.keys(), before);
    assert_eq!(delete(&sidecar, "b2").await.unwrap(), StatusType::Success);
    purge(&sidecar).await.unwrap();
    whole(&sidecar, "b1", ELSEWHERE);

    let mut sidecar = Sidecar::launch(Bucket::s3().await, NO_GRACE).await;
    let Bucket::S3(server) = &mut sidecar.bucket else { panic!("not S3") };
    server.kill();
    assert_eq!(purge(&sidecar).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(delete(&sidecar, "b1").await.unwrap_err().code(), Code::Unavailable);
    let Bucket::S3(server) = &mut sidecar.bucket else { panic!("not S3") };
    server.start().await.unwrap();
    assert_eq!(purge(&sidecar).await.unwrap(), PurgeBackupsResponse::default());
}

#[tokio::test]
async fn a_purge_survives_kills_at_any_moment() {
    let interrupted = killed((0..20).map(|round| round * 1500)).await;
    println!("{interrupted} of 20 kills came in the middle");
}

#[tokio::test]
#[ignore = "takes half an hour: cargo nightly"]
async fn night_of_kills_of_a_purge() {
    let interrupted = killed((0..500).map(|_| rand::random_range(0..40_000))).await;
    println!("{interrupted} of 500 kills came in the middle");
}

/// Killed at any moment of a purge (after so many microseconds): what stays is whole, what went is gone altogether after the
/// next one. Gives how many came in the middle.
async fn killed(waits: impl Iterator<Item = u64>) -> i32 {
    let storage = format!("{NO_GRACE}\nmax_backup_count = 1");
    let whole_purge = {
        let sidecar = Sidecar::over_medusas(&storage, |_| {}).await;
        purge(&sidecar).await.unwrap();
        keys(&sidecar.objects())
    };
    let (mut interrupted, mut before) = (0, BTreeSet::new());
    for wait in waits {
        let mut sidecar = Sidecar::over_medusas(&storage, |_| {}).await;
        if before.is_empty() {
            before = keys(&sidecar.objects());
        }
        let mut client = sidecar.medusa().await;
        let call = tokio::spawn(async move { client.purge_backups(PurgeBackupsRequest {}).await.map(drop) });
        tokio::time::sleep(Duration::from_micros(wait)).await;
        sidecar.kill();
        let _ = call.await;
        let left = keys(&sidecar.objects());
        interrupted += i32::from(left != whole_purge && left != before);
        whole(&sidecar, "f1", ELSEWHERE);
        // What the kill left is listed by a sidecar that knows of no deletion: the next one on this volume finishes it at
        // once, while the test looks.
        let aside = sidecar.volume.with_extension("aside");
        std::fs::rename(&sidecar.volume, &aside).unwrap();
        sidecar.start().await;
        for (name, status) in names(&sidecar).await {
            if status == StatusType::Success {
                whole(&sidecar, &name, ELSEWHERE);
            }
        }
        sidecar.kill();
        assert_eq!(keys(&sidecar.objects()), left, "after {wait} us: a listing changed the bucket");
        std::fs::remove_dir_all(&sidecar.volume).unwrap();
        std::fs::rename(&aside, &sidecar.volume).unwrap();
        sidecar.start().await;
        purge(&sidecar).await.unwrap();
        assert_eq!(keys(&sidecar.objects()), whole_purge, "after {wait} us");
    }
    interrupted
}
