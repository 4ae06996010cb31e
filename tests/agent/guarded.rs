//! Certificates and secrets: a store with its own authority, our certificates renewed while we run, metrics for who may see
//! them, and a log for everybody.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use stheno_agent::Config;
use stheno_agent::store::{Patience, Store};
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::provision::{self, Part};
use stheno_local::s3::S3;
use stheno_rpc::medusa::{GetBackupsRequest, PurgeBackupsRequest};
use stheno_rpc::sidecar::CapabilitiesRequest;
use stheno_rpc::sidecar::sidecar_client::SidecarClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::encrypted::Pki;
use super::ground::{Bucket, Sidecar};

const PATIENCE: Duration = Duration::from_secs(30);

/// An S3 server behind TLS, with a certificate for `localhost`.
async fn guarded_s3(sidecar: &Sidecar, pki: &Pki) -> (Process, Port) {
    let program = provision::ensure(&[Part::S3]).await.unwrap().path(Part::S3).unwrap().to_owned();
    let (certificate, key) = pki.signed("localhost");
    let certificate = sidecar.run.file("store.crt", &certificate).unwrap();
    let key = sidecar.run.file("store.key", &key).unwrap();
    let (port, folder) = (Port::take().unwrap(), sidecar.run.folder("guarded").unwrap());
    sidecar.run.folder("guarded/backups").unwrap();
    let mut command = Command::new(program);
    command.env("ROOT_ACCESS_KEY", S3::ACCESS_KEY).env("ROOT_SECRET_KEY", S3::SECRET_KEY);
    command.args(["--port", &port.address().to_string(), "--region", S3::REGION, "--cert"]).arg(certificate);
    command.arg("--key").arg(key).args(["posix", "--sidecar"]).arg(sidecar.run.folder("beside-guarded").unwrap());
    command.arg(folder);
    let mut process = sidecar.run.spawn("guarded-s3", command).unwrap();
    let address = port.address();
    let listening = async || TcpStream::connect(address).await.is_ok();
    process.until("accepting connections", PATIENCE, listening).await.unwrap();
    (process, port)
}

#[tokio::test]
async fn a_store_with_its_own_authority() {
    let sidecar = Sidecar::over_medusas("", |_| {}).await;
    let (pki, strangers) = (Pki::new(), Pki::new());
    let (_server, port) = guarded_s3(&sidecar, &pki).await;
    let file = |name: &str, text: &str| sidecar.run.file(name, text).unwrap();
    let keys = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}", S3::ACCESS_KEY, S3::SECRET_KEY);
    let ini = |verify: &str| {
        let text = format!(
            "[cassandra]\nconfig_file = {}\n[storage]\nstorage_provider = s3_compatible\nbucket_name = backups\nfqdn = n\n\
             key_file = {}\nhost = localhost\nport = {}\nsecure = True\nssl_verify = {verify}\nregion = {}\n",
            sidecar.beside.yaml.display(),
            file("guarded.keys", &keys).display(),
            port.number(),
            S3::REGION,
        );
        file("guarded.ini", &text)
    };
    let ask = async |verify: &str, bundle: Option<(&'static str, PathBuf)>| {
        let env =
            |key: &str| bundle.as_ref().filter(|(name, _)| *name == key).map(|(_, path)| path.display().to_string());
        let config = Config::load(&ini(verify), env).unwrap();
        let store = Store::open(&config.storage, Patience::Short).map_err(|error| error.to_string())?;
        let listed = store.list("index").await;
        listed
            .map(|found| found.len())
            .map_err(|error| format!("{error}: {}", std::error::Error::source(&error).unwrap()))
    };
    let (ours, others) = (file("ours.pem", &pki.authority()), file("others.pem", &strangers.authority()));
    let both = file("both.pem", &format!("{}{}", strangers.authority(), pki.authority()));
    assert_eq!(ask("True", Some(("AWS_CA_BUNDLE", ours.clone()))).await, Ok(0));
    assert_eq!(ask("True", Some(("REQUESTS_CA_BUNDLE", both))).await, Ok(0));
    // As Medusa has it: not verified unless that is asked for.
    assert_eq!(ask("False", None).await, Ok(0));
    for bundle in [None, Some(("AWS_CA_BUNDLE", others))] {
        let error = ask("True", bundle).await.unwrap_err();
        assert!(error.contains("cannot list") && error.contains("certificate"), "{error}");
    }
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let bad = file("bad.pem", text);
        let error = ask("True", Some(("AWS_CA_BUNDLE", bad))).await.unwrap_err();
        assert!(error.contains("bad.pem") || error.contains("cannot open the bucket"), "{text:?}: {error}");
    }
    let error = ask("True", Some(("AWS_CA_BUNDLE", PathBuf::from("/nowhere/ca.pem")))).await.unwrap_err();
    assert!(error.starts_with("cannot use the certificates in /nowhere/ca.pem"), "{error}");
}

/// Renewed by a kubelet, one file after the other: nobody is turned away meanwhile, and no restart is needed.
#[tokio::test]
async fn renewed_certificates_need_no_restart() {
    let mut sidecar = Sidecar::over_medusas("", |_| {}).await;
    sidecar.stop().await;
    let (old, new) = (Pki::new(), Pki::new());
    let write = |name: &str, pem: &str| sidecar.run.file(name, pem).unwrap().display().to_string();
    let (certificate, key) = old.signed("sidecar");
    let tls = format!(
        "[grpc]\nenabled = 1\nca_cert = {}\ntls_cert = {}\ntls_key = {}",
        write("ca.crt", &old.authority()),
        write("tls.crt", &certificate),
        write("tls.key", &key)
    );
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap().replace("[grpc]\nenabled = 1", &tls);
    std::fs::write(&sidecar.ini, ini).unwrap();
    let home = sidecar.run.path().to_owned();
    let write = |name: &str, pem: &str| std::fs::write(home.join(name), pem).unwrap();
    sidecar.start().await;
    let address = sidecar.address();
    let connect = async |pki: &Pki| {
        let (certificate, key) = pki.signed("client");
        let tls = ClientTlsConfig::new().domain_name("sidecar").ca_certificate(Certificate::from_pem(pki.authority()));
        let tls = tls.identity(Identity::from_pem(certificate, key));
        let endpoint = Channel::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let mut client = SidecarClient::new(channel);
        client.capabilities(CapabilitiesRequest {}).await.map(|_| client).map_err(|status| status.to_string())
    };
    let mut kept = connect(&old).await.unwrap();
    assert!(connect(&new).await.is_err());
    // The key does not fit the certificate yet.
    let (certificate, key) = new.signed("sidecar");
    write("tls.crt", &certificate);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(connect(&old).await.is_ok(), "half renewed, and clients are turned away");
    assert!(sidecar.log().contains("the former certificates stay in use"), "{}", sidecar.log());
    write("tls.key", &key);
    write("ca.crt", &new.authority());
    let begun = Instant::now();
    while connect(&new).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not renewed\n{}", sidecar.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(connect(&old).await.is_err());
    // Who is in, stays.
    kept.capabilities(CapabilitiesRequest {}).await.unwrap();
}

/// A sidecar that shows its metrics and tells all that it can tell.
fn talkative(sidecar: &Sidecar, port: &Port) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stheno"));
    command.args(["agent", "--listen", &sidecar.address().to_string(), "--http", &port.address().to_string()]);
    command.arg("--config").arg(&sidecar.ini).env("MEDUSA_TMP_DIR", &sidecar.volume).env("STHENO_LOG_FILTER", "trace");
    command.env("MEDUSA_CQL_PASSWORD", "hidden-in-environment").env("MEDUSA_CQL_USERNAME", "user");
    sidecar.run.spawn("talkative", command).unwrap()
}

async fn get(port: &Port, path: &str) -> String {
    let mut stream = TcpStream::connect(port.address()).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn started(process: &mut Process, sidecar: &Sidecar) {
    let address = sidecar.address();
    let listening = async || TcpStream::connect(address).await.is_ok();
    process.until("accepting connections", PATIENCE, listening).await.unwrap();
}

#[tokio::test]
async fn metrics_have_units_and_count() {
    let mut sidecar = Sidecar::over_medusas("backup_grace_period_in_days = 0\nmax_backup_count = 1", |_| {}).await;
    sidecar.stop().await;
    let port = Port::take().unwrap();
    let mut process = talkative(&sidecar, &port);
    started(&mut process, &sidecar).await;
    let answer = sidecar.medusa().await.purge_backups(PurgeBackupsRequest {}).await.unwrap().into_inner();
    let text = get(&port, "/metrics").await;
    let value = |name: &str| -> i64 {
        let line = text.lines().find(|line| line.starts_with(&format!("stheno_agent_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!(value("purged_backups_total"), i64::from(answer.nb_backups_purged));
    assert_eq!(value("purged_objects_total"), i64::from(answer.nb_objects_purged));
    assert_eq!(value("purged_bytes_total"), answer.total_purged_size);
    assert_eq!((value("backup_running"), value("backup_size_bytes")), (0, 0));
    assert!(answer.nb_objects_purged > 100 && text.contains("stheno_agent_purges_total{end=\"Finished\"} 1"), "{text}");
    // What counts bytes or seconds says so, once.
    let names: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() >= 15 && names.iter().all(|name| name.starts_with("stheno_agent_")), "{names:?}");
    for name in names {
        assert!(!name.contains("bytes_bytes") && !name.contains("_ms") && !name.contains("_millis"), "{name}");
    }
    assert!(get(&port, "/healthz").await.starts_with("HTTP/1.1 200"));
}

/// At the finest level, with every kind of key in use and refused: none is in the log.
#[tokio::test]
async fn no_secret_is_logged() {
    let mut sidecar = Sidecar::over_medusas("", |_| {}).await;
    sidecar.stop().await;
    let Bucket::S3(server) = Bucket::s3().await else { panic!("not S3") };
    let (address, port) = (server.address(), Port::take().unwrap());
    let write = |name: &str, text: &str| sidecar.run.file(name, text).unwrap().display().to_string();
    let aws = |id: &str, more: &str| format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {more}\n");
    let azure = r#"{"storage_account": "acme", "key": "aGlkZGVuLWluLWF6dXJl"}"#;
    let s3 = |keys: &str| {
        format!(
            "storage_provider = s3_compatible\nhost = {}\nport = {}\nsecure = False\nkey_file = {keys}",
            address.ip(),
            address.port()
        )
    };
    let places = [
        s3(&write("good.keys", &aws(S3::ACCESS_KEY, S3::SECRET_KEY))),
        s3(&write("bad.keys", &aws(S3::ACCESS_KEY, "hidden-in-key-file"))),
        s3(&write("token.keys", &(aws("hidden-id", "hidden-in-key-file") + "aws_session_token = hidden-session\n"))),
        format!(
            "storage_provider = azure_blobs\nhost = {}\nport = {}\nsecure = False\nkey_file = {}",
            address.ip(),
            address.port(),
            write("azure.keys", azure)
        ),
    ];
    for place in places {
        let text = format!(
            "[cassandra]\nconfig_file = {}\ncql_password = hidden-in-ini\nnodetool_password = hidden-jmx\nnodetool_username = jmx\n\
             [storage]\n{place}\nbucket_name = backups\nfqdn = n\n[grpc]\nenabled = 1\n",
            sidecar.beside.yaml.display()
        );
        std::fs::write(&sidecar.ini, text).unwrap();
        let mut process = talkative(&sidecar, &port);
        started(&mut process, &sidecar).await;
        let mut client = sidecar.medusa().await;
        let listed = client.get_backups(GetBackupsRequest {}).await;
        let claim = sidecar.claim();
        let begun = sidecar.begin(&claim, "told", true).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        process.kill();
        let restored = sidecar
            .restore(&[("BACKUP_NAME", "told"), ("RESTORE_KEY", "k"), ("STHENO_LOG_FILTER", "trace")])
            .output()
            .unwrap();
        let log = std::fs::read_to_string(sidecar.run.path().join("talkative.log")).unwrap();
        let said = format!("{log}{}{listed:?}{begun:?}", String::from_utf8_lossy(&restored.stderr));
        assert!(said.len() > 20_000 && said.contains("TRACE"), "it tells too little: {}", said.len());
        for secret in [
            S3::SECRET_KEY,
            "hidden-in-key-file",
            "hidden-session",
            "hidden-in-ini",
            "hidden-jmx",
            "hidden-in-environment",
            "aGlkZGVuLWluLWF6dXJl",
            "hidden-in-azure",
        ] {
            let line = said.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} with {place}");
        }
        std::fs::remove_dir_all(&sidecar.volume).unwrap();
        std::fs::create_dir_all(&sidecar.volume).unwrap();
    }
}
