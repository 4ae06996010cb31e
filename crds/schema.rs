//! Brings derived schemas into the form that Kubernetes wants, refusing and defaulting nothing more than is written.

use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The numbers and suffixes that Kubernetes reads as a quantity.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Derives the schema of a kind's root object; `ours` or `foreign` says what becomes of fields that it does not name.
///
/// kube derives one that requires `spec`, which k8ssandra-operator's schemas do not.
macro_rules! root_schema {
    ($kind:ident, $spec:ty, $status:ty, $whose:ident, $description:literal) => {
        impl schemars::JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::schema::$whose::<$spec, $status>(generator, $description)
            }
        }
    };
}
pub(crate) use root_schema;

/// The root object of a kind of ours: `spec` and `status` may be absent, unknown fields are dropped.
pub(crate) fn ours<Spec: JsonSchema, Status: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Schema {
    let mut spec = generator.subschema_for::<Spec>();
    let mut status = generator.subschema_for::<Status>();
    plain(&mut spec);
    plain(&mut status);
    json_schema!({
        "type": "object",
        "description": description,
        "properties": { "spec": spec, "status": status },
    })
}

/// The root object of a kind that belongs to others: unknown fields of spec and status are kept.
pub(crate) fn foreign<Spec: JsonSchema, Status: JsonSchema>(
    generator: &mut SchemaGenerator,
    description: &str,
) -> Schema {
    let mut root = ours::<Spec, Status>(generator, description);
    transform_subschemas(&mut preserve_unknown, &mut root);
    root
}

/// A whole number without a range: k8ssandra-operator's schemas give these fields no format.
pub(crate) fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// A quantity, as a number or as text.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": QUANTITY,
        // Said aloud because kube marks each optional int-or-string as nullable otherwise.
        "nullable": false,
    })
}

/// An object whose fields are somebody else's: kept as they are.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Conditions as every Kubernetes API writes them: a list with one entry a type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One condition and whether it holds.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status of this condition last changed.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "One sentence for people.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the object that this condition speaks of.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "One word for programs that says why.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether the condition holds.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "The name of the condition.",
                },
            },
        },
    })
}

/// Takes `null` out of every type, and line breaks out of descriptions.
///
/// An optional field is one that may be absent. Were it nullable too, the API server would keep a `null` that someone
/// wrote, where k8ssandra-operator's schemas drop it and fill in the default.
fn plain(schema: &mut Schema) {
    transform_subschemas(&mut plain, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                // The field's own description and default stand before those of its type.
                object.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Value::String(description)) = object.get_mut("description")
        && !description.contains("\n\n")
    {
        *description = description.replace('\n', " ");
    }
}

/// Keeps what the slice does not name, at every depth: pruning begins anew at each object with named properties.
fn preserve_unknown(schema: &mut Schema) {
    transform_subschemas(&mut preserve_unknown, schema);
    if schema.get("properties").is_some() {
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
    }
}
