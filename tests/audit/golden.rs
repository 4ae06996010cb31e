//! Recorded logs: each build must decode and fold them to what was recorded. They are never written anew.
//!
//! To record one: `STHENO_RECORD=exported.stheno STHENO_NAME=first-path cargo test -p stheno --test audit golden`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stheno::audit::source::Scope;
use stheno::audit::{Source, verify::verify};
use stheno_events::{Digest, Envelope, Fact};
use stheno_projections::{LAYOUT, World};

/// What a log comes to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    messages: u64,
    /// How many events of each type and version.
    events: BTreeMap<String, u64>,
    /// Events that the recording build did not know.
    unknown: u64,
    /// SHA-256 of the folded world, by the layout of worlds. A new layout adds its line; the others stay.
    worlds: BTreeMap<u32, Digest>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

async fn fold(log: &Path) -> Recorded {
    let source = Source::file(log.to_owned()).unwrap();
    let mut reader = source.read(1, Scope::default()).await.unwrap();
    let (mut world, mut recorded) =
        (World::default(), Recorded { messages: 0, events: BTreeMap::new(), unknown: 0, worlds: BTreeMap::new() });
    while let Some(entry) = reader.next().await.unwrap() {
        recorded.messages += 1;
        let envelope = entry.envelope.as_ref().unwrap();
        for fact in &envelope.events {
            *recorded.events.entry(format!("{} v{}", fact.name(), fact.version())).or_default() += 1;
            recorded.unknown += u64::from(matches!(fact, Fact::Unknown { .. }));
        }
        // What this build reads it can hand on without a loss.
        assert_eq!(&Envelope::decode(&envelope.encode().unwrap()).unwrap(), envelope);
        entry.fold(entry.digest(), &mut world);
    }
    recorded.worlds.insert(LAYOUT, Digest::of(&world.to_bytes().unwrap()));
    assert_eq!(verify(&source).await.unwrap().fault, None, "{}", log.display());
    recorded
}

#[tokio::test]
async fn golden_logs_fold_to_what_was_recorded() {
    record().await;
    let mut logs: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "stheno"))
        .collect();
    logs.sort();
    assert!(!logs.is_empty(), "no golden log in {}", folder().display());
    for log in logs {
        let text = std::fs::read_to_string(log.with_extension("json")).unwrap();
        let mut recorded: Recorded = serde_json::from_str(&text).unwrap();
        let found = fold(&log).await;
        let known = recorded.worlds.remove(&LAYOUT);
        let digest = known.unwrap_or_else(|| {
            panic!("{}: add the world of layout {LAYOUT}: {}", log.display(), found.worlds[&LAYOUT])
        });
        recorded.worlds = BTreeMap::from([(LAYOUT, digest)]);
        assert_eq!(found, recorded, "{}", log.display());
    }
}

/// Takes an exported log among the golden ones. One that is there stays as it is.
async fn record() {
    let (Some(log), Some(name)) = (std::env::var_os("STHENO_RECORD"), std::env::var_os("STHENO_NAME")) else { return };
    let target = folder().join(name).with_extension("stheno");
    assert!(!target.exists(), "{} is recorded already: choose another name", target.display());
    let recorded = fold(Path::new(&log)).await;
    assert_eq!(recorded.unknown, 0, "a log of a newer build is none to freeze");
    std::fs::copy(&log, &target).unwrap();
    let text = serde_json::to_string_pretty(&recorded).unwrap() + "\n";
    std::fs::write(target.with_extension("json"), text).unwrap();
}
