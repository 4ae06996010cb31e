//! The process kubelet by itself: pods that are no datacenter, with and without namespaces.

#[path = "kubelet/kubectl.rs"]
mod kubectl;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use stheno_local::control_plane::ControlPlane;
use stheno_local::kubelet::{Images, Isolation, Kubelet, Options, Pace};
use stheno_local::provision::Part;
use stheno_local::run::Run;
use tokio::time::Instant;

struct Ground {
    kubelet: Option<Kubelet>,
    control_plane: ControlPlane,
    options: Options,
    run: Arc<Run>,
    pods: Api<Pod>,
    client: Client,
}

impl Ground {
    async fn new(isolation: Isolation) -> Self {
        let run = Arc::new(Run::temporary().unwrap());
        let control_plane = ControlPlane::launch(run.clone()).await.unwrap();
        let kubeconfig = control_plane.kubeconfig().to_owned();
        let parts = stheno_local::provision::ensure(&[Part::NatsServer]).await.unwrap();
        let nats = parts.path(Part::NatsServer).unwrap();
        let images = Images::default().image("local/echo", &["sh", "-c", "echo echo: $0 $*; exec sleep 600"]);
        let images = images.image("local/nats", &["$(NATS)"]).place("NATS", nats).visible(nats);
        let options = Options { kubeconfig, images, isolation, pace: Pace::Hurried };
        let kubelet = Kubelet::launch(run.clone(), options.clone()).await.unwrap();
        let client = control_plane.client().await.unwrap();
        let pods = Api::default_namespaced(client.clone());
        Self { kubelet: Some(kubelet), control_plane, options, run, pods, client }
    }

    async fn create(&self, name: &str, spec: Value) {
        let labels = json!({"app": "test"});
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec});
        self.control_plane.apply(&pod.to_string()).await.unwrap();
    }

    async fn until(&self, name: &str, what: &str, probe: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let pod = self.pods.get_opt(name).await.unwrap();
            let status = pod.map_or(Value::Null, |pod| json!(pod.status));
            if probe(&status) {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{name} is not {what}: {status:#}\n{}", self.logs(name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "ready", |status| {
            status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        })
        .await
    }

    fn log(&self, name: &str, container: &str) -> String {
        let folder = self.kubelet.as_ref().unwrap().logs().join(format!("default_{name}"));
        std::fs::read_to_string(folder.join(format!("{container}.0.log"))).unwrap_or_default()
    }

    fn logs(&self, name: &str) -> String {
        let folder = self.kubelet.as_ref().unwrap().logs().join(format!("default_{name}"));
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }

    async fn until_log(&self, name: &str, container: &str, text: &str) {
        for _ in 0..600 {
            if self.log(name, container).contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{text} is not in the log of {name}:\n{}", self.logs(name));
    }
}

/// How many processes of the run bear that variable, or begin of one.
fn marked(run: &Path, mark: &str) -> usize {
    let run = format!("STHENO_LOCAL_RUN={}", run.display());
    let has = |environment: &[u8], start: &str| {
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(start.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    environments.filter(|environment| has(environment, &run) && has(environment, mark)).count()
}

async fn environment_volumes_and_order(ground: &Ground) {
    let objects = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, shape: round}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: mellon}
";
    ground.control_plane.apply(objects).await.unwrap();
    let beside = tempfile::tempdir().unwrap();
    std::fs::write(beside.path().join("lies"), "of this machine\n").unwrap();
    let script = "echo env $POD $COLOUR $WORD $LIMIT $BOTH ${NONE:-none} $FROM_shape $LEFT ${GONE:-gone}; cat /conf/colour /mix/word /mix/labels; \
                  cat /shared/first /shared/second; sh -c 'echo more > /conf/x' 2> /dev/null || echo read only; \
                  cat /here/lies; stat -L -c 'mode %a' /hidden/deep/word; \
                  while :; do cat /conf/colour /hidden/deep/word /down/tier; sleep 0.2; done";
    let write = |name: &str| {
        let script = format!(
            "sleep 0.2; ls /shared | grep -c . ; echo {name} > /shared/{name}; echo \"LEFT='by {name}'\" > /shared/left.env"
        );
        json!({"name": name, "image": "x", "command": ["sh", "-c", script], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]})
    };
    let reference = |name: &str, from: Value| json!({"name": name, "valueFrom": from});
    let spec = json!({
        "initContainers": [write("first"), write("second")],
        "containers": [{
            "name": "main", "image": "x", "command": ["sh", "-c", script],
            "resources": {"limits": {"memory": "64Mi"}},
            "envFrom": [{"prefix": "FROM_", "configMapRef": {"name": "settings"}}],
            "env": [
                reference("POD", json!({"fieldRef": {"fieldPath": "metadata.name"}})),
                reference("COLOUR", json!({"configMapKeyRef": {"name": "settings", "key": "colour"}})),
                reference("WORD", json!({"secretKeyRef": {"name": "hidden", "key": "word"}})),
                reference("NONE", json!({"secretKeyRef": {"name": "nowhere", "key": "word", "optional": true}})),
                reference("LIMIT", json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}})),
                {"name": "BOTH", "value": "$(COLOUR)-$(WORD)"},
                reference("LEFT", json!({"fileKeyRef": {"volumeName": "shared", "path": "left.env", "key": "LEFT"}})),
                reference("GONE", json!({"fileKeyRef": {"volumeName": "shared", "path": "no.env", "key": "LEFT", "optional": true}})),
            ],
            "volumeMounts": [
                {"name": "shared", "mountPath": "/shared"},
                {"name": "conf", "mountPath": "/conf", "readOnly": true},
                {"name": "mix", "mountPath": "/mix"},
                {"name": "hidden", "mountPath": "/hidden"},
                {"name": "down", "mountPath": "/down"},
                {"name": "here", "mountPath": "/here"},
            ],
        }],
        "volumes": [
            {"name": "shared", "emptyDir": {}},
            {"name": "conf", "configMap": {"name": "settings"}},
            {"name": "hidden", "secret": {"secretName": "hidden", "items": [{"key": "word", "path": "deep/word", "mode": 256}]}},
            {"name": "down", "downwardAPI": {"items": [{"path": "tier", "fieldRef": {"fieldPath": "metadata.labels['tier']"}}]}},
            {"name": "here", "hostPath": {"path": beside.path()}},
            {"name": "mix", "projected": {"sources": [
                {"secret": {"name": "hidden"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ]}},
        ],
    });
    ground.create("all", spec).await;
    let status = ground.until_ready("all").await;
    assert_eq!(status["initContainerStatuses"][1]["state"]["terminated"]["exitCode"], 0);
    // What the script says last, but for what it repeats.
    ground.until_log("all", "main", "mode ").await;
    let log = ground.log("all", "main");
    assert!(log.contains("first\nsecond\n"), "{log}");
    assert!(log.contains("env all red mellon 64 red-mellon none round by second gone"), "{log}");
    assert!(log.contains("redmellonapp=\"test\""), "{log}");
    assert!(ground.kubelet.as_ref().unwrap().node_ip().is_loopback() || log.contains("read only"), "{log}");
    assert_eq!((ground.log("all", "first"), ground.log("all", "second")), ("0\n".to_owned(), "2\n".to_owned()));
    assert!(log.contains("of this machine\n") && log.contains("mode 400"), "{log}");

    let maps: Api<ConfigMap> = Api::default_namespaced(ground.client.clone());
    let patch = Patch::Merge(json!({"data": {"colour": "blue"}}));
    maps.patch("settings", &PatchParams::default(), &patch).await.unwrap();
    let patch = Patch::Merge(json!({"stringData": {"word": "speak friend"}}));
    let secrets: Api<Secret> = Api::default_namespaced(ground.client.clone());
    secrets.patch("hidden", &PatchParams::default(), &patch).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": "upper"}}}));
    ground.pods.patch("all", &PatchParams::default(), &patch).await.unwrap();
    for text in ["blue", "speak friend", "upper"] {
        ground.until_log("all", "main", text).await;
    }
}

/// When the lease of the node, which is there and ready, was renewed.
async fn renewed(ground: &Ground) -> Option<MicroTime> {
    let node = Api::<Node>::all(ground.client.clone()).get("local").await.unwrap();
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        "{conditions:?}"
    );
    let leases: Api<Lease> = Api::namespaced(ground.client.clone(), "kube-node-lease");
    leases.get_opt("local").await.unwrap().and_then(|lease| lease.spec?.renew_time)
}

async fn probes_restarts_and_ends(ground: &Ground) {
    let www = json!([{"name": "www", "mountPath": "/www"}]);
    let loops = "trap 'cat /www/hook; exit 0' TERM; touch /www/ready; while :; do sleep 0.1; done";
    let spec = json!({
        "terminationGracePeriodSeconds": 20,
        "containers": [
            {"name": "server", "image": "x", "command": ["sh", "-c", loops], "volumeMounts": www,
             "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /www/hook"]}}}},
            {"name": "exec", "image": "x", "command": ["sleep", "600"], "volumeMounts": www,
             "readinessProbe": {"exec": {"command": ["test", "-e", "/www/ready"]}}},
        ],
        "volumes": [{"name": "www", "emptyDir": {}}],
    });
    ground.create("probed", spec).await;
    ground.until_ready("probed").await;
    ground.pods.delete("probed", &DeleteParams::default()).await.unwrap();
    ground.until("probed", "gone", Value::is_null).await;
    assert!(ground.log("probed", "server").contains("hook"), "{}", ground.logs("probed"));

    let spec = json!({"containers": [
        {"name": "fails", "image": "x", "command": ["sh", "-c", "exit 7"]},
        {"name": "stuck", "image": "x", "command": ["sleep", "600"],
         "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 2}},
    ], "terminationGracePeriodSeconds": 1});
    ground.create("restarts", spec).await;
    let restarted = |status: &Value| {
        let statuses = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
        statuses.len() == 2 && statuses.iter().all(|one| one["restartCount"].as_i64() > Some(0))
    };
    let status = ground.until("restarts", "restarted", restarted).await;
    let fails = status["containerStatuses"].as_array().unwrap().iter().find(|one| one["name"] == "fails").unwrap();
    let ended = |state: &Value| state["terminated"]["exitCode"] == 7;
    assert!(ended(&fails["lastState"]) || ended(&fails["state"]), "{fails}");

    // It waits longer each time.
    let backed_off = |status: &Value| {
        let all = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|one| one["name"] == "fails").is_some_and(|one| {
            let (waiting, restarts) = (&one["state"]["waiting"], one["restartCount"].as_u64().unwrap_or_default());
            let message = format!("back-off {} s restarting it", 1_u64 << restarts);
            restarts >= 2 && waiting["reason"] == "CrashLoopBackOff" && waiting["message"] == message.as_str()
        })
    };
    ground.until("restarts", "in a longer back-off", backed_off).await;

    // What does not listen to SIGTERM is killed when its time is over.
    let deaf = "trap '' TERM; echo hears nothing; while :; do sleep 0.1; done";
    let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [{"name": "a", "image": "x", "command": ["sh", "-c", deaf]}]});
    ground.create("deaf", spec).await;
    ground.until_log("deaf", "a", "hears nothing").await;
    let began = Instant::now();
    ground.pods.delete("deaf", &DeleteParams::default()).await.unwrap();
    ground.until("deaf", "gone", Value::is_null).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());

    ground
        .create(
            "once",
            json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "x", "command": ["true"]}]}),
        )
        .await;
    ground.until("once", "over", |status| status["phase"] == "Succeeded").await;
    ground
        .create("echo", json!({"containers": [{"name": "a", "image": "local/echo:1", "args": ["one", "two"]}]}))
        .await;
    ground.until_log("echo", "a", "echo: one two").await;

    // What cannot be done is a sentence in the pod's status.
    let refused = async |name: &str, spec: Value, reason: &str, text: &str| {
        ground.create(name, spec).await;
        let says = |status: &Value| {
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == reason && waiting["message"].as_str().unwrap_or_default().contains(text)
        };
        ground.until(name, text, says).await;
    };
    let container = |name: &str| json!({"name": name, "image": "somewhere/else:1"});
    refused(
        "no-image",
        json!({"containers": [container("a")]}),
        "CreateContainerConfigError",
        "nothing stands for the image",
    )
    .await;
    refused("host", json!({"hostNetwork": true, "containers": [container("a")]}), "Unsupported", "hostNetwork").await;
    let volume =
        json!({"containers": [container("a")], "volumes": [{"name": "v", "nfs": {"server": "a", "path": "/"}}]});
    refused("volume", volume, "ContainerCreating", "the kind of the volume v is not supported").await;
    let absent = json!({"containers": [container("a")], "volumes": [{"name": "v", "configMap": {"name": "absent"}}]});
    refused("absent", absent, "ContainerCreating", "configmap \"absent\" not found").await;
}

/// A second kubelet ends what the first left, and runs the pods again.
async fn a_crash(ground: &mut Ground) {
    ground.create("lasting", json!({"containers": [{"name": "a", "image": "local/echo:1", "args": ["again"]}]})).await;
    ground.until_ready("lasting").await;
    // As a killed one leaves it: a process of a pod that nobody holds.
    let mut left = std::process::Command::new("sh");
    left.args(["-c", "setsid sleep 600 > /dev/null 2>&1 &"]);
    left.env("STHENO_LOCAL_RUN", ground.run.path()).env("STHENO_LOCAL_POD", "left");
    assert!(left.status().unwrap().success());
    drop(ground.kubelet.take());
    assert_eq!(marked(ground.run.path(), "STHENO_LOCAL_POD="), 1);
    ground.kubelet = Some(Kubelet::launch(ground.run.clone(), ground.options.clone()).await.unwrap());
    assert_eq!(marked(ground.run.path(), "STHENO_LOCAL_POD=left"), 0);
    ground.until_ready("lasting").await;
}

async fn everything(isolation: Isolation) {
    let mut ground = Ground::new(isolation).await;
    environment_volumes_and_order(&ground).await;
    probes_restarts_and_ends(&ground).await;
    kubectl::logs_and_commands(&ground).await;
    let early = renewed(&ground).await;
    assert!(early.is_some());
    kubectl::attached_streams(&ground).await;
    kubectl::forwarded_ports(&ground).await;
    let mut late = renewed(&ground).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while late == early {
        assert!(Instant::now() < deadline, "the Lease is not renewed");
        tokio::time::sleep(Duration::from_millis(200)).await;
        late = renewed(&ground).await;
    }
    assert!(late > early, "{late:?}");
    a_crash(&mut ground).await;
    let folder = ground.run.path().to_owned();
    drop(ground);
    assert_eq!(marked(&folder, "STHENO_LOCAL_POD="), 0);
}

#[tokio::test]
async fn pods_as_they_can_best_be_kept_apart() {
    everything(Isolation::Best).await;
}

#[tokio::test]
async fn pods_on_loopback_addresses() {
    everything(Isolation::Loopback).await;
}
