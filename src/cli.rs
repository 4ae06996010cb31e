//! The command line: one struct a command, parsed and handed on. What a command does lives in its room.

mod agent;
mod crds;
mod operator;
mod restore;
mod schedule;

use crate::runtime::{self, LogFormat};
use crate::{audit, tail};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Event-sourced orchestrator for Medusa backups of Apache Cassandra on Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "stheno",
    version,
    propagate_version = true,
    after_help = "Example:\n  stheno crds | kubectl apply --server-side -f -\n  stheno operator"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logs: Logs,
}

/// The process's own logs, on stderr.
#[derive(Debug, clap::Args)]
struct Logs {
    /// What is logged: a level, or directives such as `stheno=debug,warn`
    #[arg(long, global = true, value_name = "FILTER", env = "STHENO_LOG_FILTER", help_heading = "Logs")]
    log_filter: Option<String>,
    /// How it is written
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        env = "STHENO_LOG_FORMAT",
        help_heading = "Logs"
    )]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The orchestrator: watches custom resources, keeps the log, calls the sidecars
    Operator(Box<operator::Args>),
    /// The sidecar beside a Cassandra node: Medusa's gRPC service and our extension of it
    Agent(agent::Args),
    /// The init container: puts this node's data back from a backup, before Cassandra starts
    Restore(restore::Args),
    /// Prints the custom resource definitions
    Crds(crds::Args),
    /// Cron expressions: when a schedule would start something
    Schedule(schedule::Args),
    /// The event stream: history and what comes, one event a line
    Events(Box<tail::Command>),
    /// The audit replay tool: what happened, from the log on NATS or an exported file
    Audit(Box<audit::Command>),
}

impl Command {
    /// What is logged unless the user says otherwise: processes tell what they do, commands only what is wrong.
    const fn usual_logs(&self) -> &'static str {
        match self {
            Self::Operator(_) | Self::Agent(_) | Self::Restore(_) => "info,async_nats=warn,kube_client=off",
            Self::Crds(_) | Self::Schedule(_) | Self::Events(_) | Self::Audit(_) => "warn",
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Operator(args) => operator::run(*args).await,
            Self::Agent(args) => agent::run(args).await,
            Self::Restore(args) => restore::run(args).await,
            Self::Crds(args) => crds::run(&args),
            Self::Schedule(args) => schedule::run(&args),
            Self::Events(command) => command.run(Arc::new(runtime::wall), runtime::shutdown()?).await,
            Self::Audit(command) => command.run(Arc::new(runtime::wall), runtime::shutdown()?).await,
        }
    }
}

/// Parses the command line and runs it: 0 on success, 1 on a failure that one sentence on stderr explains, 2 on wrong
/// usage.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match drop_in(std::env::args_os().collect(), std::env::var("MEDUSA_MODE").ok().as_deref()) {
        Ok(arguments) => arguments,
        Err((code, sentence)) => {
            say(&sentence);
            return ExitCode::from(code);
        }
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to fail at showing help.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    runtime::crypto();
    let usual = cli.command.usual_logs();
    runtime::trace(cli.logs.log_filter.as_deref().unwrap_or(usual), cli.logs.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.command.run());
    // Threads that wait for a disk or a name server must not hold up the end.
    runtime.shutdown_background();
    result
}

/// With Medusa's own environment and no command, this is Medusa's image: the mode names the command.
fn drop_in(mut arguments: Vec<OsString>, mode: Option<&str>) -> Result<Vec<OsString>, (u8, String)> {
    match mode {
        Some(mode) if arguments.len() == 1 => {
            let command = match mode {
                "GRPC" => "agent",
                "RESTORE" => "restore",
                other => return Err((2, format!("MEDUSA_MODE is {other:?}: expected GRPC or RESTORE"))),
            };
            arguments.push(command.into());
            Ok(arguments)
        }
        Some(_) | None => Ok(arguments),
    }
}

#[expect(clippy::print_stderr, reason = "the one sentence that explains a failure")]
fn say(sentence: &str) {
    eprintln!("stheno: {sentence}");
}

/// An error and what caused it, once each, in one line.
#[must_use]
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let part = match error.downcast_ref::<kube::Error>() {
            // Its own text repeats the answer as a debug print.
            Some(kube::Error::Api(status)) => status.message.clone(),
            // A word about the layer that failed; the causes say what happened.
            Some(kube::Error::Service(_)) => String::new(),
            Some(_) | None => error.to_string(),
        };
        if !part.is_empty() && !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = error.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound_and_every_command_has_an_example() {
        let mut cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{} --help has no example", command.get_name());
        }
    }

    #[test]
    fn every_option_is_an_environment_variable_too() {
        for command in Cli::command().get_subcommands() {
            for option in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let Some(long) = option.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
                    continue;
                };
                let expected = format!("STHENO_{}", long.to_uppercase().replace('-', "_"));
                let found = option.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(expected), "{} --{long}", command.get_name());
            }
        }
    }

    #[test]
    fn medusas_environment_picks_the_command() {
        let call =
            |words: &[&str], mode| drop_in(words.iter().map(OsString::from).collect(), mode).map(|words| words.len());
        assert_eq!(call(&["stheno"], Some("GRPC")), Ok(2));
        assert_eq!(call(&["stheno", "crds"], Some("GRPC")), Ok(2));
        assert_eq!(call(&["stheno"], None), Ok(1));
        assert_eq!(call(&["stheno"], Some("RESTORE")), Ok(2));
        assert_eq!(
            call(&["stheno"], Some("grpc")),
            Err((2, "MEDUSA_MODE is \"grpc\": expected GRPC or RESTORE".into()))
        );
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the file cannot be read")]
        struct Outer(#[source] std::io::Error);
        let outer = Outer(std::io::Error::other("no such\n  thing"));
        assert_eq!(sentence(&outer), "the file cannot be read: no such thing");
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Same(#[from] Outer);
        assert_eq!(sentence(&Same(outer)), "the file cannot be read: no such thing");
    }
}
