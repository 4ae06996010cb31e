//! The contents of ConfigMaps, Secrets, projected and downward API volumes, and how they are published: all at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Secret, ServiceAccount,
};
use kube::Api;
use kube::api::PostParams;

use super::Shared;
use super::environment::{self, Facts};

const DEFAULT_MODE: i32 = 0o644;

/// Files of a volume: path, content, mode.
pub(crate) type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// What is needed and not there yet, or what cannot be had at all; a sentence for the container's status.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(pub(crate) String);

impl From<kube::Error> for Missing {
    fn from(error: kube::Error) -> Self {
        Self(format!("the API server did not answer: {error}"))
    }
}

/// The entries of a ConfigMap, or none when it is optional and absent.
pub(crate) async fn config_map(
    shared: &Shared,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, Vec<u8>>, Missing> {
    match Api::<ConfigMap>::namespaced(shared.client.clone(), namespace).get_opt(name).await? {
        Some(map) => {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            Ok(text.chain(binary).collect())
        }
        None if optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(Missing(format!("configmap \"{name}\" not found"))),
    }
}

/// The entries of a Secret, or none when it is optional and absent.
pub(crate) async fn secret(
    shared: &Shared,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, Vec<u8>>, Missing> {
    match Api::<Secret>::namespaced(shared.client.clone(), namespace).get_opt(name).await? {
        Some(secret) => Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()),
        None if optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(Missing(format!("secret \"{name}\" not found"))),
    }
}

/// The files that a list of keys makes of entries; all entries when there is no list.
pub(crate) fn chosen(
    entries: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
) -> Result<Files, Missing> {
    let bits = |own: Option<i32>| u32::try_from(own.or(mode).unwrap_or(DEFAULT_MODE)).unwrap_or_default();
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(entries.into_iter().map(|(key, content)| (key, (content, bits(None)))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match entries.get(&item.key) {
            Some(content) => {
                files.insert(item.path.clone(), (content.clone(), bits(item.mode)));
            }
            None if optional == Some(true) => {}
            None => return Err(Missing(format!("there is no key {} for the file {}", item.key, item.path))),
        }
    }
    Ok(files)
}

/// The files of a downward API volume.
pub(crate) fn downward(
    facts: &Facts<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: Option<i32>,
) -> Result<Files, Missing> {
    let mut files = Files::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => environment::field(facts, &field.field_path)?,
            (None, Some(resource)) => environment::resource(facts.pod, None, resource)?,
            (None, None) => return Err(Missing(format!("the file {} has no source", item.path))),
        };
        let bits = u32::try_from(item.mode.or(mode).unwrap_or(DEFAULT_MODE)).unwrap_or_default();
        files.insert(item.path.clone(), (text.into_bytes(), bits));
    }
    Ok(files)
}

/// The files of a projected volume.
pub(crate) async fn projected(
    shared: &Shared,
    facts: &Facts<'_>,
    source: &ProjectedVolumeSource,
) -> Result<Files, Missing> {
    let mut files = Files::new();
    let mode = source.default_mode;
    for part in source.sources.iter().flatten() {
        if let Some(map) = &part.config_map {
            let entries = config_map(shared, facts.namespace, &map.name, map.optional).await?;
            files.extend(chosen(entries, map.items.as_deref(), mode, map.optional)?);
        } else if let Some(from) = &part.secret {
            let entries = secret(shared, facts.namespace, &from.name, from.optional).await?;
            files.extend(chosen(entries, from.items.as_deref(), mode, from.optional)?);
        } else if let Some(from) = &part.downward_api {
            files.extend(downward(facts, from.items.as_deref().unwrap_or_default(), mode)?);
        } else if let Some(token) = &part.service_account_token {
            let account = environment::field(facts, "spec.serviceAccountName")?;
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: token.audience.clone().map(|audience| vec![audience]),
                    expiration_seconds: token.expiration_seconds,
                    ..TokenRequestSpec::default()
                }),
                ..TokenRequest::default()
            };
            let accounts: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), facts.namespace);
            let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await?;
            let text = answer.status.map(|status| status.token).unwrap_or_default();
            files.insert(token.path.clone(), (text.unwrap_or_default().into_bytes(), 0o600));
        } else {
            return Err(Missing(
                "a projected volume has a source other than configMap, secret, downwardAPI and serviceAccountToken, \
                 which is not supported"
                    .to_owned(),
            ));
        }
    }
    Ok(files)
}

/// Puts the files into the folder, all of them at one moment: they lie in a folder of their own, which a link names. What
/// is unchanged is left alone.
pub(crate) fn publish(folder: &Path, files: &Files) -> io::Result<()> {
    let link = folder.join("..data");
    let now = fs::read_link(&link).ok();
    if let Some(current) = &now
        && read(&folder.join(current)).is_ok_and(|there| there == *files)
    {
        return Ok(());
    }
    let number = now.as_deref().and_then(Path::to_str).and_then(|name| name.strip_prefix("..")?.parse::<u64>().ok());
    let next = format!("..{}", number.map_or(0, |number| number + 1));
    let place = folder.join(&next);
    for (path, (content, mode)) in files {
        let file = place.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&place))?;
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    fs::create_dir_all(&place)?;
    let new_link = folder.join("..data_tmp");
    let _ = fs::remove_file(&new_link);
    symlink(&next, &new_link)?;
    fs::rename(&new_link, &link)?;

    let wanted: Vec<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        if fs::symlink_metadata(folder.join(name)).is_err() {
            symlink(format!("..data/{name}"), folder.join(name))?;
        }
    }
    if let Some(old) = now {
        let _ = fs::remove_dir_all(folder.join(old));
    }
    Ok(())
}

fn read(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            files.insert(name, (fs::read(&path)?, mode));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_together_and_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let files = |list: &[(&str, &str)]| -> Files {
            list.iter().map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), 0o644))).collect()
        };
        let text = |path: &str| fs::read_to_string(folder.path().join(path)).ok();
        publish(folder.path(), &files(&[("a", "1"), ("sub/b", "2")])).unwrap();
        assert_eq!((text("a"), text("sub/b")), (Some("1".to_owned()), Some("2".to_owned())));
        let place = fs::read_link(folder.path().join("..data")).unwrap();
        publish(folder.path(), &files(&[("a", "1"), ("sub/b", "2")])).unwrap();
        assert_eq!(fs::read_link(folder.path().join("..data")).unwrap(), place, "what is unchanged is left alone");
        publish(folder.path(), &files(&[("a", "3"), ("c", "4")])).unwrap();
        assert_eq!((text("a"), text("sub/b"), text("c")), (Some("3".to_owned()), None, Some("4".to_owned())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
