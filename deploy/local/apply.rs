//! Applies manifests of any kind as `kubectl apply --server-side` does, and waits for the kinds that they bring.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, ApiResource, Scope};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The field manager of all that is applied here.
pub const MANAGER: &str = "stheno-local";
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Why a manifest was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not YAML, or not of Kubernetes objects.
    #[error("document {0} of the manifest is not a Kubernetes object")]
    Manifest(usize, #[source] serde_yaml_ng::Error),
    /// An object without something that applying needs.
    #[error("document {document} of the manifest has no {field}")]
    Missing {
        /// Which document, from 1.
        document: usize,
        /// The field that it lacks.
        field: &'static str,
    },
    /// The API server does not know the kind.
    #[error("the API server has no {0}: apply its CustomResourceDefinition first")]
    Kind(String, #[source] kube::Error),
    /// The API server refused an object.
    #[error("{0} was refused")]
    Refused(String, #[source] kube::Error),
    /// A CustomResourceDefinition that is not served.
    #[error("the kind of {name} is not established after {} s: {conditions}", PATIENCE.as_secs())]
    NotEstablished {
        /// The CustomResourceDefinition.
        name: String,
        /// Its conditions, as the API server says them.
        conditions: Value,
    },
}

/// Applies all documents of `yaml` in their order, taking over fields of other managers, and returns what is then there.
/// Objects of namespaced kinds without a namespace go to `default`. A CustomResourceDefinition is established before
/// the first object of another kind that follows it, and before this returns.
pub async fn apply_yaml(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
    let mut kinds = BTreeMap::new();
    let mut applied = Vec::new();
    let mut definitions: Vec<DynamicObject> = Vec::new();
    for (number, manifest) in documents(yaml)? {
        let is_definition = manifest["kind"] == "CustomResourceDefinition";
        if !is_definition {
            establish(client, &definitions).await?;
            definitions.clear();
        }
        let object = apply(client, &mut kinds, number, manifest).await?;
        if is_definition {
            definitions.push(object.clone());
        }
        applied.push(object);
    }
    establish(client, &definitions).await?;
    Ok(applied)
}

/// The objects of the text with the number of their document; a List counts as its items.
fn documents(yaml: &str) -> Result<Vec<(usize, Value)>, Error> {
    let mut found = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(yaml).enumerate() {
        let number = index + 1;
        let mut value = Value::deserialize(document).map_err(|error| Error::Manifest(number, error))?;
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => found.extend(items.into_iter().map(|item| (number, item))),
            _ if value.is_null() => {}
            _ => found.push((number, value)),
        }
    }
    Ok(found)
}

type Kinds = BTreeMap<(String, String), (ApiResource, ApiCapabilities)>;

async fn apply(client: &Client, kinds: &mut Kinds, document: usize, manifest: Value) -> Result<DynamicObject, Error> {
    let text = |pointer, field| match manifest.pointer(pointer).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::Missing { document, field }),
    };
    let (version, kind) = (text("/apiVersion", "apiVersion")?, text("/kind", "kind")?);
    let name = text("/metadata/name", "metadata.name")?;
    let key = (version, kind);
    if !kinds.contains_key(&key) {
        let found = discover(client, &key.0, &key.1).await?;
        kinds.insert(key.clone(), found);
    }
    let (resource, capabilities) = &kinds[&key];
    let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, resource),
        Scope::Cluster => Api::all_with(client.clone(), resource),
    };
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&manifest))
        .await
        .map_err(|error| Error::Refused(format!("{} {name}", key.1), error))
}

/// A kind may be established and yet missing from discovery for a moment, so a miss is asked again for a while.
async fn discover(client: &Client, version: &str, kind: &str) -> Result<(ApiResource, ApiCapabilities), Error> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let wanted = GroupVersionKind::gvk(group, version, kind);
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        match discovery::pinned_kind(client, &wanted).await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(Error::Kind(format!("{kind} in {group}/{version}"), error));
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn establish(client: &Client, definitions: &[DynamicObject]) -> Result<(), Error> {
    let wanted = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&wanted));
    for definition in definitions {
        let name = definition.name_any();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = api.get(&name).await.map_err(|error| Error::Refused(name.clone(), error))?;
            let conditions = seen.data.pointer("/status/conditions").cloned().unwrap_or_default();
            let is = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
            if conditions.as_array().into_iter().flatten().any(is) {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::NotEstablished { name, conditions });
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_counted_and_lists_opened() {
        let yaml = "---\nkind: A\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n";
        let found = documents(yaml).unwrap();
        let kinds: Vec<_> = found.iter().map(|(number, value)| (*number, value["kind"].as_str().unwrap())).collect();
        assert_eq!(kinds, [(1, "A"), (3, "B"), (3, "C")]);
        assert!(documents("a: b: c").unwrap_err().to_string().contains("document 1"));
    }
}
