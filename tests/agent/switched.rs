//! SIGKILL inside the switch of a restore, on real files: the next start ends it, without the bucket if need be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::ground::{ELSEWHERE, Sidecar, files};
use tokio::time::Instant;

type Tree = BTreeMap<String, Vec<u8>>;

/// Where a restore is killed.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// When it is written down what is switched.
    Decided,
    /// When so many directories have been renamed away.
    Moved(usize),
    /// When it is marked as done, before the old directories go.
    Marked,
}

/// A node with two data directories, and what two backups hold.
struct Node {
    sidecar: Sidecar,
    dirs: [PathBuf; 2],
    backups: [(&'static str, Tree); 2],
}

impl Node {
    async fn new() -> Self {
        let sidecar = Sidecar::over_medusas("", |_| {}).await;
        let dirs = ["data", "more"].map(|name| sidecar.run.path().join(name));
        let yaml = format!("data_file_directories: [{}, {}]", dirs[0].display(), dirs[1].display());
        std::fs::write(&sidecar.beside.yaml, yaml).unwrap();
        let content = |name: &str| {
            let objects = sidecar.manifest("", name, ELSEWHERE);
            let place = |path: &str| path.split_once("/data/").unwrap().1.to_owned();
            objects.iter().map(|object| (place(&object.path), sidecar.object(&object.path))).collect::<Tree>()
        };
        let backups = ["f1", "b1"].map(|name| (name, content(name)));
        Self { sidecar, dirs, backups }
    }

    fn folder(&self) -> PathBuf {
        self.sidecar.run.path().join(".stheno-restore")
    }

    /// What the node has, over its directories.
    fn tree(&self) -> Tree {
        let mut found = Tree::new();
        for dir in &self.dirs {
            for file in files(dir) {
                let place = file.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                assert!(
                    found.insert(place, std::fs::read(&file).unwrap()).is_none(),
                    "{} is there twice",
                    file.display()
                );
            }
        }
        found
    }

    fn begin(&self, name: &str, key: &str) -> Child {
        let mut restore = self.sidecar.restore(&[("BACKUP_NAME", name), ("RESTORE_KEY", key)]);
        restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn run(&self, name: &str, key: &str) {
        let output = self.sidecar.restore(&[("BACKUP_NAME", name), ("RESTORE_KEY", key)]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Runs a restore until a point is reached, and kills it there.
    fn killed(&self, name: &str, key: &str, point: Point) {
        let mut running = self.begin(name, key);
        let (stage, marker) = (self.folder().join("restore.json"), self.sidecar.run.path().join(".last-restore"));
        let is = |path: &Path, text: &str| std::fs::read_to_string(path).is_ok_and(|found| found.contains(text));
        let began = Instant::now();
        loop {
            let reached = match point {
                Point::Decided => is(&stage, "switching"),
                Point::Moved(count) => is(&stage, key) && is(&stage, "switching") && self.away() >= count,
                Point::Marked => is(&marker, key),
            };
            if reached || running.try_wait().unwrap().is_some() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{point:?} is never reached");
        }
        // It may have ended in between.
        let _ = running.kill();
        running.wait().unwrap();
    }

    /// Directories of tables that were renamed away.
    fn away(&self) -> usize {
        let below = |dir: PathBuf| {
            std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
        };
        let folder = self.folder();
        [folder.join("old"), folder.join("1/old")].into_iter().flat_map(below).flat_map(below).count()
    }
}

/// Kills at these points, one after the other, the backups in turn; gives how many came in the middle.
async fn killed_at(points: impl IntoIterator<Item = Point>) -> (usize, usize) {
    let node = Node::new().await;
    let store = node.sidecar.objects();
    node.run("b1", "first");
    let (mut rounds, mut half) = (0, 0);
    for (round, point) in points.into_iter().enumerate() {
        let (name, expected) = &node.backups[round % 2];
        let before = &node.backups[(round + 1) % 2].1;
        let of_tables = |tree: Tree, of: &Tree| {
            let table = |file: &String| file.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
            let tables: std::collections::BTreeSet<String> = of.keys().map(table).collect();
            tree.into_iter().filter(|(file, _)| tables.contains(&table(file))).collect::<Tree>()
        };
        let key = format!("round-{round}-of");
        node.killed(name, &key, point);
        let left = node.tree();
        let whole = of_tables(left.clone(), expected) == *expected;
        let untouched = of_tables(left, before) == *before;
        half += usize::from(!whole && !untouched);
        rounds += 1;
        // Everything that is needed has been brought, once anything was touched: the bucket may be away.
        let aside = store.with_file_name("aside");
        let decided = std::fs::read_to_string(node.folder().join("restore.json")).is_ok_and(|text| text.contains(&key));
        let alone = decided && !untouched && round % 3 == 0;
        if alone {
            std::fs::rename(&store, &aside).unwrap();
        }
        node.run(name, &key);
        if alone {
            let _ = std::fs::remove_dir_all(&store);
            std::fs::rename(&aside, &store).unwrap();
        }
        assert_eq!(of_tables(node.tree(), expected), *expected, "round {round}, {point:?}");
        assert_eq!(std::fs::read_to_string(node.sidecar.run.path().join(".last-restore")).unwrap(), key);
        assert_eq!(node.away(), 0);
    }
    (rounds, half)
}

#[tokio::test]
async fn a_kill_inside_the_switch_is_finished_by_the_next_start() {
    let moved = [1, 3, 8, 20, 40, 60, 80].map(Point::Moved);
    let (_, half) = killed_at([Point::Decided].into_iter().chain(moved).chain([Point::Marked])).await;
    assert!(half >= 3, "only {half} kills came in the middle of the switch");
}

#[tokio::test]
#[ignore = "a night's work: cargo nightly"]
async fn night_of_kills_inside_the_switch() {
    let (rounds, half) = killed_at((0..500).map(|round| Point::Moved(round % 100))).await;
    assert!(half * 2 > rounds, "only {half} of {rounds} kills came in the middle of the switch");
}
