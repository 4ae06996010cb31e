//! The process kubelet by itself: pods that are no datacenter, with and without namespaces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use stheno_local::control_plane::ControlPlane;
use stheno_local::kubelet::{Images, Isolation, Kubelet, Options, Pace};
use stheno_local::provision::Part;
use stheno_local::run::Run;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
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
    ground.until_log("all", "main", "first\nsecond\n").await;
    let log = ground.log("all", "main");
    assert!(log.contains("env all red mellon 64 red-mellon none round by second gone"), "{log}");
    assert!(log.contains("redmellonapp=\"test\""), "{log}");
    if !ground.kubelet.as_ref().unwrap().node_ip().is_loopback() {
        ground.until_log("all", "main", "read only").await;
    }
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

async fn kubectl_program() -> std::path::PathBuf {
    stheno_local::provision::ensure(&[Part::Kubectl]).await.unwrap().path(Part::Kubectl).unwrap().to_owned()
}

/// `kubectl attach`: both streams apart, and one to a container that listens.
async fn attached_streams(ground: &Ground) {
    let program = kubectl_program().await;
    let attach = |arguments: &str| {
        let mut command = tokio::process::Command::new(&program);
        command.env("KUBECONFIG", &ground.options.kubeconfig).args(["attach", "streams"]).args(arguments.split(' '));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    };
    let talks = "while :; do echo out; echo err >&2; sleep 0.1; done";
    let listens = "while read -r line; do echo heard $line; done; echo over >&2";
    ground
        .create(
            "streams",
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "talks", "image": "x", "command": ["sh", "-c", talks]},
                {"name": "listens", "image": "x", "command": ["sh", "-c", listens], "stdin": true, "stdinOnce": true},
            ]}),
        )
        .await;
    ground.until_ready("streams").await;
    let mut child = attach("-c talks");
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    while !(out.contains("out\nout\n") && err.contains("err\nerr\n")) {
        let (mut some, mut more) = ([0; 64], [0; 64]);
        tokio::select! {
            read = stdout.read(&mut some) => out.push_str(std::str::from_utf8(&some[..read.unwrap()]).unwrap()),
            read = stderr.read(&mut more) => err.push_str(std::str::from_utf8(&more[..read.unwrap()]).unwrap()),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{out}\n{err}"),
        }
    }
    assert!(!out.contains("err") && !err.contains("out\n"), "{out}\n{err}");
    child.kill().await.unwrap();
    let refused = attach("-c talks -i").wait_with_output().await.unwrap();
    assert!(!refused.status.success() || String::from_utf8_lossy(&refused.stderr).contains("stdin"), "{refused:?}");

    let mut child = attach("-c listens -i");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "heard one\nheard two\n");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("over\n"), "{output:?}");
    assert_eq!(ground.log("streams", "listens"), "heard one\nheard two\nover\n");
}

/// `kubectl port-forward`: many connections and a megabyte each way, and a port at which nobody answers.
async fn forwarded_ports(ground: &Ground) {
    let program = kubectl_program().await;
    let forward = async |ports: &str| {
        let mut command = tokio::process::Command::new(&program);
        command.env("KUBECONFIG", &ground.options.kubeconfig).args(["port-forward", "ports", ports]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
        let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        // It says more to its output, and ends when nobody takes it.
        (child, port, lines)
    };
    // Inside of a pod with a network of its own, what listens at the loopback address is reached.
    let private = !ground.kubelet.as_ref().unwrap().node_ip().is_loopback();
    let address = if private { "127.0.0.1" } else { "0.0.0.0" };
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "nats", "image": "local/nats:2", "args": ["--addr", address, "--port", "4222"]},
        // Its probes ask by HTTP and by TCP, at ports that it names.
        {"name": "web", "image": "local/nats:2", "args": ["--addr", "0.0.0.0", "--port", "4224", "--http_port", "8222"],
         "ports": [{"name": "monitor", "containerPort": 8222}, {"name": "client", "containerPort": 4224}],
         "startupProbe": {"tcpSocket": {"port": "client"}, "periodSeconds": 1},
         "readinessProbe": {"httpGet": {"path": "/healthz", "port": "monitor"}},
         "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8222}}},
        {"name": "lost", "image": "local/nats:2", "args": ["--addr", "0.0.0.0", "--port", "4225", "--http_port", "8225"],
         "readinessProbe": {"httpGet": {"path": "/nowhere", "port": 8225}}},
    ]});
    ground.create("ports", spec).await;
    ground.until_log("ports", "nats", "Server is ready").await;
    let ready = |status: &Value, name: &str| {
        let all = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|one| one["name"] == name).is_some_and(|one| one["ready"] == true && one["started"] == true)
    };
    let status = ground.until("ports", "web is ready", |status| ready(status, "web")).await;
    assert!(!ready(&status, "lost"), "a page that is not there made it ready: {status:#}");
    let (mut child, port, _lines) = forward(":4222").await;
    let conversation = async |number: usize| {
        let (from, mut to) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        let mut from = BufReader::new(from);
        let mut line = String::new();
        from.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("INFO {"), "{line}");
        let payload = vec![b'a' + u8::try_from(number).unwrap(); 1_000_000];
        let head = format!("CONNECT {{\"verbose\":false}}\r\nSUB x{number} 1\r\nPUB x{number} {}\r\n", payload.len());
        to.write_all(&[head.as_bytes(), &payload, b"\r\n"].concat()).await.unwrap();
        line.clear();
        from.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("MSG x{number} 1 1000000\r\n"));
        let mut back = vec![0; payload.len()];
        from.read_exact(&mut back).await.unwrap();
        assert!(back == payload, "{number} came back otherwise");
    };
    let all = futures::future::join_all((0..8).map(conversation));
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    child.kill().await.unwrap();

    let (mut child, port, _lines) = forward(":4223").await;
    let mut nobody = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut said = Vec::new();
    let _ = nobody.read_to_end(&mut said).await;
    assert!(said.is_empty());
    drop(nobody);
    let mut complaints = BufReader::new(child.stderr.take().unwrap()).lines();
    let complaint =
        tokio::time::timeout(Duration::from_secs(20), complaints.next_line()).await.unwrap().unwrap().unwrap();
    assert!(complaint.contains("nothing answers at port 4223"), "{complaint}");
    child.kill().await.unwrap();
}

/// `kubectl logs` and `kubectl exec`, as people type them.
async fn logs_and_commands(ground: &Ground) {
    let program = kubectl_program().await;
    let kubectl = async |arguments: &str, typed: &[u8]| {
        let mut command = tokio::process::Command::new(&program);
        command.env("KUBECONFIG", &ground.options.kubeconfig).args(arguments.split(' ')).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let typing = async {
            // A command that reads nothing may be gone before.
            let _ = stdin.write_all(typed).await;
            drop(stdin);
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), typing);
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let script = "if [ -e /v/again ]; then echo again; exec sleep 600; fi; touch /v/again; echo one; sleep 1.2; echo two; exit 3";
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "a", "image": "x", "command": ["sh", "-c", script], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    ground.create("talks", spec).await;
    ground.until("talks", "running", |status| !status["containerStatuses"][0]["state"]["running"].is_null()).await;
    let (code, said, errors) = kubectl("logs -f talks --timestamps", b"").await;
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(lines.iter().map(|(_, line)| *line).collect::<Vec<_>>(), ["one", "two"], "{said}");
    let times: Vec<Timestamp> = lines.iter().map(|(time, _)| time.parse().unwrap()).collect();
    let between = times[1].duration_since(times[0]).as_secs_f64();
    assert!((0.9..6.0).contains(&between), "{said}");

    ground.until_log("talks", "a", "two").await;
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    ground.until("talks", "running again", again).await;
    let mut now = String::new();
    for _ in 0..100 {
        now = kubectl("logs talks", b"").await.1;
        if !now.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(now, "again\n");
    assert_eq!(kubectl("logs talks --previous", b"").await.1, "one\ntwo\n");
    assert_eq!(kubectl("logs talks --previous --tail 1", b"").await.1, "two\n");
    assert_eq!(kubectl("logs talks --previous --limit-bytes 5", b"").await.1, "one\nt");

    let spoken = kubectl("exec talks -- ls /v", b"").await;
    assert_eq!(spoken, (Some(0), "again\n".to_owned(), String::new()));
    let big = b"0123456789".repeat(100_000);
    let (code, said, errors) = kubectl("exec -i talks -- wc -c", &big).await;
    assert_eq!((code, said.trim()), (Some(0), "1000000"), "{errors}");
    let (code, said, errors) = kubectl("exec talks -- ls /nowhere-at-all", b"").await;
    assert_eq!((code, said.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.contains("/nowhere-at-all") && errors.contains("exit code 2"), "{errors}");
    let (code, _, errors) = kubectl("exec talks -c b -- true", b"").await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("container not found") || errors.contains("not valid"), "{errors}");
    // What runs there ends with the client. Tests that run beside this one have another number.
    let seconds = if ground.kubelet.as_ref().unwrap().node_ip().is_loopback() { "4711" } else { "4712" };
    let mut sleeping = tokio::process::Command::new(&program);
    sleeping.env("KUBECONFIG", &ground.options.kubeconfig).kill_on_drop(true);
    let mut sleeping = sleeping.args(["exec", "talks", "--", "sleep", seconds]).spawn().unwrap();
    until_count(seconds, 1).await;
    sleeping.kill().await.unwrap();
    until_count(seconds, 0).await;
}

/// Waits until so many processes sleep that long.
async fn until_count(seconds: &str, wanted: usize) {
    let line = format!("sleep\0{seconds}\0");
    for _ in 0..200 {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
        if lines.filter(|there| *there == line).count() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {wanted} processes that sleep {seconds} s");
}

async fn everything(isolation: Isolation) {
    let mut ground = Ground::new(isolation).await;
    environment_volumes_and_order(&ground).await;
    probes_restarts_and_ends(&ground).await;
    logs_and_commands(&ground).await;
    let early = renewed(&ground).await;
    assert!(early.is_some());
    attached_streams(&ground).await;
    forwarded_ports(&ground).await;
    let mut late = renewed(&ground).await;
    while late == early {
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
