//! The environment of a container: literal values, references to fields, resources, ConfigMaps and Secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvVar, FileKeySelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use super::files::{Missing, config_map, secret};
use super::{Shared, envfile};

/// What fields of a pod are read from, and what its status does not say yet.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: &'a str,
    pub(crate) ip: &'a str,
    pub(crate) host: &'a str,
}

pub(crate) type Variables = BTreeMap<String, String>;

/// The variables that a container's spec asks for, in the order of Kubernetes: `envFrom` first, then `env`, where a
/// later value may name an earlier one as `$(NAME)`.
pub(crate) async fn of(
    shared: &Shared,
    facts: &Facts<'_>,
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Variables, Missing> {
    let mut variables = Variables::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let entries = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => config_map(shared, facts.namespace, &map.name, map.optional).await?,
            (None, Some(from)) => secret(shared, facts.namespace, &from.name, from.optional).await?,
            (None, None) => BTreeMap::new(),
        };
        for (key, value) in entries {
            variables.insert(format!("{prefix}{key}"), text(&key, value)?);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(shared, facts, container, variable, volumes, &variables).await? {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

async fn value(
    shared: &Shared,
    facts: &Facts<'_>,
    container: &Container,
    variable: &EnvVar,
    volumes: &BTreeMap<String, PathBuf>,
    earlier: &Variables,
) -> Result<Option<String>, Missing> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), earlier)));
    };
    let (entries, key, optional) = if let Some(field_ref) = &from.field_ref {
        return field(facts, &field_ref.field_path).map(Some);
    } else if let Some(wanted) = &from.resource_field_ref {
        return resource(facts.pod, Some(container), wanted).map(Some);
    } else if let Some(from) = &from.file_key_ref {
        return of_file(from, variable, volumes);
    } else if let Some(from) = &from.config_map_key_ref {
        (config_map(shared, facts.namespace, &from.name, from.optional).await?, &from.key, from.optional)
    } else if let Some(from) = &from.secret_key_ref {
        (secret(shared, facts.namespace, &from.name, from.optional).await?, &from.key, from.optional)
    } else {
        return Err(Missing(format!("the source of the variable {} is not supported", variable.name)));
    };
    match entries.into_iter().find(|(name, _)| name == key) {
        Some((_, value)) => text(key, value).map(Some),
        None if optional == Some(true) => Ok(None),
        None => Err(Missing(format!("there is no key {key} for the variable {}", variable.name))),
    }
}

/// From a file that an earlier container has written into a volume.
fn of_file(
    from: &FileKeySelector,
    variable: &EnvVar,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Option<String>, Missing> {
    let (name, optional) = (&variable.name, from.optional == Some(true));
    let folder = volumes.get(&from.volume_name);
    let folder = folder.ok_or_else(|| Missing(format!("there is no volume {} for {name}", from.volume_name)))?;
    let text = match std::fs::read_to_string(folder.join(&from.path)) {
        Ok(text) => text,
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Missing(format!("the file {} for {name} cannot be read: {error}", from.path))),
    };
    match envfile::value(&text, &from.key) {
        Ok(None) if !optional => Err(Missing(format!("the file {} has no {} for {name}", from.path, from.key))),
        Ok(found) => Ok(found),
        Err(why) => Err(Missing(format!("the file {} for {name} is no file of variables: {why}", from.path))),
    }
}

fn text(key: &str, value: Vec<u8>) -> Result<String, Missing> {
    String::from_utf8(value).map_err(|_| Missing(format!("the value of {key} is no text")))
}

/// Replaces `$(NAME)` by variables that are there; `$$` stands for a dollar.
pub(crate) fn expand(text: &str, variables: &Variables) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        match known.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = rest.strip_prefix("$$").unwrap_or(&rest[1..]);
            }
        }
    }
    expanded + rest
}

/// A field of the pod, by its path.
pub(crate) fn field(facts: &Facts<'_>, path: &str) -> Result<String, Missing> {
    let spec = facts.pod.spec.as_ref();
    let entry = |kind: &str| path.strip_prefix(&format!("metadata.{kind}['"))?.strip_suffix("']").map(str::to_owned);
    let all = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect::<String>()
    };
    Ok(match path {
        "metadata.name" => facts.pod.name_any(),
        "metadata.namespace" => facts.namespace.to_owned(),
        "metadata.uid" => super::uid(facts.pod),
        "metadata.labels" => all(facts.pod.labels()),
        "metadata.annotations" => all(facts.pod.annotations()),
        "spec.nodeName" => super::node::NAME.to_owned(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".to_owned())
        }
        "status.podIP" | "status.podIPs" => facts.ip.to_owned(),
        "status.hostIP" | "status.hostIPs" => facts.host.to_owned(),
        _ => match (entry("labels"), entry("annotations")) {
            (Some(key), _) => facts.pod.labels().get(&key).cloned().unwrap_or_default(),
            (None, Some(key)) => facts.pod.annotations().get(&key).cloned().unwrap_or_default(),
            (None, None) => return Err(Missing(format!("the field {path} is not supported"))),
        },
    })
}

/// A container's request or limit in units of the divisor, rounded up; 0 when it has none.
pub(crate) fn resource(
    pod: &Pod,
    container: Option<&Container>,
    wanted: &ResourceFieldSelector,
) -> Result<String, Missing> {
    let named = wanted.container_name.as_deref();
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let found = match named {
        Some(name) => containers.clone().find(|container| container.name == name),
        None => container,
    };
    let container = found.ok_or_else(|| Missing(format!("no container for the resource {}", wanted.resource)))?;
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = wanted.resource.split_once('.').unwrap_or_default();
    let amounts = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(Missing(format!("the resource {} is not supported", wanted.resource))),
    };
    let amount = amounts.unwrap_or_default().get(name).cloned().unwrap_or(Quantity("0".to_owned()));
    let divisor = wanted.divisor.clone().filter(|divisor| divisor.0 != "0").unwrap_or(Quantity("1".to_owned()));
    let parsed = quantity(&amount.0).zip(quantity(&divisor.0));
    let (amount, divisor) = parsed.ok_or_else(|| Missing(format!("{} is no quantity", amount.0)))?;
    Ok(format!("{}", (amount / divisor).ceil()))
}

fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let found = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_variables_are_expanded() {
        let variables = Variables::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x$(A)y $(B) $$(A) $ €$", &variables), "x1y $(B) $(A) $ €$");
    }

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "uid": "u", "labels": {"a/b": "c", "q": "\"x\""}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "2Gi"}}}]},
        }))
        .unwrap();
        let facts = Facts { pod: &pod, namespace: "n", ip: "10.0.0.1", host: "10.0.0.2" };
        let field = |path: &str| field(&facts, path).unwrap();
        assert_eq!(field("metadata.labels['a/b']"), "c");
        assert_eq!(field("metadata.labels"), "a/b=\"c\"\nq=\"\\\"x\\\"\"\n");
        assert_eq!(field("status.podIP"), "10.0.0.1");
        assert!(super::field(&facts, "spec.hostname").is_err());
        let amount = |name: &str, divisor: &str| {
            let wanted = ResourceFieldSelector {
                resource: name.to_owned(),
                container_name: Some("c".to_owned()),
                divisor: Some(Quantity(divisor.to_owned())),
            };
            resource(&pod, None, &wanted).unwrap()
        };
        assert_eq!(amount("limits.cpu", "1"), "2");
        assert_eq!(amount("limits.cpu", "1m"), "1500");
        assert_eq!(amount("limits.memory", "1Mi"), "2048");
        assert_eq!(amount("requests.memory", "0"), "0");
    }
}
