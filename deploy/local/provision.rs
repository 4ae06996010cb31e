//! The parts of the ground, built from the ordinary registries when first needed and kept by version in a cache folder.
//!
//! Any number of processes may ask at once. Each part has a lock; a build happens in a folder of its own that is renamed
//! into place when it is complete, with a list of its files (`entry`): an entry that differs from its list is built
//! again. One build runs at a time, for the machine's sake.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::progress::{Step, say};
use crate::recipes::{Recipe, Source};
use crate::{entry, run, toolchain};

pub use crate::recipes::Part;
pub use crate::toolchain::{Error as ToolchainError, java, java_home};

const LOOK: Duration = Duration::from_millis(100);
const TAIL: usize = 15;

/// Why a part is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool that builds it is missing or too old.
    #[error(transparent)]
    Toolchain(#[from] toolchain::Error),
    /// The cache folder cannot be used.
    #[error("the cache folder cannot be used at {} (STHENO_CACHE names another place)", path.display())]
    Cache {
        /// The file or folder in question.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Neither STHENO_CACHE nor a home folder says where the cache is.
    #[error("no place for the cache: set STHENO_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The build process could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The build failed.
    #[error("building {name} {version} failed ({status}); all of its output is in {}, which ends:\n{tail}", log.display())]
    Build {
        /// Which part.
        name: &'static str,
        /// Its version.
        version: &'static str,
        /// How the builder ended.
        status: ExitStatus,
        /// All it said.
        log: PathBuf,
        /// The last it said.
        tail: String,
    },
    /// The build succeeded without making what it was to make.
    #[error("building {name} {version} made no {file}; all of its output is in {}", log.display())]
    Nothing {
        /// Which part.
        name: &'static str,
        /// Its version.
        version: &'static str,
        /// The file that is missing.
        file: &'static str,
        /// All the builder said.
        log: PathBuf,
    },
    /// A part was asked of [`Parts`] that [`ensure`] had not been asked for.
    #[error("{0:?} was not provisioned: name it in the call of provision::ensure")]
    NotAsked(Part),
}

/// Where the parts are that [`ensure`] was asked for.
#[derive(Debug, Clone, Default)]
pub struct Parts(BTreeMap<Part, PathBuf>);

impl Parts {
    /// The program of a part, or for Cassandra the folder of its jars.
    pub fn path(&self, part: Part) -> Result<&Path, Error> {
        self.0.get(&part).map(PathBuf::as_path).ok_or(Error::NotAsked(part))
    }
}

/// Sees to it that each part is there, building what is not. Silent when there is nothing to do; dropping the future
/// ends a build that is going on.
pub async fn ensure(parts: &[Part]) -> Result<Parts, Error> {
    ensure_in(&cache_folder()?, parts).await
}

/// [`ensure`] with a cache folder of the caller's choice.
pub async fn ensure_in(cache: &Path, parts: &[Part]) -> Result<Parts, Error> {
    let mut paths = BTreeMap::new();
    for &part in parts {
        let path = match installed(part) {
            Some(program) => program,
            None => one(cache, &part.recipe()).await?,
        };
        paths.insert(part, path);
    }
    Ok(Parts(paths))
}

/// A program that is there already: of the folder KUBEBUILDER_ASSETS, where tests of controllers expect them, or kubectl on
/// PATH. A kubectl that is too old for the kubelet is not taken.
fn installed(part: Part) -> Option<PathBuf> {
    if !matches!(part, Part::Etcd | Part::ApiServer | Part::Kubectl) {
        return None;
    }
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
    let asset = assets.map(|folder| Path::new(&folder).join(part.recipe().file));
    let asset = asset.filter(|file| toolchain::is_executable(file));
    if part != Part::Kubectl {
        return asset;
    }
    asset.into_iter().chain(toolchain::on_path("kubectl")).find(|kubectl| toolchain::is_new_enough(kubectl))
}

/// `STHENO_CACHE`, else `stheno` in the user's cache folder.
pub fn cache_folder() -> Result<PathBuf, Error> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("STHENO_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("stheno")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/stheno")))
        .ok_or(Error::NoCache)
}

async fn one(cache: &Path, recipe: &Recipe) -> Result<PathBuf, Error> {
    let entry = cache.join(entry_name(recipe));
    let answer = match recipe.source {
        Source::Go { .. } | Source::GoScript { .. } | Source::JavaScript { .. } => entry.join(recipe.file),
        Source::Maven { .. } => entry.clone(),
    };
    if entry::check(&entry).is_ok() {
        return Ok(answer);
    }
    let jars = match recipe.source {
        Source::JavaScript { jars, .. } => Some(Box::pin(one(cache, &jars.recipe())).await?),
        Source::Go { .. } | Source::GoScript { .. } | Source::Maven { .. } => None,
    };
    let locks = cache.join("locks");
    fs::create_dir_all(&locks).map_err(at(&locks))?;
    let _part = wait_for(&locks.join(recipe.name), &format!("another process is building {}", recipe.name)).await?;
    let Err(flaw) = entry::check(&entry) else { return Ok(answer) };
    let _build = wait_for(&locks.join("build"), &format!("{} waits for another build", recipe.name)).await?;
    remove_remains(cache, recipe)?;
    if entry.exists() {
        say(&format!("{} in the cache is not whole ({flaw}): it is built again", entry_name(recipe)));
    }
    let built = build(cache, recipe, jars.as_deref()).await?;
    // Only now: what runs from there meanwhile may still look into it.
    if entry.exists() {
        fs::rename(&entry, built.path().join("old")).map_err(at(&entry))?;
    }
    fs::rename(built.path().join("out"), &entry).map_err(at(&entry))?;
    Ok(answer)
}

/// Name and version; where our own files are built, also what they say: another text is another program.
fn entry_name(recipe: &Recipe) -> String {
    let plain = format!("{}-{}", recipe.name, recipe.version);
    match recipe.source {
        Source::Go { .. } | Source::Maven { .. } => plain,
        Source::GoScript { files, .. } | Source::JavaScript { files, .. } => {
            let mut hasher = DefaultHasher::new();
            files.hash(&mut hasher);
            format!("{plain}-{:08x}", hasher.finish() >> 32)
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { path, source }
}

/// Polls, so that dropping the future gives up waiting; says what it waits for when that is not at once over.
async fn wait_for(lock: &Path, why: &str) -> Result<Flock<File>, Error> {
    let mut step = None;
    loop {
        match run::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                step.get_or_insert_with(|| Step::begin("waiting", why));
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(at(lock)(error)),
        }
    }
}

/// What a killed builder left. Nobody else works on this part: we hold its lock.
fn remove_remains(cache: &Path, recipe: &Recipe) -> Result<(), Error> {
    for remains in fs::read_dir(cache).map_err(at(cache))?.flatten() {
        if remains.file_name().to_string_lossy().starts_with(&workplace(recipe)) {
            fs::remove_dir_all(remains.path()).map_err(at(&remains.path()))?;
        }
    }
    Ok(())
}

fn workplace(recipe: &Recipe) -> String {
    format!(".building-{}-", recipe.name)
}

/// Builds into the folder `out` of a new folder beside the cache entries.
async fn build(cache: &Path, recipe: &Recipe, jars: Option<&Path>) -> Result<TempDir, Error> {
    let &Recipe { name, version, file, usually, .. } = recipe;
    let place = tempfile::Builder::new().prefix(&workplace(recipe)).tempdir_in(cache).map_err(at(cache))?;
    let out = place.path().join("out");
    fs::create_dir(&out).map_err(at(&out))?;
    let command = builder(recipe, place.path(), &out, jars)?;

    let log = cache.join("locks").join(format!("{name}.log"));
    File::create(&log).map_err(at(&log))?;
    let step = Step::begin(format!("building {name} {version}"), &format!("usually {usually} on two cores, once"));
    let mut process = Process::spawn(name, command, &log)?;
    let status = loop {
        match process.ended() {
            Some(status) => break status,
            None => {
                let said = process::tail(&log, usize::MAX);
                let last = said.lines().last().unwrap_or_default();
                step.detail(&format!("{} lines of output, now: {last}", said.lines().count()));
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    if !status.success() {
        return Err(Error::Build { name, version, status, tail: process::tail(&log, TAIL), log });
    }
    if !out.join(file).is_file() {
        return Err(Error::Nothing { name, version, file, log });
    }
    entry::seal(&out).map_err(at(&out))?;
    step.done();
    Ok(place)
}

fn builder(recipe: &Recipe, place: &Path, out: &Path, jars: Option<&Path>) -> Result<Command, Error> {
    let write = |name: &str, text: &str| fs::write(place.join(name), text).map_err(at(&place.join(name)));
    match recipe.source {
        Source::Go { go_mod, go_sum, package, ldflags } => {
            write("go.mod", go_mod)?;
            write("go.sum", go_sum)?;
            let mut command = toolchain::go(place, recipe.name)?;
            command
                .args(["build", "-v", "-trimpath", "-ldflags", ldflags, "-o"])
                .arg(out.join(recipe.file))
                .arg(package);
            Ok(command)
        }
        Source::Maven { pom } => {
            write("pom.xml", pom)?;
            let mut command = toolchain::maven(place, recipe.name)?;
            command.arg("dependency:copy-dependencies").arg(format!("-DoutputDirectory={}", out.display()));
            Ok(command)
        }
        Source::GoScript { files, hurried } => {
            files.iter().try_for_each(|(name, text)| write(name, text))?;
            let mut command = toolchain::with_go("sh", place, recipe.name)?;
            command.arg("build.sh").env("HURRIED", if hurried { "1" } else { "" });
            Ok(command)
        }
        Source::JavaScript { files, .. } => {
            files.iter().try_for_each(|(name, text)| write(name, text))?;
            let mut command = Command::new("sh");
            command.current_dir(place).arg("build.sh").env("JARS", jars.unwrap_or(Path::new("")));
            command.env("JAVA_HOME", toolchain::java_home(recipe.name)?);
            Ok(command)
        }
    }
}
