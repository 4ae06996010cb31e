//! cass-operator's CustomResourceDefinitions as its kustomization makes them: the files of `bases` less what `patches` remove.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The definitions are not as this code knows them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cass-operator's definitions cannot be read from {} (remove that folder of the cache, and it is made again)", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is no YAML of the expected shape.
    #[error("{} is not what cass-operator's version is known to have", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// A patch that this code cannot apply.
    #[error("the patch `{op} {path}` of cass-operator's definitions fits nothing, or is no removal")]
    Patch {
        /// What it does.
        op: String,
        /// Where.
        path: String,
    },
}

#[derive(Debug, Deserialize)]
struct Change {
    op: String,
    path: String,
}

/// The definitions in the folder `config/crd` of the module, as one YAML text.
pub(crate) fn of(folder: &Path) -> Result<String, Error> {
    let mut definitions: Vec<Value> = read(&folder.join("bases"))?;
    let changes: Vec<Vec<Change>> = read(&folder.join("patches"))?;
    // Both patches are for datacenters; the kustomization says so.
    let of_datacenters =
        |value: &&mut Value| value["metadata"]["name"] == "cassandradatacenters.cassandra.datastax.com";
    if let Some(datacenters) = definitions.iter_mut().find(of_datacenters) {
        for change in changes.into_iter().flatten() {
            remove(datacenters, &change).ok_or(Error::Patch { op: change.op, path: change.path })?;
        }
    }
    Ok(definitions.iter().map(|definition| format!("---\n{definition}\n")).collect())
}

fn remove(value: &mut Value, change: &Change) -> Option<()> {
    let (parent, field) = change.path.rsplit_once('/').filter(|_| change.op == "remove")?;
    value.pointer_mut(parent)?.as_object_mut()?.remove(field).map(|_| ())
}

fn read<T: for<'de> Deserialize<'de>>(folder: &Path) -> Result<Vec<T>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        paths.push(entry.map_err(failed(folder))?.path());
    }
    paths.sort();
    let one = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        serde_yaml_ng::from_str(&text).map_err(|source| Error::Shape { path, source })
    };
    paths.into_iter().map(one).collect()
}
