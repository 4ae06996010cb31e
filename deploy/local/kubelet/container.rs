//! One container of a pod: started, watched by its probes, restarted with back-off, and ended in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::{Instant, sleep, timeout};

use super::environment::{self, Facts, Variables};
use super::files::Missing;
use super::logs::Output;
use super::place::{Mounts, Place};
use super::pod::{self, stopped};
use super::status::Status;
use super::{Pace, Shared, lock, network, probe, root};
use crate::process::{Pipes, Process};

const BACK_OFF: Duration = Duration::from_secs(10);
const HURRIED_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// A container that ran this long begins with the shortest back-off again.
const LONG_RUN: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(2);
/// A state is shown at least this long before the next one covers it.
const SHOWN: Duration = Duration::from_millis(200);
/// How long what an ended container said is waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the containers of one pod share.
pub(crate) struct Runner<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) pod: &'a Pod,
    pub(crate) place: &'a Place,
    pub(crate) status: &'a Status,
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
}

/// A running container.
pub(crate) struct Running {
    pub(crate) id: u32,
    pub(crate) log: PathBuf,
    uid: String,
    variables: Variables,
    /// What it says.
    pub(crate) output: Output,
    /// How it is told something, when its spec says that it listens.
    pub(crate) stdin: Option<Stdin>,
    /// Without namespaces: the mounts of the whole pod and its address, by which words are replaced.
    localizing: Option<(Mounts, String)>,
}

/// The input of a container.
pub(crate) struct Stdin {
    pub(crate) pipe: tokio::sync::Mutex<Option<tokio::process::ChildStdin>>,
    /// Whether it ends with the first who was attached to it.
    pub(crate) once: bool,
}

impl Running {
    /// A command that is to run in the container; its process dies with its handle.
    pub(crate) fn command(&self, words: &[String]) -> tokio::process::Command {
        let mut command = match &self.localizing {
            None => {
                let mut command = tokio::process::Command::new("nsenter");
                command.args(["--target", &self.id.to_string()]);
                command.args(["--mount", "--net", "--uts", "--root", "--wd", "--"]).args(words);
                command
            }
            Some((mounts, ip)) => {
                let mut words = words.iter().map(|word| mounts.localized(ip, word));
                let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
        };
        command.env_clear().envs(&self.variables).env(super::POD_MARK, &self.uid).kill_on_drop(true);
        command
    }
}

/// The task that writes a container's log; it ends with this value.
struct Collecting(tokio::task::JoinHandle<()>);

impl Drop for Collecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a container came to its end.
pub(crate) enum End {
    /// By itself, and need not run again; whether it succeeded.
    Done(bool),
    /// Because the pod stops.
    Stopped,
}

impl Runner<'_> {
    /// Runs the container until it need not be run again.
    pub(crate) async fn run(&self, container: &Container, init: bool, mut updates: pod::Updates) -> End {
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        let shortest = if self.shared.pace == Pace::Hurried { HURRIED_BACK_OFF } else { BACK_OFF };
        let (mut restarts, mut back_off) = (0, shortest);
        loop {
            let launched = tokio::select! {
                launched = self.launch(container, restarts) => launched,
                () = stopped(&mut updates) => return End::Stopped,
            };
            let (mut process, running, pipes) = match launched {
                Ok((process, running, pipes)) => (process, self.now_running(container, running), pipes),
                Err(missing) => {
                    self.status.waiting(&container.name, "CreateContainerConfigError", Some(missing.to_string()));
                    tokio::select! {
                        () = sleep(RETRY) => continue,
                        () = stopped(&mut updates) => return End::Stopped,
                    }
                }
            };
            let mut collecting = {
                let (shared, running) = (self.shared.clone(), running.clone());
                let collect = async move { running.output.collect(&shared.log_times, &running.log, pipes).await };
                Collecting(tokio::task::spawn_local(collect))
            };
            // A hurried cass-operator calls a container that runs for a second: its server must answer by then.
            tokio::select! {
                () = probe::until_it_answers(self, container, &running) => {}
                _ = process.wait() => {}
                () = stopped(&mut updates) => {}
            }
            let at_once = init || (container.readiness_probe.is_none() && container.startup_probe.is_none());
            let (since, began) = (Instant::now(), self.status.running(&container.name, restarts, at_once, running.id));
            let mut message = None;
            let mut stopping = false;
            let exit = tokio::select! {
                exit = process.wait() => exit,
                failed = probe::watch(self, container, &running), if !init => {
                    message = Some(failed);
                    self.end(container, &mut process, &running, init, grace_of(self.pod)).await
                }
                () = stopped(&mut updates) => {
                    stopping = true;
                    let grace = updates.borrow().as_ref().map_or(Duration::ZERO, |pod| deletion_grace(pod));
                    self.end(container, &mut process, &running, init, grace).await
                }
            };
            // What it left running in its group ends with it.
            process.kill();
            // Except for what made itself a session of its own, and may speak on.
            let _ = timeout(LAST_WORDS, &mut collecting.0).await;
            running.output.over();
            lock(&self.shared.running).remove(&(self.place.uid.clone(), container.name.clone()));
            self.status.ended(&container.name, began, exit, init, message);
            if stopping {
                return End::Stopped;
            }
            let restart = match policy {
                "Always" => !init || !exit.success(),
                "OnFailure" => !exit.success(),
                _ => false,
            };
            if !restart {
                return End::Done(exit.success());
            }
            if since.elapsed() > LONG_RUN {
                back_off = shortest;
            }
            let pause = async {
                sleep(SHOWN).await;
                let message = format!("back-off {} s restarting it", back_off.as_secs());
                self.status.waiting(&container.name, "CrashLoopBackOff", Some(message));
                sleep(back_off).await;
            };
            tokio::select! {
                () = pause => {}
                () = stopped(&mut updates) => return End::Stopped,
            }
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
            restarts += 1;
        }
    }

    /// The preStop hook, SIGTERM, and SIGKILL when the time is over.
    async fn end(
        &self,
        container: &Container,
        process: &mut Process,
        running: &Running,
        init: bool,
        grace: Duration,
    ) -> ExitStatus {
        let began = Instant::now();
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(hook) = hook.filter(|_| !init && !grace.is_zero()) {
            if let Some(exec) = &hook.exec {
                let command = exec.command.clone().unwrap_or_default();
                if !self.exec(container, running, &command, grace).await {
                    tracing::debug!("the preStop hook of {} in {} failed", container.name, self.place.name);
                }
            } else if let Some(pause) = &hook.sleep {
                sleep(Duration::from_secs(pause.seconds.unsigned_abs()).min(grace)).await;
            }
        }
        process.stop(grace.saturating_sub(began.elapsed())).await;
        process.ended().unwrap_or_default()
    }

    fn now_running(&self, container: &Container, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        let key = (self.place.uid.clone(), container.name.clone());
        lock(&self.shared.running).insert(key, running.clone());
        running
    }

    async fn launch(&self, container: &Container, restarts: i32) -> Result<(Process, Running, Pipes), Missing> {
        let mounts = Mounts::of(container, self.volumes).map_err(Missing)?;
        let variables = self.variables(container, &mounts).await?;
        let line = self.shared.images.command_line(container).ok_or_else(|| {
            let image = container.image.as_deref().unwrap_or_default();
            Missing(format!(
                "nothing stands for the image {image}: give the container a command, or the ground a program"
            ))
        })?;
        let known: Variables = variables.clone().into_iter().chain(self.shared.images.places.clone()).collect();
        let folder = container.working_dir.as_deref().unwrap_or("/");
        let mut command = if self.shared.network.is_private() {
            let line: Vec<String> = line.iter().map(|word| environment::expand(word, &known)).collect();
            self.in_private_root(container, &mounts, folder, &line)?
        } else {
            for mount in mounts.iter().filter(|mount| !mount.source.exists()) {
                let made = fs::create_dir_all(&mount.source);
                made.map_err(|error| Missing(format!("{} cannot be made: {error}", mount.source.display())))?;
            }
            let (everywhere, ip) = (self.all_mounts(&mounts), self.place.ip());
            // Variables are expanded last: their values are replaced already, or are paths of this machine.
            let mut words = line.iter().map(|word| environment::expand(&everywhere.localized(&ip, word), &known));
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words).current_dir(everywhere.replace(folder));
            command
        };
        command.env_clear().envs(&variables);
        network::mark(&mut command, self.shared.run.path(), &self.place.uid);
        let log = self.place.logs.join(format!("{}.{restarts}.log", container.name));
        let spawned = Process::spawn_piped(&container.name, command, &log, container.stdin == Some(true));
        let (process, mut pipes) = spawned.map_err(|error| Missing(format!("{:#}", anyhow::Error::from(error))))?;
        let localizing = (!self.shared.network.is_private()).then(|| (self.all_mounts(&mounts), self.place.ip()));
        let (uid, output) = (self.place.uid.clone(), Output::new());
        let stdin = pipes.stdin.take().and_then(|pipe| tokio::process::ChildStdin::from_std(pipe).ok());
        let once = container.stdin_once == Some(true);
        let stdin = stdin.map(|pipe| Stdin { pipe: tokio::sync::Mutex::new(Some(pipe)), once });
        let running = Running { id: process.id(), log, uid, variables, output, stdin, localizing };
        Ok((process, running, pipes))
    }

    fn in_private_root(
        &self,
        container: &Container,
        mounts: &Mounts,
        folder: &str,
        line: &[String],
    ) -> Result<Command, Missing> {
        let visible = &self.shared.images.visible;
        let script = root::script(self.place, &container.name, mounts, visible, folder, line);
        let path = self.place.folder.join(format!("{}.sh", container.name));
        fs::write(&path, script).map_err(|error| Missing(format!("{} cannot be written: {error}", path.display())))?;
        let holder = self.place.network.holder().unwrap_or_default().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &holder, "--net", "--"]);
        command.args(["unshare", "--mount", "--uts", "--propagation", "private", "sh"]).arg(path);
        Ok(command)
    }

    async fn variables(&self, container: &Container, mounts: &Mounts) -> Result<Variables, Missing> {
        let (ip, host) = (self.place.ip(), self.shared.network.host().to_string());
        let facts = Facts { pod: self.pod, namespace: &self.place.namespace, ip: &ip, host: &host };
        let mut asked = environment::of(self.shared, &facts, container, self.volumes).await?;
        let private = self.shared.network.is_private();
        if !private {
            let everywhere = self.all_mounts(mounts);
            asked.values_mut().for_each(|value| *value = everywhere.localized(&ip, value));
        }
        let hosts = if private { "/etc/hosts".to_owned() } else { self.place.hosts().display().to_string() };
        let bind = if private { "0.0.0.0" } else { ip.as_str() };
        let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
        let base = [
            ("PATH", path.as_str()),
            ("HOME", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("HOSTNAME", &self.place.name),
            ("STHENO_LOCAL_BIND", bind),
            ("STHENO_LOCAL_HOSTS", &hosts),
        ];
        let mut variables: Variables = base.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        variables.extend(asked);
        Ok(variables)
    }

    fn all_mounts(&self, own: &Mounts) -> Mounts {
        own.with_pod(self.pod, self.volumes)
    }

    /// Runs a command in the container; whether it ended well in time.
    pub(crate) async fn exec(
        &self,
        container: &Container,
        running: &Running,
        command: &[String],
        patience: Duration,
    ) -> bool {
        if command.is_empty() {
            return false;
        }
        let mut exec = running.command(command);
        exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let done = timeout(patience, exec.status()).await;
        tracing::trace!("{command:?} in {} of {}: {done:?}", container.name, self.place.name);
        matches!(done, Ok(Ok(status)) if status.success())
    }
}

fn deletion_grace(pod: &Pod) -> Duration {
    Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default().unsigned_abs())
}

fn grace_of(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    Duration::from_secs(seconds.unsigned_abs())
}
