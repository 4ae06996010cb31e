//! The core is pure because it cannot be otherwise: the crate graph has no way from it to a runtime, a network or a client.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says so"
)]

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that a package can reach in a normal build, itself included.
fn reach(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// What needs a runtime, a socket or a clock of its own.
const IMPURE: [&str; 12] = [
    "tokio",
    "async-nats",
    "tonic",
    "kube-client",
    "kube-runtime",
    "hyper",
    "reqwest",
    "scylla",
    "object_store",
    "rand",
    "mio",
    "nix",
];

fn assert_without(package: &str, forbidden: &[&str]) {
    let reached = reach(package);
    assert!(reached.contains(package), "{package} reaches itself");
    let found: Vec<&&str> = forbidden.iter().filter(|name| reached.contains(**name)).collect();
    assert!(found.is_empty(), "{package} must not depend on {found:?}");
}

#[test]
fn events_need_bytes_only() {
    assert_without("stheno-events", &IMPURE);
    assert_without("stheno-events", &["kube", "k8s-openapi", "stheno-crds", "uuid"]);
}

#[test]
fn projections_are_folds() {
    assert_without("stheno-projections", &IMPURE);
}

#[test]
fn decisions_are_pure() {
    assert_without("stheno-decide", &IMPURE);
}

#[test]
fn custom_resources_are_types() {
    assert_without("stheno-crds", &IMPURE);
    assert_without("stheno-crds", &["stheno-events"]);
}

#[test]
fn the_sidecar_knows_neither_kubernetes_nor_the_log() {
    assert_without("stheno-agent", &["kube", "kube-client", "async-nats", "stheno-decide", "stheno-projections"]);
}

#[test]
fn the_ground_knows_nothing_of_what_runs_on_it() {
    assert_without("stheno-local", &["stheno", "stheno-events", "stheno-projections", "stheno-decide", "stheno-agent"]);
}

/// The check itself can fail: the operator reaches what the core must not.
#[test]
fn the_check_sees_what_is_there() {
    let reached = reach("stheno");
    for name in ["tokio", "async-nats", "tonic", "kube-client"] {
        assert!(reached.contains(name), "stheno reaches {name}");
    }
}
