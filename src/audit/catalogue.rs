//! `docs/EVENTS.md`: the catalogue of events, generated from the types and their examples.

use super::row::data;
use std::fmt::Write as _;
use stheno_events::{Event, Fact, LAYOUT, examples};

/// What stands before the families.
const HEAD: &str = "\
# Events

<!-- Generated from events/. To write it anew: STHENO_UPDATE=1 cargo test -p stheno --test audit catalogue -->

One message of the stream is one decision: an envelope (MessagePack, a map with named fields) with all the events that
it led to, in order, all or nothing. Its fields are those of `stheno_events::Envelope`; `events` is a list of
`{type, v, critical, data}`.

- A message lies under `stheno.v1.<log>.<namespace>.<datacenter>.<process>`; every character but `[a-z0-9-]` is written
  `~hh`. Events of the operator itself lie under `stheno.v1.<log>._._.operator`.
- `v` is the version of the data. Fields may be added within a version; readers ignore what they do not know.
- A reader that does not know a **critical** event must not decide anything from what follows in that aggregate.
- Times are RFC 3339 in UTC, to the millisecond; sizes are bytes; UIDs are those of Kubernetes objects.
- Consumers to begin with: `stheno events`, [one in Python](examples/python/finished_backups.py), [one in Go](examples/go/main.go).

";

/// The catalogue.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut family = "";
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Envelope layout {LAYOUT}; {} kinds of events.\n", Event::kinds().count());
    for (kind, example) in Event::kinds().zip(examples::all()) {
        let (of, _) = kind.name.split_once('.').unwrap_or((kind.name, ""));
        if of != family {
            family = of;
            let _ = writeln!(text, "## {family}\n");
        }
        let weight = if kind.critical { "critical" } else { "informational" };
        let fact = Fact::Known(example);
        let json = serde_json::to_string_pretty(&data(&fact)).unwrap_or_default();
        let _ = writeln!(text, "### `{}` v{} ({weight})\n\n{}\n", kind.name, kind.version, kind.summary);
        let _ = writeln!(text, "Reads as: *{}*\n\n```json\n{json}\n```\n", super::describe::describe(&fact));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
