//! `audit import`: an exported log becomes a stream again, message for message.

use super::archive;
use super::output::{self, Format, Screen};
use super::progress::Progress;
use super::source::{Scope, Source, SourceArgs};
use super::text::count;
use super::verify;
use crate::log::{Clock, Log};
use anyhow::Context as _;
use serde::Serialize;
use std::path::PathBuf;

/// Fills an empty stream with an exported log: the same messages under the same sequences.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit import monday.stheno --nats-url nats://localhost:4222\n\n\
    The stream is made when it is missing. Times of storage are those of the import; everything else stays, chain and \
    checkpoints included. An operator that witnessed the former stream does nothing until its ConfigMap stheno-log is deleted.")]
pub(super) struct Args {
    /// What `stheno audit export` wrote.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Import even where what NATS acknowledges may be lost.
    #[arg(long, env = "STHENO_ALLOW_RELAXED_LOG", value_parser = clap::builder::FalseyValueParser::new())]
    allow_relaxed_log: bool,
}

/// What was imported.
#[derive(Debug, Serialize)]
struct Imported<'a> {
    stream: &'a str,
    messages: u64,
    last: u64,
    root: &'a stheno_events::Digest,
}

impl Args {
    /// Fills the stream that `target` names.
    ///
    /// # Errors
    /// When the file is damaged, the stream not empty or of another cluster, or a message is not taken.
    pub(super) async fn run(
        &self,
        target: &SourceArgs,
        clock: Clock,
        format: Format,
        screen: Screen<'_>,
    ) -> anyhow::Result<()> {
        if target.file.is_some() {
            anyhow::bail!(
                "a log is imported into a stream: leave out --file, and name the stream with --nats-url or --data-dir"
            );
        }
        let file = Source::file(self.from.clone())?;
        let Source::File { header, .. } = &file else { anyhow::bail!("{} is no file", self.from.display()) };
        // Nothing is written before the whole file is known to be good.
        if let Some(fault) = verify::verify(&file).await?.fault {
            anyhow::bail!("{} is not imported: {fault}", self.from.display());
        }
        let mut settings = target.settings(clock, true)?;
        settings.cluster = Some(header.cluster.clone());
        settings.allow_relaxed = self.allow_relaxed_log;
        let log = Log::open(settings).await?;
        let filled = fill(&log, &file).await;
        let source = Source::Nats(log);
        let answered = match filled {
            Ok(trailer) => said(&source, &trailer, format, screen),
            Err(error) => Err(error),
        };
        source.close().await;
        answered
    }
}

/// Sends every message, and reads all of them again.
async fn fill(log: &Log, file: &Source) -> anyhow::Result<archive::Trailer> {
    let mut reader = file.read(1, Scope::default()).await?;
    let mut refill = log.refill().await?;
    let mut progress = Progress::begin("Importing", file).await;
    let mut next = 1;
    while let Some(entry) = reader.next().await? {
        if entry.sequence != next {
            anyhow::bail!(
                "the file begins with message {}: a stream can only be filled from its first one",
                entry.sequence
            );
        }
        next += 1;
        let id = entry.envelope.as_ref().ok().map(|envelope| envelope.id.clone());
        refill.put(entry.subject, id.as_ref(), entry.payload).await?;
        progress.reached(entry.sequence);
    }
    let trailer = reader.trailer().cloned().unwrap_or_default();
    refill.finish().await?;
    drop(progress);

    let stream = Source::Nats(log.clone());
    let (mut was, mut is) = (file.read(1, Scope::default()).await?, stream.read(1, Scope::default()).await?);
    let mut progress = Progress::begin("Comparing", &stream).await;
    while let Some(expected) = was.next().await? {
        let found = is.next().await.context("the stream cannot be compared with the file")?;
        let same = found.as_ref().is_some_and(|found| {
            (found.sequence, &found.subject, &found.payload)
                == (expected.sequence, &expected.subject, &expected.payload)
        });
        if !same {
            anyhow::bail!(
                "message {} of the stream is not that of the file: delete the stream and import again",
                expected.sequence
            );
        }
        progress.reached(expected.sequence);
    }
    Ok(trailer)
}

fn said(source: &Source, trailer: &archive::Trailer, format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
    let Some(identity) = source.identity() else { anyhow::bail!("the stream does not say which one it is") };
    let (stream, messages, last, root) = (&*identity.stream, trailer.count, trailer.last, &trailer.root);
    match format {
        Format::Text => writeln!(
            screen.out,
            "{} imported into stream {stream}, root {root:?}.\nAn operator that witnessed the former stream waits: \
             kubectl delete configmap {} -n <its namespace> lets it go on with this one.",
            count(messages, "message"),
            crate::log::witness::CONFIG_MAP,
        )?,
        Format::Json | Format::Yaml => output::value(screen.out, format, &Imported { stream, messages, last, root })?,
    }
    Ok(())
}
