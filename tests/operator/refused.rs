//! Beginnings that cannot be: exit code 1 and one sentence.

use super::ground::Ground;
use std::process::{Command, Output};
use std::time::Duration;

/// A run that ends by itself.
fn run(ground: &Ground, more: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stheno"))
        .args(["operator", "--http", "127.0.0.1:0", "--own-namespace", &ground.namespace, "--kubeconfig"])
        .arg(&ground.account)
        .args(more)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn sentence(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text.lines().last().unwrap_or_default().trim_start_matches("stheno: ").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_cannot_be_used() {
    let ground = Ground::new("refused").await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();

    let no_program = run(&ground, &["--data-dir", data], &[("STHENO_NATS_SERVER", "/nowhere/nats-server")]);
    assert_eq!(
        sentence(&no_program),
        "no nats-server program: /nowhere/nats-server is not there; install it on PATH, set STHENO_NATS_SERVER, or give --nats-url"
    );

    let client = async_nats::connect(ground.nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let others = async_nats::jetstream::stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(others).await.unwrap();
    let not_ours = run(&ground, &["--nats-url", &ground.nats.url(), "--stream", "ORDERS"], &[]);
    let said = sentence(&not_ours);
    assert!(said.starts_with("stream ORDERS belongs to something else"), "{said}");
    assert!(said.contains("choose another name with --stream"), "{said}");

    let begun = tokio::time::Instant::now();
    let nobody = run(&ground, &["--nats-url", "nats://user:hidden@127.0.0.1:1"], &[]);
    let said = sentence(&nobody);
    assert!(said.starts_with("no NATS server answers at nats://127.0.0.1:1 within 15 s"), "{said}");
    assert!(!String::from_utf8_lossy(&nobody.stderr).contains("hidden"));
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_rights_says_which() {
    let ground = Ground::new("rightless").await;
    let binding = kube::api::Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(ground.admin.clone());
    binding.delete(&ground.namespace, &Default::default()).await.unwrap();
    let output = run(&ground, &["--nats-url", &ground.nats.url()], &[]);
    let said = sentence(&output);
    assert!(said.contains("namespaces \"kube-system\" is forbidden"), "{said}");
}
