//! An entry of the cache: whole, or not to be believed. What was built says so in a list of its files, written last.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The list: a length in bytes and a path on each line.
const LIST: &str = ".whole";

/// Why an entry that is there is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// Nothing says that its builder came to the end.
    #[error("it does not say of which files it consists")]
    Unsaid,
    /// A file of the list is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file is not as long as the list says.
    #[error("{0} is {1} than it was built")]
    Length(String, &'static str),
}

/// Writes the list of a folder's files. All are on the disk when this returns: after a power cut, a whole name must not
/// stand for empty files.
pub(crate) fn seal(folder: &Path) -> io::Result<()> {
    let mut list = String::new();
    for path in files(folder)? {
        let file = File::open(&path)?;
        file.sync_all()?;
        let name = path.strip_prefix(folder).unwrap_or(&path);
        let _ = writeln!(list, "{} {}", file.metadata()?.len(), name.display());
    }
    let path = folder.join(LIST);
    fs::write(&path, list)?;
    File::open(path)?.sync_all()
}

/// Compares the folder with its list.
pub(crate) fn check(folder: &Path) -> Result<(), Flaw> {
    let list = fs::read_to_string(folder.join(LIST)).map_err(|_| Flaw::Unsaid)?;
    for line in list.lines() {
        let (length, name) = line.split_once(' ').ok_or(Flaw::Unsaid)?;
        let length: u64 = length.parse().map_err(|_| Flaw::Unsaid)?;
        let there = fs::metadata(folder.join(name)).map_err(|_| Flaw::Missing(name.to_owned()))?.len();
        if there != length {
            return Err(Flaw::Length(name.to_owned(), if there < length { "shorter" } else { "longer" }));
        }
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_has_gone_or_changed_its_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let said = || check(folder.path()).err().map(|flaw| flaw.to_string());
        fs::create_dir(at("inner")).unwrap();
        fs::write(at("program"), "12345").unwrap();
        fs::write(at("inner/a file"), "1").unwrap();
        assert_eq!(said().as_deref(), Some("it does not say of which files it consists"));
        seal(folder.path()).unwrap();
        assert_eq!(said(), None);
        fs::write(at("program"), "1234").unwrap();
        assert_eq!(said().as_deref(), Some("program is shorter than it was built"));
        fs::write(at("program"), "123456").unwrap();
        assert_eq!(said().as_deref(), Some("program is longer than it was built"));
        fs::write(at("program"), "12345").unwrap();
        fs::remove_file(at("inner/a file")).unwrap();
        assert_eq!(said().as_deref(), Some("inner/a file is missing"));
    }
}
