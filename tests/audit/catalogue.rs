//! `docs/EVENTS.md` is what the types say.

use std::fs;
use std::path::Path;

#[test]
fn catalogue_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EVENTS.md");
    let expected = stheno::audit::catalogue::markdown();
    if std::env::var_os("STHENO_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&file, &expected).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == expected,
        "docs/EVENTS.md is stale; run: STHENO_UPDATE=1 cargo test -p stheno --test audit catalogue"
    );
}
