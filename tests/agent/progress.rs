//! How a restore goes, as an orchestrator sees it: while it works, after it, and when it fails.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use stheno_local::ports::Port;
use stheno_rpc::sidecar::restore_state::Phase;
use stheno_rpc::sidecar::restorer_client::RestorerClient;
use stheno_rpc::sidecar::{RestoreState, WatchRestoreRequest};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::faults::over_s3;
use super::ground::{ELSEWHERE, Sidecar};

/// All states until the end of the stream; a connection is tried until somebody listens.
async fn watched(address: SocketAddr, key: &str) -> Vec<RestoreState> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut client = loop {
        match RestorerClient::connect(format!("http://{address}")).await {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let request = WatchRestoreRequest { key: key.to_owned() };
    let mut stream = client.watch_restore(request).await.unwrap().into_inner();
    let mut states = Vec::new();
    while let Some(state) = tokio::time::timeout_at(deadline, stream.message()).await.unwrap().unwrap() {
        states.push(state);
    }
    states
}

fn begin(sidecar: &Sidecar, name: &str, key: &str, port: &Port, log: &str) -> Child {
    let listen = port.address().to_string();
    let log = sidecar.run.file(log, "").unwrap();
    let environment = [("BACKUP_NAME", name), ("RESTORE_KEY", key), ("STHENO_TERMINATION_LOG", log.to_str().unwrap())];
    // The proxy lives in this runtime.
    let mut restore = Command::from(sidecar.restore(&environment));
    restore.env("STHENO_LISTEN", listen).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_restore_is_watched_to_its_end_and_remembered() {
    // Slowly: a local store has no limit.
    let (sidecar, _proxy) = over_s3("transfer_max_bandwidth = 400KB/s").await;
    let of_sidecar = async |key: &str| {
        let [state] = watched(sidecar.address(), key).await.try_into().unwrap();
        state
    };
    assert_eq!(of_sidecar("").await.phase(), Phase::NotFound);

    let port = Port::take().unwrap();
    let mut failing = begin(&sidecar, "nobody", "first", &port, "first-words");
    assert!(!failing.wait().await.unwrap().success());
    let words = |log: &str| std::fs::read_to_string(sidecar.run.path().join(log)).unwrap();
    let sentence = "has no backup nobody in the bucket";
    assert!(words("first-words").contains(sentence), "{}", words("first-words"));
    let state = of_sidecar("first").await;
    assert!(state.phase() == Phase::Failed && state.reason.contains(sentence), "{state:?}");

    let mut running = begin(&sidecar, "f1", "first", &port, "second-words");
    let states = watched(port.address(), "first").await;
    assert!(running.wait().await.unwrap().success());
    let objects = sidecar.manifest("", "f1", ELSEWHERE);
    let bytes: u64 = objects.iter().map(|object| object.size).sum();
    let fetching: Vec<&RestoreState> = states.iter().filter(|state| state.files_total > 0).collect();
    assert!(
        fetching.iter().any(|state| {
            let some = 0 < state.bytes_done && state.bytes_done < state.bytes_total;
            state.phase() == Phase::Fetching && some && state.reason.contains(sentence)
        }),
        "nothing was seen on the way, or not why the attempt before failed: {states:?}"
    );
    assert!(states.windows(2).all(|pair| pair[0].bytes_done <= pair[1].bytes_done), "{states:?}");
    let last = states.last().unwrap();
    assert_eq!((last.phase(), last.reason.as_str()), (Phase::Restored, ""));
    assert_eq!((last.files_done, last.bytes_done), (objects.len() as u64, bytes));
    assert_eq!((last.backup.as_str(), last.source.as_str()), ("f1", ELSEWHERE));
    assert!(words("second-words").starts_with(&format!("restored {} files", objects.len())));

    let state = of_sidecar("first").await;
    assert_eq!((state.phase(), state.files_done, state.bytes_done), (Phase::Restored, objects.len() as u64, bytes));
    assert_eq!(of_sidecar("another").await.phase(), Phase::NotFound);
}

/// What an attempt left that failed, and one that was turned away, is no word on a restore that has ended well.
#[tokio::test]
async fn the_end_outranks_other_attempts() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let port = Port::take().unwrap();
    let of_sidecar = async |key: &str| {
        let [state] = watched(sidecar.address(), key).await.try_into().unwrap();
        state
    };
    let failure = sidecar.run.path().join(".stheno-restore/failure.json");
    assert!(!begin(&sidecar, "nobody", "key", &port, "words").wait().await.unwrap().success());
    let left = std::fs::read(&failure).unwrap();
    assert!(begin(&sidecar, "f1", "key", &port, "words").wait().await.unwrap().success());
    assert!(!failure.exists());
    assert_eq!(of_sidecar("key").await.phase(), Phase::Restored);

    // A kill between the end and the forgetting leaves both.
    std::fs::write(&failure, &left).unwrap();
    assert_eq!(of_sidecar("key").await.phase(), Phase::Restored);
    // The next start says the same.
    assert!(begin(&sidecar, "f1", "key", &port, "words").wait().await.unwrap().success());
    assert_eq!(of_sidecar("key").await.phase(), Phase::Restored);
    std::fs::write(&failure, String::from_utf8(left).unwrap().replace("key\":\"key", "key\":\"later")).unwrap();
    // Another one that failed says nothing of this one, and this one nothing of it.
    let later = of_sidecar("later").await;
    assert_eq!((later.phase(), later.files_total), (Phase::Failed, 0));
    assert_eq!(of_sidecar("key").await.phase(), Phase::Restored);
    assert_eq!(of_sidecar("").await.key, "later");
    std::fs::remove_file(&failure).unwrap();

    // A second init container, while the first one is at work.
    let lock = std::fs::File::options().write(true).open(failure.with_file_name("lock")).unwrap();
    lock.lock().unwrap();
    let turned_away = begin(&sidecar, "f1", "another", &port, "words").wait().await.unwrap();
    assert!(!turned_away.success());
    assert!(!failure.exists(), "{}", std::fs::read_to_string(&failure).unwrap());
    assert_eq!(of_sidecar("key").await.phase(), Phase::Restored);
}
