//! An event as CloudEvents 1.0, JSON format.

use crate::audit::row::{Row, data};
use serde::Serialize;
use serde_json::{Value, json};
use stheno_events::{LogId, Time};

/// One event. Attribute names have no separators: the specification allows none.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    specversion: &'static str,
    /// Unique for the source: the message's id and the event's place in it, the same at each delivery.
    id: String,
    /// The log and the datacenter.
    source: String,
    #[serde(rename = "type")]
    kind: String,
    /// What it is about, where it is about an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: Time,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataschema: Option<String>,
    /// The stream sequence, in digits that sort as text (extension `sequence`).
    sequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<&'a str>,
    data: Value,
}

impl<'a> Event<'a> {
    /// A row as an event. A message that cannot be read is an event, too: a consumer must not miss it silently.
    pub(super) fn of(row: &'a Row<'_>, log: &LogId) -> Self {
        let entry = row.entry;
        let envelope = entry.envelope.as_ref().ok();
        let message =
            envelope.map_or_else(|| format!("message-{}", entry.sequence), |envelope| envelope.id.to_string());
        // The subject is escaped already, and its escapes fit a URI.
        let place = entry.subject.strip_prefix(&format!("stheno.v1.{}.", log.as_str()));
        let place = place.and_then(|place| place.rsplit_once('.')).map_or("_._", |(place, _process)| place);
        let object = row.objects.first().map(|object| {
            let name = object.name.as_deref().or(object.uid.as_ref().map(stheno_events::Uid::as_str)).unwrap_or("-");
            format!("{}/{}/{name}", object.kind.as_str(), object.namespace)
        });
        Self {
            specversion: "1.0",
            id: format!("{message}/{}", row.index),
            source: format!("/stheno/{}/{}", log.as_str(), place.replace('.', "/")),
            kind: format!("io.stheno.{}", row.name().unwrap_or("unreadable")),
            subject: object,
            time: entry.at(),
            datacontenttype: "application/json",
            dataschema: row.fact.map(|fact| stheno_events::schema::id(fact.name(), fact.version())),
            sequence: format!("{:020}", entry.sequence),
            correlationid: envelope.and_then(|envelope| envelope.corr.as_ref()).map(stheno_events::Uid::as_str),
            causationid: envelope.and_then(|envelope| envelope.cause.as_ref()).map(stheno_events::EventId::as_str),
            data: row.fact.map_or_else(|| json!({"error": row.detail()}), data),
        }
    }
}
