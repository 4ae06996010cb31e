//! `audit show`: an object's life, with the state after each event.

use super::object::{KindArg, NameArg, Names};
use super::output::{Format, List, Screen};
use super::row::{Row, View, rows};
use super::similar::Similar;
use super::source::{Scope, Source};
use super::state::state;
use super::text::{Cell, Table, plain};
use serde::Serialize;
use stheno_events::Fact;
use stheno_projections::World;

/// An object's life: every event that is about it, and the state after each.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: stheno audit show medusabackupjob prod/nightly-1")]
pub(super) struct Args {
    /// MedusaBackupJob, MedusaBackup, MedusaBackupSchedule, MedusaTask, CassandraDatacenter or Pod; short names as in
    /// kubectl.
    #[arg(value_name = "KIND")]
    kind: KindArg,
    /// The object.
    #[arg(value_name = "NAMESPACE/NAME")]
    name: NameArg,
}

/// A row and what it led to.
#[derive(Serialize)]
struct WithState<'a> {
    #[serde(flatten)]
    view: View<'a>,
    /// The object's state behind the event, short.
    state: &'a str,
}

enum Output<'a> {
    Table(Table<&'a mut dyn std::io::Write>),
    List(List<'a>),
}

impl Args {
    /// Writes the object's life.
    ///
    /// # Errors
    /// When the log cannot be read, or never met the object.
    pub(super) async fn run(&self, source: &Source, format: Format, screen: Screen<'_>) -> anyhow::Result<()> {
        let mut reader = source.read(1, Scope::namespace(&self.name.namespace)).await?;
        let (mut names, mut world, mut found) = (Names::default(), World::default(), false);
        let mut output = match format {
            Format::Text => Output::Table(Table::new(
                screen.out,
                screen.colour,
                &["SEQ", "TIME (UTC)", "EVENT", "STATE AFTER", "DETAIL"],
                &[0],
            )),
            Format::Json | Format::Yaml => Output::List(List::new(screen.out, format)),
        };
        while let Some(entry) = reader.next().await? {
            let rows = rows(&entry, &mut names);
            if rows.iter().any(|row| self.uid_in(row).is_some()) {
                found = true;
                // The state behind each fact; the world takes the message as a whole, as the operator does.
                let known = entry.datacenter().and_then(|key| world.datacenter(key));
                let mut dc = known.cloned().unwrap_or_default();
                for row in &rows {
                    if let Some(Fact::Known(event)) = row.fact {
                        dc.fold(event, entry.at());
                    }
                    let Some(uid) = self.uid_in(row) else { continue };
                    let state = state(&dc, self.kind.0, &self.name.name, uid);
                    match &mut output {
                        Output::Table(table) => table.row(cells(row, &state))?,
                        Output::List(list) => list.item(&WithState { view: row.view(), state: &state })?,
                    }
                }
            }
            entry.fold(entry.digest(), &mut world);
        }
        if !found {
            let hint = self.similar(source).await?;
            anyhow::bail!("the log has never met {} {}{hint}", self.kind.0.as_str(), self.name);
        }
        match output {
            Output::Table(mut table) => table.settle()?,
            Output::List(list) => list.finish()?,
        }
        Ok(())
    }

    /// The UID by which a row is about the object; none when it is not about it.
    fn uid_in<'r>(&self, row: &'r Row<'_>) -> Option<Option<&'r stheno_events::Uid>> {
        row.objects
            .iter()
            .find(|object| {
                object.kind == self.kind.0
                    && object.namespace == self.name.namespace
                    && object.name.as_ref() == Some(&self.name.name)
            })
            .map(|object| object.uid.as_ref())
    }

    async fn similar(&self, source: &Source) -> anyhow::Result<Similar> {
        let mut similar = Similar::to(self.name.to_string());
        let (mut reader, mut names) = (source.read(1, Scope::default()).await?, Names::default());
        while let Some(entry) = reader.next().await? {
            for row in rows(&entry, &mut names) {
                for object in row.objects.iter().filter(|object| object.kind == self.kind.0) {
                    if let Some(name) = &object.name {
                        similar.offer(format!("{}/{name}", object.namespace));
                    }
                }
            }
        }
        Ok(similar)
    }
}

fn cells(row: &Row<'_>, state: &str) -> Vec<Cell> {
    let [sequence, time] = row.place_cells();
    vec![sequence, time, row.type_cell(), plain(state), plain(row.detail())]
}
