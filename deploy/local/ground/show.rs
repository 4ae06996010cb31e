//! `status`: what runs in each ground, and how much memory it takes.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use stheno_local::control_plane::client;
use stheno_local::grounds::{self, Ground};

/// All grounds, or the one of that name.
pub(crate) async fn status(name: Option<&str>) -> anyhow::Result<()> {
    let grounds = match name {
        Some(name) => vec![grounds::find(name)?],
        None => grounds::all(),
    };
    if grounds.is_empty() {
        println!("no ground is up: `stheno-local up` makes one");
    }
    for ground in grounds {
        println!("ground {}\n  KUBECONFIG={}", ground.name, ground.kubeconfig.display());
        for (part, resident) in grounds::memory(&ground) {
            println!("  {part:<24} {:>6} MiB", resident / 1024);
        }
        let seen = cluster(&ground).await;
        seen.with_context(|| format!("the API server of {} does not answer", ground.name))?;
    }
    Ok(())
}

async fn cluster(ground: &Ground) -> anyhow::Result<()> {
    let client = client(&ground.kubeconfig).await?;
    for datacenter in datacenters(&client).await? {
        let conditions = datacenter.data.pointer("/status/conditions").and_then(Value::as_array);
        let held = conditions.into_iter().flatten().filter(|condition| condition["status"] == "True");
        let words: Vec<&str> = held.filter_map(|condition| condition["type"].as_str()).collect();
        println!(
            "  CassandraDatacenter {}/{}: {}",
            datacenter.namespace().unwrap_or_default(),
            datacenter.name_any(),
            words.join(", ")
        );
    }
    for pod in Api::<Pod>::all(client).list(&ListParams::default()).await?.items {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        println!(
            "  pod {}/{}: {}, {} of {} containers ready, {}",
            pod.namespace().unwrap_or_default(),
            pod.name_any(),
            status.phase.unwrap_or_default(),
            containers.iter().filter(|container| container.ready).count(),
            containers.len(),
            status.pod_ip.unwrap_or_default(),
        );
    }
    Ok(())
}

async fn datacenters(client: &Client) -> kube::Result<Vec<DynamicObject>> {
    let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    Ok(api.list(&ListParams::default()).await?.items)
}
