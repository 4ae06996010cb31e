//! `audit log`: events in order.

use super::object::Names;
use super::output::{Format, List, Screen};
use super::row::rows;
use super::select::Selection;
use super::source::Source;
use super::text::{Table, plain};
use stheno_events::{Aggregate, Time};

/// Events in order.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit log --namespace prod --type 'backup.*' --since 2h")]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
}

impl Args {
    /// Writes the events that fit.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn run(
        &self,
        source: &Source,
        format: Format,
        now: Time,
        screen: Screen<'_>,
    ) -> anyhow::Result<()> {
        for glob in self.selection.fitting_nothing() {
            screen.note(format_args!("no event type of this version fits {glob}"));
        }
        let window = self.selection.at(now);
        // For people a job is its name, which stands in its first event only: what lies before is read for that.
        let from = if format == Format::Text { 1 } else { window.from };
        let mut reader = source.read(from, window.scope.clone()).await?;
        let mut names = Names::default();
        let mut list = match format {
            Format::Text => Output::Table(Table::new(
                screen.out,
                screen.colour,
                &["SEQ", "TIME (UTC)", "DATACENTER", "EVENT", "OBJECT", "DETAIL"],
                &[0],
            )),
            Format::Json | Format::Yaml => Output::List(List::new(screen.out, format)),
        };
        while let Some(entry) = reader.next().await? {
            if entry.sequence > window.to {
                break;
            }
            let rows = rows(&entry, &mut names);
            if !window.contains(&entry) {
                continue;
            }
            for row in rows.iter().filter(|row| window.wants(row.name())) {
                match &mut list {
                    Output::List(list) => list.item(&row.view())?,
                    Output::Table(table) => table.row(cells(row))?,
                }
            }
        }
        match list {
            Output::List(list) => list.finish()?,
            Output::Table(mut table) => table.settle()?,
        }
        Ok(())
    }
}

enum Output<'a> {
    Table(Table<&'a mut dyn std::io::Write>),
    List(List<'a>),
}

/// The cells of a row, in the order of the headings.
pub(crate) fn cells(row: &super::row::Row<'_>) -> Vec<super::text::Cell> {
    let place = match row.entry.aggregate() {
        Some(Aggregate::Datacenter(key)) => key.to_string(),
        Some(Aggregate::Location(digest)) => format!("location {}", digest.get(..8).unwrap_or(digest)),
        Some(Aggregate::Operator) | None => "-".into(),
    };
    let object = row.objects.first().map_or_else(|| "-".into(), ToString::to_string);
    let [sequence, time] = row.place_cells();
    vec![sequence, time, plain(place), row.type_cell(), plain(object), plain(row.detail())]
}
