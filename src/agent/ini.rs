//! Reads ini text as Python's configparser does (interpolation off), because that is what wrote the files in use.
//!
//! The operator's medusa.ini begins with a newline and indents every line, section headers too.

use std::collections::BTreeMap;

/// Sections of an ini file; names of keys are lower case.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ini {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// A line that is no ini.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A key before the first section header.
    #[error("line {line} stands before the first [section]")]
    NoSection {
        /// 1 for the first line.
        line: usize,
    },
    /// Neither a header nor a key with a value.
    #[error("line {line} is neither a [section] nor `key = value`")]
    Malformed {
        /// 1 for the first line.
        line: usize,
    },
}

impl Ini {
    /// Parses a whole file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut ini = Self::default();
        let mut section: Option<String> = None;
        // The key that an indented line continues, with its own indentation.
        let mut open: Option<(usize, String)> = None;
        for (at, raw) in text.lines().enumerate() {
            let line = at + 1;
            let trimmed = raw.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            let indent = raw.len() - raw.trim_start().len();
            if let (Some((of, key)), Some(name)) = (&open, &section)
                && indent > *of
            {
                let value = ini.entry(name, key);
                if !value.is_empty() {
                    value.push('\n');
                }
                value.push_str(trimmed);
                continue;
            }
            if let Some(rest) = trimmed.strip_prefix('[') {
                let Some((name, _)) = rest.split_once(']') else {
                    return Err(Error::Malformed { line });
                };
                ini.sections.entry(name.to_owned()).or_default();
                section = Some(name.to_owned());
                open = None;
                continue;
            }
            let Some((key, value)) = trimmed.split_once(['=', ':']) else {
                return Err(Error::Malformed { line });
            };
            let name = section.as_deref().ok_or(Error::NoSection { line })?;
            let key = key.trim_end().to_lowercase();
            if key.is_empty() {
                return Err(Error::Malformed { line });
            }
            *ini.entry(name, &key) = value.trim().to_owned();
            open = Some((indent, key));
        }
        Ok(ini)
    }

    fn entry(&mut self, section: &str, key: &str) -> &mut String {
        let keys = self.sections.entry(section.to_owned()).or_default();
        keys.entry(key.to_owned()).or_default()
    }

    /// The value of a key; an empty one counts as absent, as Medusa treats it.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.sections.get(section)?.get(key)?.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// Sections by name, keys by name.
    pub fn sections(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.sections
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_operator_writes() {
        let ini = Ini::parse("\n    [storage]\n    Bucket_Name = b\n    prefix = p=q\n\n    [grpc]\n    enabled = 1")
            .unwrap();
        assert_eq!(ini.get("storage", "bucket_name"), Some("b"));
        assert_eq!(ini.get("storage", "prefix"), Some("p=q"));
        assert_eq!(ini.get("grpc", "enabled"), Some("1"));
    }

    #[test]
    fn keeps_quotes_hashes_and_backslashes_of_values() {
        let ini = Ini::parse("[a]\nk = 'x' # y\\z\n; comment\n# another\nempty =\n").unwrap();
        assert_eq!(ini.get("a", "k"), Some("'x' # y\\z"));
        assert_eq!(ini.get("a", "empty"), None);
    }

    #[test]
    fn a_deeper_line_continues_the_value() {
        let ini = Ini::parse("[a]\nk = one\n  two\nl = 3\n").unwrap();
        assert_eq!(ini.get("a", "k"), Some("one\ntwo"));
        assert_eq!(ini.get("a", "l"), Some("3"));
    }

    #[test]
    fn says_which_line_is_wrong() {
        assert_eq!(Ini::parse("k = 1"), Err(Error::NoSection { line: 1 }));
        assert_eq!(Ini::parse("[a]\nnonsense"), Err(Error::Malformed { line: 2 }));
        assert_eq!(Ini::parse("\n[a"), Err(Error::Malformed { line: 2 }));
        assert_eq!(Ini::parse("[a]\n= 1"), Err(Error::Malformed { line: 2 }));
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "\\PC*(\n\\PC*){0,8}") {
            let _ = Ini::parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back_at_any_indentation(
            pairs in proptest::collection::btree_map("[a-z][a-z_]{0,8}", "[A-Za-z0-9/=:#'\"\\\\.-]{1,12}", 1..6),
            indent in 0_usize..6,
        ) {
            let pad = " ".repeat(indent);
            let mut text = format!("\n{pad}[s]\n");
            for (key, value) in &pairs {
                text.push_str(&format!("{pad}{key} = {value}\n"));
            }
            let ini = Ini::parse(&text).unwrap();
            prop_assert_eq!(&ini.sections()["s"], &pairs);
        }
    }
}
