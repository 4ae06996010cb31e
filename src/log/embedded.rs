//! The private NATS server: started by the first command of a data folder, shared by the next, ended by the last.
//!
//! Three files in `<data>/nats` decide, all by `flock`, which the kernel lifts whatever becomes of a process:
//!
//! - `lock` is held by the server: its standard input is that file, so the lock lives exactly as long as it does. Whoever
//!   gets the lock knows that no server runs, and starts one while holding it.
//! - `clients` is held shared by every process that uses the server. A process that leaves tries to turn its share into the
//!   whole; that succeeds for the last one only, which then ends the server while new ones wait.
//! - `server.json` (0600) says pid, port and token. It is written before the start (without pid and port) and after it;
//!   in between, the server's own pid and port files say the same, so that a starter may die at any point.
//!
//! After a crash of its last user the server stays, and the next command finds and uses it. A server that died, or that
//! is ended because it stores nothing any more, is started again, on the same port, by any process that uses it.

mod files;
mod server;

use files::{Lock, Room};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use files::Running;

/// How often a waiting process looks again.
const LOOK: Duration = Duration::from_millis(20);
/// How often a user looks whether the server is still there.
const WATCH: Duration = Duration::from_millis(500);
/// How long a server may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is missing.
    #[error("no nats-server program: {} is not there; install it on PATH, set STHENO_NATS_SERVER, or give --nats-url", .0.display())]
    NoProgram(PathBuf),
    /// The program does not run.
    #[error("the nats-server program {} cannot be started", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder cannot be used.
    #[error("the data folder cannot be used: {} cannot be written; choose another with --data-dir", .path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No room.
    #[error("the disk of the data folder {} is full: free some space or choose another with --data-dir", .0.display())]
    DiskFull(PathBuf),
    /// It ended at once.
    #[error("the private nats-server of {} ended at once: {reason}", .data.display())]
    Ended {
        /// The data folder.
        data: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// It does not get ready.
    #[error("the private nats-server of {} is not ready after {} s; its log is {}", .data.display(), .patience.as_secs_f32(), .log.display())]
    Late {
        /// The data folder.
        data: PathBuf,
        /// How long was waited.
        patience: Duration,
        /// Where it says more.
        log: PathBuf,
    },
}

/// One process's use of a private server.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    room: Room,
    running: Mutex<Running>,
    /// The share of the `clients` lock; taken when the use ends.
    share: Mutex<Option<Lock>>,
    stop: CancellationToken,
    /// Who starts a dead server again: must be at rest before the server is ended.
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Uses the server of `data_dir`; starts it when none runs. The program is `program` (a path, or a name on PATH), else
    /// `STHENO_NATS_SERVER`, else `nats-server` on PATH.
    ///
    /// # Errors
    /// When the program or the folder cannot be used, or the server is not ready in time.
    pub async fn start_or_find(data_dir: &Path, program: Option<PathBuf>, patience: Duration) -> Result<Self, Error> {
        let program = program.unwrap_or_else(server::program);
        let room = Room::create(data_dir, program)?;
        let deadline = Instant::now() + patience;
        let late = || Error::Late { data: room.data.clone(), patience, log: room.file(files::SERVER_LOG) };
        // The share comes first: from here on nobody ends the server that is found.
        let share = loop {
            if let Some(share) = Lock::shared(&room.file(files::CLIENTS))? {
                break share;
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
            sleep(LOOK).await;
        };
        let running = loop {
            if let Some(running) = server::look(&room, deadline).await? {
                break running;
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
            sleep(LOOK).await;
        };
        Ok(Self {
            shared: Arc::new(Shared {
                room,
                running: Mutex::new(running),
                share: Mutex::new(Some(share)),
                stop: CancellationToken::new(),
                watcher: Mutex::new(None),
            }),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.running().url()
    }

    /// What they show. It stays the same for the life of the data folder.
    #[must_use]
    pub fn token(&self) -> String {
        self.shared.running().token
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared.running().pid
    }

    /// Starts the server again when it died, and tells `client` its new port if it has one. Runs until the use ends.
    pub(super) fn keep_alive(&self, client: async_nats::Client) {
        let shared = Arc::downgrade(&self.shared);
        let stop = self.shared.stop.clone();
        let watcher = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(WATCH) => {}
                }
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = shared.watch(&client).await {
                    tracing::warn!(%error, "the private nats-server is gone and cannot be started again");
                }
            }
        });
        *self.shared.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    /// Ends the server that runs, for all its users: whoever keeps it alive starts another one on the same port. What was
    /// acknowledged is on the disk.
    pub async fn restart(&self) {
        let (room, pid) = (&self.shared.room, self.pid());
        if self.shared.stop.is_cancelled() || !room.signal_if(pid, Signal::SIGTERM) {
            return;
        }
        let killed = Instant::now() + GRACE;
        while room.is_this(pid) && Instant::now() < killed {
            sleep(LOOK).await;
        }
        room.signal_if(pid, Signal::SIGKILL);
    }

    /// Ends the use; ends the server when this was its last user.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        if let Some(watcher) = self.shared.watcher() {
            // It ends by itself, after a start that it may be busy with.
            let _ = watcher.await;
        }
        let Some(whole) = self.shared.last() else { return };
        if !self.shared.room.begin_end() {
            return;
        }
        let killed = Instant::now() + GRACE;
        while self.shared.room.is_running() && Instant::now() < killed {
            sleep(LOOK).await;
        }
        self.shared.room.finish_end();
        drop(whole);
    }
}

impl Drop for Embedded {
    /// The same as [`Embedded::close`], blocking, for ways out that do not close.
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(watcher) = self.shared.watcher() {
            watcher.abort();
        }
        let Some(whole) = self.shared.last() else { return };
        if !self.shared.room.begin_end() {
            return;
        }
        let mut looks = GRACE.as_millis() / LOOK.as_millis();
        while self.shared.room.is_running() && looks > 0 {
            std::thread::sleep(LOOK);
            looks -= 1;
        }
        self.shared.room.finish_end();
        drop(whole);
    }
}

impl Shared {
    fn running(&self) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watcher(&self) -> Option<JoinHandle<()>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Starts the server again when it died; follows it when another process did.
    async fn watch(&self, client: &async_nats::Client) -> Result<(), Error> {
        let found = if self.room.is_running() {
            self.room.running()
        } else {
            server::look(&self.room, Instant::now() + Duration::from_secs(15)).await?
        };
        let Some(found) = found else { return Ok(()) };
        let (moved, url) = (found.port != self.running().port, found.url());
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = found;
        if moved {
            let told = client.set_server_pool(url.as_str()).await.map_err(|error| error.to_string());
            let again = client.force_reconnect().await.map_err(|error| error.to_string());
            if let Err(error) = told.and(again) {
                tracing::warn!(error, "the private nats-server has moved, and the client does not follow");
            }
        }
        Ok(())
    }

    /// Gives the share back; the whole lock when nobody else has a share.
    fn last(&self) -> Option<Lock> {
        let share = self.share.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        share.into_exclusive()
    }
}
