//! Operator processes as a kubelet would keep them: started again when they end, each with its words in a file.

use crate::operator::ground::Ground;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use stheno_local::ports::Port;
use stheno_local::process::Process;
use stheno_local::run::Run;
use tokio::time::Instant;

/// What an operator may say when it ends by itself: the log is away, and a kubelet starts it again.
const EXCUSES: [&str; 3] = ["no NATS server answers at", "is not ready after", "the log cannot be"];

/// Where an operator has its log.
pub enum Place {
    /// A NATS server of its own.
    Url(String),
    /// A private server: data folder and program.
    Private(PathBuf, PathBuf),
}

/// One operator's place: at most one process at a time.
pub struct Seat {
    name: String,
    /// The program: ours, unless the drill has another build.
    pub program: PathBuf,
    pub environment: Vec<(String, PathBuf)>,
    arguments: Vec<String>,
    http: Port,
    process: Option<Process>,
    /// When it is to be there (again), or goes on.
    pub back: Option<Instant>,
    paused: bool,
    run: Run,
}

impl Seat {
    pub fn new(name: &str, ground: &Ground, place: &Place) -> Self {
        let namespace = ground.namespace.as_str();
        let http = Port::take().unwrap();
        let mut arguments: Vec<String> = ["operator", "--namespace", namespace, "--own-namespace", namespace]
            .into_iter()
            .map(str::to_owned)
            .collect();
        arguments.extend(["--kubeconfig".into(), ground.account.display().to_string()]);
        arguments.extend(["--http".into(), http.address().to_string()]);
        let mut environment = Vec::new();
        match place {
            Place::Url(url) => arguments.extend(["--nats-url".into(), url.clone()]),
            Place::Private(data, server) => {
                arguments.extend(["--leader-elect=false".into(), "--data-dir".into(), data.display().to_string()]);
                environment.push(("STHENO_NATS_SERVER".to_owned(), server.clone()));
            }
        }
        let program = env!("CARGO_BIN_EXE_stheno").into();
        let run = Run::temporary().unwrap();
        let name = name.to_owned();
        Self { name, program, environment, arguments, http, process: None, back: None, paused: false, run }
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        self.process = Some(self.run.spawn(&self.name, command).unwrap());
        (self.back, self.paused) = (None, false);
    }

    /// Whether a process is there and not suspended.
    pub fn acts(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// SIGKILL now, and back after a while.
    pub fn kill(&mut self, away: Duration) {
        self.process = None;
        self.back = Some(Instant::now() + away);
    }

    /// SIGSTOP now, SIGCONT after a while.
    pub fn pause(&mut self, away: Duration) {
        if let Some(process) = &self.process {
            process.pause().unwrap();
            (self.back, self.paused) = (Some(Instant::now() + away), true);
        }
    }

    /// SIGTERM; it must end in order. Does not come back by itself.
    pub async fn stop(&mut self) {
        self.wake();
        let Some(mut process) = self.process.take() else { return };
        process.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), process.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end within 30 s of SIGTERM", self.name));
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.last_words());
        self.back = None;
    }

    /// Lets a suspended process go on.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.back = None;
            if let Some(process) = &self.process {
                process.resume().unwrap();
            }
        }
    }

    /// What a kubelet does: brings back what is due, and what ended by itself for a reason that is none of its own.
    pub fn tend(&mut self) {
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            let words = self.last_words();
            let excused = status.code() == Some(1) && EXCUSES.iter().any(|excuse| words.contains(excuse));
            assert!(excused, "{} ended by itself with {status}:\n{words}", self.name);
            println!("  {} ended by itself: {}", self.name, words.lines().last().unwrap_or_default());
            self.kill(Duration::from_secs(1));
        }
        if self.back.is_some_and(|back| back <= Instant::now()) {
            if self.process.is_some() { self.wake() } else { self.start() }
        }
    }

    /// Brings it back now.
    pub fn back_now(&mut self) {
        if self.back.is_some() {
            self.back = Some(Instant::now());
            self.tend();
        }
    }

    fn last_words(&self) -> String {
        stheno_local::process::tail(&self.run.path().join(format!("{}.log", self.name)), 15)
    }

    /// All that it has said in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.run.path().join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Status and text of the readiness page.
    pub async fn readiness(&self) -> Option<(u16, String)> {
        let answer = stheno_local::http::get(self.http.address(), "/readyz");
        let (status, text) = tokio::time::timeout(Duration::from_secs(2), answer).await.ok()??;
        Some((status, text.trim().to_owned()))
    }

    /// Waits until readiness says this.
    pub async fn says(&mut self, what: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.tend();
            let page = self.readiness().await;
            if let Some((status, text)) = &page
                && wanted(*status, text)
            {
                return text.clone();
            }
            assert!(Instant::now() < deadline, "{} never said {what}: {page:?}\n{}", self.name, self.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn leads(&mut self) {
        self.says("that it leads", |status, text| status == 200 && text.starts_with("leading")).await;
    }
}
