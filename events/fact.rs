//! One fact of a message: a known event, or one of a newer build that is kept and counted but not understood.

use crate::envelope::{bytes, whole};
use crate::text::Glance;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// How an event is named in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Family and event, such as `backup.node_started`.
    pub name: &'static str,
    /// Version of the event's data.
    pub version: u16,
    /// Whether a reader that does not know it must stop deciding for the aggregate.
    pub critical: bool,
    /// What it says and when it is written, one sentence.
    pub summary: &'static str,
}

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident = $module:ident,)*) => {
        /// An event that this build knows: the closed list of families.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $variant(crate::$module::Event),)*
        }

        impl Event {
            /// How this event is stored.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(event) => event.kind(),)* }
            }

            /// Every kind of event that this build knows.
            pub fn kinds() -> impl Iterator<Item = &'static Kind> {
                [$(crate::$module::Event::KINDS,)*].into_iter().flatten()
            }

            /// The JSON Schema of each event's data, in the order of [`Event::kinds`].
            pub(crate) fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<schemars::Schema> {
                [$(crate::$module::Event::schemas(generator),)*].concat()
            }

            fn serialize_data<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(event) => event.serialize_data(serializer),)* }
            }

            fn deserialize_data<'de, D: Deserializer<'de>>(name: &str, version: u16, deserializer: D) -> Result<Self, D::Error> {
                let family = name.split_once('.').map_or(name, |(family, _)| family);
                $(if family == stringify!($module) {
                    return crate::$module::Event::deserialize_data(name, version, deserializer).map(Self::$variant);
                })*
                Err(D::Error::custom(format_args!("{name} v{version} is not known")))
            }
        }

        $(impl From<crate::$module::Event> for Event {
            fn from(event: crate::$module::Event) -> Self {
                Self::$variant(event)
            }
        })*
    };
}

families! {
    /// What the API server showed.
    Observed = observed,
    /// A backup's life.
    Backup = backup,
    /// A schedule's slots.
    Schedule = schedule,
    /// A task's life.
    Task = task,
    /// A datacenter as a unit of consistency.
    Datacenter = datacenter,
    /// The operator itself: epochs, checkpoints.
    Operator = operator,
}

fn is_known(name: &str, version: u16) -> bool {
    Event::kinds().any(|kind| kind.name == name && kind.version == version)
}

const FIELDS: [&str; 4] = ["type", "v", "critical", "data"];

/// One fact of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An event of this build.
    Known(Event),
    /// An event of another build: kept as it is. The stored bytes of the message never change.
    Unknown {
        /// Its stored name.
        name: String,
        /// Its version.
        version: u16,
        /// Whether nothing may be decided without understanding it.
        critical: bool,
        /// Its data.
        data: rmpv::Value,
    },
}

impl<T: Into<Event>> From<T> for Fact {
    fn from(event: T) -> Self {
        Self::Known(event.into())
    }
}

impl Fact {
    /// Reads a fact from a generic value; what is no fact at all is `None`, what cannot be understood is
    /// [`Fact::Unknown`].
    pub(crate) fn from_value(value: rmpv::Value) -> Option<Self> {
        if let Ok(fact) = whole::<Self>(&bytes(&value)?) {
            return Some(fact);
        }
        let rmpv::Value::Map(fields) = value else { return None };
        let mut known: [Option<rmpv::Value>; 4] = [None, None, None, None];
        for (key, value) in fields {
            let place = FIELDS.iter().position(|field| key.as_str() == Some(field)).and_then(|at| known.get_mut(at));
            if place.is_some_and(|place| place.replace(value).is_some()) {
                return None;
            }
        }
        let [name, version, critical, data] = known;
        Some(Self::Unknown {
            name: name?.as_str()?.to_owned(),
            version: u16::try_from(version?.as_u64()?).ok()?,
            critical: critical.is_none_or(|critical| critical.as_bool() != Some(false)),
            data: data.unwrap_or(rmpv::Value::Nil),
        })
    }

    /// The stored name, such as `backup.node_started`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Known(event) => event.kind().name,
            Self::Unknown { name, .. } => name,
        }
    }

    /// The version of the data.
    #[must_use]
    pub const fn version(&self) -> u16 {
        match self {
            Self::Known(event) => event.kind().version,
            Self::Unknown { version, .. } => *version,
        }
    }
}

/// Serialises the data of an event under the `data` key.
struct Data<'a>(&'a Event);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_data(serializer)
    }
}

impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Fact", 4)?;
        match self {
            Self::Known(event) => {
                let kind = event.kind();
                map.serialize_field("type", kind.name)?;
                map.serialize_field("v", &kind.version)?;
                map.serialize_field("critical", &kind.critical)?;
                map.serialize_field("data", &Data(event))?;
            }
            Self::Unknown { name, version, critical, data } => {
                map.serialize_field("type", name)?;
                map.serialize_field("v", version)?;
                map.serialize_field("critical", critical)?;
                map.serialize_field("data", data)?;
            }
        }
        map.end()
    }
}

struct KnownData<'a> {
    name: &'a str,
    version: u16,
}

impl<'de> DeserializeSeed<'de> for KnownData<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        Event::deserialize_data(self.name, self.version, deserializer)
    }
}

struct FactVisitor;

impl<'de> Visitor<'de> for FactVisitor {
    type Value = Fact;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map with type, v, critical and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fact, A::Error> {
        let (mut name, mut version, mut critical) = (None::<Cow<'de, str>>, None::<u16>, None::<bool>);
        let (mut known, mut raw) = (None::<Event>, None::<rmpv::Value>);
        let mut seen = [false; FIELDS.len()];
        while let Some(Glance(key)) = map.next_key::<Glance<'de>>()? {
            if let Some((field, seen)) = FIELDS.iter().zip(&mut seen).find(|(field, _)| **field == key) {
                // With two types or two data it would depend on the reader what happened.
                if std::mem::replace(seen, true) {
                    return Err(A::Error::duplicate_field(field));
                }
            }
            match key.as_ref() {
                "type" => name = Some(map.next_value::<Glance<'de>>()?.0),
                "v" => version = Some(map.next_value()?),
                "critical" => critical = Some(map.next_value()?),
                // Our writers put the name and the version before the data, so it is read in one pass; a foreign
                // writer's order costs a detour over a generic value.
                "data" => match (&name, version) {
                    (Some(name), Some(version)) if is_known(name, version) => {
                        known = Some(map.next_value_seed(KnownData { name, version })?);
                    }
                    (_, _) => raw = Some(map.next_value()?),
                },
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Some(event) = known {
            return Ok(Fact::Known(event));
        }
        let name = name.ok_or_else(|| A::Error::missing_field("type"))?;
        let version = version.ok_or_else(|| A::Error::missing_field("v"))?;
        let data = raw.unwrap_or(rmpv::Value::Nil);
        if is_known(&name, version) {
            let data = bytes(&data).ok_or_else(|| A::Error::custom("data that cannot be kept"))?;
            let mut reader = rmp_serde::Deserializer::from_read_ref(&data);
            return Event::deserialize_data(&name, version, &mut reader).map(Fact::Known).map_err(A::Error::custom);
        }
        // Absent means critical: a reader that does not know better must stop.
        Ok(Fact::Unknown { name: name.into_owned(), version, critical: critical.unwrap_or(true), data })
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FactVisitor)
    }
}
