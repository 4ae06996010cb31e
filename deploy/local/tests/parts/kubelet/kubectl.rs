//! What kubectl asks of a kubelet, as people type it.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use stheno_local::provision::{self, Part};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::Instant;

use super::Ground;

async fn kubectl_program() -> std::path::PathBuf {
    provision::ensure(&[Part::Kubectl]).await.unwrap().path(Part::Kubectl).unwrap().to_owned()
}

/// `kubectl attach`: both streams apart, and one to a container that listens.
pub(crate) async fn attached_streams(ground: &Ground) {
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
pub(crate) async fn forwarded_ports(ground: &Ground) {
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
pub(crate) async fn logs_and_commands(ground: &Ground) {
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
    // Its first life lasts until it is told to end: then whoever follows its log has heard the beginning.
    let script = "if [ -e /v/again ]; then echo again; exec sleep 600; fi; touch /v/again; echo one; \
                  until [ -e /v/go ]; do sleep 0.1; done; echo two; exit 3";
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "a", "image": "x", "command": ["sh", "-c", script], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    let began = Instant::now();
    ground.create("talks", spec).await;
    ground.until("talks", "running", |status| !status["containerStatuses"][0]["state"]["running"].is_null()).await;
    let mut follows = tokio::process::Command::new(&program);
    follows.env("KUBECONFIG", &ground.options.kubeconfig).args(["logs", "-f", "talks", "--timestamps"]);
    let mut follows = follows.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut heard = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut line = async || tokio::time::timeout(Duration::from_secs(60), heard.next_line()).await.unwrap().unwrap();
    let one = line().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (code, _, errors) = kubectl("exec talks -- touch /v/go", b"").await;
    assert_eq!(code, Some(0), "{errors}");
    let two = line().await.unwrap();
    assert_eq!(line().await, None, "it ends with that life");
    assert!(follows.wait().await.unwrap().success());
    let stamped = |line: &str, said: &str| -> Timestamp {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, said);
        time.parse().unwrap()
    };
    let between = stamped(&two, "two").duration_since(stamped(&one, "one")).as_secs_f64();
    assert!((1.0..began.elapsed().as_secs_f64()).contains(&between), "{one}\n{two}");

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
    assert_eq!(spoken, (Some(0), "again\ngo\n".to_owned(), String::new()));
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
