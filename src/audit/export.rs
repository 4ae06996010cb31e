//! `audit export`: the whole log as a file that every verb reads.

use super::archive::{Header, LAYOUT, Writer};
use super::output::{self, Format, Screen};
use super::progress::Progress;
use super::source::{Scope, Source};
use super::text::count;
use std::path::PathBuf;
use stheno_events::Time;

/// Writes the whole log to a file that every verb reads with --file.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit export monday.stheno && stheno audit log --file monday.stheno")]
pub(super) struct Args {
    /// Where to.
    #[arg(value_name = "FILE")]
    target: PathBuf,
    /// Replace the file if it is there.
    #[arg(long, env = "STHENO_FORCE", value_parser = clap::builder::FalseyValueParser::new())]
    force: bool,
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
        let mut writer = Writer::create(&self.target, header(source, now))?;
        let mut reader = source.read(1, Scope::default()).await?;
        let mut progress = Progress::begin("Exporting", source).await;
        while let Some(entry) = reader.next().await? {
            writer.add(&entry)?;
            progress.reached(entry.sequence);
        }
        drop(progress);
        let trailer = writer.finish()?;
        match format {
            Format::Text => writeln!(
                screen.out,
                "{} up to {} written to {}, root {:?}.",
                count(trailer.count, "message"),
                trailer.last,
                self.target.display(),
                trailer.root
            )?,
            Format::Json | Format::Yaml => output::value(screen.out, format, &trailer)?,
        }
        Ok(())
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
        },
    }
}
