//! The files of tables, and what stands for nodetool: snapshots are hard links, as Cassandra's.

use std::fs;
use std::path::Path;

use rand::{RngCore as _, SeedableRng as _};

/// The argument with which this program is nodetool; the data directory follows.
pub(crate) const NODETOOL: &str = "--nodetool";

/// So many tables of so many files of so many bytes.
pub(crate) struct Shape {
    pub(crate) title: &'static str,
    pub(crate) tables: usize,
    pub(crate) files: usize,
    pub(crate) bytes: usize,
}

/// Writes the tables as a node has them.
pub(crate) fn fill(data: &Path, shape: &Shape) {
    let mut noise = rand::rngs::SmallRng::seed_from_u64(shape.bytes as u64);
    let mut content = vec![0; shape.bytes];
    for table in 0..shape.tables {
        let dir = data.join(format!("shop/t{table}-{:032x}", shape.tables * 1000 + table));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..shape.files {
            noise.fill_bytes(&mut content);
            fs::write(dir.join(format!("nb-{file}-big-Data.db")), &content).unwrap();
        }
    }
}

/// Removes all tables.
pub(crate) fn empty(data: &Path) {
    fs::remove_dir_all(data).unwrap();
    fs::create_dir_all(data).unwrap();
}

/// How many files there are below a directory, and bytes.
pub(crate) fn extent(root: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(root).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = extent(&entry.path());
            (files, bytes) = (files + below.0, bytes + below.1);
        } else {
            (files, bytes) = (files + 1, bytes + entry.metadata().unwrap().len());
        }
    }
    (files, bytes)
}

/// `snapshot -t TAG` and `clearsnapshot -t TAG` over the tables of a data directory.
pub(crate) fn nodetool(arguments: &[String]) {
    let (data, rest) = arguments.split_first().expect("the data directory comes first");
    let mut words = rest.iter().map(String::as_str).skip_while(|word| word.starts_with("-D"));
    let command = words.next().expect("a command");
    let tag = words.skip_while(|word| *word != "-t").nth(1).expect("-t TAG");
    for keyspace in fs::read_dir(data).unwrap() {
        for table in fs::read_dir(keyspace.unwrap().path()).unwrap() {
            let table = table.unwrap().path();
            let snapshot = table.join("snapshots").join(tag);
            match command {
                "snapshot" => {
                    fs::create_dir_all(&snapshot).unwrap();
                    for file in fs::read_dir(&table).unwrap() {
                        let file = file.unwrap();
                        if file.file_type().unwrap().is_file() {
                            fs::hard_link(file.path(), snapshot.join(file.file_name())).unwrap();
                        }
                    }
                }
                "clearsnapshot" if snapshot.exists() => fs::remove_dir_all(&snapshot).unwrap(),
                "clearsnapshot" => {}
                other => panic!("nodetool {other} is not known here"),
            }
        }
    }
}
