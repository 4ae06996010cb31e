//! `audit at`: the objects as they stood at a point of the log, as kubectl would have shown them.

use super::manifest::{Manifest, manifests};
use super::object::{KindArg, NameArg};
use super::output::{self, Format, Screen};
use super::replay::{Begin, world_at};
use super::select::Point;
use super::similar::Similar;
use super::source::Source;
use super::text::{Table, plain};
use serde_json::{Value, json};
use stheno_events::Time;

/// The projected objects as they stood at a point: YAML, or a table where a kind is named.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples: stheno audit at 2026-03-01T02:00Z medusabackups -n prod\n          \
                        stheno audit at 812 medusabackupjob prod/nightly-1 -o yaml")]
pub(super) struct Args {
    /// A sequence (behind that message), a time (RFC 3339), or how long ago (90m, 7d).
    #[arg(value_name = "TIME|SEQ")]
    point: Point,
    /// MedusaBackupJob, MedusaBackup, MedusaBackupSchedule, MedusaTask, CassandraDatacenter or Pod; short names as in
    /// kubectl.
    #[arg(value_name = "KIND")]
    kind: Option<KindArg>,
    /// One object.
    #[arg(value_name = "NAMESPACE/NAME")]
    name: Option<NameArg>,
    /// Only objects of this namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE", env = "STHENO_NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    begin: Begin,
}

impl Args {
    /// Writes the objects. `format` is none where the user named none.
    pub(super) async fn run(
        &self,
        source: &Source,
        format: Option<Format>,
        now: Time,
        screen: Screen<'_>,
    ) -> anyhow::Result<()> {
        let (world, then) = world_at(source, self.point, now, self.begin).await?;
        let all = manifests(&world);
        let of_kind = |manifest: &&Manifest| self.kind.is_none_or(|kind| kind.0 == manifest.kind);
        let chosen: Vec<&Manifest> = all.iter().filter(of_kind).filter(|manifest| self.wants(manifest)).collect();
        if let (Some(name), true) = (&self.name, chosen.is_empty()) {
            let mut similar = Similar::to(name.to_string());
            all.iter().filter(of_kind).for_each(|manifest| similar.offer(manifest.to_string()));
            let kind = self.kind.map_or("object", |kind| kind.0.as_str());
            anyhow::bail!("there was no {kind} {name} at message {}{similar}", world.position);
        }
        let shown = if self.kind.is_some() && self.name.is_none() { Format::Text } else { Format::Yaml };
        match (format.unwrap_or(shown), chosen.as_slice()) {
            (Format::Text, _) => tables(screen, &chosen, then)?,
            (format, [one]) if self.name.is_some() => output::value(screen.out, format, &one.value)?,
            (Format::Json, _) => {
                let items: Vec<&Value> = chosen.iter().map(|manifest| &manifest.value).collect();
                output::value(screen.out, Format::Json, &json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
            }
            (Format::Yaml, _) => {
                for manifest in chosen {
                    writeln!(screen.out, "---")?;
                    output::value(screen.out, Format::Yaml, &manifest.value)?;
                }
            }
        }
        Ok(())
    }

    fn wants(&self, manifest: &Manifest) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| *manifest.namespace == *namespace)
            && self.name.as_ref().is_none_or(|name| name.namespace == manifest.namespace && name.name == manifest.name)
    }
}

/// One table a kind, with the columns of its definition.
fn tables(screen: Screen<'_>, manifests: &[&Manifest], at: Time) -> anyhow::Result<()> {
    let kinds = stheno_decide::engine::WATCHED;
    let mut first = true;
    for kind in kinds {
        let rows: Vec<&&Manifest> = manifests.iter().filter(|manifest| manifest.kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            writeln!(screen.out)?;
        }
        let columns = super::manifest::columns(kind);
        let headings: Vec<String> = columns.iter().map(|column| column.name.to_uppercase()).collect();
        let headings: Vec<&str> =
            ["NAMESPACE", "NAME"].into_iter().chain(headings.iter().map(String::as_str)).collect();
        let mut table = Table::new(&mut *screen.out, screen.colour, &headings, &[]);
        for manifest in rows {
            let cells = [plain(&manifest.namespace), plain(&manifest.name)];
            table.row(cells.into_iter().chain(columns.iter().map(|c| plain(c.cell(&manifest.value, at)))).collect())?;
        }
        table.settle()?;
    }
    if first {
        writeln!(screen.out, "No objects.")?;
    }
    Ok(())
}
