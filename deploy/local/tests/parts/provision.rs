//! Provisioning under what machines do to it: several processes at once, killed builders, missing tools, no network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

fn provision(cache: &TempDir, part: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stheno-local"));
    command.args(["provision", part]).env("STHENO_CACHE", cache.path()).env_remove("KUBEBUILDER_ASSETS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn half_built(cache: &TempDir) -> Vec<String> {
    let names = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".building-")).collect()
}

/// A folder with a `go` of our own to put on PATH.
fn false_go(script: &str) -> TempDir {
    false_tool("go", script)
}

fn false_tool(name: &str, script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join(name);
    fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn until(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if probe() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not {what} after 10 s");
}

#[test]
fn two_processes_build_once_and_both_get_it() {
    let cache = tempfile::tempdir().unwrap();
    // As an earlier builder that was killed left it: nothing of it may be used.
    fs::create_dir_all(cache.path().join(".building-nats-server-old/out")).unwrap();
    fs::create_dir_all(cache.path().join("nats-server-2.15.1")).unwrap();
    let both = [(); 2].map(|()| provision(&cache, "nats-server").spawn().unwrap());
    let [first, second] = both.map(|child| child.wait_with_output().unwrap());
    assert!(first.status.success() && second.status.success(), "{}\n{}", said(&first), said(&second));
    assert_eq!(first.stdout, second.stdout);
    let built = [&first, &second].map(|output| said(output).matches("building nats-server 2.15.1: done").count());
    assert_eq!(built.iter().sum::<usize>(), 1, "{}\n{}", said(&first), said(&second));
    assert!(half_built(&cache).is_empty());

    let program = String::from_utf8(first.stdout).unwrap();
    let version = Command::new(program.trim()).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("nats-server: v"));
    // The third finds it, and has nothing to say.
    let third = provision(&cache, "nats-server").output().unwrap();
    assert!(third.status.success() && third.stderr.is_empty(), "{}", said(&third));
}

/// What is in the cache is looked at before it is believed: an entry that an interrupted copy, a full disk or a hand has
/// left half is said to be so, and built again.
#[test]
fn a_half_built_entry_is_noticed_and_built_again() {
    let cache = tempfile::tempdir().unwrap();
    let built = provision(&cache, "nats-server").output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let program = PathBuf::from(String::from_utf8(built.stdout).unwrap().trim());
    let whole = fs::metadata(&program).unwrap().len();
    let entry = program.parent().unwrap();
    let cut = || fs::File::options().write(true).open(&program).unwrap().set_len(whole / 2).unwrap();
    // An entry of a version that did not say when it was whole is not believed either.
    let unsaid = || fs::remove_file(entry.join(".whole")).unwrap();
    let broken: [(&str, &dyn Fn()); 2] = [("is shorter than it was built", &cut), ("does not say", &unsaid)];
    for (why, damage) in broken {
        damage();
        let again = provision(&cache, "nats-server").output().unwrap();
        let sentence = said(&again).lines().next().unwrap_or_default().to_owned();
        assert!(
            sentence.contains("nats-server-2.15.1 in the cache is not whole") && sentence.contains(why),
            "{sentence}"
        );
        assert!(said(&again).contains("building nats-server 2.15.1: done"), "{}", said(&again));
        assert_eq!(fs::metadata(&program).unwrap().len(), whole);
        let version = Command::new(&program).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&version.stdout).starts_with("nats-server: v"));
    }
    assert!(half_built(&cache).is_empty());
}

#[test]
fn a_builder_ends_with_its_parent_and_its_remains_are_cleared() {
    let tools = false_go("[ \"$1\" = env ] && { echo go1.26.0; exit; }\necho $$ > \"$PID_FILE\"\nexec sleep 600");
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let pid_file = tools.path().join("pid");
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let cache = tempfile::tempdir().unwrap();
        let mut command = provision(&cache, "etcd");
        let mut parent = command.env("PATH", &path).env("PID_FILE", &pid_file).spawn().unwrap();
        let pid = || fs::read_to_string(&pid_file).ok().filter(|text| text.ends_with('\n'));
        until("building", || pid().is_some());
        let builder = format!("/proc/{}", pid().unwrap().trim());
        assert!(Path::new(&builder).exists());
        kill(Pid::from_raw(parent.id().cast_signed()), signal).unwrap();
        let status = parent.wait().unwrap();
        until("ended", || !Path::new(&builder).exists());
        // A process that is killed cannot tidy up; one that is asked to end does.
        assert_eq!(status.code(), (signal == Signal::SIGINT).then_some(130));
        assert_eq!(half_built(&cache).len(), usize::from(signal == Signal::SIGKILL));
        fs::remove_file(&pid_file).unwrap();

        // The next one is not hindered by it: here it gets as far as a Go that fails at once.
        let broken = false_go("[ \"$1\" = env ] && { echo go1.26.0; exit; }\necho no space left on device; exit 1");
        let next = provision(&cache, "etcd").env("PATH", broken.path()).output().unwrap();
        assert!(
            said(&next).contains("building etcd 3.6.8 failed") && said(&next).contains("no space left"),
            "{}",
            said(&next)
        );
        assert!(half_built(&cache).is_empty());
    }
}

#[test]
fn a_missing_tool_is_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    let refused = |part: &str, path: &Path| {
        let output = provision(&cache, part).env("PATH", path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
        said(&output)
    };
    let nothing = tempfile::tempdir().unwrap();
    let sentence = refused("nats-server", nothing.path());
    assert!(sentence.contains("Go 1.26 or newer is needed to build nats-server, and no `go` is on PATH"), "{sentence}");

    let old = false_go("echo go1.21.3");
    let sentence = refused("nats-server", old.path());
    assert!(sentence.contains("Go 1.26") && sentence.contains("go1.21.3"), "{sentence}");

    // Java is found where it is usually installed or by its link here, Maven is not.
    let java = stheno_local::provision::java("this test").unwrap();
    std::os::unix::fs::symlink(java, nothing.path().join("java")).unwrap();
    let sentence = refused("cassandra", nothing.path());
    assert!(
        sentence.contains("Maven 3.2.5 or newer is needed to fetch cassandra, and no `mvn` is on PATH"),
        "{sentence}"
    );

    let old = false_tool("mvn", "printf '\\033[1mApache Maven 3.0.5 (r01de14724cdef164)\\033[m\\n'");
    let path = format!("{}:/usr/bin:/bin", old.path().display());
    let sentence = refused("cassandra", Path::new(&path));
    assert!(sentence.contains("Maven 3.2.5 or newer") && sentence.contains("is 3.0.5"), "{sentence}");
}

#[test]
fn without_a_network_the_builder_is_heard() {
    let (cache, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = provision(&cache, "nats-server");
    let output = command.env("GOMODCACHE", modules.path()).env("GOPROXY", "off").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("building nats-server 2.15.1 failed") && said.contains("GOPROXY=off"), "{said}");
    let log = cache.path().join("locks/nats-server.log");
    assert!(said.contains(&log.display().to_string()) && fs::read_to_string(log).unwrap().contains("GOPROXY=off"));

    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let output = provision(&cache, "nats-server").env("STHENO_CACHE", &file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the cache folder cannot be used") && said.contains("STHENO_CACHE"), "{said}");
}

#[test]
fn assets_that_are_there_are_used() {
    let cache = tempfile::tempdir().unwrap();
    let assets = false_go("exit 0");
    let etcd = assets.path().join("etcd");
    fs::rename(assets.path().join("go"), &etcd).unwrap();
    let output = provision(&cache, "etcd").env("KUBEBUILDER_ASSETS", assets.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), etcd.display().to_string(), "{}", said(&output));
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

/// The kubelet speaks no SPDY, which is all that an older one speaks.
#[test]
fn a_kubectl_that_is_too_old_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    let kubectl = |minor: &str| {
        let said = format!("{{\"clientVersion\": {{\"major\": \"1\", \"minor\": \"{minor}\"}}}}");
        // What it is asked for.
        let script = format!("[ \"$*\" = 'version --client -o json' ] && echo '{said}'");
        false_tool("kubectl", &script)
    };
    let (old, new, nothing) = (kubectl("30"), kubectl("31+"), tempfile::tempdir().unwrap());
    // There is no Go: what would have to be built is refused.
    let refused = "Go 1.26 or newer is needed to build kubectl";
    for (assets, path, wanted) in [
        (&nothing, &old, None),
        (&old, &nothing, None),
        (&nothing, &new, Some(&new)),
        (&new, &old, Some(&new)),
        (&old, &new, Some(&new)),
    ] {
        let mut command = provision(&cache, "kubectl");
        let output = command.env("KUBEBUILDER_ASSETS", assets.path()).env("PATH", path.path()).output().unwrap();
        match wanted {
            Some(folder) => {
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(printed.trim(), folder.path().join("kubectl").display().to_string(), "{}", said(&output));
            }
            None => assert!(said(&output).contains(refused), "{}", said(&output)),
        }
    }
}
