//! The published JSON Schema fits what is written, and nothing else.

use serde_json::{Value, json};
use std::path::Path;
use stheno::audit::Source;
use stheno::audit::object::Names;
use stheno::audit::row::{data, rows};
use stheno::audit::source::Scope;
use stheno_events::{Event, Fact, examples, schema};

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema::document()).unwrap()
}

/// A line of `stheno events -o json`, as far as the schema speaks of it.
fn line(event: Event) -> Value {
    let kind = event.kind();
    json!({ "type": kind.name, "version": kind.version, "critical": kind.critical, "data": data(&Fact::Known(event)) })
}

#[test]
fn every_event_has_a_schema_that_its_example_fits() {
    let (validator, document) = (validator(), schema::document());
    for (kind, example) in Event::kinds().zip(examples::all()) {
        let line = line(example);
        assert!(validator.is_valid(&line), "{line:#}: {:?}", validator.iter_errors(&line).next());
        let schema = &document["$defs"][schema::id(kind.name, kind.version)];
        assert_eq!(schema["description"], kind.summary);
        // Each field says what it means.
        for (name, field) in schema["properties"].as_object().unwrap() {
            let said = field["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(said, "{}.{name} has no description: {field}", kind.name);
        }
    }
}

#[test]
fn what_lacks_a_field_or_has_a_wrong_one_does_not_fit() {
    let validator = validator();
    for example in examples::all() {
        let good = line(example);
        let required = schema::document()["$defs"][schema::id(good["type"].as_str().unwrap(), 1)]["required"].clone();
        for field in required.as_array().into_iter().flatten() {
            let field = field.as_str().unwrap();
            let mut without = good.clone();
            without["data"].as_object_mut().unwrap().remove(field);
            assert!(!validator.is_valid(&without), "without {field}: {without:#}");
            let mut wrong = good.clone();
            wrong["data"][field] = json!([{ "no": "event has this" }]);
            assert!(!validator.is_valid(&wrong), "with another {field}: {wrong:#}");
        }
        let mut newer = good.clone();
        newer["version"] = json!(99);
        assert!(!validator.is_valid(&newer));
    }
}

#[tokio::test]
async fn every_event_of_the_golden_logs_fits() {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut lines = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "stheno") {
            continue;
        }
        let source = Source::file(file).unwrap();
        let (mut reader, mut names) = (source.read(1, Scope::default()).await.unwrap(), Names::default());
        while let Some(entry) = reader.next().await.unwrap() {
            for row in rows(&entry, &mut names) {
                let line = serde_json::to_value(row.view()).unwrap();
                assert!(validator.is_valid(&line), "{line:#}: {:?}", validator.iter_errors(&line).next());
                lines += 1;
            }
        }
    }
    assert!(lines >= 37, "{lines}");
}
