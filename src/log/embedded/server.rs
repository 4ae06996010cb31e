//! Starting the private server, or finding the one that runs.

use super::files::{
    LOCK, Lock, Notice, Room, Running, SERVER, SERVER_CONFIG, SERVER_LOG, SERVER_OUTPUT, SERVER_PID, unwritable,
};
use super::{Error, LOOK};
use serde::Deserialize;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The program: `STHENO_NATS_SERVER`, else by its name on PATH.
pub(super) fn program() -> PathBuf {
    std::env::var_os("STHENO_NATS_SERVER").filter(|path| !path.is_empty()).map_or("nats-server".into(), PathBuf::from)
}

/// One look: the server that runs, or one that is started now. `None` means to look again: somebody else is starting one,
/// or it has not said yet where it listens.
pub(super) async fn look(room: &Room, deadline: Instant) -> Result<Option<Running>, Error> {
    match Lock::exclusive(&room.file(LOCK))? {
        Some(lock) => start(room, lock, deadline).await.map(Some),
        None => Ok(match room.running() {
            Some(running) if listens(running.port).await => Some(running),
            Some(_) | None => None,
        }),
    }
}

async fn listens(port: u16) -> bool {
    matches!(timeout(Duration::from_secs(1), TcpStream::connect(("127.0.0.1", port))).await, Ok(Ok(_)))
}

/// Starts a server, on the port of the last one if that is free, so that its clients find it again.
async fn start(room: &Room, lock: Lock, deadline: Instant) -> Result<Running, Error> {
    let program = found(&room.program)?;
    let former = room.notice();
    let token =
        former.as_ref().map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), |former| former.token.clone());
    let port = former.and_then(|former| former.port).filter(|port| is_free(*port));
    let _ = fs::remove_file(room.file(SERVER_PID));
    let notice = Notice { pid: None, port: None, token: token.clone() };
    room.write(SERVER, &json(room, &notice)?)?;
    room.write(SERVER_CONFIG, config(room, &token, port).as_bytes())?;
    let begun = fs::metadata(room.file(SERVER_LOG)).map_or(0, |metadata| metadata.len());

    let output = fs::File::create(room.file(SERVER_OUTPUT)).map_err(unwritable(&room.file(SERVER_OUTPUT)))?;
    let spawned = lock.inherit().and_then(|inherited| {
        Command::new(&program)
            .arg("-c")
            .arg(room.file(SERVER_CONFIG))
            // The lock goes with the server: its standard input is the locked file.
            .stdin(Stdio::from(inherited))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            // Ctrl-C on a terminal is for us; the server ends after what it still has to store.
            .process_group(0)
            .spawn()
    });
    let mut child = spawned.map_err(|source| Error::Spawn { program: program.clone(), source })?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    // From here on the server alone holds it.
    drop(lock);

    loop {
        if let Ok(Some(_status)) = child.try_wait() {
            return Err(ended(room, begun));
        }
        if let Some(port) = port_of(room, pid)
            && listens(port).await
        {
            let running = Running { pid, port, token };
            let notice = Notice { pid: Some(pid), port: Some(port), token: running.token.clone() };
            room.write(SERVER, &json(room, &notice)?)?;
            // Whoever ends it, a process of ours reaps it.
            std::thread::spawn(move || child.wait());
            return Ok(running);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            let log = room.file(SERVER_LOG);
            return Err(Error::Late { data: room.data.clone(), patience: Duration::from_secs(15), log });
        }
        sleep(LOOK).await;
    }
}

fn json(room: &Room, notice: &Notice) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(notice).map_err(|error| unwritable(&room.file(SERVER))(io::Error::from(error)))
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The program as a path that exists.
fn found(program: &Path) -> Result<PathBuf, Error> {
    let missing = || Error::NoProgram(program.to_owned());
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned()).ok_or_else(missing);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file()).ok_or_else(missing)
}

/// What the server is told. It takes a free port itself (-1) and writes it into a file, so that no port is ever raced for.
fn config(room: &Room, token: &str, port: Option<u16>) -> String {
    let quoted = |path: PathBuf| serde_json::Value::from(path.to_string_lossy()).to_string();
    let port = port.map_or(-1, i32::from);
    format!(
        "# Written at each start; changes are lost.\n\
         listen: \"127.0.0.1:{port}\"\n\
         server_name: stheno\n\
         authorization {{ token: \"{token}\" }}\n\
         pid_file: {pid}\n\
         log_file: {log}\n\
         logfile_size_limit: 10MB\n\
         logfile_max_num: 2\n\
         ports_file_dir: {folder}\n\
         jetstream {{ store_dir: {store}, sync_interval: always }}\n",
        pid = quoted(room.file(SERVER_PID)),
        log = quoted(room.file(SERVER_LOG)),
        folder = quoted(room.path().to_owned()),
        store = quoted(room.file("store")),
    )
}

/// The port that the server of this pid wrote down.
pub(super) fn port_of(room: &Room, pid: i32) -> Option<u16> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    let name = room.program.file_name()?.to_string_lossy().into_owned();
    let ports: Ports = serde_json::from_slice(&fs::read(room.file(&format!("{name}_{pid}.ports"))).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

/// The server's last words since `begun`, as one sentence.
fn ended(room: &Room, begun: u64) -> Error {
    let log = fs::read(room.file(SERVER_LOG)).unwrap_or_default();
    let mut said = fs::read(room.file(SERVER_OUTPUT)).unwrap_or_default();
    said.extend_from_slice(log.get(usize::try_from(begun).unwrap_or(0)..).unwrap_or_default());
    let said = String::from_utf8_lossy(&said);
    if said.contains("no space left on device") {
        return Error::DiskFull(room.data.clone());
    }
    // Its fatal line; else, for what is wrong with the configuration, what it prefixes with its name.
    let words = |line: &&str| line.contains("[FTL]") || line.contains("[ERR]") || line.starts_with("nats-server: ");
    let reason = said.lines().rev().find(words).or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
    let reason = reason.unwrap_or("it said nothing");
    let reason = reason
        .split_once("] ")
        .filter(|_| reason.starts_with('['))
        .map_or(reason, |(_, rest)| rest.split_once("] ").map_or(rest, |(_, reason)| reason));
    Error::Ended { data: room.data.clone(), reason: reason.to_owned() }
}
