//! The stores that are not S3: Azure's on Azurite from npm, Google's XML dialect on S3Proxy from Maven
//! (docs/decisions/0012-google-storage.md).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::provision;
use stheno_local::run::Run;
use stheno_rpc::medusa::{DeleteBackupRequest, GetBackupsRequest, StatusType};
use stheno_rpc::sidecar::VerifyRequest;
use stheno_rpc::sidecar::node_state::Phase;
use tokio::net::TcpStream;

use super::ground::{Bucket, Sidecar, phase, rows};
use super::medusa;
use crate::support::registries;

const AZURITE: &str = "azurite@3.37.0";
/// What every emulator of Azure has.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite's program.
fn program() -> PathBuf {
    let home = registries::cached("azurite-3.37.0", |home| {
        let mut npm = Command::new("npm");
        registries::run(npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(home).arg(AZURITE));
    });
    home.join("node_modules/.bin/azurite-blob")
}

/// A server, and the run folder that it lives in.
struct Server {
    _process: Process,
    _run: Run,
    port: Port,
}

impl Server {
    async fn start(name: &str, command: impl FnOnce(&Port, &Path) -> Command) -> Self {
        let (run, port) = (Run::temporary().unwrap(), Port::take().unwrap());
        let mut process = run.spawn(name, command(&port, run.path())).unwrap();
        let address = port.address();
        let listening = async || TcpStream::connect(address).await.is_ok();
        process.until("accepting connections", Duration::from_secs(60), listening).await.unwrap();
        Self { _process: process, _run: run, port }
    }
}

async fn azurite() -> Server {
    let program = program();
    let server = Server::start("azurite", |port, folder| {
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.number().to_string()]);
        command.args(["--silent", "--skipApiVersionCheck", "--location"]).arg(folder);
        command
    });
    let server = server.await;
    let create = "import sys\n\
        from azure.storage.blob import BlobServiceClient\n\
        from azure.core.credentials import AzureNamedKeyCredential as Key\n\
        BlobServiceClient(sys.argv[1], credential=Key(sys.argv[2], sys.argv[3])).create_container('backups')";
    let url = format!("http://{}/{ACCOUNT}", server.port.address());
    medusa::python(create, &[&url, ACCOUNT, KEY]).await;
    server
}

/// Two backups, read back, listed, restored to an empty volume, and deleted, on whatever store `place` names.
async fn there_and_back(place: &str, table: &str) -> Sidecar {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    sidecar.stop().await;
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let (before, rest) = ini.split_once("storage_provider = local").unwrap();
    let (_, after) = rest.split_once("bucket_name = backups\n").unwrap();
    std::fs::write(&sidecar.ini, format!("{before}{place}\nbucket_name = backups\n{after}")).unwrap();
    sidecar.start().await;

    rows(table, 0, 40, 300_000).await;
    let names = ["one", "two"].map(|name| format!("{table}-{name}"));
    let one = sidecar.backup(&names[0], false).await;
    assert_eq!(phase(&one), Phase::Finished, "{one:?}");
    // On a lost volume nothing is known of the pool: the manifests are.
    sidecar.stop().await;
    std::fs::remove_dir_all(&sidecar.volume).unwrap();
    std::fs::create_dir_all(&sidecar.volume).unwrap();
    sidecar.start().await;
    rows(table, 40, 5, 100).await;
    let two = sidecar.backup(&names[1], false).await;
    assert_eq!(phase(&two), Phase::Finished, "{two:?}");
    // Beside it other tests write to the node; of a pool that is not known nothing would be used.
    assert!(two.files_reused * 2 > two.files_total, "the pool went up again: {two:?}");

    let mut client = sidecar.medusa().await;
    let listed = client.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.overall_status(), StatusType::Success);
    let listed: BTreeSet<&str> = listed.backups.iter().map(|backup| backup.backup_name.as_str()).collect();
    assert_eq!(listed, names.iter().map(String::as_str).collect());
    for name in &names {
        let request = VerifyRequest { name: name.clone(), read: true, bandwidth: 0 };
        let mut states = sidecar.keeper().await.verify(request).await.unwrap().into_inner();
        let mut done = false;
        while let Some(state) = states.message().await.unwrap() {
            assert_eq!((state.unhashed, state.faults.as_slice()), (0, [].as_slice()));
            done = state.done;
        }
        assert!(done);
    }

    let home = sidecar.run.folder("elsewhere").unwrap();
    let yaml = format!("data_file_directories: [{}]", home.join("data").display());
    let yaml = sidecar.run.file("elsewhere.yaml", &yaml).unwrap();
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let other = ini.replace(sidecar.beside.yaml.to_str().unwrap(), yaml.to_str().unwrap());
    std::fs::write(&sidecar.ini, other).unwrap();
    let output = sidecar.restore(&[("BACKUP_NAME", &names[1]), ("RESTORE_KEY", "k")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("files={} ", two.files_total)), "{said}");
    std::fs::write(&sidecar.ini, ini).unwrap();

    client.delete_backup(DeleteBackupRequest { name: names[0].clone() }).await.unwrap();
    let listed = client.get_backups(GetBackupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.backups.len(), 1);
    sidecar
}

#[tokio::test]
async fn azure_holds_backups_and_medusa_reads_them() {
    let server = azurite().await;
    let keys =
        server._run.file("azure.json", &format!(r#"{{"storage_account": "{ACCOUNT}", "key": "{KEY}"}}"#)).unwrap();
    let place = format!(
        "storage_provider = azure_blobs\nkey_file = {}\nhost = 127.0.0.1\nport = {}\nsecure = False\n\
         multi_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB",
        keys.display(),
        server.port.number()
    );
    let sidecar = there_and_back(&place, "azure").await;
    // Medusa knows Azure by its domain only: it is shown the emulator.
    let program = "import sys\n\
        from medusa.storage.azure_storage import AzureStorage\n\
        AzureStorage._make_blob_service_url = lambda *_: sys.argv[1]\n\
        url, ini = sys.argv[1:3]\n\
        from medusa.medusacli import cli\n\
        cli(['--config-file', ini, 'verify', '--backup-name', 'azure-two'])";
    let url = format!("http://{}/{ACCOUNT}", server.port.address());
    let said = medusa::python(program, &[&url, sidecar.ini.to_str().unwrap()]).await;
    assert!(said.contains("Manifest validated: OK!!"), "{said}");
}

/// S3's server without authentication: Google's clients speak the same XML, and sign with tokens that no such server knows.
async fn s3proxy() -> Server {
    let jar = registries::jar(
        "org.gaul:s3proxy:2.9.0:jar:jar-with-dependencies",
        "s3proxy-2.9.0",
        "s3proxy-2.9.0-jar-with-dependencies.jar",
    );
    let java = provision::java("S3Proxy").unwrap();
    let server = Server::start("s3proxy", |port, folder| {
        let objects = folder.join("objects");
        std::fs::create_dir_all(objects.join("backups")).unwrap();
        let settings = format!(
            "s3proxy.authorization=none\ns3proxy.endpoint=http://{}\njclouds.provider=filesystem-nio2\n\
             jclouds.filesystem.basedir={}\n",
            port.address(),
            objects.display()
        );
        let properties = folder.join("s3proxy.conf");
        std::fs::write(&properties, settings).unwrap();
        let mut command = Command::new(java);
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"]);
        command.arg(&jar).arg("--properties").arg(properties);
        command
    });
    server.await
}

#[tokio::test]
async fn google_holds_backups_in_its_xml_dialect() {
    let server = s3proxy().await;
    // What object_store offers for emulators: another address, and no tokens.
    let key = format!(
        r#"{{"type": "service_account", "client_email": "tests@localhost", "private_key_id": "none", "private_key": "none",
        "gcs_base_url": "http://{}", "disable_oauth": true}}"#,
        server.port.address()
    );
    let key = server._run.file("google.json", &key).unwrap();
    let place = format!(
        "storage_provider = google_storage\nkey_file = {}\nmulti_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB",
        key.display()
    );
    let sidecar = there_and_back(&place, "google").await;
    let node = &sidecar.beside.name;
    let objects = server._run.path().join("objects/backups");
    assert!(objects.join(node).join("google-two/meta/manifest.json").is_file());
    let big = files_of(&objects, 5 << 20);
    assert!(big > 0, "nothing went up in parts");
}

/// Files below a folder that have at least so many bytes.
fn files_of(folder: &Path, bytes: u64) -> usize {
    super::ground::files(folder).into_iter().filter(|file| file.metadata().unwrap().len() >= bytes).count()
}
