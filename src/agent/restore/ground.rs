//! The data directories of a node: each with a folder on its own file system, where what comes waits for the switch, and
//! which SSTable goes to which of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::plan::{Place, Wanted};
use super::{Error, FOLDER};

/// Keyspaces that Cassandra keeps in one place alone (CASSANDRA-14793): `local_system_data_file_directory`, else the first
/// data directory.
const LOCAL: [&str; 2] = ["system", "system_schema"];
/// Tables of `system` that grow with the data, and are spread with it.
const SPREAD: [&str; 5] = ["batches", "paxos", "compaction_history", "prepared_statements", "repairs"];
/// Bytes that stay free whatever is brought: Cassandra has to start.
const RESERVE: u64 = 16 << 20;

/// One data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ground {
    /// Where Cassandra reads.
    pub(super) data: PathBuf,
    /// On the same file system, so that renaming is all that a switch takes.
    pub(super) folder: PathBuf,
}

impl Ground {
    /// All of a node, in Cassandra's order. The first one's folder holds the stage too.
    pub(super) fn all<'a>(dirs: impl Iterator<Item = &'a Path>) -> Result<Vec<Self>, Error> {
        let dirs: Vec<&Path> = dirs.collect();
        mounted(&dirs)?;
        let of = |(at, data): (usize, &Path)| {
            let home = Self::choose(data).map_err(|source| Error::File { path: data.to_owned(), source })?;
            Ok(Self::with(data, home, at))
        };
        dirs.into_iter().enumerate().map(of).collect()
    }

    /// Those of a switch that has begun: where they were when it was decided, whatever has been mounted since. Earlier
    /// versions did not write their folders down, and went by the device alone.
    pub(super) fn decided(dirs: &[&Path], folders: &[PathBuf]) -> Result<Vec<Self>, Error> {
        mounted(dirs)?;
        let of = |(at, data): (usize, &&Path)| match folders.get(at) {
            Some(folder) => Self { data: data.to_path_buf(), folder: folder.clone() },
            None => Self::with(data, beside(data).unwrap_or(data).join(FOLDER), at),
        };
        Ok(dirs.iter().enumerate().map(of).collect())
    }

    fn with(data: &Path, home: PathBuf, at: usize) -> Self {
        Self { data: data.to_owned(), folder: if at == 0 { home } else { home.join(at.to_string()) } }
    }

    /// The folder of the first one, with the stage in it, where there is one; else where it would be.
    pub(super) fn home(data: &Path) -> PathBuf {
        let within = data.join(FOLDER);
        match beside(data) {
            Some(beside) if !within.is_dir() => beside.join(FOLDER),
            Some(_) | None => within,
        }
    }

    /// The same, made sure of: a bind mount of the same disk, or a project with a quota, looks like the file system beside it
    /// and is not, so that only renaming tells. What is within the data directory once is looked for there from then on.
    fn choose(data: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(data)?;
        let (home, within) = (Self::home(data), data.join(FOLDER));
        if home == within {
            return Ok(within);
        }
        let there = home.is_dir();
        fs::create_dir_all(&home)?;
        if renames(&home, data)? {
            return Ok(home);
        }
        if !there {
            // Nobody looks at it.
            let _ = fs::remove_dir(&home);
        }
        fs::create_dir_all(&within)?;
        Ok(within)
    }

    /// Where the new directories wait.
    pub(super) fn incoming(&self) -> PathBuf {
        self.folder.join("new")
    }

    /// Where the old ones go.
    pub(super) fn outgoing(&self) -> PathBuf {
        self.folder.join("old")
    }

    fn room(&self) -> Result<(u64, u64), Error> {
        let failed = |source| Error::File { path: self.data.clone(), source };
        let found = nix::sys::statvfs::statvfs(&self.data).map_err(|error| failed(error.into()))?;
        let device = fs::metadata(&self.data).map_err(failed)?.dev();
        Ok((device, found.blocks_available().saturating_mul(found.fragment_size())))
    }
}

/// The folder beside a data directory, where it looks like one file system with it.
fn beside(data: &Path) -> Option<&Path> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    data.parent().filter(|home| device(home).ok() == device(data).ok())
}

/// Whether directories can be renamed from one folder into the other.
fn renames(from: &Path, to: &Path) -> io::Result<bool> {
    // Another restore that is turned away later may be at the same point.
    let name = format!(".stheno-probe-{:016x}", rand::random::<u64>());
    let (here, there) = (from.join(&name), to.join(&name));
    fs::create_dir(&here)?;
    let renamed = fs::rename(&here, &there);
    fs::remove_dir(if renamed.is_ok() { &there } else { &here })?;
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses what renaming cannot switch, before anything is brought: a keyspace on another file system than its data directory
/// (a mount, a symbolic link), and a table that is a mount of its own.
pub(super) fn switchable(grounds: &[Ground], tables: impl Iterator<Item = Place> + Clone) -> Result<(), Error> {
    let mounts = mounts();
    for Ground { data, folder } in grounds {
        let torn = |path: &Path| Error::Torn { path: path.to_owned(), folder: folder.clone() };
        fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.clone(), source })?;
        let mut looked = BTreeSet::new();
        for Place { keyspace, table } in tables.clone() {
            let keyspace = data.join(keyspace);
            let Ok(place) = fs::canonicalize(&keyspace) else { continue };
            if mounts.contains(&place.join(&table)) {
                return Err(torn(&keyspace.join(&table)));
            }
            if looked.insert(keyspace.clone())
                && !renames(folder, &keyspace).map_err(|source| Error::File { path: keyspace.clone(), source })?
            {
                return Err(torn(&keyspace));
            }
        }
    }
    Ok(())
}

/// Where something is mounted; nothing where the system does not say.
fn mounts() -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field, with what separates fields escaped (proc_pid_mountinfo(5)).
    let unescaped = |text: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .into_iter()
            .fold(text.to_owned(), |text, (escaped, sign)| text.replace(escaped, sign))
    };
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| unescaped(text).into()).collect()
}

/// Refuses directories that lie on the container's own file system where the first one is on a volume: what is restored
/// there would be gone when Cassandra starts.
fn mounted(dirs: &[&Path]) -> Result<(), Error> {
    // What is not there yet is made where its nearest folder is.
    let device = |path: &Path| path.ancestors().find_map(|folder| fs::metadata(folder).ok()).map(|found| found.dev());
    let root = device(Path::new("/"));
    if dirs.first().is_none_or(|first| device(first) == root) {
        return Ok(());
    }
    match dirs.iter().find(|dir| device(dir) == root) {
        Some(path) => Err(Error::Unmounted { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

/// Refuses what does not fit: bytes that are missing, by the ground that they are for.
pub(super) fn fits(grounds: &[Ground], missing: &[(usize, u64)]) -> Result<(), Error> {
    let mut devices: BTreeMap<u64, (u64, u64, &Path)> = BTreeMap::new();
    for (at, bytes) in missing.iter().filter(|(_, bytes)| *bytes > 0) {
        let Some(ground) = grounds.get(*at) else { continue };
        let (device, free) = ground.room()?;
        let entry = devices.entry(device).or_insert((free, 0, &ground.data));
        entry.1 = entry.1.saturating_add(*bytes);
    }
    match devices.into_values().find(|(free, needed, _)| *free < needed.saturating_add(RESERVE)) {
        Some((free, needed, path)) => Err(Error::Space { path: path.to_owned(), free, needed }),
        None => Ok(()),
    }
}

/// Chooses the ground of each file: all components of an SSTable go to one, where an interrupted run brought one of them,
/// else where the node has it (`keep`), else so that all are filled alike, each by its room. `system` says which one is of
/// the system's own tables alone, if any is: Cassandra looks for them nowhere else, and for no others there.
pub(super) fn spread(
    grounds: &[Ground],
    files: &[Wanted],
    keep: bool,
    system: Option<usize>,
) -> Result<Vec<usize>, Error> {
    if grounds.len() == 1 {
        return Ok(vec![0; files.len()]);
    }
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut homes: BTreeMap<&str, usize> = BTreeMap::new();
    for Wanted { to, object } in files {
        let table = sstable(to);
        let size = sizes.entry(table).or_default();
        *size = size.saturating_add(object.size);
        if homes.contains_key(table) {
            continue;
        }
        let brought = grounds.iter().position(|ground| ground.incoming().join(to).exists());
        let own = || grounds.iter().position(|ground| keep && ground.data.join(to).exists());
        let local = is_local(to);
        let of_system = || LOCAL.iter().any(|keyspace| to.split('/').next() == Some(keyspace));
        let alone = || match system {
            Some(system) => local.then_some(system),
            None => of_system().then_some(0),
        };
        let fits = |at: &usize| system.is_none_or(|system| local == (*at == system));
        homes.extend(brought.or_else(own).filter(fits).or_else(alone).map(|at| (table, at)));
    }
    let rooms = grounds.iter().map(Ground::room).collect::<Result<Vec<_>, _>>()?;
    let mut given = vec![0_u64; grounds.len()];
    for (table, at) in &homes {
        given[*at] = given[*at].saturating_add(sizes[table]);
    }
    // Directories of one file system share its room.
    let share = |at: usize| rooms[at].1 / rooms.iter().filter(|room| room.0 == rooms[at].0).count().max(1) as u64;
    for (table, size) in &sizes {
        if homes.contains_key(table) {
            continue;
        }
        let full = |at: &usize| given[*at].saturating_add(*size) as f64 / share(*at).max(1) as f64;
        let others = (0..grounds.len()).filter(|at| Some(*at) != system);
        let emptiest = others.min_by(|a, b| full(a).total_cmp(&full(b))).unwrap_or(0);
        given[emptiest] = given[emptiest].saturating_add(*size);
        homes.insert(table, emptiest);
    }
    Ok(files.iter().map(|wanted| homes.get(sstable(&wanted.to)).copied().unwrap_or(0)).collect())
}

/// Whether a file is of a table that only this node knows of, and that is kept in one place.
pub(super) fn is_local(to: &str) -> bool {
    let (keyspace, rest) = to.split_once('/').unwrap_or((to, ""));
    let table = rest.split(['-', '/']).next().unwrap_or_default();
    LOCAL.contains(&keyspace) && !(keyspace == "system" && SPREAD.contains(&table))
}

/// The SSTable that a file is a component of: `ks/t-1/nb-7-big` of `ks/t-1/nb-7-big-Data.db`, and of its attached indexes.
fn sstable(to: &str) -> &str {
    let name = to.rfind('/').map_or(0, |at| at + 1);
    to[name..].rfind('-').map_or(to, |dash| &to[..name + dash])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Object;

    fn wanted(to: &str, size: u64) -> Wanted {
        Wanted { to: to.to_owned(), object: Object { path: to.to_owned(), md5: None, size } }
    }

    fn node() -> (tempfile::TempDir, Vec<Ground>) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["one", "two", "three"].map(|name| dir.path().join(name));
        let grounds = Ground::all(dirs.iter().map(PathBuf::as_path)).unwrap();
        (dir, grounds)
    }

    #[test]
    fn folders_do_not_meet() {
        let (dir, grounds) = node();
        let folders: Vec<&Path> =
            grounds.iter().map(|ground| ground.folder.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(folders, [".stheno-restore", ".stheno-restore/1", ".stheno-restore/2"].map(Path::new));
    }

    #[test]
    fn what_is_within_a_directory_once_is_looked_for_there() {
        let (dir, _) = node();
        let (data, other) = (dir.path().join("one"), dir.path().join("two"));
        let (beside, within) = (dir.path().join(FOLDER), data.join(FOLDER));
        assert_eq!(Ground::home(&data), beside);
        fs::create_dir(&within).unwrap();
        assert_eq!(Ground::home(&data), within);
        let folders = |grounds: Vec<Ground>| grounds.into_iter().map(|ground| ground.folder).collect::<Vec<_>>();
        let both = [data.as_path(), other.as_path()];
        let chosen = folders(Ground::all(both.into_iter()).unwrap());
        assert_eq!(chosen, [within, beside.join("1")]);
        // A switch that has begun goes on where it was decided, and that of an earlier version where it would have been.
        assert_eq!(folders(Ground::decided(&both, &chosen).unwrap()), chosen);
        assert_eq!(folders(Ground::decided(&both, &[]).unwrap()), [beside.clone(), beside.join("1")]);
    }

    #[test]
    fn the_components_of_an_sstable_stay_together() {
        let (dir, grounds) = node();
        let mut files = Vec::new();
        for number in 0..30 {
            for component in ["Data.db", "Index.db", "SAI+aa+things_idx+TermsData.db"] {
                files.push(wanted(&format!("ks/t-1/nb-{number}-big-{component}"), 10 + number));
                files.push(wanted(&format!("ks/t-1/.idx/nb-{number}-big-{component}"), 5));
            }
        }
        files.push(wanted("system/local-1/nb-1-big-Data.db", 1_000_000));
        files.push(wanted("ks/t-1/odd", 1));
        let homes = spread(&grounds, &files, false, None).unwrap();
        let mut given = [0_u64; 3];
        for (one, at) in files.iter().zip(&homes) {
            given[*at] += one.object.size;
            let of = sstable(&one.to);
            assert!(files.iter().zip(&homes).all(|(other, home)| sstable(&other.to) != of || home == at), "{of}");
        }
        assert_eq!(homes[files.len() - 2], 0);
        // The first one has a lot of the system already.
        assert!(given[1].abs_diff(given[2]) < 200 && given[0] == 1_000_000, "{given:?}");

        // What is there stays there, and what an interrupted run brought is found again.
        for (path, text) in
            [("three/ks/t-1/nb-7-big-Index.db", "x"), (".stheno-restore/1/new/ks/t-1/nb-9-big-Data.db", "x")]
        {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        }
        let homes = spread(&grounds, &files, true, None).unwrap();
        let home = |to: &str| homes[files.iter().position(|file| file.to == to).unwrap()];
        assert_eq!((home("ks/t-1/nb-7-big-Data.db"), home("ks/t-1/nb-9-big-Index.db")), (2, 1));
    }

    #[test]
    fn the_systems_own_tables_have_a_directory_of_their_own() {
        let (dir, grounds) = node();
        let files: Vec<Wanted> = [
            "system/local-1/nb-1-big-Data.db",
            "system_schema/tables-1/nb-1-big-Data.db",
            "system/paxos-1/nb-1-big-Data.db",
            "system_auth/roles-1/nb-1-big-Data.db",
            "ks/t-1/nb-1-big-Data.db",
        ]
        .map(|to| wanted(to, 1 << 40))
        .into();
        // Where the table was before the setting was made, Cassandra does not look any more.
        fs::create_dir_all(dir.path().join("one/system/local-1")).unwrap();
        fs::write(dir.path().join("one/system/local-1/nb-1-big-Data.db"), "x").unwrap();
        let homes = spread(&grounds, &files, true, Some(2)).unwrap();
        assert_eq!((homes[0], homes[1]), (2, 2));
        assert!(homes[2..].iter().all(|at| *at < 2), "{homes:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (_dir, grounds) = node();
        fits(&grounds, &[(0, 0), (1, 0)]).unwrap();
        let refused = fits(&grounds, &[(1, u64::MAX / 2), (2, u64::MAX)]).unwrap_err();
        assert!(matches!(refused, Error::Space { needed: u64::MAX, .. }), "{refused}");
    }
}
