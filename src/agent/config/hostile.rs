//! Everything that a user can get wrong in medusa.ini, cassandra.yaml and key files: an answer or one sentence, never a panic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::jobs::sentence;
use crate::store::{Patience, Store};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    /// Nothing works without it.
    Needed,
    /// Only some texts.
    Some,
    /// Any text.
    Any,
}

/// Every key that is looked at, with a value that is right.
fn keys(provider: &str, folder: &Path) -> Vec<(&'static str, &'static str, String, Takes)> {
    use Takes::{Any, Needed, Some};
    let at = |file: &str| folder.join(file).display().to_string();
    let owned = |(section, key, value, takes): (&'static str, &'static str, &str, Takes)| {
        (section, key, value.to_owned(), takes)
    };
    let mut keys: Vec<_> = [
        ("storage", "storage_provider", provider, Needed),
        ("storage", "bucket_name", "backups", Needed),
        ("storage", "prefix", "cluster", Any),
        ("storage", "fqdn", "node-1", Any),
        ("storage", "max_backup_age", "7", Some),
        ("storage", "max_backup_count", "3", Some),
        ("storage", "backup_grace_period_in_days", "10", Some),
        ("storage", "transfer_max_bandwidth", "50MB/s", Some),
        ("storage", "concurrent_transfers", "4", Some),
        ("storage", "multipart_max_concurrency", "2", Some),
        ("storage", "multi_part_upload_threshold", "20MB", Some),
        ("storage", "multipart_chunksize", "50MB", Some),
        ("cassandra", "resolve_ip_addresses", "False", Some),
        ("cassandra", "cql_username", "user", Any),
        ("cassandra", "cql_password", "hidden-word", Any),
        ("cassandra", "certfile", "/c", Any),
        ("cassandra", "usercert", "/u", Any),
        ("cassandra", "userkey", "/k", Any),
        ("grpc", "port", "50051", Some),
        ("grpc", "tls_cert", "/t", Any),
        ("grpc", "tls_key", "/k", Needed),
        ("grpc", "ca_cert", "/a", Needed),
        ("grpc", "max_send_message_length", "1000", Some),
        ("grpc", "max_receive_message_length", "1000", Some),
        ("kubernetes", "enabled", "True", Some),
        ("kubernetes", "use_mgmt_api", "True", Some),
        ("kubernetes", "cassandra_url", "http://127.0.0.1:8080/x", Needed),
    ]
    .map(owned)
    .into();
    keys.push(("cassandra", "config_file", at("cassandra.yaml"), Any));
    let more: &[_] = match provider {
        "local" => &[],
        "azure_blobs" => {
            keys.push(("storage", "key_file", at("azure.json"), Any));
            &[
                ("storage", "host", "127.0.0.1", Some),
                ("storage", "port", "9000", Some),
                ("storage", "secure", "False", Some),
                ("storage", "storage_class", "Cool", Some),
            ]
        }
        "google_storage" => {
            keys.push(("storage", "key_file", at("google.json"), Any));
            &[]
        }
        _ => {
            keys.push(("storage", "key_file", at("aws.ini"), Any));
            &[
                ("storage", "api_profile", "default", Any),
                ("storage", "host", "minio.svc", Needed),
                ("storage", "port", "9000", Some),
                ("storage", "secure", "False", Some),
                ("storage", "ssl_verify", "False", Some),
                ("storage", "region", "eu-west-1", Some),
                ("storage", "s3_addressing_style", "path", Some),
                ("storage", "storage_class", "STANDARD_IA", Some),
                ("storage", "kms_id", "alias/backup", Some),
            ]
        }
    };
    keys.extend(more.iter().copied().map(owned));
    if provider == "local" {
        keys.push(("storage", "base_path", at("store"), Needed));
    }
    keys
}

const PROVIDERS: [&str; 4] = ["local", "s3_compatible", "azure_blobs", "google_storage"];
const SECRETS: [&str; 3] = ["hidden-word", "hidden+secret", "aGlkZGVuCg=="];

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("cassandra.yaml", "data_file_directories: [/volume/data]"),
        ("aws.ini", "[default]\naws_access_key_id = id\naws_secret_access_key = hidden+secret\n"),
        ("azure.json", r#"{"storage_account": "acme", "key": "aGlkZGVuCg=="}"#),
        ("google.json", "{}"),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    dir
}

/// Loads a file of these keys and sets the store up, as a start does; the whole sentence when it fails.
fn start(folder: &Path, keys: &[(&'static str, &'static str, String, Takes)]) -> Result<Config, String> {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (section, key, value, _) in keys {
        sections.entry(section).or_default().push_str(&format!("{key} = {value}\n"));
    }
    let text: String = sections.iter().map(|(section, keys)| format!("[{section}]\n{keys}\n")).collect();
    load(folder, text.as_bytes())
}

fn load(folder: &Path, ini: &[u8]) -> Result<Config, String> {
    let path = folder.join("medusa.ini");
    std::fs::write(&path, ini).unwrap();
    let config = Config::load(&path, |_| None).map_err(|error| sentence(&error))?;
    if !matches!(config.storage.place, Place::Local { .. }) {
        Store::open(&config.storage, Patience::Short).map_err(|error| sentence(&error))?;
    }
    Ok(config)
}

/// One line that says something, and no secret.
fn plain(said: &str) {
    assert!(said.len() > 10 && !said.contains('\n'), "{said:?}");
    assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "{said}");
}

#[test]
fn every_key_missing_empty_or_malformed() {
    let dir = folder();
    for provider in PROVIDERS {
        let right = keys(provider, dir.path());
        match start(dir.path(), &right) {
            Ok(_) => {}
            // A key file of Google's without a key in it.
            Err(said) => assert!(provider == "google_storage" && said.contains("cannot open the bucket"), "{said}"),
        }
        for at in 0..right.len() {
            let (section, key, _, takes) = right[at].clone();
            let names = |said: &str| {
                plain(said);
                assert!(said.contains(&format!("`{key}")) || said.contains(".ini"), "{section}.{key}: {said}");
            };
            for (what, value) in [("missing", None), ("empty", Some(""))] {
                let mut changed = right.clone();
                match value {
                    None => drop(changed.remove(at)),
                    Some(value) => changed[at].2 = value.to_owned(),
                }
                match (start(dir.path(), &changed), takes) {
                    (Err(said), Takes::Needed) => names(&said),
                    (Ok(_), Takes::Needed) => panic!("{provider}: {section}.{key} is {what}, and it starts"),
                    (Err(said), _) => plain(&said),
                    (Ok(_), _) => {}
                }
            }
            for value in
                ["\u{7f}", "sp ace and more", "ü\u{1f980}", "-1", "1e99", "99999999999999999999", "a\n  b", "/../"]
            {
                let mut changed = right.clone();
                changed[at].2 = value.to_owned();
                match (start(dir.path(), &changed), takes) {
                    (Err(said), Takes::Some) => names(&said),
                    (Err(said), _) => plain(&said),
                    // A text such as -1 may be a region; a number never is two words.
                    (Ok(_), Takes::Some) => {
                        assert!(!value.contains([' ', '\n', '\u{7f}']), "{section}.{key} = {value:?} starts")
                    }
                    (Ok(_), _) => {}
                }
            }
        }
    }
}

#[test]
fn key_files_get_one_sentence() {
    let dir = folder();
    let with = |provider: &str, file: &str, content: &[u8]| {
        std::fs::write(dir.path().join(file), content).unwrap();
        let outcome = start(dir.path(), &keys(provider, dir.path()));
        outcome.as_ref().map(drop).unwrap_or_else(|said| plain(said));
        outcome.err()
    };
    let keys =
        |id: &str, secret: &str| format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    for (content, says) in [
        (keys("id", ""), "has no aws_access_key_id and aws_secret_access_key in profile [default]"),
        (String::new(), "has no aws_access_key_id"),
        (keys("i\u{e9}d", "hidden+secret"), "`aws_access_key_id` of profile [default]"),
        (keys("id", "hidden+secret with more"), "`aws_secret_access_key` of profile [default]"),
        (keys("id", "hidden+secret\n  continued"), "`aws_secret_access_key` of profile [default]"),
        ("hidden+secret".to_owned(), "line 1 is neither"),
        ("aws_secret_access_key = hidden+secret".to_owned(), "line 1 stands before the first [section]"),
    ] {
        let said = with("s3_compatible", "aws.ini", content.as_bytes()).unwrap();
        assert!(said.contains(says) && said.contains("aws.ini"), "{said}");
    }
    assert!(with("s3_compatible", "aws.ini", b"\xff\xfe").unwrap().contains("cannot read"));
    for (content, says) in [
        ("", "azure.json is not JSON"),
        ("{", "azure.json is not JSON"),
        ("[]", "azure.json is not JSON"),
        (r#"{"storage_account": "acme"}"#, "azure.json is not JSON with storage_account and key"),
        (r#"{"storage_account": "a/../b", "key": "aGlkZGVuCg=="}"#, "cannot be the name of a storage account"),
        (r#"{"storage_account": "acme", "key": "hidden-word"}"#, "cannot open the bucket"),
    ] {
        let said = with("azure_blobs", "azure.json", content.as_bytes()).unwrap();
        assert!(said.contains(says), "{said}");
    }
    for content in
        ["", "{", "[]", r#"{"private_key": "hidden-word"}"#, r#"{"type": "service_account", "private_key": 7}"#]
    {
        let said = with("google_storage", "google.json", content.as_bytes()).unwrap();
        assert!(said.contains("cannot open the bucket"), "{said}");
    }
}

/// Whole and damaged files: cut anywhere, bytes changed, lines doubled.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let length = text.len();
    prop_oneof![
        (0..length).prop_map(move |end| text.as_bytes()[..end].to_vec()),
        proptest::collection::vec((0..length, any::<u8>()), 1..6).prop_map(move |changes| {
            let mut bytes = text.as_bytes().to_vec();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            bytes
        }),
        (0..length, "\\PC{0,12}").prop_map(move |(at, more)| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.splice(at..at, more.into_bytes());
            bytes
        }),
        (0..length, 0..length).prop_map(move |(from, to)| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.extend_from_slice(&text.as_bytes()[from.min(to)..from.max(to)]);
            bytes
        }),
    ]
}

const INI: &str = "[storage]\nstorage_provider = s3_compatible\nbucket_name = b\nhost = h\nport = 1\nregion = r\n\
    concurrent_transfers = 4\n[grpc]\nport = 5\ntls_cert = c\ntls_key = k\nca_cert = a\n[kubernetes]\nenabled = 1\n";
const YAML: &str = "cluster_name: 'c'\ndata_file_directories:\n  - /volume/data\ncommitlog_directory: /volume/log\n\
    listen_address: 10.0.0.1\nrpc_address: 0.0.0.0\nnative_transport_port: 9042\nclient_encryption_options:\n  enabled: true\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_damaged_ini_gets_an_answer(ini in damaged(INI)) {
        let dir = folder();
        let ini = [format!("[cassandra]\nconfig_file = {}\n", dir.path().join("cassandra.yaml").display()).into_bytes(), ini];
        if let Err(said) = load(dir.path(), &ini.concat()) {
            plain(&said);
        }
    }

    #[test]
    fn any_value_of_any_key_gets_an_answer(at in any::<prop::sample::Index>(), provider in 0..PROVIDERS.len(), value in "\\PC{0,20}") {
        let dir = folder();
        let mut keys = keys(PROVIDERS[provider], dir.path());
        let at = at.index(keys.len());
        keys[at].2 = value;
        if let Err(said) = start(dir.path(), &keys) {
            plain(&said);
        }
    }

    #[test]
    fn a_damaged_cassandra_yaml_gets_an_answer(yaml in damaged(YAML)) {
        let dir = folder();
        let path = dir.path().join("cassandra.yaml");
        std::fs::write(&path, yaml).unwrap();
        match CassandraYaml::load(&path) {
            Ok(yaml) => prop_assert!(!yaml.contact().is_empty()),
            Err(error) => {
                let said = sentence(&error);
                plain(&said);
                prop_assert!(said.contains("cassandra.yaml"), "{said}");
            }
        }
    }
}
