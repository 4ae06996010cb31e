//! The binary's manners: what it prints, where, and its exit codes, well and badly used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// A run of the binary with nothing of this machine's environment that could matter.
fn stheno(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stheno"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// The one sentence on stderr of a run that failed with this code.
fn sentence(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    // The process's own logs are lines too; what explains the failure is the last one, and the only one of its form.
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("stheno: ")).collect();
    assert_eq!(said.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(said[0]), "{text}");
    said[0].trim_start_matches("stheno: ").to_owned()
}

#[test]
fn crds_are_printed_as_yaml_and_json() {
    let yaml = stheno(&["crds"], &[]);
    assert_eq!(yaml.status.code(), Some(0));
    assert!(yaml.stderr.is_empty());
    let text = String::from_utf8(yaml.stdout).unwrap();
    assert_eq!(text.matches("kind: CustomResourceDefinition").count(), 6);
    assert_eq!(text, stheno_crds::all_crds_yaml().unwrap());

    let json = stheno(&["crds", "-o", "json"], &[]);
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 6);
    let by_environment = stheno(&["crds"], &[("STHENO_OUTPUT", "json")]);
    assert_eq!(by_environment.stdout, json.stdout);
}

#[test]
fn a_schedule_is_previewed_in_its_zone_or_refused_with_the_field() {
    let preview = |arguments: &[&str]| {
        let from = ["--from", "2026-10-24T12:00:00Z"];
        stheno(&[&["schedule", "preview"][..], arguments, &from].concat(), &[])
    };
    let printed = |arguments: &[&str]| {
        let output = preview(arguments);
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        printed(&["30 2 * * *", "--timezone", "Europe/Berlin", "-n", "3"]),
        "2026-10-25T02:30:00+02:00  Sun  in 12 h 30 min\n\
         2026-10-25T02:30:00+01:00  Sun  in 13 h 30 min\n\
         2026-10-26T02:30:00+01:00  Mon  in 1 d 13 h\n"
    );
    let json = |arguments: &[&str]| -> Vec<String> {
        serde_json::from_str(&printed(&[arguments, &["-o", "json"]].concat())).unwrap()
    };
    assert_eq!(json(&["@every 90s", "-n", "2"]), ["2026-10-24T12:01:30Z", "2026-10-24T12:03:00Z"]);
    assert_eq!(json(&["CRON_TZ=Asia/Tokyo @daily"]).len(), 5);
    assert_eq!(json(&["CRON_TZ=Asia/Tokyo @daily"])[0], "2026-10-25T00:00:00+09:00");
    assert_eq!(json(&["0 0 30 2 *"]), Vec::<String>::new(), "it never comes");
    assert_eq!(printed(&["0 0 30 2 *"]), "never\n");

    let bad = [
        (&["0 25 * * *"][..], "hour: \"25\" ends above 23"),
        (&["@daily", "--timezone", "Mars"], "\"Mars\" is not known"),
    ];
    for (arguments, sentence) in bad {
        let output = preview(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}

#[test]
fn the_schema_of_events_is_printed_without_a_log() {
    let output = stheno(&["events", "schema"], &[]);
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, stheno_events::schema::document());
    assert_eq!(stheno(&["events", "--follow", "schema"], &[]).status.code(), Some(2));
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    assert_eq!(stheno(&[], &[]).status.code(), Some(2));
    assert_eq!(stheno(&["operater"], &[]).status.code(), Some(2));
    assert_eq!(stheno(&["operator", "--http", "nowhere"], &[]).status.code(), Some(2));
    assert_eq!(stheno(&["operator", "--nats-creds", "file"], &[]).status.code(), Some(2), "creds of no server");
    for help in [&["--help"][..], &["operator", "--help"], &["agent", "--help"], &["crds", "--help"]] {
        let output = stheno(help, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{help:?}");
    }
    assert!(String::from_utf8(stheno(&["--version"], &[]).stdout).unwrap().starts_with("stheno 0."));
}

#[test]
fn medusas_mode_picks_the_agent() {
    let missing = stheno(&[], &[("MEDUSA_MODE", "GRPC"), ("STHENO_CONFIG", "/nowhere/medusa.ini")]);
    assert_eq!(sentence(&missing, 1), "cannot read /nowhere/medusa.ini: No such file or directory (os error 2)");
    let restore = stheno(&[], &[("MEDUSA_MODE", "RESTORE"), ("STHENO_CONFIG", "/nowhere/restore.ini")]);
    assert_eq!(sentence(&restore, 1), "cannot read /nowhere/restore.ini: No such file or directory (os error 2)");
    let unknown = stheno(&[], &[("MEDUSA_MODE", "SLEEP")]);
    assert_eq!(sentence(&unknown, 2), "MEDUSA_MODE is \"SLEEP\": expected GRPC or RESTORE");
}

#[test]
fn an_operator_without_a_cluster_says_so() {
    let home = [("HOME", "/nowhere")];
    let operator = ["operator", "--http", "127.0.0.1:0"];
    let nothing = sentence(&stheno(&operator, &home), 1);
    assert!(nothing.starts_with("no Kubernetes cluster is configured: give --kubeconfig"), "{nothing}");
    let missing = sentence(&stheno(&[&operator[..], &["--kubeconfig", "/nowhere/config"]].concat(), &home), 1);
    assert!(missing.starts_with("the kubeconfig cannot be used: check --kubeconfig"), "{missing}");
    assert!(missing.contains("No such file"), "{missing}");
    let folderless = sentence(&stheno(&operator, &[]), 1);
    assert_eq!(folderless, "neither HOME nor XDG_STATE_HOME is set: give --data-dir, or --nats-url");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = sentence(&stheno(&["operator", "--http", &address], &[("HOME", "/nowhere")]), 1);
    assert_eq!(
        said,
        format!(
            "the address {address} for health and metrics cannot be used: choose another with --http: Address already \
             in use (os error 98)"
        )
    );
}

#[test]
fn a_bad_filter_for_logs_is_explained() {
    let said = sentence(&stheno(&["crds", "--log-filter", "stheno=loud"], &[]), 1);
    assert!(said.starts_with("\"stheno=loud\" is no filter for logs"), "{said}");
}

#[test]
fn an_api_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}"#;
    std::fs::write(&config, text).unwrap();
    let arguments = ["operator", "--http", "127.0.0.1:0", "--kubeconfig", config.to_str().unwrap()];
    let said = sentence(&stheno(&arguments, &[("HOME", "/nowhere")]), 1);
    assert!(said.contains("Kubernetes API server"), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(!said.contains("secret-token"));
}
