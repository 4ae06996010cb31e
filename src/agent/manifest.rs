//! manifest.json: which objects a node's backup consists of, table by table, as Medusa writes and reads it.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// One table's objects. Empty tables are listed with no objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Keyspace.
    pub keyspace: String,
    /// Table directory: `<table>-<id>`.
    pub columnfamily: String,
    /// In the order of their keys.
    pub objects: Vec<Object>,
}

/// One file of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Key in the bucket, prefix included.
    pub path: String,
    /// Hex md5 on a local store, ETag on S3 (`hex` or `hex-parts`); other writers put base64 or null here.
    #[serde(rename = "MD5")]
    pub md5: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// What a listing needs of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Number of objects.
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// Serialises a manifest.
pub fn encode(sections: &[Section]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(sections)
}

/// Reads only the totals of a manifest: nothing but sizes is kept in memory. The fields are those of [`Section`], in their
/// order: what one reader takes for a manifest, all take for one.
pub fn totals(json: &[u8]) -> Result<Totals, serde_json::Error> {
    #[derive(Deserialize)]
    struct Sizes {
        #[serde(default, rename = "keyspace")]
        _keyspace: IgnoredAny,
        #[serde(default, rename = "columnfamily")]
        _columnfamily: IgnoredAny,
        objects: Vec<Size>,
    }
    #[derive(Deserialize)]
    struct Size {
        #[serde(default, rename = "path")]
        _path: IgnoredAny,
        #[serde(default, rename = "MD5")]
        _md5: IgnoredAny,
        size: u64,
    }
    let sections: Vec<Sizes> = serde_json::from_slice(json)?;
    let mut totals = Totals::default();
    for object in sections.iter().flat_map(|section| &section.objects) {
        totals.objects += 1;
        totals.bytes = totals.bytes.saturating_add(object.size);
    }
    Ok(totals)
}

/// Calls `each` with the key of every object of a manifest, without keeping the manifest.
pub fn each_path(json: &[u8], mut each: impl FnMut(&str)) -> Result<(), serde_json::Error> {
    #[derive(Deserialize)]
    struct Paths<'a> {
        #[serde(default, rename = "keyspace")]
        _keyspace: IgnoredAny,
        #[serde(default, rename = "columnfamily")]
        _columnfamily: IgnoredAny,
        #[serde(borrow)]
        objects: Vec<Path<'a>>,
    }
    #[derive(Deserialize)]
    struct Path<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
        #[serde(default, rename = "MD5")]
        _md5: IgnoredAny,
        #[serde(default, rename = "size")]
        _size: IgnoredAny,
    }
    let sections: Vec<Paths<'_>> = serde_json::from_slice(json)?;
    sections.iter().flat_map(|section| &section.objects).for_each(|object| each(&object.path));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_medusa_wrote() {
        let json = br#"[{"keyspace": "k", "columnfamily": "t-1", "objects": [
            {"path": "h/data/k/t-1/nb-1-big-Data.db", "MD5": null, "size": 7}]},
            {"keyspace": "k", "columnfamily": "u-2", "objects": []}]"#;
        assert_eq!(totals(json).unwrap(), Totals { objects: 1, bytes: 7 });
        let sections: Vec<Section> = serde_json::from_slice(json).unwrap();
        assert_eq!(sections[0].objects[0].md5, None);
        assert_eq!(sections[1].objects, []);
        let mut paths = Vec::new();
        each_path(json, |path| paths.push(path.to_owned())).unwrap();
        assert_eq!(paths, ["h/data/k/t-1/nb-1-big-Data.db"]);
    }

    #[test]
    fn what_one_reader_takes_all_take() {
        // serde reads a struct from a list too.
        let json = br#"[["k", "t-1", [["h/f", null, 7]]], {"keyspace": "k", "columnfamily": "u", "objects": [["h/g", "x", 1]]}]"#;
        let whole: Vec<Section> = serde_json::from_slice(json).unwrap();
        assert_eq!((whole.len(), totals(json).unwrap()), (2, Totals { objects: 2, bytes: 8 }));
        let mut paths = Vec::new();
        each_path(json, |path| paths.push(path.to_owned())).unwrap();
        assert_eq!(paths, ["h/f", "h/g"]);
    }

    #[test]
    fn damaged_manifests_are_errors() {
        for bad in ["", "{}", "[{}]", "[{\"objects\": [{\"size\": -1}]}]"] {
            assert!(totals(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn written_and_read_back(sizes in proptest::collection::vec(proptest::collection::vec(0_u64..1 << 50, 0..5), 0..5)) {
            let sections: Vec<Section> = sizes.iter().enumerate().map(|(at, sizes)| Section {
                keyspace: format!("k{at}"),
                columnfamily: format!("t-{at}"),
                objects: sizes.iter().map(|size| Object { path: format!("h/{size}"), md5: Some("x".into()), size: *size }).collect(),
            }).collect();
            let json = encode(&sections).unwrap();
            let expected = Totals {
                objects: sizes.iter().map(|s| s.len() as u64).sum(),
                bytes: sizes.iter().flatten().sum(),
            };
            prop_assert_eq!(totals(&json).unwrap(), expected);
            prop_assert_eq!(serde_json::from_slice::<Vec<Section>>(&json).unwrap(), sections);
        }
    }
}
