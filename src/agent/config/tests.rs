//! Tests of the configuration: every kind of file in use, and a sentence for each thing that is wrong.

use super::storage::bytes;
use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cassandra.yaml"), "data_file_directories: [/volume/data]").unwrap();
        Self(dir)
    }

    fn load(&self, ini: &str, env: &[(&str, &str)]) -> Result<Config, Error> {
        let yaml = self.0.path().join("cassandra.yaml");
        // A second [cassandra] section merges with the first.
        let ini = format!("    [cassandra]\n    config_file = {}\n{ini}\n", yaml.display());
        let path = self.0.path().join("medusa.ini");
        std::fs::write(&path, ini).unwrap();
        let env: std::collections::BTreeMap<String, String> =
            env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config::load(&path, |key| env.get(key).cloned())
    }
}

const OPERATOR: &str = "
    [cassandra]
    use_sudo = false

    [storage]
    use_sudo_for_restore = false
    storage_provider = s3_compatible
    bucket_name = k8ssandra-medusa
    prefix = test
    max_backup_age = 0
    max_backup_count = 0
    host = minio.svc
    port = 9000
    secure = False
    ssl_verify = False
    transfer_max_bandwidth = 50MB/s
    concurrent_transfers = 4
    multi_part_upload_threshold = 104857600

    [grpc]
    enabled = 1
    port = 55055

    [logging]
    level = DEBUG

    [kubernetes]
    use_mgmt_api = 1
    enabled = 1
    cassandra_url = http://127.0.0.1:8080/api/v0/ops/node/snapshots";

#[test]
fn the_operators_file_is_understood() {
    let env = [
        ("POD_NAME", "c-dc1-r1-sts-0"),
        ("MEDUSA_TMP_DIR", "/var/lib/cassandra"),
        ("CQL_USERNAME", "u"),
        ("CQL_PASSWORD", "p"),
    ];
    let config = Files::new().load(OPERATOR, &env).unwrap();
    assert_eq!(config.node.as_str(), "c-dc1-r1-sts-0");
    assert_eq!(config.state_dir, Path::new("/var/lib/cassandra/.stheno"));
    assert_eq!(config.grpc.port, 55055);
    assert_eq!(config.cassandra.naming, Naming::Pod);
    assert_eq!(config.cassandra.login, Some(("u".into(), Password("p".into()))));
    assert_eq!(config.storage.transfers, 4);
    assert_eq!(config.storage.multipart_threshold, 104_857_600);
    assert_eq!(config.storage.bandwidth, Some(50 << 20));
    let Place::S3(s3) = &config.storage.place else { panic!("not S3") };
    assert_eq!(s3.endpoint.as_deref(), Some("http://minio.svc:9000"));
    assert!(!s3.verify_tls && !s3.virtual_host && s3.credentials.is_none());
    let Snapshots::Management { url, identity: None } = &config.snapshots else { panic!("not the management API") };
    assert_eq!(url, "http://127.0.0.1:8080/api/v0/ops/node/snapshots");
}

#[test]
fn the_node_is_named_by_fqdn_then_pod_then_host() {
    let files = Files::new();
    let local = "[storage]\nstorage_provider = local\nbucket_name = b\nbase_path = /s";
    let named = files.load(&format!("{local}\nfqdn = n1"), &[("POD_NAME", "pod")]).unwrap();
    assert_eq!(named.node.as_str(), "n1");
    assert_eq!(files.load(local, &[("POD_NAME", "pod")]).unwrap().node.as_str(), "pod");
    assert_eq!(files.load(local, &[]).unwrap().node.as_str(), hostname());
    assert!(matches!(files.load(&format!("{local}\nfqdn = a/b"), &[]), Err(Error::Node(_))));
}

#[test]
fn the_state_lies_beside_the_data_without_a_hint() {
    let config =
        Files::new().load("[storage]\nstorage_provider = local\nbucket_name = b\nbase_path = /s", &[]).unwrap();
    assert_eq!(config.state_dir, Path::new("/volume/.stheno"));
    let Snapshots::Nodetool { program, arguments } = config.snapshots else { panic!("not nodetool") };
    assert_eq!((program.as_str(), arguments.len()), ("nodetool", 1));
}

#[test]
fn newer_names_of_the_environment_win() {
    let env = [
        ("CQL_USERNAME", "old"),
        ("MEDUSA_CQL_USERNAME", "new"),
        ("CQL_PASSWORD", "p"),
        ("MEDUSA_RESOLVE_IP_ADDRESSES", "false"),
    ];
    let config = Files::new().load(OPERATOR, &env).unwrap();
    assert_eq!(config.cassandra.login.unwrap().0, "new");
    assert_eq!(config.cassandra.naming, Naming::Address);
}

#[test]
fn a_certificate_of_the_management_api_means_https() {
    let config = Files::new().load(&format!("{OPERATOR}\n    tls_cert = /c\n    tls_key = /k"), &[]).unwrap();
    let Snapshots::Management { url, identity: Some(_) } = config.snapshots else { panic!("no identity") };
    assert!(url.starts_with("https://127.0.0.1:8080/"));
}

#[test]
fn without_the_management_api_the_address_is_jolokias() {
    let with = |from: &str, to: &str| {
        let ini = OPERATOR.replace("use_mgmt_api = 1", "use_mgmt_api = 0").replace(from, to);
        Files::new().load(&ini, &[]).unwrap().snapshots
    };
    let Snapshots::Jolokia { url } = with("", "") else { panic!("not Jolokia") };
    assert_eq!(url, "http://127.0.0.1:8080/api/v0/ops/node/snapshots");
    assert!(matches!(
        with("cassandra_url = http://127.0.0.1:8080/api/v0/ops/node/snapshots", ""),
        Snapshots::Nodetool { .. }
    ));
}

#[test]
fn the_key_files_profile_is_read() {
    let files = Files::new();
    let keys = files.0.path().join("credentials");
    std::fs::write(&keys, "[default]\naws_access_key_id = id\naws_secret_access_key = se=cret\n[bare]\n").unwrap();
    let with = |extra: &str| {
        files.load(&OPERATOR.replace("prefix = test", &format!("key_file = {}\n    {extra}", keys.display())), &[])
    };
    let Place::S3(s3) = with("").unwrap().storage.place else { panic!("not S3") };
    let credentials = s3.credentials.unwrap();
    assert_eq!((credentials.id.as_str(), credentials.secret.as_str()), ("id", "se=cret"));
    assert!(!format!("{credentials:?}").contains("cret="));
    assert!(matches!(with("api_profile = bare"), Err(Error::KeyFile { .. })));
}

#[test]
fn other_providers_are_found_where_medusa_finds_them() {
    let files = Files::new();
    let place = |provider: &str, change: &[(&str, &str)]| {
        let mut ini = OPERATOR.replace("storage_provider = s3_compatible", &format!("storage_provider = {provider}"));
        for (from, to) in change {
            assert!(ini.contains(from), "{from}");
            ini = ini.replace(from, to);
        }
        files.load(&ini, &[("AZURE_STORAGE_ACCOUNT", "acme")]).unwrap().storage.place
    };
    assert_eq!(place("ibm_storage", &[("port = 9000", "")]).host(), "minio.svc");
    assert_eq!(place("s3_rgw", &[]).host(), "minio.svc:9000");
    assert_eq!(place("s3_us_west_oregon", &[]).host(), "s3.us-west-2.amazonaws.com");
    assert_eq!(place("google_storage", &[]).host(), "storage.googleapis.com");
    assert_eq!(place("azure_blobs", &[]).host(), "https://acme.blob.core.minio.svc:9000");
    assert_eq!(
        place("azure_blobs", &[("host = minio.svc", ""), ("port = 9000", "")]).host(),
        "https://acme.blob.core.windows.net"
    );
    assert_eq!(place("azure_blobs", &[("minio.svc", "127.0.0.1")]).host(), "http://127.0.0.1:9000/acme");
    let keys = files.0.path().join("azure.json");
    std::fs::write(&keys, r#"{"storage_account": "other", "key": "c2VjcmV0"}"#).unwrap();
    let key_file = format!("key_file = {}", keys.display());
    let Place::Azure(azure) = place("azure_blobs", &[("prefix = test", &key_file)]) else { panic!("not Azure") };
    assert_eq!((azure.account.as_str(), azure.key.clone()), ("other", Some(Password("c2VjcmV0".into()))));
    assert!(!format!("{azure:?}").contains("c2Vj"));
    std::fs::write(&keys, "{}").unwrap();
    let ini = OPERATOR.replace("s3_compatible", "azure_blobs").replace("prefix = test", &key_file);
    assert!(matches!(files.load(&ini, &[]), Err(Error::AzureKeyFile { .. })));
}

#[test]
fn what_is_missing_or_wrong_gets_one_sentence() {
    let files = Files::new();
    let sentence = |from: &str, to: &str| files.load(&OPERATOR.replace(from, to), &[]).unwrap_err().to_string();
    assert!(sentence("bucket_name = k8ssandra-medusa", "").starts_with("`bucket_name` is missing in [storage] of "));
    assert!(sentence("host = minio.svc", "").starts_with("`host` is missing in [storage]"));
    assert!(sentence("cassandra_url = http", "x = http").starts_with("`cassandra_url` is missing in [kubernetes]"));
    assert_eq!(sentence("port = 9000", "port = high"), "`port = high` in [storage] is wrong: a port number");
    assert_eq!(sentence("secure = False", "secure = maybe"), "`secure = maybe` in [storage] is wrong: True or False");
    assert!(sentence("50MB/s", "50MiB").contains("a size such as 50MB"));
    assert!(sentence("prefix = test", "prefix = a/b").contains("without slashes"));
    assert_eq!(
        sentence("s3_compatible", "swift"),
        "storage_provider \"swift\" is not supported: use local, s3, s3_compatible, s3_rgw, ibm_storage, azure_blobs or \
         google_storage"
    );
    assert!(sentence("s3_compatible", "azure_blobs").starts_with("no storage account: set key_file"));
    assert!(sentence("port = 55055", "tls_cert = /c").starts_with("`tls_key` is missing in [grpc]"));
    let missing = Config::load(Path::new("/nowhere/medusa.ini"), |_| None).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read /nowhere/medusa.ini");
}

#[test]
fn sizes_are_medusas() {
    assert_eq!(bytes("50MB/s"), Some(50 << 20));
    assert_eq!(bytes("1.5 GB"), Some(3 << 29));
    assert_eq!(bytes("104857600"), Some(104_857_600));
    for bad in ["1.5", "MB", "50MiB", "50Mb", "-1", "", "NaN", "1e40"] {
        assert_eq!(bytes(bad), None, "{bad}");
    }
}
