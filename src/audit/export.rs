//! `audit export`: the whole log as a file that every verb reads; with `--redact`, as one that can be given away.

use super::archive::{Header, LAYOUT, Trailer, Writer};
use super::output::{self, Format, Screen};
use super::progress::Progress;
use super::redact::{Names, Redactor};
use super::source::{Scope, Source};
use super::text::count;
use serde::Serialize;
use std::path::PathBuf;
use stheno_events::Time;

/// Writes the whole log to a file that every verb reads with --file.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples: stheno audit export monday.stheno && stheno audit log --file monday.stheno\n          \
    stheno audit export incident.stheno --redact\n\n\
    With --redact each name (of namespaces, datacenters, clusters, racks, pods, hosts, backups, schedules, tasks, \
    operators) becomes a pseudonym such as ns-0003; pseudonyms stand in the order of the names. Addresses go, and of \
    sentences everything but the words of stheno itself and of common errors; what this build does not know is dropped. \
    Times, sizes, UUIDs, cron expressions, time zones and what consents name stay. All verbs but verify and import work \
    on the file, and replay answers as it does for the log."
)]
pub(super) struct Args {
    /// Where to.
    #[arg(value_name = "FILE")]
    target: PathBuf,
    /// Replace the file if it is there.
    #[arg(long, env = "STHENO_FORCE", value_parser = clap::builder::FalseyValueParser::new())]
    force: bool,
    /// Replace every name by a pseudonym, and void the hashes: a file that can be given away.
    #[arg(long, env = "STHENO_REDACT", value_parser = clap::builder::FalseyValueParser::new())]
    redact: bool,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    #[serde(flatten)]
    trailer: Trailer,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    /// The first message of which `audit replay` says other things than of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_differs: Option<u64>,
}

impl Args {
    /// Writes the file.
    ///
    /// # Errors
    /// When the log cannot be read, or the file not written.
    pub(super) async fn run(
        &self,
        source: &Source,
        format: Format,
        now: Time,
        screen: Screen<'_>,
    ) -> anyhow::Result<()> {
        if !self.force && self.target.exists() {
            anyhow::bail!("{} is there already: choose another name, or give --force", self.target.display());
        }
        let header = header(source, now);
        let (trailer, differs) =
            if self.redact { self.redacted(source, header).await? } else { (self.whole(source, header).await?, None) };
        let redacted = self.redact || source.redacted();
        match format {
            Format::Text => {
                let (messages, last, root) = (count(trailer.count, "message"), trailer.last, trailer.root);
                let how = if redacted { "redacted, hashes void".to_owned() } else { format!("root {root:?}") };
                writeln!(screen.out, "{messages} up to {last} written to {}, {how}.", self.target.display())?;
                if let Some(differs) = differs {
                    writeln!(
                        screen.out,
                        "`stheno audit replay` says other things of it than of the log, first at message {differs}: an \
                         older stheno said in other words what this one says."
                    )?;
                }
            }
            Format::Json | Format::Yaml => {
                output::value(screen.out, format, &Exported { trailer, redacted, replay_differs: differs })?;
            }
        }
        Ok(())
    }

    async fn whole(&self, source: &Source, header: Header) -> anyhow::Result<Trailer> {
        let mut writer = Writer::create(&self.target, header)?;
        let mut reader = source.read(1, Scope::default()).await?;
        let mut progress = Progress::begin("Exporting", source).await;
        while let Some(entry) = reader.next().await? {
            writer.add(&entry)?;
            progress.reached(entry.sequence);
        }
        Ok(writer.finish()?)
    }

    /// Two passes: pseudonyms stand in the order of the names, so all of them have to be known first.
    async fn redacted(&self, source: &Source, header: Header) -> anyhow::Result<(Trailer, Option<u64>)> {
        let (mut names, mut last) = (Names::default(), 0);
        let mut reader = source.read(1, Scope::default()).await?;
        let mut progress = Progress::begin("Collecting names", source).await;
        while let Some(entry) = reader.next().await? {
            names.learn(&entry);
            last = entry.sequence;
            progress.reached(last);
        }
        drop(progress);
        let mut redactor = Redactor::new(source.log().clone(), names);
        let mut writer = Writer::create(&self.target, redactor.header(header))?;
        let mut reader = source.read(1, Scope::default()).await?;
        let mut progress = Progress::begin("Exporting", source).await;
        // What came meanwhile holds names that nobody has collected.
        while let Some(entry) = reader.next().await?.filter(|entry| entry.sequence <= last) {
            writer.add(&redactor.redact(&entry)?)?;
            progress.reached(entry.sequence);
        }
        Ok((writer.finish()?, redactor.finish()))
    }
}

/// Where the log came from. A file that is exported again stays what it was.
fn header(source: &Source, now: Time) -> Header {
    let by = concat!("stheno ", env!("CARGO_PKG_VERSION")).to_owned();
    match source {
        Source::Nats(log) => {
            let identity = log.identity().clone();
            Header {
                layout: LAYOUT,
                log: identity.log,
                cluster: identity.cluster,
                stream: identity.stream,
                stream_id: identity.stream_id,
                created: identity.created,
                exported: now,
                by,
                redacted: false,
            }
        }
        Source::File { header, .. } => Header { layout: LAYOUT, ..header.clone() },
        Source::Memory { log, .. } => Header {
            layout: LAYOUT,
            log: log.clone(),
            cluster: log.as_str().into(),
            stream: "memory".into(),
            stream_id: String::new(),
            created: now,
            exported: now,
            by,
            redacted: false,
        },
    }
}
