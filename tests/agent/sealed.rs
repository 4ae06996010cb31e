//! Objects that are encrypted with a key of KMS or of the customer: their tags look like hashes of the content and are none.
//! No S3 server that runs here encrypts: the proxy before a real one does to tags and answers what AWS does.

use std::path::PathBuf;

use md5::{Digest as _, Md5};
use stheno_agent::manifest::Object;
use stheno_rpc::sidecar::VerifyRequest;
use stheno_rpc::sidecar::node_state::Phase;

use super::faults::between;
use super::ground::{Bucket, Sidecar, cassandra, phase, rows};
use super::medusa;
use super::proxy::{Encryption, Fault, Proxy};
use super::several::{restored, tree, verified};

/// What is beside a manifest of ours.
const DIGESTS: &str = "stheno-md5.json";

/// A sidecar behind a store that encrypts.
struct Sealed {
    sidecar: Sidecar,
    proxy: Proxy,
    node: String,
    table: &'static str,
}

impl Sealed {
    async fn new(how: Encryption, keys: &str, table: &'static str) -> Self {
        rows(table, 0, 20, 300_000).await;
        let storage =
            format!("concurrent_transfers = 4\nmulti_part_upload_threshold = 5MB\nmultipart_chunksize = 5MB\n{keys}");
        let mut sidecar = Sidecar::launch(Bucket::s3().await, &storage).await;
        sidecar.stop().await;
        let proxy = between(&mut sidecar, &storage).await;
        proxy.encrypts(how);
        Self { sidecar, proxy, node: cassandra().await.ip().to_string(), table }
    }

    async fn backup(&self, name: &str) -> Vec<Object> {
        self.proxy.rule(|_| Fault::None);
        let state = self.sidecar.backup(name, false).await;
        assert_eq!(phase(&state), Phase::Finished, "{state:?}");
        self.sidecar.manifest("", name, &self.node)
    }

    /// Objects of the table's data, of a manifest.
    fn of_table<'a>(&self, manifest: &'a [Object]) -> Vec<&'a Object> {
        let part = format!("/shop/{}-", self.table);
        manifest.iter().filter(|object| object.path.contains(&part)).collect()
    }

    /// How often the table's data was read since the last backup began.
    fn reads(&self) -> usize {
        let part = format!("/data/shop/{}-", self.table);
        self.proxy.seen().iter().filter(|seen| seen.method == "GET" && seen.path.contains(&part)).count()
    }

    /// As if the sidecar had never been there: what it knew of the bucket is gone.
    async fn forgets(&mut self) {
        self.sidecar.stop().await;
        std::fs::remove_dir_all(&self.sidecar.volume).unwrap();
        self.sidecar.start().await;
    }

    /// As if Medusa had made a backup.
    fn unsaid(&self, name: &str) {
        std::fs::remove_file(self.sidecar.objects().join(format!("{}/{name}/meta/{DIGESTS}", self.node))).unwrap();
    }

    /// Restores to another place; what is there then, and what was said.
    fn restored(&mut self, name: &str, key: &str, place: &str) -> (PathBuf, Result<String, String>) {
        let data = self.sidecar.run.folder(place).unwrap().join("data");
        let yaml =
            self.sidecar.run.file(&format!("{place}.yaml"), &format!("data_file_directories: [{}]", data.display()));
        let ini = std::fs::read_to_string(&self.sidecar.ini).unwrap();
        let (old, new) = (self.sidecar.beside.yaml.display().to_string(), yaml.unwrap().display().to_string());
        let own = self.sidecar.run.file("restore.ini", &ini.replace(&old, &new)).unwrap();
        let kept = std::mem::replace(&mut self.sidecar.ini, own);
        let said = restored(&self.sidecar, name, key);
        self.sidecar.ini = kept;
        (data, said)
    }
}

async fn encrypted(how: Encryption, keys: &str, table: &'static str) {
    let mut sealed = Sealed::new(how, keys, table).await;
    let (one, two, three) = (format!("{table}-one"), format!("{table}-two"), format!("{table}-three"));
    let first = sealed.backup(&one).await;
    let parted = |object: &&Object| object.md5.as_ref().is_some_and(|tag| tag.contains('-'));
    assert!(first.iter().any(|object| parted(&object)) && !first.iter().all(|object| parted(&object)));
    for object in &first {
        let md5: String = Md5::digest(sealed.sidecar.object(&object.path)).iter().map(|b| format!("{b:02x}")).collect();
        assert_ne!(object.md5.as_deref(), Some(md5.as_str()), "{}: the proxy does not encrypt", object.path);
    }
    // Medusa compares the manifest with what the bucket says.
    medusa::cli(&sealed.sidecar.ini, &["verify", "--backup-name", &one, "--enable-md5-checks"]).await;
    assert_eq!(verified(&sealed.sidecar, &one).await, first.len() as u64);

    // What comes back is proved, and is found again where it is.
    let (data, said) = sealed.restored(&one, "k1", "elsewhere");
    let said = said.unwrap();
    assert!(!said.contains("only their sizes"), "{said}");
    let place = |object: &Object| object.path.split_once("/data/").unwrap().1.to_owned();
    let expected = first.iter().map(|object| (place(object), sealed.sidecar.object(&object.path))).collect();
    assert_eq!(tree(&[data]), expected);
    let said = sealed.restored(&one, "k2", "elsewhere").1.unwrap();
    assert!(said.contains(&format!("kept={}", first.len())), "{said}");

    // Other content is noticed, though the tag is as it was.
    let victim = sealed.of_table(&first).into_iter().find(|object| object.path.ends_with("Data.db")).unwrap();
    let file = sealed.sidecar.objects().join(&victim.path);
    let content = std::fs::read(&file).unwrap();
    let mut other = content.clone();
    other[100] ^= 1;
    overwrite(&file, &other);
    let error = sealed.restored(&one, "k3", "nowhere").1.unwrap_err();
    assert!(error.contains("another hash") && error.contains(&victim.path), "{error}");
    overwrite(&file, &content);

    // Without its volume it knows the pool by what it said beside the manifest, and reads nothing again.
    let paths = |manifest: &[Object], sealed: &Sealed| {
        sealed
            .of_table(manifest)
            .into_iter()
            .map(|object| (object.path.clone(), object.md5.clone()))
            .collect::<Vec<_>>()
    };
    sealed.forgets().await;
    let second = sealed.backup(&two).await;
    assert_eq!(paths(&second, &sealed), paths(&first, &sealed));
    assert_eq!(sealed.reads(), 0);
    assert_eq!(verified(&sealed.sidecar, &two).await, second.len() as u64);

    // What Medusa left is read once, instead of being kept twice.
    sealed.unsaid(&one);
    sealed.unsaid(&two);
    sealed.forgets().await;
    let third = sealed.backup(&three).await;
    assert_eq!(paths(&third, &sealed), paths(&first, &sealed));
    assert!(sealed.reads() > 0);
    assert!(!sealed.sidecar.keys().iter().any(|key| key.contains("/.variants/")));
    assert_eq!(verified(&sealed.sidecar, &three).await, third.len() as u64);

    // Of its backups sizes are compared, and that is said.
    let said = sealed.restored(&two, "k4", "medusas").1.unwrap();
    assert!(said.contains("only their sizes were compared"), "{said}");
    let request = VerifyRequest { name: two.clone(), read: true, bandwidth: 0 };
    let mut states = sealed.sidecar.keeper().await.verify(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        assert_eq!(state.faults, []);
        last = Some(state);
    }
    assert_eq!(last.unwrap().unhashed, second.len() as u64);
}

/// In place, so that the store's own facts about it stay.
fn overwrite(file: &std::path::Path, content: &[u8]) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(file).unwrap().write_all(content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_that_encrypts_with_kms() {
    encrypted(Encryption::Kms, "", "kms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn objects_under_the_customers_key() {
    // Thirty-two bytes in base64.
    encrypted(Encryption::Customer, "sse_c_key = MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "customer").await;
}
