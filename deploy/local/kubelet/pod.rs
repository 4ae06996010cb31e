//! The life of one pod: a place, volumes, init containers in order, containers side by side, and an orderly end.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::sync::watch;
use tokio::time::sleep;

use super::container::{End, Runner};
use super::place::Place;
use super::status::{Phase, Status};
use super::{LOOK, Shared, lock, volumes};

/// The pod as it is now; nothing when the API server has it no more.
pub(crate) type Updates = watch::Receiver<Option<Arc<Pod>>>;

/// Returns when the pod is to stop.
pub(crate) async fn stopped(updates: &mut Updates) {
    let to_stop = |pod: &Option<Arc<Pod>>| pod.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    // An error means that nobody follows the pod any more.
    let _ = updates.wait_for(to_stop).await;
}

/// Runs the pod to its end, and has its object deleted when that was asked for.
pub(crate) async fn live(shared: Arc<Shared>, pod: Arc<Pod>, mut updates: Updates) {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = Status::new(spec.init_containers.as_deref().unwrap_or_default(), &spec.containers);
    let (namespace, name) =
        (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let uid = super::uid(&*pod);
    let finished = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !matches!(finished, Some("Succeeded" | "Failed")) {
        tokio::select! {
            // A change that is made at the same time as the end is written below.
            biased;
            () = status.publish(&shared, &namespace, &name, &uid) => {}
            () = run(&shared, &pod, &spec, &status, &mut updates) => {}
        }
        status.stopping();
        status.write(&shared, &namespace, &name, &uid, &mut serde_json::Value::Null).await;
        lock(&shared.places).remove(&uid);
        shared.names_changed.notify_one();
    }
    stopped(&mut updates).await;
    if updates.borrow().is_some() {
        let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
        let ours = Preconditions { uid: Some(uid), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(ours), ..DeleteParams::default() };
        while let Err(error) = pods.delete(&name, &params).await {
            if matches!(&error, kube::Error::Api(refused) if matches!(refused.code, 404 | 409)) {
                break;
            }
            tracing::debug!("{namespace}/{name} was not deleted: {error}");
            sleep(LOOK).await;
        }
    }
}

/// Returns when the pod is to stop and all its processes have ended.
async fn run(shared: &Arc<Shared>, pod: &Arc<Pod>, spec: &PodSpec, status: &Status, updates: &mut Updates) {
    if let Some(sentence) = unsupported(spec) {
        status.all_waiting("Unsupported", &sentence);
        return stopped(updates).await;
    }
    let Some(place) = settle(shared, pod, status, updates).await else { return };
    let current = {
        let (updates, first) = (updates.clone(), pod.clone());
        move || updates.borrow().clone().unwrap_or_else(|| first.clone())
    };
    let volumes = loop {
        let made = tokio::select! {
            made = volumes::make(shared, pod, &place) => made,
            () = stopped(updates) => return,
        };
        match made {
            Ok(volumes) => break volumes,
            Err(missing) => status.all_waiting("ContainerCreating", &missing.to_string()),
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = stopped(updates) => return,
        }
    };
    status.all_waiting("PodInitializing", "");
    let runner = Runner { shared, pod, place: &place, status, volumes: &volumes };
    tokio::select! {
        () = volumes::refresh(shared, &place, &volumes, current) => {}
        () = containers(&runner, spec, updates.clone()) => {}
    }
}

async fn settle(shared: &Arc<Shared>, pod: &Pod, status: &Status, updates: &mut Updates) -> Option<Arc<Place>> {
    loop {
        let made = tokio::select! {
            made = Place::make(shared, pod) => made,
            () = stopped(updates) => return None,
        };
        match made {
            Ok(place) => {
                let place = Arc::new(place);
                lock(&shared.places).insert(place.uid.clone(), place.clone());
                status.place(place.ip());
                shared.names_changed.notify_one();
                return Some(place);
            }
            Err(error) => {
                status.all_waiting("ContainerCreating", &format!("{:#}", anyhow::Error::from(error)));
                tokio::select! {
                    () = sleep(LOOK * 5) => {}
                    () = stopped(updates) => return None,
                }
            }
        }
    }
}

async fn containers(runner: &Runner<'_>, spec: &PodSpec, mut updates: Updates) {
    for container in spec.init_containers.iter().flatten() {
        match runner.run(container, true, updates.clone()).await {
            End::Stopped => return,
            End::Done(true) => {}
            End::Done(false) => {
                runner.status.phase(Phase::Failed);
                return stopped(&mut updates).await;
            }
        }
    }
    runner.status.phase(Phase::Running);
    let ends = join_all(spec.containers.iter().map(|container| runner.run(container, false, updates.clone()))).await;
    if ends.iter().any(|end| matches!(end, End::Stopped)) {
        return;
    }
    let all_well = ends.iter().all(|end| matches!(end, End::Done(true)));
    runner.status.phase(if all_well { Phase::Succeeded } else { Phase::Failed });
    stopped(&mut updates).await;
}

/// What a pod asks for that this kubelet cannot do, as a sentence.
fn unsupported(spec: &PodSpec) -> Option<String> {
    if spec.host_network == Some(true) || spec.host_pid == Some(true) {
        return Some(
            "hostNetwork and hostPID are not supported: a pod has its own network and no process namespace".into(),
        );
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    if let Some(sidecar) = inits.iter().find(|container| container.restart_policy.is_some()) {
        return Some(format!(
            "the init container {} has a restartPolicy, which is not supported: make it a container",
            sidecar.name
        ));
    }
    inits.iter().chain(&spec.containers).find_map(unsupported_of_container)
}

fn unsupported_of_container(container: &Container) -> Option<String> {
    let name = &container.name;
    if container.tty == Some(true) {
        return Some(format!(
            "the container {name} asks for a terminal (tty), which is not supported: use `kubectl exec -t`"
        ));
    }
    let lifecycle = container.lifecycle.clone().unwrap_or_default();
    if lifecycle.post_start.is_some() {
        return Some(format!(
            "the container {name} has a postStart hook, which is not supported: begin its command with it"
        ));
    }
    if lifecycle.pre_stop.is_some_and(|hook| hook.exec.is_none() && hook.sleep.is_none()) {
        return Some(format!("the preStop hook of the container {name} is not supported: use exec or sleep"));
    }
    let https = |probe: &Option<Probe>| {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref());
        get.is_some_and(|get| get.scheme.as_deref() == Some("HTTPS"))
    };
    if https(&container.liveness_probe) || https(&container.readiness_probe) || https(&container.startup_probe) {
        return Some(format!("a probe of the container {name} uses HTTPS, which is not supported: use exec"));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_supported_is_said_with_the_way_out() {
        let container = |more: serde_json::Value| {
            let mut container = json!({"name": "a"});
            container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        let get = |scheme: &str| json!({"httpGet": {"port": 1, "scheme": scheme}});
        let cases = [
            (json!({"containers": [], "hostNetwork": true}), "hostNetwork and hostPID are not supported"),
            (json!({"containers": [], "hostPID": true}), "hostNetwork and hostPID are not supported"),
            (
                json!({"containers": [], "initContainers": [{"name": "i", "restartPolicy": "Always"}]}),
                "the init container i has a restartPolicy, which is not supported: make it a container",
            ),
            (container(json!({"tty": true})), "use `kubectl exec -t`"),
            (container(json!({"lifecycle": {"postStart": {"exec": {}}}})), "postStart hook, which is not supported: "),
            (
                container(json!({"lifecycle": {"preStop": get("HTTP")}})),
                "preStop hook of the container a is not supported: use",
            ),
            (container(json!({"livenessProbe": get("HTTPS")})), "uses HTTPS, which is not supported: use exec"),
            (container(json!({"readinessProbe": get("HTTPS")})), "uses HTTPS, which is not supported: use exec"),
            (container(json!({"startupProbe": get("HTTPS")})), "uses HTTPS, which is not supported: use exec"),
        ];
        for (spec, sentence) in cases {
            let said = unsupported(&serde_json::from_value(spec.clone()).unwrap()).unwrap_or_default();
            assert!(said.contains(sentence), "{spec}: {said}");
        }
        let fine =
            container(json!({"livenessProbe": get("HTTP"), "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}));
        assert_eq!(unsupported(&serde_json::from_value(fine).unwrap()), None);
    }
}
