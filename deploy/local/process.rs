//! Child processes that cannot be forgotten: each ends with its handle, with Ctrl-C, and with the process that started it.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::Duration;
use std::{fs, io, thread};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, getppid};
use tokio::time::{Instant, sleep};

/// Lines of a process's log that an error repeats.
const TAIL: usize = 15;
/// How often a waiting function looks again.
const LOOK: Duration = Duration::from_millis(20);

/// Why a process is not there, or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started at all.
    #[error("{name} could not be started from {}", program.display())]
    Spawn {
        /// Which process.
        name: String,
        /// The program that was to run.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log file could not be opened.
    #[error("the log file {} of {name} cannot be written", path.display())]
    Log {
        /// Which process.
        name: String,
        /// The log file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process ended while somebody needed it.
    #[error("{name} ended ({status}) before {what}; the end of its log:\n{tail}")]
    Ended {
        /// Which process.
        name: String,
        /// What was waited for.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last log lines.
        tail: String,
    },
    /// The process runs but did not become what was waited for.
    #[error("{name}: not {what} after {} s; the end of its log:\n{tail}", after.as_secs())]
    Late {
        /// Which process.
        name: String,
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Its last log lines.
        tail: String,
    },
    /// A signal could not be sent.
    #[error("{name} (process {id}) cannot be signalled with {signal}")]
    Signal {
        /// Which process.
        name: String,
        /// Its id.
        id: u32,
        /// Which signal.
        signal: Signal,
        /// What the system said.
        #[source]
        source: nix::Error,
    },
}

/// A running (or ended) child process in a process group of its own, with its output in a log file. It is killed when its
/// handle is dropped, and by the kernel when the parent dies in whatever way.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// The ends of a process's streams that its starter holds.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Process {
    /// Starts `command` with both outputs appended to `log` and nothing to read.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let log_error = |source| Error::Log { name: name.to_owned(), path: log.to_owned(), source };
        let out = fs::OpenOptions::new().create(true).append(true).open(log).map_err(log_error)?;
        let err = out.try_clone().map_err(log_error)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Self::start(name, command, log)
    }

    /// Starts `command` with pipes for its outputs, and for its input when it is to have one: whoever takes them writes
    /// `log`.
    pub(crate) fn spawn_piped(
        name: &str,
        mut command: Command,
        log: &Path,
        listens: bool,
    ) -> Result<(Self, Pipes), Error> {
        let stdin = if listens { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::start(name, command, log)?;
        let child = &mut process.child;
        let pipes = Pipes { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
        Ok((process, pipes))
    }

    fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        command.process_group(0);
        die_with_parent(&mut command);
        let program = PathBuf::from(command.get_program());
        let child = spawn_from_lasting_thread(command).map_err(|source| Error::Spawn {
            name: name.to_owned(),
            program,
            source,
        })?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// The process id, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // An error here means that somebody else has reaped it: it is gone either way, and nothing says how.
        self.child.try_wait().unwrap_or_default()
    }

    /// SIGSTOP for the whole group; returns when it has stopped, for the signal alone only asks for it.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)?;
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        // An error means that it ended instead, which the next question about it will say.
        let _ = waitid(Id::Pid(self.group()), flags);
        Ok(())
    }

    /// SIGCONT for the whole group.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        killpg(self.group(), signal).map_err(|source| Error::Signal {
            name: self.name.clone(),
            id: self.id(),
            signal,
            source,
        })
    }

    /// SIGKILL for the whole group, at once; returns when the process is gone.
    pub fn kill(&mut self) {
        // Both errors mean that there is nothing left to kill.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL for what is left after `grace`.
    pub async fn stop(&mut self, grace: Duration) {
        let _ = killpg(self.group(), Signal::SIGTERM);
        let deadline = Instant::now() + grace;
        while self.ended().is_none() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        self.kill();
    }

    /// Polls `probe` until it says yes; a process that ends meanwhile, or `patience` that runs out, is an error.
    pub async fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut probe: impl AsyncFnMut() -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                let (name, what) = (self.name.clone(), what.to_owned());
                return Err(Error::Ended { name, what, status, tail: tail(&self.log, TAIL) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (name, what) = (self.name.clone(), what.to_owned());
                return Err(Error::Late { name, what, after: patience, tail: tail(&self.log, TAIL) });
            }
            if tokio::time::timeout(left, probe()).await.unwrap_or(false) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Waits for the end, however long it takes.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => sleep(LOOK).await,
                Err(_) => return ExitStatus::default(),
            }
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log file, or nothing when there is none.
pub fn tail(log: &Path, lines: usize) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(log) {
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[allow(unsafe_code, reason = "prctl in the child before exec is the only way to end it with a parent that was killed")]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only two async-signal-safe system calls run, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the call above: then nobody would send the signal.
            if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(nix::libc::ESRCH)) }
        });
    }
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// The kernel sends the parent-death signal when the *thread* that forked ends, not the process. Threads of tests and of
/// tokio's blocking pool come and go, so one thread that lives as long as the process starts all children.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Result<Sender<Job>, io::ErrorKind>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        thread::Builder::new()
            .name("starter".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .map(|_| jobs)
            .map_err(|error| error.kind())
    });
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (answer, child) = sync_channel(1);
    match starter {
        Ok(jobs) => jobs.send((command, answer)).map_err(|_| gone())?,
        Err(kind) => return Err((*kind).into()),
    }
    child.recv().map_err(|_| gone())?
}
