//! Exported files: read as the log is, and every change of them shows at the message where it was made.

use crate::story::{Story, audit, two_backups};
use std::path::{Path, PathBuf};
use stheno::audit::Source;

async fn exported(story: &Story, folder: &Path) -> PathBuf {
    let path = folder.join("log.stheno");
    let said = audit(&story.source(), &["export", path.to_str().unwrap()]).await.unwrap();
    let messages = story.messages.len();
    assert!(said.starts_with(&format!("{messages} messages up to {messages} written to ")), "{said}");
    path
}

#[tokio::test]
async fn a_file_answers_as_the_log_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = exported(&two_backups(), folder.path()).await;
    let (live, file) = (two_backups().source(), Source::file(path).unwrap());
    for arguments in [
        &["log"][..],
        &["log", "-o", "json"],
        &["show", "job", "prod/nightly-1"],
        &["at", "7"],
        &["at", "30m", "jobs"],
        &["verify"],
    ] {
        let (a, b) = (audit(&live, arguments).await, audit(&file, arguments).await);
        assert_eq!(a, b, "{arguments:?}");
        assert!(a.is_ok(), "{a:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = exported(&two_backups(), folder.path()).await;
    let name = path.to_str().unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = audit(&two_backups().source(), &["export", name]).await.unwrap_err();
    assert!(error.ends_with("is there already: choose another name, or give --force"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    audit(&two_backups().source(), &["export", name, "--force"]).await.unwrap();
    let lost = audit(&two_backups().source(), &["export", "/nowhere/x"]).await.unwrap_err();
    assert_eq!(lost, "/nowhere/x cannot be written: entity not found");
}

/// Wherever a byte is changed or the file is cut: verify says so, and no verb answers as if nothing were.
#[tokio::test]
async fn every_flipped_byte_and_every_cut_shows() {
    let folder = tempfile::tempdir().unwrap();
    // A short one, so that every byte can be tried.
    let mut story = Story::new();
    story.opening().asked("nightly-1", 11);
    let good = std::fs::read(exported(&story, folder.path()).await).unwrap();
    let path = folder.path().join("bad.stheno");
    let mut seen = std::collections::BTreeSet::new();
    let mut check = async |bytes: &[u8], what: String| {
        std::fs::write(&path, bytes).unwrap();
        let error = match Source::file(path.clone()) {
            Err(error) => error.to_string(),
            Ok(source) => audit(&source, &["verify"]).await.expect_err(&what),
        };
        let name = path.display().to_string();
        seen.insert(error.replace(&name, "FILE"));
    };
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= 1 << (position % 8);
        check(&bytes, format!("byte {position} flipped")).await;
    }
    for length in 0..good.len() {
        check(&good[..length], format!("cut at {length}")).await;
    }
    let mut longer = good.clone();
    longer.push(0);
    check(&longer, "a byte more".into()).await;
    let known = [
        "FILE is not an exported log",
        "FILE is cut off behind",
        "FILE is damaged behind",
        "FILE has layout",
        "the log is at fault at message",
    ];
    for error in &seen {
        assert!(known.iter().any(|known| error.starts_with(known)), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
