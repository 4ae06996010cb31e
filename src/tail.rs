//! The event stream consumer: history and what comes, one event a line, safe in a pipe.

mod cloudevents;
mod feed;

use crate::audit::log::cells;
use crate::audit::object::Names;
use crate::audit::output::{colour, quietly, value};
use crate::audit::row::{Row, rows};
use crate::audit::select::{Selection, Window};
use crate::audit::source::{Source, SourceArgs};
use crate::audit::text::Table;
use crate::log::Clock;
use feed::{Feed, Next};
use std::io::{self, Write};
use stheno_events::LogId;
use tokio_util::sync::CancellationToken;

/// The event stream: history, and with --follow what comes, one event a line.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples: stheno events --namespace prod --type 'backup.*' --since 2h -f\n          \
                        stheno events --durable billing -f -o cloudevents | my-consumer\n          \
                        stheno events schema > events.schema.json")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    selection: Selection,
    /// Stay, and write what comes.
    #[arg(short, long, env = "STHENO_FOLLOW", value_parser = clap::builder::FalseyValueParser::new())]
    follow: bool,
    /// Resume where the last reader of this name stopped; the server remembers. Each event comes at least once.
    #[arg(long, value_name = "NAME", env = "STHENO_DURABLE")]
    durable: Option<String>,
    /// How events are written: columns, or one object a line.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT", env = "STHENO_OUTPUT")]
    output: Format,
    #[command(flatten)]
    source: SourceArgs,
}

/// What there is beside the events themselves.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Verb {
    /// JSON Schema of every event type and version: what a line of `-o json` and the data of a CloudEvent hold
    Schema,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Text,
    /// One JSON object a line, with the fields of `audit log -o json`.
    Json,
    /// One CloudEvents 1.0 object a line.
    Cloudevents,
}

impl Command {
    /// Writes events to standard output until there are no more, `cancel` says so, or nobody reads them.
    ///
    /// # Errors
    /// With one sentence for the user.
    pub async fn run(self, clock: Clock, cancel: CancellationToken) -> anyhow::Result<()> {
        if let Some(Verb::Schema) = self.verb {
            return quietly(value(
                &mut io::stdout().lock(),
                crate::audit::output::Format::Json,
                &stheno_events::schema::document(),
            ));
        }
        let source = Source::open(&self.source, clock.clone()).await?;
        let (mut out, colour) = (io::stdout(), colour());
        let written = tokio::select! {
            biased;
            () = feed::unread() => Ok(()),
            () = cancel.cancelled() => Ok(()),
            written = self.write(&source, &clock, &mut out, colour) => written,
        };
        source.close().await;
        quietly(written)
    }

    /// Writes events to `out`, a line at a time.
    ///
    /// # Errors
    /// With one sentence for the user.
    pub async fn write(
        &self,
        source: &Source,
        clock: &Clock,
        out: &mut (dyn Write + Send),
        colour: bool,
    ) -> anyhow::Result<()> {
        for glob in self.selection.fitting_nothing() {
            let _ = writeln!(io::stderr(), "note: no event type of this version fits {glob}");
        }
        let window = self.selection.at(clock());
        let mut names = Names::default();
        let text = self.output == Format::Text;
        let mut feed = match (&self.durable, self.follow) {
            (Some(name), follow) => {
                let feed = Feed::durable(source, name, window.from, window.scope.clone(), follow).await?;
                if text {
                    learn(source, &window, feed.position(), &mut names).await?;
                }
                feed
            }
            // For people a job is its name, which stands in its first event only: what lies before is read for that.
            (None, true) => Feed::following(source, if text { 1 } else { window.from }, window.scope.clone())?,
            (None, false) => Feed::reading(source, if text { 1 } else { window.from }, window.scope.clone()).await?,
        };
        let mut printer = Printer::new(self.output, out, colour, source.log().clone());
        loop {
            match feed.next().await? {
                Next::Entry(entry) => {
                    if entry.sequence > window.to {
                        break;
                    }
                    let rows = rows(&entry, &mut names);
                    if window.contains(&entry) {
                        for row in rows.iter().filter(|row| window.wants(row.name())) {
                            printer.row(row)?;
                        }
                    }
                    if entry.sequence == window.to {
                        break;
                    }
                    if feed.is_full() {
                        printer.settle()?;
                        feed.done().await?;
                    }
                }
                Next::Idle => {
                    printer.settle()?;
                    feed.done().await?;
                }
                Next::End => break,
            }
        }
        printer.settle()?;
        feed.done().await
    }
}

/// Reads what lies before the first event to be written, for the names that it tells.
async fn learn(source: &Source, window: &Window, until: u64, names: &mut Names) -> anyhow::Result<()> {
    if until == 0 {
        return Ok(());
    }
    let mut reader = source.read(1, window.scope.clone()).await?;
    while let Some(entry) = reader.next().await? {
        if entry.sequence > until {
            break;
        }
        rows(&entry, names);
    }
    Ok(())
}

enum Printer<'a> {
    Text(Table<&'a mut (dyn Write + Send)>),
    Lines { out: &'a mut (dyn Write + Send), cloud: bool, log: LogId },
}

impl<'a> Printer<'a> {
    fn new(format: Format, out: &'a mut (dyn Write + Send), colour: bool, log: LogId) -> Self {
        let headings = ["SEQ", "TIME (UTC)", "DATACENTER", "EVENT", "OBJECT", "DETAIL"];
        match format {
            Format::Text => Self::Text(Table::new(out, colour, &headings, &[0])),
            Format::Json => Self::Lines { out, cloud: false, log },
            Format::Cloudevents => Self::Lines { out, cloud: true, log },
        }
    }

    fn row(&mut self, row: &Row<'_>) -> anyhow::Result<()> {
        match self {
            Self::Text(table) => table.row(cells(row))?,
            Self::Lines { out, cloud, log } => {
                let mut line = if *cloud {
                    serde_json::to_vec(&cloudevents::Event::of(row, log))?
                } else {
                    serde_json::to_vec(&row.view())?
                };
                line.push(b'\n');
                out.write_all(&line)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Text(table) => table.settle(),
            Self::Lines { out, .. } => out.flush(),
        }
    }
}
