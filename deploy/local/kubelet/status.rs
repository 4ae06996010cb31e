//! What the kubelet says of a pod: container states, phase and conditions, written when they change.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Mutex;

use std::os::unix::process::ExitStatusExt as _;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::Notify;

use super::{Shared, lock};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    ip: Option<String>,
    containers: BTreeMap<String, ContainerStatus>,
    conditions: BTreeMap<&'static str, PodCondition>,
    stopping: bool,
}

/// The status of one pod.
#[derive(Debug)]
pub(crate) struct Status {
    inits: Vec<String>,
    mains: Vec<String>,
    started: Time,
    state: Mutex<State>,
    changed: Notify,
}

fn now() -> Time {
    Time(Timestamp::now())
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

impl Status {
    pub(crate) fn new(inits: &[Container], mains: &[Container]) -> Self {
        let name = |container: &Container| container.name.clone();
        let status = |container: &Container| {
            let image = container.image.clone().unwrap_or_default();
            let status = ContainerStatus {
                name: container.name.clone(),
                image_id: format!("process://{image}"),
                image,
                started: Some(false),
                state: Some(waiting("PodInitializing", None)),
                last_state: Some(ContainerState::default()),
                ..ContainerStatus::default()
            };
            (container.name.clone(), status)
        };
        Self {
            inits: inits.iter().map(name).collect(),
            mains: mains.iter().map(name).collect(),
            started: now(),
            state: Mutex::new(State {
                phase: Phase::Pending,
                ip: None,
                containers: inits.iter().chain(mains).map(status).collect(),
                conditions: BTreeMap::new(),
                stopping: false,
            }),
            changed: Notify::new(),
        }
    }

    fn edit(&self, container: &str, edit: impl FnOnce(&mut ContainerStatus)) {
        if let Some(status) = lock(&self.state).containers.get_mut(container) {
            edit(status);
        }
        self.changed.notify_one();
    }

    pub(crate) fn place(&self, ip: String) {
        lock(&self.state).ip = Some(ip);
        self.changed.notify_one();
    }

    pub(crate) fn phase(&self, phase: Phase) {
        lock(&self.state).phase = phase;
        self.changed.notify_one();
    }

    /// From now on the pod is not ready.
    pub(crate) fn stopping(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_one();
    }

    pub(crate) fn waiting(&self, container: &str, reason: &str, message: Option<String>) {
        self.edit(container, |status| {
            if let Some(ended) = status.state.take().filter(|state| state.terminated.is_some()) {
                status.last_state = Some(ended);
            }
            status.state = Some(waiting(reason, message));
            status.ready = false;
        });
    }

    /// All containers wait, and this is why.
    pub(crate) fn all_waiting(&self, reason: &str, message: &str) {
        for container in self.inits.iter().chain(&self.mains) {
            self.waiting(container, reason, Some(message.to_owned()));
        }
    }

    pub(crate) fn running(&self, container: &str, restarts: i32, ready: bool, id: u32) -> Time {
        let began = now();
        let running = ContainerStateRunning { started_at: Some(began.clone()) };
        self.edit(container, |status| {
            if let Some(ended) = status.state.take().filter(|state| state.terminated.is_some()) {
                status.last_state = Some(ended);
            }
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
            status.container_id = Some(format!("process://{id}"));
            status.restart_count = restarts;
            status.started = Some(true);
            status.ready = ready;
        });
        began
    }

    /// Whether that changed something.
    pub(crate) fn ready(&self, container: &str, ready: bool) {
        let changed = lock(&self.state).containers.get(container).is_some_and(|status| status.ready != ready);
        if changed {
            self.edit(container, |status| status.ready = ready);
        }
    }

    pub(crate) fn started(&self, container: &str, started: bool) {
        self.edit(container, |status| status.started = Some(started));
    }

    pub(crate) fn ended(&self, container: &str, began: Time, exit: ExitStatus, init: bool, message: Option<String>) {
        let code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
        let terminated = ContainerStateTerminated {
            exit_code: code,
            signal: exit.signal(),
            reason: Some(if code == 0 { "Completed" } else { "Error" }.to_owned()),
            message,
            started_at: Some(began),
            finished_at: Some(now()),
            ..ContainerStateTerminated::default()
        };
        self.edit(container, |status| {
            status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
            status.started = Some(false);
            status.ready = init && code == 0;
        });
    }

    /// Writes each change until the future is dropped; changes that come together are written together.
    pub(crate) async fn publish(&self, shared: &Shared, namespace: &str, name: &str, uid: &str) {
        let mut written = serde_json::Value::Null;
        loop {
            self.write(shared, namespace, name, uid, &mut written).await;
            self.changed.notified().await;
        }
    }

    /// Writes it once.
    pub(crate) async fn write(
        &self,
        shared: &Shared,
        namespace: &str,
        name: &str,
        uid: &str,
        written: &mut serde_json::Value,
    ) {
        let status = self.current(&shared.network.host().to_string());
        if status == *written {
            return;
        }
        // The UID makes the write fail for a successor of the same name.
        let patch = json!({"metadata": {"uid": uid}, "status": status});
        let pods: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
        match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => *written = status,
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409 | 422) => *written = status,
            Err(error) => {
                tracing::debug!("the status of {namespace}/{name} was not written: {error}");
                tokio::time::sleep(super::LOOK).await;
                self.changed.notify_one();
            }
        }
    }

    fn current(&self, host: &str) -> serde_json::Value {
        let mut state = lock(&self.state);
        let done = matches!(state.phase, Phase::Succeeded | Phase::Failed);
        let ready = state.phase == Phase::Running
            && !state.stopping
            && self.mains.iter().all(|name| state.containers.get(name).is_some_and(|status| status.ready));
        let initialized = state.phase != Phase::Pending;
        for (kind, holds) in
            [("PodScheduled", true), ("Initialized", initialized), ("ContainersReady", ready), ("Ready", ready)]
        {
            let status = if holds { "True" } else { "False" };
            let reason = match (holds, done) {
                (true, _) => None,
                (false, true) => Some("PodCompleted".to_owned()),
                (false, false) => Some("ContainersNotReady".to_owned()),
            };
            let fresh = || PodCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason,
                last_transition_time: Some(now()),
                ..PodCondition::default()
            };
            if state.conditions.get(kind).is_none_or(|there| there.status != status) {
                let fresh = fresh();
                state.conditions.insert(kind, fresh);
            }
        }
        let statuses =
            |names: &[String]| names.iter().filter_map(|name| state.containers.get(name)).collect::<Vec<_>>();
        let mut status = json!({
            "phase": state.phase.name(),
            "startTime": self.started,
            "hostIP": host, "hostIPs": [{"ip": host}],
            "conditions": state.conditions.values().collect::<Vec<_>>(),
            "initContainerStatuses": statuses(&self.inits),
            "containerStatuses": statuses(&self.mains),
        });
        if let Some(ip) = &state.ip {
            status["podIP"] = json!(ip);
            status["podIPs"] = json!([{"ip": ip}]);
        }
        status
    }
}
