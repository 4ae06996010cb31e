//! `audit diff`: what changed between two points of the log, object by object and field by field.

use super::manifest::{Manifest, manifests};
use super::output::{self, Format, Screen};
use super::replay::{Begin, world_at};
use super::select::Point;
use super::source::Source;
use super::text::count;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stheno_events::Time;

/// What changed between two points, object by object.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples: stheno audit diff 800 812\n          \
                        stheno audit diff 2026-03-01T02:00Z 2026-03-01T03:00Z -n prod")]
pub(super) struct Args {
    /// The earlier point: a sequence (behind that message), a time (RFC 3339), or how long ago (90m, 7d).
    #[arg(value_name = "A")]
    from: Point,
    /// The later point.
    #[arg(value_name = "B")]
    to: Point,
    /// Only objects of this namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE", env = "STHENO_NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    begin: Begin,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Appeared,
    Changed,
    Gone,
}

/// An object that is not the same at both points.
#[derive(Debug, Serialize)]
struct Difference {
    kind: &'static str,
    namespace: String,
    name: String,
    change: Change,
    fields: Vec<Field>,
}

/// A field that is not the same: absent where there was or is none.
#[derive(Debug, Serialize)]
struct Field {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl Args {
    /// Writes the differences.
    ///
    /// # Errors
    /// When the log cannot be read, or a point lies outside it.
    pub(super) async fn run(
        &self,
        source: &Source,
        format: Format,
        now: Time,
        screen: Screen<'_>,
    ) -> anyhow::Result<()> {
        let (before, _) = world_at(source, self.from, now, self.begin).await?;
        let (after, _) = world_at(source, self.to, now, self.begin).await?;
        if before.position > after.position {
            anyhow::bail!(
                "the first point (message {}) lies behind the second (message {}): name the earlier one first",
                before.position,
                after.position
            );
        }
        let wanted = |manifest: &Manifest| self.namespace.as_deref().is_none_or(|one| *manifest.namespace == *one);
        let differences = differences(&by_name(manifests(&before), wanted), &by_name(manifests(&after), wanted));
        match format {
            Format::Text => {
                for difference in &differences {
                    let sign = match difference.change {
                        Change::Appeared => '+',
                        Change::Changed => '~',
                        Change::Gone => '-',
                    };
                    let Difference { kind, namespace, name, fields, .. } = difference;
                    writeln!(screen.out, "{sign} {kind} {namespace}/{name}")?;
                    if difference.change == Change::Changed {
                        for Field { path, before, after } in fields {
                            writeln!(screen.out, "    {path}: {} -> {}", shown(before), shown(after))?;
                        }
                    }
                }
                let differ = count(differences.len(), "object");
                let (from, to) = (before.position, after.position);
                writeln!(screen.out, "{differ} changed between message {from} and message {to}.")?;
            }
            Format::Json | Format::Yaml => output::value(screen.out, format, &differences)?,
        }
        Ok(())
    }
}

type Named = BTreeMap<(&'static str, String, String), BTreeMap<String, Value>>;

fn by_name(all: Vec<Manifest>, wanted: impl Fn(&Manifest) -> bool) -> Named {
    let wanted = all.into_iter().filter(wanted);
    wanted
        .map(|manifest| {
            let mut fields = BTreeMap::new();
            flatten(&mut fields, String::new(), manifest.value);
            ((manifest.kind.as_str(), manifest.namespace.to_string(), manifest.name.to_string()), fields)
        })
        .collect()
}

/// What tells the items of a list apart.
const KEYS: [&str; 4] = ["pod", "type", "host", "name"];

/// Fields by their paths. Items of lists go by what tells them apart, not by their places; other lists are one field.
fn flatten(fields: &mut BTreeMap<String, Value>, path: String, value: Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(fields, path, value);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| named(item).is_some()) => {
            for item in items {
                let name = named(&item).unwrap_or_default().to_owned();
                flatten(fields, format!("{path}[{name}]"), item);
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            fields.insert(path, value);
        }
    }
}

fn named(item: &Value) -> Option<&str> {
    KEYS.iter().find_map(|key| item.get(key)?.as_str())
}

fn differences(before: &Named, after: &Named) -> Vec<Difference> {
    let nothing = BTreeMap::new();
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(|key| {
        let change = match (before.contains_key(key), after.contains_key(key)) {
            (false, _) => Change::Appeared,
            (true, false) => Change::Gone,
            (true, true) => Change::Changed,
        };
        let (old, new) = (before.get(key).unwrap_or(&nothing), after.get(key).unwrap_or(&nothing));
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let fields = paths.into_iter().filter(|path| old.get(*path) != new.get(*path)).map(|path| Field {
            path: path.clone(),
            before: old.get(path).cloned(),
            after: new.get(path).cloned(),
        });
        let (kind, namespace, name) = key.clone();
        Difference { kind, namespace, name, change, fields: fields.collect() }
    });
    changed.collect()
}

fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)
}
