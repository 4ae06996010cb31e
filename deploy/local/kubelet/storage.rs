//! The default storage class: a folder of this machine for each claim, removed with it.

use std::os::unix::fs::PermissionsExt as _;
use std::{fs, io};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Shared, uid};
use crate::apply::MANAGER;

/// The storage class, which is also the default.
const CLASS: &str = "local";

pub(crate) async fn register(shared: &Shared) -> kube::Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "stheno.local/folder", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
    });
    let classes: Api<StorageClass> = Api::all(shared.client.clone());
    classes.patch(CLASS, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&class)).await.map(|_| ())
}

/// Makes a volume for each claim that has none; the controller manager binds the two. Never ends.
pub(crate) async fn provide(shared: &Shared) {
    let claims: Api<PersistentVolumeClaim> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(claims, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let (Ok(watcher::Event::Apply(claim)) | Ok(watcher::Event::InitApply(claim))) = event else { continue };
        let spec = claim.spec.clone().unwrap_or_default();
        let ours = spec.storage_class_name.as_deref() == Some(CLASS) && spec.volume_name.is_none();
        if !ours || claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let made = volume_for(shared, &claim).await;
        if let Err(error) = made {
            tracing::warn!("no volume for the claim {}: {error}", claim.name_any());
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Kube(#[from] kube::Error),
}

async fn volume_for(shared: &Shared, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let (namespace, name, uid) = (claim.namespace().unwrap_or_default(), claim.name_any(), uid(claim));
    let folder = shared.folder.join("volumes").join(format!("{namespace}_{name}_{}", uid.get(..8).unwrap_or(&uid)));
    fs::create_dir_all(&folder)?;
    // Whatever user a container runs as may write.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    let spec = claim.spec.clone().unwrap_or_default();
    let requested = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("local-{uid}")},
        "spec": {
            "capacity": requested, "accessModes": spec.access_modes, "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": folder},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "uid": uid},
        },
    });
    let volumes: Api<PersistentVolume> = Api::all(shared.client.clone());
    volumes.patch(&format!("local-{uid}"), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&volume)).await?;
    Ok(())
}

/// Removes the folder and the volume of each claim that is gone. Never ends.
pub(crate) async fn reclaim(shared: &Shared) {
    let volumes: Api<PersistentVolume> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(volumes.clone(), watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let (Ok(watcher::Event::Apply(volume)) | Ok(watcher::Event::InitApply(volume))) = event else { continue };
        let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
        let spec = volume.spec.clone().unwrap_or_default();
        if !released || spec.storage_class_name.as_deref() != Some(CLASS) {
            continue;
        }
        if let Some(folder) = spec.host_path.map(|path| path.path)
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::debug!("{folder} was not removed: {error}");
        }
        if let Err(error) = volumes.delete(&volume.name_any(), &DeleteParams::default()).await {
            tracing::debug!("the volume {} was not deleted: {error}", volume.name_any());
        }
    }
}
