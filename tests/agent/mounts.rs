//! Volumes as pods have them: bind mounts of one disk, mounts inside a data directory, directories that nobody mounted.
//!
//! Each restore runs in mount namespaces of its own, which root may make, and others where the system lets users have
//! namespaces: without either these tests fail.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ground::{ELSEWHERE, Sidecar, files};
use super::several::tree;

/// A node whose data directories are where mounts will be.
struct Node {
    sidecar: Sidecar,
    /// What Medusa's full backup holds, by place.
    expected: BTreeMap<String, Vec<u8>>,
}

impl Node {
    async fn new(dirs: &[&Path]) -> Self {
        let sidecar = Sidecar::over_medusas("", |_| {}).await;
        let dirs: Vec<String> = dirs.iter().map(|dir| sidecar.run.path().join(dir).display().to_string()).collect();
        std::fs::write(&sidecar.beside.yaml, format!("data_file_directories: [{}]", dirs.join(", "))).unwrap();
        let objects = sidecar.manifest("", "f1", ELSEWHERE);
        let place = |path: &str| path.split_once("/data/").unwrap().1.to_owned();
        let expected = objects.iter().map(|object| (place(&object.path), sidecar.object(&object.path))).collect();
        Self { sidecar, expected }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sidecar.run.path().join(name)
    }

    /// `stheno restore` of the full backup, after `mounts` (shell, in the folder of the run): what it said, which is an
    /// error when it fails.
    fn restore(&self, key: &str, mounts: &str) -> Result<String, String> {
        let restore = self.sidecar.restore(&[("BACKUP_NAME", "f1"), ("RESTORE_KEY", key)]);
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(format!("{mounts}\nexec \"$@\"")).arg("sh").arg(restore.get_program()).args(restore.get_args());
        for (name, value) in restore.get_envs() {
            command.env(name, value.unwrap());
        }
        let output = command.current_dir(self.sidecar.run.path()).stdin(std::process::Stdio::null()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            !said.contains("unshare:") && !said.contains("mount:"),
            "the right to mount is wanted (root, or user namespaces): {said}"
        );
        if output.status.success() { Ok(said) } else { Err(said.lines().last().unwrap_or_default().to_owned()) }
    }
}

/// A table's directory.
fn table(expected: &BTreeMap<String, Vec<u8>>) -> String {
    let place = expected.keys().find(|place| place.contains("e2e/")).unwrap();
    place.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
}

/// Without what is ours.
fn data(dirs: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    let mut found = tree(dirs);
    found.retain(|place, _| !place.starts_with(".stheno-restore/"));
    found
}

#[tokio::test]
async fn bind_mounts_of_one_disk_are_switched() {
    let node = Node::new(&[Path::new("data"), Path::new("more")]).await;
    let mounts = "mkdir -p disk/a disk/b data more\nmount --bind disk/a data\nmount --bind disk/b more";
    let dirs = ["disk/a", "disk/b"].map(|dir| node.path(dir));
    node.restore("one", mounts).unwrap();
    assert_eq!(data(&dirs), node.expected);
    assert!(dirs.iter().all(|dir| files(dir).len() > 20), "one directory got nothing");
    // What the node has is linked, which takes one file system too; and what it has beyond the backup goes.
    let table = table(&node.expected);
    for dir in &dirs {
        std::fs::create_dir_all(dir.join(&table)).unwrap();
        std::fs::write(dir.join(&table).join("nb-99-big-Data.db"), "newer").unwrap();
    }
    let said = node.restore("two", mounts).unwrap();
    assert!(said.contains(&format!("kept={}", node.expected.len())), "{said}");
    assert_eq!(data(&dirs), node.expected);
    // Nothing is left but the stage.
    let left: Vec<PathBuf> = dirs.iter().flat_map(|dir| files(&dir.join(".stheno-restore"))).collect();
    assert!(left.iter().all(|file| !file.ends_with(".db")), "{left:?}");
    assert!(files(&node.path("data")).is_empty() && files(&node.path("more")).is_empty());
}

/// One of them beside its folder, the other one on a mount: the folders differ in kind.
#[tokio::test]
async fn a_directory_beside_a_bind_mount_is_switched() {
    let node = Node::new(&[Path::new("data"), Path::new("more")]).await;
    let mounts = "mkdir -p disk/b more\nmount --bind disk/b more";
    node.restore("one", mounts).unwrap();
    assert_eq!(data(&["data", "disk/b"].map(|dir| node.path(dir))), node.expected);
    assert!(node.path(".stheno-restore/restore.json").exists());
}

#[tokio::test]
async fn mounts_inside_a_data_directory_are_refused_before_anything_is_touched() {
    let node = Node::new(&[Path::new("data")]).await;
    let table = table(&node.expected);
    let keyspace = table.split('/').next().unwrap();
    for (mounted, named) in [(keyspace, format!("data/{keyspace}")), (table.as_str(), format!("data/{table}"))] {
        let own = node.path(&format!("data/{table}/nb-99-big-Data.db"));
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "own").unwrap();
        let mounts = format!("mkdir -p disk/x/{table}\nmount --bind disk/x data/{mounted}");
        let error = node.restore("one", &mounts).unwrap_err();
        assert!(error.contains(&format!("{named} is a mount of its own")), "{error}");
        assert!(error.contains("nothing was touched"), "{error}");
        assert_eq!(files(&node.path("data")), std::slice::from_ref(&own));
        assert_eq!(files(&node.path("disk")), Vec::<PathBuf>::new());
    }
    node.restore("one", "").unwrap();
    assert_eq!(tree(&[node.path("data")]), node.expected);
}

/// What is restored into the container itself is lost with it.
#[tokio::test]
async fn a_directory_that_is_on_no_volume_is_refused() {
    let root = std::fs::metadata("/").unwrap().dev();
    let inside = |dir: &PathBuf| std::fs::metadata(dir).is_ok_and(|found| found.dev() == root);
    let folders = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from("/")];
    let folder = tempfile::tempdir_in(folders.into_iter().find(inside).unwrap()).unwrap();
    let outside = folder.path().join("data");
    let node = Node::new(&[Path::new("data"), outside.as_path()]).await;
    let error = node.restore("one", "mkdir -p data\nmount -t tmpfs tmpfs data").unwrap_err();
    assert!(error.contains(&format!("{} is on no volume here", outside.display())), "{error}");
    assert!(!outside.exists());
    let mounts =
        format!("mkdir -p data '{0}'\nmount -t tmpfs tmpfs data\nmount -t tmpfs tmpfs '{0}'", outside.display());
    node.restore("one", &mounts).unwrap();
}

/// A mount below a table keeps its old directory from going; the node starts all the same.
#[tokio::test]
async fn old_data_that_cannot_go_holds_up_nobody() {
    let node = Node::new(&[Path::new("data")]).await;
    let table = table(&node.expected);
    for (mount, said_first) in [
        (format!("data/{table}/snapshots"), "restored"),
        // The next start of the same pod.
        (format!(".stheno-restore/old/{table}/snapshots"), "this restore is done already"),
    ] {
        let said = node.restore("one", &format!("mkdir -p disk '{mount}'\nmount --bind disk '{mount}'")).unwrap();
        assert!(said.contains(said_first) && said.contains("what was there before the restore stays"), "{said}");
        assert_eq!(tree(&[node.path("data")]), node.expected);
        assert!(node.path(&format!(".stheno-restore/old/{table}")).exists());
    }
    // Nothing is mounted any more.
    node.restore("one", "").unwrap();
    assert!(!node.path(".stheno-restore/old").exists());
}
