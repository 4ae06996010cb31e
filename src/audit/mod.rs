//! The audit replay tool: what the log says happened, read from NATS or from an exported file, changing nothing.
//!
//! Each verb is a file. They read messages one at a time ([`source`]), and what they fold they fold with
//! [`stheno_projections::World::apply`], as the operator does.

pub mod archive;
mod at;
pub mod catalogue;
mod cluster;
pub mod describe;
mod diff;
pub mod entry;
mod export;
mod import;
pub(crate) mod log;
mod manifest;
pub mod object;
pub mod output;
mod progress;
pub mod redact;
pub mod redecide;
pub mod replay;
pub mod row;
pub mod select;
mod show;
mod similar;
pub mod source;
mod state;
pub mod text;
pub mod verify;
pub mod vouch;
mod why;

pub use entry::Entry;
pub use source::{Source, SourceArgs};

use crate::log::Clock;
use output::{Format, Screen};
use std::io::{self, Write};
use tokio_util::sync::CancellationToken;

/// The audit replay tool: reads the log from NATS or from an exported file.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit show medusabackupjob prod/nightly-1 --file monday.stheno")]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    source: SourceArgs,
    /// How the answer is written.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", env = "STHENO_OUTPUT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Verb {
    /// Events in order.
    Log(log::Args),
    /// An object's life: every event that is about it, and the state after each.
    Show(show::Args),
    /// The causal chain of a job in at most 15 lines: who asked, each answer, what it waits for now, what to do next.
    Why(why::Args),
    /// The projected objects as they stood at a point: YAML, or a table where a kind is named.
    At(at::Args),
    /// What changed between two points, object by object.
    Diff(diff::Args),
    /// The hash chain, gaps, times that run backwards, illegal transitions.
    Verify(verify::Args),
    /// Decides each recorded step once more with this build, and says where it would decide differently.
    Replay(redecide::Args),
    /// Writes the whole log to a file that every verb reads with --file.
    Export(export::Args),
    /// Fills an empty stream with an exported log: the same messages under the same sequences.
    Import(import::Args),
}

impl Command {
    /// Runs the verb against standard output.
    ///
    /// # Errors
    /// With one sentence for the user.
    pub async fn run(self, clock: Clock, cancel: CancellationToken) -> anyhow::Result<()> {
        if let Verb::Import(args) = &self.verb {
            let mut out = io::stdout();
            let screen = Screen { out: &mut out, colour: false };
            return tokio::select! {
                biased;
                () = cancel.cancelled() => Err(anyhow::anyhow!("interrupted: the stream may hold a part of the log")),
                answered = args.run(&self.source, clock, self.output.unwrap_or_default(), screen) => {
                    output::quietly(answered)
                }
            };
        }
        let mut named = self.source.clone();
        if let Verb::Replay(redecide::Args { from: Some(file) }) = &self.verb {
            named.file = Some(file.clone());
        }
        let source = Source::open(&named, clock.clone()).await?;
        let mut out = io::BufWriter::new(io::stdout());
        let colour = output::colour();
        let answered = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(anyhow::anyhow!("interrupted")),
            answered = self.answer(&source, &clock, &mut out, colour) => answered,
        };
        source.close().await;
        output::quietly(answered.and_then(|()| Ok(out.flush()?)))
    }

    /// Answers from a source that is open already.
    ///
    /// # Errors
    /// With one sentence for the user.
    pub async fn answer(
        &self,
        source: &Source,
        clock: &Clock,
        out: &mut dyn Write,
        colour: bool,
    ) -> anyhow::Result<()> {
        let (format, now, screen) = (self.output.unwrap_or_default(), clock(), Screen { out, colour });
        match &self.verb {
            Verb::Log(args) => args.run(source, format, now, screen).await,
            Verb::Show(args) => args.run(source, format, screen).await,
            Verb::Why(args) => args.run(source, format, screen).await,
            Verb::At(args) => args.run(source, self.output, now, screen).await,
            Verb::Diff(args) => args.run(source, format, now, screen).await,
            Verb::Verify(args) => args.run(source, format, screen).await,
            Verb::Replay(args) => args.run(source, format, screen).await,
            Verb::Export(args) => args.run(source, format, now, screen).await,
            Verb::Import(_) => anyhow::bail!("a log is imported into a stream that is not open yet"),
        }
    }
}
