//! JSON Schema of every event, for consumers that generate code or check what they get: the JSON form, as
//! `stheno events -o json` and CloudEvents carry it. In the log the same fields lie as MessagePack.

use crate::Event;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The identifier of an event's schema: what CloudEvents name as `dataschema`.
#[must_use]
pub fn id(name: &str, version: u16) -> String {
    format!("urn:stheno:event:{name}:{version}")
}

/// One document (draft 2020-12) that describes an event as a line of `stheno events -o json`: `type`, `version` and, by
/// these, `data`. `$defs` has the schema of each event's data under its [`id`], and the types that several share.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let schemas = Event::schemas(&mut generator);
    let mut definitions: Map<String, Value> = generator.take_definitions(true);
    let mut kinds = Vec::new();
    for (kind, schema) in Event::kinds().zip(schemas) {
        let (id, mut schema) = (id(kind.name, kind.version), Value::from(schema));
        if let Value::Object(schema) = &mut schema {
            schema.insert("title".into(), kind.name.into());
            schema.insert("description".into(), kind.summary.into());
        }
        kinds.push(json!({
            "properties": {
                "type": { "const": kind.name },
                "version": { "const": kind.version },
                "critical": { "const": kind.critical },
                "data": { "$ref": format!("#/$defs/{id}") },
            },
        }));
        definitions.insert(id, schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:stheno:events",
        "title": "Events of Stheno",
        "description": "One event, as a line of `stheno events -o json`. Fields may be added within a version, and types \
                        with any release: a reader ignores what it does not know.",
        "type": "object",
        "required": ["type", "version", "critical", "data"],
        "oneOf": kinds,
        "$defs": definitions,
    })
}
