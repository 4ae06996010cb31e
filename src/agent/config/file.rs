//! An ini file with the sentence for what it lacks, or for what is wrong in it.

use std::net::IpAddr;
use std::path::Path;

use super::{Error, storage};
use crate::ini::Ini;

/// Most things that are done at once: more connections than any store takes from one machine.
const AT_ONCE: usize = 1000;

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

    /// Things that are done at once: 0 counts as 1, as Medusa has it.
    pub(super) fn at_once(&self, key: &'static str, default: usize) -> Result<usize, Error> {
        let parse = |value: &str| value.parse::<usize>().ok().filter(|number| *number <= AT_ONCE);
        let number = self.parsed("storage", key, parse, "a whole number up to 1000")?;
        Ok(number.unwrap_or(default).max(1))
    }

    /// A text that goes into a request: other characters cannot be sent, and some clients give up on them.
    pub(super) fn plain(&self, key: &'static str) -> Result<Option<&'a str>, Error> {
        let sent = |text: &str| sendable(text).then_some(());
        self.parsed("storage", key, sent, "letters, digits and signs without spaces")?;
        Ok(self.get("storage", key))
    }

    /// A host without scheme and path.
    pub(super) fn host(&self) -> Result<Option<&'a str>, Error> {
        let named = |url: String| reqwest::Url::parse(&url).is_ok_and(|url| url.has_host());
        let host = |text: &str| {
            let plain =
                sendable(text) && !text.contains(['/', '@', '?', '#', '\\']) && named(format!("https://{text}/"));
            // Azure's accounts and virtual-host buckets come before it.
            (plain && (text.starts_with('[') || named(format!("https://a.{text}/")) || text.parse::<IpAddr>().is_ok()))
                .then_some(())
        };
        self.parsed("storage", "host", host, "a name or an address, without http:// and path")?;
        Ok(self.get("storage", "host"))
    }

    pub(super) fn port(&self) -> Result<Option<u16>, Error> {
        self.parsed("storage", "port", |value| value.parse::<u16>().ok().filter(|port| *port > 0), "a port number")
    }

    pub(super) fn whole(&self, section: &'static str, key: &'static str) -> Result<Option<usize>, Error> {
        self.parsed(section, key, |value| value.parse::<usize>().ok(), "a whole number")
    }

    pub(super) fn days(&self, key: &'static str) -> Result<Option<u32>, Error> {
        self.parsed("storage", key, |value| value.parse::<u32>().ok(), "a whole number of days")
    }

    pub(super) fn segment(&self, key: &'static str, value: &'a str) -> Result<String, Error> {
        let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '#' | '?' | '%' | '*');
        let fits = !value.contains(bad) && !matches!(value, "." | "..");
        let wrong = || Error::Value {
            section: "storage",
            key,
            value: value.to_owned(),
            expected: "a name without slashes or wildcards",
        };
        fits.then(|| value.to_owned()).ok_or_else(wrong)
    }
}

/// Whether a text can stand in a header as it is.
pub(super) fn sendable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Python's spelling of truth.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
