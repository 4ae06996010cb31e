//! An ini file with the sentence for what it lacks, or for what is wrong in it.

use std::path::Path;

use super::{Error, storage};
use crate::ini::Ini;

/// medusa.ini, by section and key.
pub(super) struct File<'a> {
    pub(super) ini: &'a Ini,
    pub(super) path: &'a Path,
}

impl<'a> File<'a> {
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        self.ini.get(section, key)
    }

    pub(super) fn need(&self, section: &'static str, key: &'static str) -> Result<&'a str, Error> {
        self.get(section, key).ok_or_else(|| Error::Missing { path: self.path.to_owned(), section, key })
    }

    pub(super) fn flag(&self, section: &'static str, key: &'static str, default: bool) -> Result<bool, Error> {
        self.parsed(section, key, boolean, "True or False").map(|value| value.unwrap_or(default))
    }

    pub(super) fn parsed<T>(
        &self,
        section: &'static str,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        match self.get(section, key) {
            None => Ok(None),
            Some(value) => match parse(value) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(Error::Value { section, key, value: value.to_owned(), expected }),
            },
        }
    }

    pub(super) fn size(&self, section: &'static str, key: &'static str, default: u64) -> Result<u64, Error> {
        let size = self.parsed(section, key, storage::bytes, "a size such as 50MB, or a number of bytes")?;
        Ok(size.filter(|size| *size > 0).unwrap_or(default))
    }

    pub(super) fn count(&self, section: &'static str, key: &'static str, default: usize) -> Result<usize, Error> {
        Ok(self.whole(section, key)?.unwrap_or(default).max(1))
    }

    pub(super) fn whole(&self, section: &'static str, key: &'static str) -> Result<Option<usize>, Error> {
        self.parsed(section, key, |value| value.parse::<usize>().ok(), "a whole number")
    }

    pub(super) fn days(&self, key: &'static str) -> Result<Option<u32>, Error> {
        self.parsed("storage", key, |value| value.parse::<u32>().ok(), "a whole number of days")
    }

    pub(super) fn segment(&self, key: &'static str, value: &'a str) -> Result<String, Error> {
        let fits = !value.contains(['/', '\\', '#', '?', '%', '*']) && !matches!(value, "." | "..");
        let wrong = || Error::Value {
            section: "storage",
            key,
            value: value.to_owned(),
            expected: "a name without slashes or wildcards",
        };
        fits.then(|| value.to_owned()).ok_or_else(wrong)
    }
}

/// Python's spelling of truth.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
