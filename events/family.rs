//! The macro that declares a family of events: one enum, one struct a variant, and the names under which they are stored.

/// Declares `Event` of a family. Each line: variant, stored name, version, and whether a reader that does not know it
/// must stop deciding (`critical`) or may skip it (`informational`).
macro_rules! family {
    ($family:literal: $($(#[doc = $doc:literal])+ $variant:ident = $name:literal v $version:literal $weight:ident,)*) => {
        /// The events of this family.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[doc = $doc])+ $variant($variant),)*
        }

        impl Event {
            /// Every event of the family, as it is stored by this build.
            pub const KINDS: &'static [$crate::Kind] = &[$($crate::Kind {
                name: concat!($family, ".", $name),
                version: $version,
                critical: family!(@weight $weight),
                summary: concat!($($doc),+).trim_ascii(),
            },)*];

            /// How this event is stored.
            #[must_use]
            pub const fn kind(&self) -> $crate::Kind {
                match self {
                    $(Self::$variant(_) => $crate::Kind {
                        name: concat!($family, ".", $name),
                        version: $version,
                        critical: family!(@weight $weight),
                        summary: concat!($($doc),+).trim_ascii(),
                    },)*
                }
            }

            /// The JSON Schema of each event's data, in the order of [`Event::KINDS`].
            pub(crate) fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<schemars::Schema> {
                vec![$(<$variant as schemars::JsonSchema>::json_schema(generator),)*]
            }

            pub(crate) fn serialize_data<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(data) => serde::Serialize::serialize(data, serializer),)*
                }
            }

            /// Reads the data of the event stored as (`name`, `version`); `None` when this build does not know it.
            pub(crate) fn deserialize_data<'de, D: serde::Deserializer<'de>>(
                name: &str,
                version: u16,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                match (name, version) {
                    $((concat!($family, ".", $name), $version) => {
                        <$variant as serde::Deserialize>::deserialize(deserializer).map(Self::$variant)
                    })*
                    (name, version) => Err(serde::de::Error::custom(format_args!("{name} v{version} is not known"))),
                }
            }
        }

        $(impl From<$variant> for $crate::Event {
            fn from(data: $variant) -> Self {
                Event::$variant(data).into()
            }
        })*
    };
    (@weight critical) => { true };
    (@weight informational) => { false };
}

pub(crate) use family;
