//! An exported log becomes a stream again: message for message, into an empty stream only, and nothing of a bad file.

use crate::story::{Story, audit, dc, two_backups};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use stheno::audit::{Source, SourceArgs};
use stheno_events::Process;
use stheno_events::datacenter::Led;
use stheno_local::testing::nats;

async fn exported(story: &Story, folder: &Path) -> PathBuf {
    let path = folder.join("log.stheno");
    audit(&story.source(), &["export", path.to_str().unwrap()]).await.unwrap();
    path
}

/// Imports as a person does.
fn import(file: &Path, url: &str, more: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stheno"));
    command.args(["audit", "import"]).arg(file).args(["--nats-url", url, "--allow-relaxed-log"]).args(more);
    command.env_clear().output().unwrap()
}

fn good(output: &Output) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn bad(output: &Output) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    error.trim_end().to_owned()
}

async fn source(url: &str, stream: &str) -> Result<Source, String> {
    let args =
        SourceArgs { file: None, nats_url: Some(url.into()), nats_creds: None, stream: stream.into(), data_dir: None };
    Source::open(&args, Arc::new(crate::story::start)).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_the_same_after_export_and_import() {
    let (server, folder) = (nats().await.unwrap(), tempfile::tempdir().unwrap());
    let mut story = two_backups();
    // More than are under way at a time.
    for number in 0..700 {
        let led = Led { epoch: story.epoch, quiet_until: None };
        story.wait(1).say(&dc(&format!("dc{}", number % 3)), Process::Observed, vec![led.into()]);
    }
    let file = exported(&story, folder.path()).await;
    let messages = story.messages.len();

    let said = good(&import(&file, &server.url(), &["-o", "json"]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["messages"], &said["stream"]), (&messages.into(), &"STHENO".into()), "{said}");
    let stream = source(&server.url(), "STHENO").await.unwrap();
    for arguments in
        [&["show", "job", "prod/nightly-1"][..], &["at", "25"], &["why", "job", "prod/nightly-2"], &["verify"]]
    {
        let (was, is) = (audit(&story.source(), arguments).await, audit(&stream, arguments).await);
        assert!(was.is_ok() && was == is, "{arguments:?}: {was:?} {is:?}");
    }
    // And once more the same file.
    let again = folder.path().join("again.stheno");
    audit(&stream, &["export", again.to_str().unwrap()]).await.unwrap();
    let bytes = async |path: &Path| {
        let file = Source::file(path.to_owned()).unwrap();
        let mut reader = file.read(1, stheno::audit::source::Scope::default()).await.unwrap();
        let mut all = Vec::new();
        while let Some(entry) = reader.next().await.unwrap() {
            all.push((entry.sequence, entry.subject, entry.payload));
        }
        (all, reader.trailer().unwrap().root)
    };
    assert_eq!(bytes(&again).await, bytes(&file).await);

    let error = bad(&import(&file, &server.url(), &[]));
    let holds =
        format!("stheno: stream STHENO holds messages up to {messages}: a log is imported into an empty stream only");
    assert!(error.starts_with(&holds), "{error}");
    let beside = bad(&import(&file, &server.url(), &["--stream", "BESIDE"]));
    assert!(beside.contains("another stream holds this cluster's subjects"), "{beside}");
    let elsewhere = nats().await.unwrap();
    let text = good(&import(&file, &elsewhere.url(), &["--stream", "BESIDE"]));
    assert!(text.starts_with(&format!("{messages} messages imported into stream BESIDE, root ")), "{text}");
    assert!(text.contains("kubectl delete configmap stheno-log -n <its namespace>"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_of_a_file_that_is_not_good() {
    let (server, folder) = (nats().await.unwrap(), tempfile::tempdir().unwrap());
    let file = exported(&two_backups(), folder.path()).await;
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 40]).unwrap();
    let cut = bad(&import(&file, &server.url(), &[]));
    assert!(cut.contains("is cut off behind") || cut.contains("is damaged behind"), "{cut}");

    let mut forged = two_backups();
    forged.messages.swap(7, 8);
    let file = exported_to(&forged, &folder.path().join("forged.stheno")).await;
    let at_fault = bad(&import(&file, &server.url(), &[]));
    assert!(at_fault.contains("is not imported: the log is at fault at message 8: "), "{at_fault}");
    assert_eq!(
        source(&server.url(), "STHENO").await.err().unwrap(),
        "stream STHENO does not exist on this NATS server"
    );

    let file = exported_to(&two_backups(), &folder.path().join("good.stheno")).await;
    let lost = bad(&import(&file, "nats://127.0.0.1:9", &[]));
    assert!(lost.contains("127.0.0.1:9"), "{lost}");
    let both = bad(&import(&file, &server.url(), &["--file", "x"]));
    assert!(both.contains("leave out --file"), "{both}");
}

async fn exported_to(story: &Story, path: &Path) -> PathBuf {
    audit(&story.source(), &["export", path.to_str().unwrap()]).await.unwrap();
    path.to_owned()
}
