//! Medusa itself, from PyPI, in an environment of its own in the cache folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use stheno_local::process::Process;
use stheno_local::run::Run;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use crate::support::registries::{medusa as programs, run};

/// Runs the command line; what it said. Fails unless it succeeds and logs no error.
pub(crate) async fn cli(ini: &Path, arguments: &[&str]) -> String {
    let (succeeded, said) = attempt(ini, arguments).await;
    assert!(succeeded, "medusa {arguments:?} failed:\n{said}");
    for word in ["ERROR", "Traceback", "Failed"] {
        assert!(!said.contains(word), "medusa {arguments:?} complains:\n{said}");
    }
    said
}

/// Runs the command line; whether it succeeded, and what it said.
pub(crate) async fn attempt(ini: &Path, arguments: &[&str]) -> (bool, String) {
    let program = "import sys; from medusa.medusacli import cli; sys.exit(cli(prog_name='medusa'))";
    let ended = call(program, &[&["--config-file", ini.to_str().unwrap()], arguments].concat()).await;
    (ended.code == 0, ended.stdout + &ended.stderr)
}

/// Runs a Python program with Medusa in reach; its standard output.
pub(crate) async fn python(program: &str, arguments: &[&str]) -> String {
    let ended = call(program, arguments).await;
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// The same in a process of its own, for what imports gRPC: that does not live on in a fork.
pub(crate) async fn python_alone(program: &str, arguments: &[&str]) -> String {
    let (program, arguments) = (program.to_owned(), arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
    let ended = tokio::task::spawn_blocking(move || {
        run(Command::new(programs().join("python")).arg("-c").arg(program).args(arguments))
    });
    ended.await.unwrap()
}

/// How a program ended, and what it said.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The process that has imported Medusa: each program runs in a fork of it.
struct Interpreter {
    run: Run,
    socket: PathBuf,
    _process: Process,
}

static INTERPRETER: OnceCell<Interpreter> = OnceCell::const_new();

impl Interpreter {
    async fn start() -> Self {
        let programs = tokio::task::spawn_blocking(programs).await.unwrap();
        let run = Run::temporary().unwrap();
        let socket = run.path().join("calls");
        let mut command = Command::new(programs.join("python"));
        command.arg("-c").arg(include_str!("medusa.py")).arg(&socket);
        let mut process = run.spawn("medusa", command).unwrap();
        let probe = async || UnixStream::connect(&socket).await.is_ok();
        process.until("listening", Duration::from_secs(60), probe).await.unwrap();
        Self { run, socket, _process: process }
    }
}

async fn call(program: &str, arguments: &[&str]) -> Ended {
    let interpreter = INTERPRETER.get_or_init(Interpreter::start).await;
    let output = tempfile::tempdir_in(interpreter.run.path()).unwrap();
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| output.path().join(name));
    let request = json!({ "program": program, "arguments": arguments, "stdout": stdout, "stderr": stderr });
    let mut stream = UnixStream::connect(&interpreter.socket).await.unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let (stdout, stderr) = (read(&stdout), read(&stderr));
    let code = answer.trim().parse();
    let code = code.unwrap_or_else(|_| panic!("{arguments:?} ended without a word:\n{stdout}{stderr}"));
    Ended { code, stdout, stderr }
}
