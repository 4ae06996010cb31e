//! The place of one pod: its folder, its address, its volumes; gone with this value.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;

use super::network::{self, PodNetwork};
use super::{Shared, lock, names, uid};

/// Where one pod lives.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) folder: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) network: PodNetwork,
}

/// Why a pod has no place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error("the pod's folder {} cannot be made", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Place {
    pub(crate) async fn make(shared: &Shared, pod: &Pod) -> Result<Self, Error> {
        let (namespace, name, uid) = (pod.namespace().unwrap_or_default(), pod.name_any(), uid(pod));
        let short = uid.get(..8).unwrap_or(&uid);
        let folder = shared.folder.join("pods").join(format!("{namespace}_{name}_{short}"));
        let logs = shared.folder.join("logs").join(format!("{namespace}_{name}"));
        // Those of a pod of that name that is gone are kept beside; no name holds a tilde.
        let before = shared.folder.join("logs").join(format!("{namespace}_{name}~before"));
        if logs.exists() {
            let _ = fs::remove_dir_all(&before);
            let _ = fs::rename(&logs, &before);
            shared.log_times.forget(&logs);
        }
        for path in [&folder, &logs] {
            fs::create_dir_all(path).map_err(|source| Error::Folder { path: path.clone(), source })?;
        }
        let used: Vec<String> = lock(&shared.places).values().map(|place| place.ip()).collect();
        let network = shared.network.join(&used, &folder, |command| network::mark(command, shared.run.path(), &uid));
        let network = network.await?;
        let place = Self { namespace, name, uid, folder, logs, network };
        let hosts = names::hosts(shared, &place.namespace, &place.name, &place.ip());
        fs::write(place.hosts(), hosts).map_err(|source| Error::Folder { path: place.hosts(), source })?;
        Ok(place)
    }

    pub(crate) fn ip(&self) -> String {
        self.network.ip().to_string()
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.folder.join("hosts")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Which folder lies behind each mount path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts(Vec<Mount>);

#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) path: String,
    pub(crate) source: PathBuf,
    pub(crate) read_only: bool,
}

impl Mounts {
    /// Those of one container; `volumes` are the pod's.
    pub(crate) fn of(container: &Container, volumes: &BTreeMap<String, PathBuf>) -> Result<Self, String> {
        let mounts = container.volume_mounts.iter().flatten().map(|mount| {
            let volume = volumes.get(&mount.name).ok_or_else(|| format!("there is no volume {}", mount.name))?;
            if mount.sub_path_expr.is_some() {
                return Err(format!("subPathExpr of the mount {} is not supported: use subPath", mount.mount_path));
            }
            let source = match mount.sub_path.as_deref() {
                None | Some("") => volume.clone(),
                Some(sub) => volume.join(sub),
            };
            let path = mount.mount_path.trim_end_matches('/').to_owned();
            Ok(Mount { path, source, read_only: mount.read_only == Some(true) })
        });
        mounts.collect::<Result<Vec<_>, String>>().map(Self)
    }

    fn with_others(&self, others: impl IntoIterator<Item = Self>) -> Self {
        let mut all = self.0.clone();
        for mount in others.into_iter().flat_map(|mounts| mounts.0) {
            if !all.iter().any(|there| there.path == mount.path) {
                all.push(mount);
            }
        }
        Self(all)
    }

    /// Those of all containers of the pod.
    pub(crate) fn of_pod(pod: &Pod, volumes: &BTreeMap<String, PathBuf>) -> Self {
        Self::default().with_pod(pod, volumes)
    }

    /// These and, for paths that they lack, those of all containers of the pod.
    pub(crate) fn with_pod(&self, pod: &Pod, volumes: &BTreeMap<String, PathBuf>) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let containers = spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
        self.with_others(containers.filter_map(|container| Self::of(&container, volumes).ok()))
    }

    /// Without namespaces: a text with the paths and addresses that it means to a pod with that address.
    pub(crate) fn localized(&self, ip: &str, text: &str) -> String {
        let own = format!("//{ip}:");
        self.replace(text).replace("0.0.0.0", ip).replace("//localhost:", &own).replace("//127.0.0.1:", &own)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// Replaces each mount path, where it stands as a whole path or begins one, by the folder behind it.
    pub(crate) fn replace(&self, text: &str) -> String {
        let mut longest_first: Vec<&Mount> = self.0.iter().filter(|mount| !mount.path.is_empty()).collect();
        longest_first.sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
        let word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c));
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        'text: while !rest.is_empty() {
            if !word(replaced.chars().next_back()) && !replaced.ends_with('/') {
                for mount in &longest_first {
                    if let Some(after) = rest.strip_prefix(mount.path.as_str())
                        && !word(after.chars().next())
                    {
                        replaced.push_str(&mount.source.to_string_lossy());
                        rest = after;
                        continue 'text;
                    }
                }
            }
            let mut characters = rest.chars();
            replaced.extend(characters.next());
            rest = characters.as_str();
        }
        replaced
    }
}

/// Quotes a word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// [`quoted`] for a path.
pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_are_replaced_as_whole_paths_only() {
        let mount = |path: &str, source: &str| Mount { path: path.to_owned(), source: source.into(), read_only: false };
        let mounts = Mounts(vec![
            mount("/config", "/v/config"),
            mount("/var/lib/cassandra", "/v/data"),
            mount("/tmp", "/v/tmp"),
        ]);
        assert_eq!(mounts.replace("--at=/config/a.yaml:/var/lib/cassandra"), "--at=/v/config/a.yaml:/v/data");
        assert_eq!(mounts.replace("/configs /etc/config /x/tmp ./tmp"), "/configs /etc/config /x/tmp ./tmp");
        assert_eq!(mounts.replace("cp /tmp/ä '/config'"), "cp /v/tmp/ä '/v/config'");
    }
}
