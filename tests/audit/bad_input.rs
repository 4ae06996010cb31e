//! Bad input gets one sentence.

use crate::story::{Story, audit, two_backups};
use std::path::Path;
use stheno::audit::Source;

async fn refused(arguments: &[&str]) -> String {
    audit(&two_backups().source(), arguments).await.unwrap_err()
}

#[tokio::test]
async fn objects_that_never_were() {
    assert_eq!(
        refused(&["show", "job", "prod/nihgtly-1"]).await,
        "the log has never met MedusaBackupJob prod/nihgtly-1; similar: prod/nightly-1, prod/nightly-2"
    );
    assert_eq!(
        refused(&["show", "job", "dev/nightly-2"]).await,
        "the log has never met MedusaBackupJob dev/nightly-2; similar: prod/nightly-2, prod/nightly-1"
    );
    assert_eq!(
        refused(&["show", "pod", "x/y"]).await,
        "the log has never met Pod x/y; none of its kind has a similar name"
    );
    assert_eq!(
        refused(&["at", "4", "job", "prod/nightly-2"]).await,
        "there was no MedusaBackupJob prod/nightly-2 at message 4; similar: prod/nightly-1"
    );
    assert_eq!(
        audit(&Story::new().source(), &["show", "job", "a/b"]).await.unwrap_err(),
        "the log has never met MedusaBackupJob a/b, nor any other of its kind"
    );
}

#[tokio::test]
async fn points_outside_the_log() {
    assert_eq!(
        refused(&["at", "2026-03-01T01:59:59Z"]).await,
        "the log begins at 2026-03-01T02:00:00Z, later than 2026-03-01T01:59:59Z"
    );
    assert_eq!(refused(&["at", "9000"]).await, "there is no message 9000: the log ends with 17");
    assert_eq!(audit(&Story::new().source(), &["at", "1"]).await.unwrap_err(), "the log is empty");
}

#[tokio::test]
async fn words_that_mean_nothing() {
    for (arguments, expected) in [
        (&["show", "cronjob", "a/b"][..], "the log knows no such kind; it knows MedusaBackupJob, MedusaBackup"),
        (&["show", "job", "nightly"], "expected NAMESPACE/NAME"),
        (&["show", "job", "a/b/c"], "expected NAMESPACE/NAME"),
        (&["at", "yesterday"], "expected a sequence (812), a time"),
        (&["at", "0"], "the first sequence is 1"),
        (&["log", "--since", "soon"], "expected a time"),
        (&["log", "--from-sequence", "0"], "0 is not in 1.."),
        (&["log", "--type", ""], "a pattern such as backup.*"),
    ] {
        let error = refused(arguments).await;
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

/// A verb that does not exist yet is not promised.
#[tokio::test]
async fn help_lists_what_there_is() {
    let help = refused(&["--help"]).await;
    let verbs = ["log", "show", "why", "at", "diff", "verify", "replay", "export", "import"];
    for verb in verbs {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
    }
    for verb in ["rebuild", "recover"] {
        assert!(!help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
    }
    for verb in verbs {
        assert!(refused(&[verb, "--help"]).await.contains("Example"), "{verb}");
    }
}

#[tokio::test]
async fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let error = |path: &Path| {
        let error = Source::file(path.to_owned()).err().unwrap();
        format!("{:#}", anyhow::Error::from(error)).replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(error(&folder.path().join("none")), "/none cannot be opened: No such file or directory (os error 2)");
    let hint = "is not an exported log: `stheno audit export` writes one";
    assert_eq!(error(&file("empty", b"")), format!("/empty {hint}"));
    assert_eq!(error(&file("text", b"hello world")), format!("/text {hint}"));
    assert_eq!(error(&file("magic", b"\x04\x22\x4d\x18")), "/magic is cut off behind message 0: it has no trailer");
}
