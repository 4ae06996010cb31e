//! `up`, `status`, `logs`, `kubectl`, `down`: grounds side by side, interrupted ones, and bad input.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

fn local(temporary: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stheno-local"));
    command.env("TMPDIR", temporary.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

fn run(temporary: &TempDir, arguments: &[&str]) -> Output {
    local(temporary).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints, and nothing else would do.
fn printed(temporary: &TempDir, arguments: &[&str]) -> String {
    let output = run(temporary, arguments);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The one sentence of a refusal.
fn refused(temporary: &TempDir, arguments: &[&str]) -> String {
    let output = run(temporary, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// A folder to be PATH: every program of ours but one.
fn without(program: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for place in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in fs::read_dir(place).into_iter().flatten().flatten().filter(|entry| entry.file_name() != program) {
            // The first of a name counts.
            let _ = std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name()));
        }
    }
    folder
}

/// Processes that were started for a ground below the folder.
fn running(temporary: &TempDir) -> usize {
    let mark = [b"STHENO_LOCAL_RUN=", temporary.path().as_os_str().as_bytes()].concat();
    let environments =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    environments.filter(|one| one.split(|byte| *byte == 0).any(|variable| variable.starts_with(&mark))).count()
}

#[test]
fn two_grounds_side_by_side() {
    let temporary = tempfile::tempdir().unwrap();
    assert_eq!(printed(&temporary, &["status"]), "no ground is up: `stheno-local up` makes one\n");
    let up = |name: &str| local(&temporary).args(["up", "--name", name, "--nodes", "0", "--hurried"]).output();
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| up("second").unwrap());
        (up("first").unwrap(), second.join().unwrap())
    });
    for output in [&first, &second] {
        assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
        assert!(text(&output.stdout).contains("is up after"), "{}", text(&output.stdout));
    }
    let status = printed(&temporary, &["status"]);
    assert!(status.contains("ground first\n") && status.contains("ground second\n"), "{status}");
    assert!(status.contains("cass-operator") && status.contains("MiB"), "{status}");

    printed(&temporary, &["kubectl", "--name", "first", "create", "configmap", "mine"]);
    let maps = |name: &str| printed(&temporary, &["kubectl", "--name", name, "get", "configmaps", "-o", "name"]);
    assert!(maps("first").contains("configmap/mine") && !maps("second").contains("configmap/mine"));
    assert!(printed(&temporary, &["logs", "--name", "second", "cass-operator"]).contains("starting manager"));

    // A KUBECONFIG chooses its ground; one of another cluster is left alone.
    let kubeconfig = |name: &str| {
        let lines = status.split(&format!("ground {name}\n")).nth(1).unwrap();
        lines.lines().next().unwrap().trim().strip_prefix("KUBECONFIG=").unwrap().to_owned()
    };
    let with = |kubeconfig: &str| {
        let mut command = local(&temporary);
        command.env("KUBECONFIG", kubeconfig).args(["kubectl", "get", "configmaps", "-o", "name"]).output().unwrap()
    };
    assert!(text(&with(&kubeconfig("first")).stdout).contains("configmap/mine"));
    let second = with(&kubeconfig("second"));
    assert!(second.status.success() && !text(&second.stdout).contains("configmap/mine"), "{second:?}");
    assert!(text(&with("/nowhere/else").stderr).contains("there is no ground named local"));

    // Bad input: a sentence each.
    let taken = refused(&temporary, &["up", "--name", "first"]);
    assert!(taken.contains("a ground named first is there already") && taken.contains("down first"), "{taken}");
    let absent = refused(&temporary, &["kubectl", "get", "pods"]);
    assert!(absent.contains("there is no ground named local"), "{absent}");
    let nothing = refused(&temporary, &["logs", "--name", "first", "nobody"]);
    assert!(nothing.contains("nothing of the name nobody has run in default"), "{nothing}");
    assert!(refused(&temporary, &["up", "--name", "a/b"]).contains("is no name for a ground"));
    assert!(refused(&temporary, &["up", "--nodes", "100"]).contains("MiB of memory"));

    assert_eq!(printed(&temporary, &["down", "first"]), "ended the ground first\n");
    let left = printed(&temporary, &["status"]);
    assert!(!left.contains("ground first") && left.contains("ground second"), "{left}");
    assert_eq!(printed(&temporary, &["down"]), "ended the ground second\n");
    assert_eq!(running(&temporary), 0);
}

/// What this machine does not have or allow is one sentence, which says the way out, and comes before anything is built.
#[test]
fn what_the_machine_refuses_is_said_in_one_sentence() {
    let temporary = tempfile::tempdir().unwrap();
    let [cache, modules] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let said = |wrapper: &[&str], variables: &[(&str, &str)], command: &[&str], arguments: &[&str]| {
        let line = [wrapper, &[env!("CARGO_BIN_EXE_stheno-local")], command, arguments].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env("TMPDIR", temporary.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
        // As on a machine where it runs for the first time; and building, which must not begin, would fail at once.
        command.env("STHENO_CACHE", cache.path()).env_remove("KUBEBUILDER_ASSETS");
        command.env("GOMODCACHE", modules.path()).env("GOPROXY", "off");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let ours = |wrapper: &[&str], variables: &[(&str, &str)], arguments: &[&str]| {
        let quickstart = said(wrapper, variables, &["quickstart", "--nodes", "1"], arguments);
        let up = said(wrapper, variables, &["up", "--nodes", "0", "--hurried"], arguments);
        assert_eq!(quickstart, up);
        up
    };
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let said = ours(&[], &[("STHENO_PORTS", &format!("{port}-{port}"))], &[]);
    assert!(said.contains(&format!("every port from {port} to {port} of 127.0.0.1 is in use")), "{said}");
    assert!(said.contains("stop other grounds") && said.contains("STHENO_PORTS=FIRST-LAST"), "{said}");
    let said = ours(&[], &[("STHENO_PORTS", "many")], &[]);
    assert!(said.contains("STHENO_PORTS=many names no ports: write"), "{said}");

    // Without the rights of root, which a user who runs the tests does not have anyway.
    let root = nix::unistd::getuid().is_root();
    let mut powerless = vec!["setpriv", "--no-new-privs"];
    if root {
        powerless.extend(["--bounding-set", "-all", "--inh-caps", "-all"]);
    }
    let said = ours(&powerless, &[], &["--isolation", "namespaces"]);
    assert!(said.contains("network namespaces were asked for and cannot be made here (unshare"), "{said}");
    assert!(said.contains("run as root") && said.contains("`--isolation loopback`"), "{said}");
    // Nor without iproute2, whoever one is.
    let bare = without("ip");
    let said = ours(&[], &[("PATH", bare.path().to_str().unwrap())], &["--isolation", "namespaces"]);
    let reason = if root { "failed to execute ip" } else { "(unshare" };
    assert!(said.contains(reason) && said.contains("with iproute2 and util-linux"), "{said}");
    // And where nobody may make a namespace for users.
    let none = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all \"$@\"";
    let said =
        ours(&["unshare", "--user", "--map-root-user", "sh", "-c", none, "sh"], &[], &["--isolation", "loopback"]);
    assert!(
        said.contains("cass-operator needs a mount namespace of its own") && said.contains("run as root"),
        "{said}"
    );

    let small = format!("mount -t tmpfs -o size=64m tmpfs '{}' && exec \"$@\"", temporary.path().display());
    let wrapper: &[&str] =
        if root { &["unshare", "--mount"] } else { &["unshare", "--user", "--map-root-user", "--mount"] };
    let said = ours(&[wrapper, &["sh", "-c", &small, "sh"]].concat(), &[], &[]);
    assert!(said.contains("MiB of disk are needed at") && said.contains("set TMPDIR to another place"), "{said}");
    assert_eq!(running(&temporary), 0);
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "something was built");
}

/// What can best be had is had, not refused.
#[test]
fn without_iproute2_pods_get_loopback_addresses() {
    let (temporary, bare) = (tempfile::tempdir().unwrap(), without("ip"));
    let local = || {
        let mut command = local(&temporary);
        command.env("PATH", bare.path());
        command
    };
    let up = local().args(["up", "--nodes", "0", "--hurried"]).output().unwrap();
    assert!(up.status.success(), "{}", text(&up.stderr));
    let address = "jsonpath={.items[0].status.addresses[0].address}";
    let node = local().args(["kubectl", "get", "nodes", "-o", address]).output().unwrap();
    assert_eq!(text(&node.stdout), "127.0.0.1", "{}", text(&node.stderr));
    printed(&temporary, &["down"]);
    assert_eq!(running(&temporary), 0);
}

#[test]
fn an_interrupted_or_killed_ground_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut up = local(&temporary).args(["up", "--nodes", "0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("starting etcd")));
    while running(&temporary) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    kill(Pid::from_raw(up.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(130));
    assert_eq!(running(&temporary), 0);

    printed(&temporary, &["up", "--nodes", "0"]);
    let state = temporary.path().join(format!("stheno-local-{}/grounds/local.json", nix::unistd::getuid()));
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(state).unwrap()).unwrap();
    let holder = i32::try_from(state["holder"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    while fs::read(format!("/proc/{holder}/environ")).is_ok_and(|environment| !environment.is_empty()) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(refused(&temporary, &["status", "local"]).contains("there is no ground named local"));
    printed(&temporary, &["down"]);
    assert_eq!(running(&temporary), 0);
    // And the name is free.
    printed(&temporary, &["up", "--nodes", "0"]);
    printed(&temporary, &["down", "local"]);
    assert_eq!(running(&temporary), 0);
}

/// A node of Cassandra for somebody who is not root: on a loopback address, all of it their own, and gone with `down`.
#[test]
fn a_ground_of_a_user_who_is_not_root() {
    let temporary = tempfile::tempdir().unwrap();
    let steps = r#"
        set -e
        echo "user $(id -u)"
        "$0" up --nodes 1 --hurried
        "$0" kubectl get pods --output 'jsonpath={range .items[*]}{.metadata.name} at {.status.podIP}{"\n"}{end}'
        pod=$("$0" kubectl get pods --output name | head -n 1)
        echo "in the pod: $("$0" kubectl exec "$pod" --container cassandra -- id -u)"
        "$0" down
    "#;
    // Root is somebody else in a namespace for users: what it owns stays its own, and it has no rights beyond.
    let wrapper: &[&str] = match nix::unistd::getuid().is_root() {
        true => &["unshare", "--user", "--map-user=4711", "--map-group=4711", "sh", "-c", steps],
        false => &["sh", "-c", steps],
    };
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(env!("CARGO_BIN_EXE_stheno-local"));
    command.env("TMPDIR", temporary.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    let user = said.lines().next().unwrap().strip_prefix("user ").unwrap();
    assert_ne!(user, "0");
    assert!(said.contains(" at 127.") && said.contains(&format!("in the pod: {user}\n")), "{said}");
    assert!(said.contains("ended the ground local"), "{said}");
    assert_eq!(running(&temporary), 0);
}
