//! One fact of one message as it is shown: the same for the log, an object's life, and the event stream.

use super::describe::{Weight, describe, weight};
use super::entry::Entry;
use super::object::{Names, Object};
use super::text::{Cell, Look, look, plain};
use serde::Serialize;
use serde_json::Value;
use stheno_events::{Fact, Process, Time};

/// A fact with the message that carries it. A message that cannot be read is one row without a fact.
pub struct Row<'a> {
    /// The message.
    pub entry: &'a Entry,
    /// Place of the fact in the message, from 0.
    pub index: usize,
    /// The fact.
    pub fact: Option<&'a Fact>,
    /// What it is about, the foremost first.
    pub objects: Vec<Object>,
}

/// The rows of a message, learning the names that it tells.
pub fn rows<'a>(entry: &'a Entry, names: &mut Names) -> Vec<Row<'a>> {
    let facts = match &entry.envelope {
        Ok(envelope) if entry.place.is_some() => envelope.events.as_slice(),
        Ok(_) | Err(_) => &[],
    };
    if facts.is_empty() {
        return vec![Row { entry, index: 0, fact: None, objects: Vec::new() }];
    }
    let row = |(index, fact): (usize, &'a Fact)| {
        let objects = match fact {
            Fact::Known(event) => {
                names.learn(event);
                names.objects(entry.datacenter(), event)
            }
            Fact::Unknown { .. } => Vec::new(),
        };
        Row { entry, index, fact: Some(fact), objects }
    };
    facts.iter().enumerate().map(row).collect()
}

impl Row<'_> {
    /// The event's type.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.fact.map(Fact::name)
    }

    /// What it says, in one line.
    #[must_use]
    pub fn detail(&self) -> String {
        match (self.fact, &self.entry.envelope) {
            (Some(fact), _) => describe(fact),
            (None, _) if self.entry.place.is_none() => {
                format!("a message under {}, which is none of this log's subjects", self.entry.subject)
            }
            (None, Ok(_)) => "a message without events".into(),
            (None, Err(error)) => format!("this message cannot be read: {error}"),
        }
    }

    fn weight(&self) -> Weight {
        self.fact.map_or(Weight::Bad, weight)
    }

    /// Sequence, time and type: how each table of rows begins.
    pub(super) fn place_cells(&self) -> [Cell; 2] {
        let time = self.entry.at().format("%Y-%m-%d %H:%M:%S");
        [plain(self.entry.sequence), look(time, Look::Faint)]
    }

    /// The type, in the colour of its weight.
    pub(super) fn type_cell(&self) -> Cell {
        let name = self.name().unwrap_or(if self.entry.place.is_none() { "(foreign)" } else { "(unreadable)" });
        look(name, Look::Weighed(self.weight()))
    }

    /// The fact for programs.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let envelope = self.entry.envelope.as_ref().ok();
        let dc = self.entry.datacenter();
        View {
            sequence: self.entry.sequence,
            index: self.index,
            id: envelope.map(|envelope| envelope.id.as_str()),
            time: self.entry.at(),
            stored: self.entry.stored,
            subject: &self.entry.subject,
            namespace: dc.map(|dc| dc.namespace.as_ref()),
            datacenter: dc.map(|dc| dc.name.as_ref()),
            process: self.entry.place.as_ref().and_then(|(_, process)| process.map(Process::token)),
            kind: self.name(),
            version: self.fact.map(Fact::version),
            critical: self.fact.map(critical),
            detail: self.detail(),
            objects: self.objects.iter().map(ObjectView::from).collect(),
            data: self.fact.map(data),
            epoch: envelope.map(|envelope| envelope.epoch.0),
            seen: envelope.map(|envelope| envelope.seen),
            cause: envelope.and_then(|envelope| envelope.cause.as_ref()).map(|cause| cause.as_str()),
            correlation: envelope.and_then(|envelope| envelope.corr.as_ref()).map(|corr| corr.as_str()),
            by: envelope.map(|envelope| envelope.by.as_ref()),
        }
    }
}

const fn critical(fact: &Fact) -> bool {
    match fact {
        Fact::Known(event) => event.kind().critical,
        Fact::Unknown { critical, .. } => *critical,
    }
}

/// A fact for programs. Names and meanings are stable; fields may be added.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// Sequence of the message in the stream.
    pub sequence: u64,
    /// Place of the event in the message, from 0.
    pub index: usize,
    /// The message's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// When it was decided.
    pub time: Time,
    /// When the server stored it.
    pub stored: Time,
    /// The message's subject.
    pub subject: &'a str,
    /// Namespace, where it belongs to a datacenter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// Datacenter, where it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<&'a str>,
    /// The process that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<&'static str>,
    /// The event's type; absent for a message that cannot be read.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'a str>,
    /// The version of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// Whether a reader that does not know it must stop deciding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// One sentence for people; its words may change.
    pub detail: String,
    /// What it is about, the foremost first.
    pub objects: Vec<ObjectView<'a>>,
    /// Its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// The writer's term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The sequence up to which the writer knew the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// The message that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'a str>,
    /// UID of the custom resource that started it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<&'a str>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a str>,
}

/// An object for programs.
#[derive(Debug, Serialize)]
pub struct ObjectView<'a> {
    kind: &'static str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

impl<'a> From<&'a Object> for ObjectView<'a> {
    fn from(object: &'a Object) -> Self {
        Self {
            kind: object.kind.as_str(),
            namespace: &object.namespace,
            name: object.name.as_deref(),
            uid: object.uid.as_ref().map(stheno_events::Uid::as_str),
        }
    }
}

/// A fact's data as JSON.
#[must_use]
pub fn data(fact: &Fact) -> Value {
    match fact {
        Fact::Known(_) => match serde_json::to_value(fact) {
            Ok(Value::Object(mut map)) => map.remove("data").unwrap_or_default(),
            Ok(_) | Err(_) => Value::Null,
        },
        Fact::Unknown { data, .. } => json(data),
    }
}

/// MessagePack of another build as JSON: keys become text, bytes become numbers.
fn json(value: &rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(value) => Value::Bool(*value),
        rmpv::Value::Integer(number) => {
            number.as_i64().map(Value::from).or_else(|| number.as_u64().map(Value::from)).unwrap_or_default()
        }
        rmpv::Value::F32(number) => Value::from(*number),
        rmpv::Value::F64(number) => Value::from(*number),
        rmpv::Value::String(text) => Value::from(String::from_utf8_lossy(text.as_bytes())),
        rmpv::Value::Binary(bytes) | rmpv::Value::Ext(_, bytes) => Value::from(bytes.as_slice()),
        rmpv::Value::Array(values) => values.iter().map(json).collect(),
        rmpv::Value::Map(pairs) => {
            let key = |key: &rmpv::Value| match json(key) {
                Value::String(text) => text,
                key @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    key.to_string()
                }
            };
            Value::Object(pairs.iter().map(|(name, value)| (key(name), json(value))).collect())
        }
    }
}
