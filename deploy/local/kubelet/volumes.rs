//! The volumes of a pod: made before its first container, and kept up to date while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;

use super::Shared;
use super::environment::Facts;
use super::files::{self, Files, Missing};
use super::place::{Mounts, Place};

/// How often ConfigMaps, Secrets and labels are looked at again. A kubelet takes up to a minute.
const REFRESH: Duration = Duration::from_secs(5);

/// The folders behind the pod's volumes, by name.
pub(crate) async fn make(shared: &Shared, pod: &Pod, place: &Place) -> Result<BTreeMap<String, PathBuf>, Missing> {
    let mut made = BTreeMap::new();
    // Files of ConfigMaps may name the paths of all others.
    let (maps, others): (Vec<&Volume>, Vec<&Volume>) =
        pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).partition(|volume| volume.config_map.is_some());
    for volume in &maps {
        made.insert(volume.name.clone(), folder(place, volume));
    }
    for volume in others.into_iter().chain(maps) {
        let path = one(shared, pod, place, volume, &made).await?;
        made.insert(volume.name.clone(), path);
    }
    Ok(made)
}

/// Publishes what has changed; never ends. `current` gives the pod as it is now, for its labels and annotations.
pub(crate) async fn refresh(
    shared: &Shared,
    place: &Place,
    made: &BTreeMap<String, PathBuf>,
    current: impl Fn() -> std::sync::Arc<Pod>,
) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let pod = current();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let renewed = match content(shared, &pod, place, volume, made).await {
                Ok(Some(files)) => publish(&folder(place, volume), &files),
                Ok(None) => Ok(()),
                Err(missing) => Err(missing),
            };
            if let Err(missing) = renewed {
                tracing::debug!("the volume {} of {} stays as it is: {missing}", volume.name, place.name);
            }
        }
    }
}

fn folder(place: &Place, volume: &Volume) -> PathBuf {
    place.folder.join("volumes").join(&volume.name)
}

async fn one(
    shared: &Shared,
    pod: &Pod,
    place: &Place,
    volume: &Volume,
    made: &BTreeMap<String, PathBuf>,
) -> Result<PathBuf, Missing> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return claimed(shared, place, &claim.claim_name).await;
    }
    if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    }
    let folder = folder(place, volume);
    fs::create_dir_all(&folder)
        .map_err(|error| Missing(format!("the folder of the volume {} cannot be made: {error}", volume.name)))?;
    match content(shared, pod, place, volume, made).await? {
        Some(files) => publish(&folder, &files)?,
        None if volume.empty_dir.is_some() => {
            let opened = fs::set_permissions(&folder, fs::Permissions::from_mode(0o777));
            opened.map_err(|error| Missing(format!("the volume {} cannot be opened: {error}", volume.name)))?;
        }
        None => {
            return Err(Missing(format!(
                "the kind of the volume {} is not supported: use emptyDir, configMap, secret, projected, downwardAPI, \
                 hostPath or persistentVolumeClaim",
                volume.name
            )));
        }
    }
    Ok(folder)
}

fn publish(folder: &Path, files: &Files) -> Result<(), Missing> {
    files::publish(folder, files).map_err(|error| Missing(format!("{} cannot be written: {error}", folder.display())))
}

async fn claimed(shared: &Shared, place: &Place, name: &str) -> Result<PathBuf, Missing> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &place.namespace);
    let claim = claims.get_opt(name).await?.ok_or_else(|| Missing(format!("there is no claim {name}")))?;
    let bound = claim.status.and_then(|status| status.phase).as_deref() == Some("Bound");
    let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|_| bound);
    let volume = volume.ok_or_else(|| Missing(format!("the claim {name} is not bound")))?;
    let volume = Api::<PersistentVolume>::all(shared.client.clone()).get(&volume).await?;
    let path = volume.spec.and_then(|spec| spec.host_path.map(|host| host.path).or(spec.local.map(|local| local.path)));
    path.map(PathBuf::from)
        .ok_or_else(|| Missing(format!("the volume of the claim {name} is no folder of this machine")))
}

/// The files of a volume whose content comes from the API server.
async fn content(
    shared: &Shared,
    pod: &Pod,
    place: &Place,
    volume: &Volume,
    made: &BTreeMap<String, PathBuf>,
) -> Result<Option<Files>, Missing> {
    let (ip, host) = (place.ip(), shared.network.host().to_string());
    let facts = Facts { pod, namespace: &place.namespace, ip: &ip, host: &host };
    let files = if let Some(map) = &volume.config_map {
        let entries = files::config_map(shared, facts.namespace, &map.name, map.optional).await?;
        let mut files = files::chosen(entries, map.items.as_deref(), map.default_mode, map.optional)?;
        if !shared.network.is_private() {
            let mounts = Mounts::of_pod(pod, made);
            for (content, _) in files.values_mut() {
                if let Ok(text) = std::str::from_utf8(content) {
                    *content = mounts.localized(&ip, text).into_bytes();
                }
            }
        }
        files
    } else if let Some(from) = &volume.secret {
        let name = from.secret_name.as_deref().unwrap_or_default();
        let entries = files::secret(shared, facts.namespace, name, from.optional).await?;
        files::chosen(entries, from.items.as_deref(), from.default_mode, from.optional)?
    } else if let Some(projected) = &volume.projected {
        files::projected(shared, &facts, projected).await?
    } else if let Some(downward) = &volume.downward_api {
        files::downward(&facts, downward.items.as_deref().unwrap_or_default(), downward.default_mode)?
    } else {
        return Ok(None);
    };
    Ok(Some(files))
}
