//! Go, Java and Maven: found and judged before anything is built, so that a missing one is one sentence; and which kubectl
//! will do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Go that builds every part (the newest of their `go` lines).
const GO: (u32, u32) = (1, 26);
/// The oldest Maven that runs the plugin which copies jars (maven-dependency-plugin 3.6.1, its system requirements).
const MAVEN: [u32; 3] = [3, 2, 5];
/// The only Java that Cassandra 4.1 and 5.0 both run on with the flags that we give.
const JAVA: u32 = 17;
/// The oldest kubectl that speaks to the kubelet by WebSockets of itself (KEP-4006, beta in 1.31); by SPDY the kubelet does
/// not answer.
const KUBECTL: (u32, u32) = (1, 31);

/// A tool is missing or too old.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Go, or one that cannot build the parts.
    #[error(
        "Go 1.26 or newer is needed to build {needed_for}, and {found}: install it, put its `go` on PATH, and run this again"
    )]
    Go {
        /// What was to be built.
        needed_for: String,
        /// What is there instead.
        found: String,
    },
    /// No Java 17.
    #[error(
        "JDK 17 is needed to run {needed_for}, and {found}: install it where JAVA_HOME or PATH says, or in /usr/lib/jvm, and \
         run this again"
    )]
    Java {
        /// What was to run.
        needed_for: String,
        /// What is there instead.
        found: String,
    },
    /// A Java 17 that cannot compile.
    #[error("a JDK 17 is needed to build {needed_for}, and {} belongs to a runtime without `javac`: install the JDK and run this again", java.display())]
    Javac {
        /// What was to be built.
        needed_for: String,
        /// The Java that was found.
        java: PathBuf,
    },
    /// No Maven, or one that cannot run what fetches the jars.
    #[error(
        "Maven 3.2.5 or newer is needed to fetch {needed_for}, and {found}: install it, put its `mvn` on PATH, and run this \
         again"
    )]
    Maven {
        /// What was to be fetched.
        needed_for: String,
        /// What is there instead.
        found: String,
    },
}

/// A `go` command for the module in `folder`, after a look at its version.
pub(crate) fn go(folder: &Path, needed_for: &str) -> Result<Command, Error> {
    with_go("go", folder, needed_for)
}

/// A command that may use `go` for the module in `folder`, after a look at its version.
pub(crate) fn with_go(program: &str, folder: &Path, needed_for: &str) -> Result<Command, Error> {
    let fault = |found: String| Error::Go { needed_for: needed_for.to_owned(), found };
    // Inside the module, so that a toolchain that Go would fetch for it (GOTOOLCHAIN=auto) counts.
    let output = go_command("go", folder).args(["env", "GOVERSION"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        fault(match error.kind() == io::ErrorKind::NotFound {
            true => "no `go` is on PATH".to_owned(),
            false => format!("the `go` on PATH does not start ({error})"),
        })
    })?;
    let said =
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).into_owned();
    match go_version(&said) {
        Some(version) if output.status.success() && version >= GO => Ok(go_command(program, folder)),
        _ => Err(fault(format!("the one on PATH says `{}`", said.trim()))),
    }
}

/// Nothing of the user's Go settings may change what is built; where modules come from stays theirs.
fn go_command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-mod=readonly");
    command.env_remove("GOOS").env_remove("GOARCH").env_remove("GOBIN");
    command
}

fn go_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split("go1.").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((1, numbers.next()?.parse().ok()?))
}

/// The `java` of a JDK 17: that of JAVA_HOME, of PATH, or one of /usr/lib/jvm.
pub fn java(needed_for: &str) -> Result<PathBuf, Error> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let mut candidates: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin/java")).collect();
    candidates.sort();
    java_17_of(home.into_iter().chain(on_path("java")).chain(candidates), needed_for)
}

/// The folder of that JDK.
pub fn java_home(needed_for: &str) -> Result<PathBuf, Error> {
    // Links are followed: /usr/bin/java is in no JDK.
    let java = java(needed_for)?;
    let java = java.canonicalize().unwrap_or(java);
    let home = java.parent().and_then(Path::parent).filter(|home| is_executable(&home.join("bin/javac")));
    home.map(Path::to_owned).ok_or_else(|| Error::Javac { needed_for: needed_for.to_owned(), java })
}

fn java_17_of(candidates: impl IntoIterator<Item = PathBuf>, needed_for: &str) -> Result<PathBuf, Error> {
    let mut others = Vec::new();
    for java in candidates {
        match java_version(&java) {
            Some(JAVA) => return Ok(java),
            Some(version) => others.push(format!("{version} ({})", java.display())),
            None => {}
        }
    }
    others.sort();
    others.dedup();
    let found = match others.as_slice() {
        [] => "neither JAVA_HOME nor PATH nor the usual folder /usr/lib/jvm has a Java".to_owned(),
        others => format!("the only Java here is {}", others.join(" and ")),
    };
    Err(Error::Java { needed_for: needed_for.to_owned(), found })
}

fn java_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    // `openjdk version "17.0.15" 2025-04-15`, on stderr.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

/// A quiet `mvn` command that runs on the Java found by [`java`].
pub(crate) fn maven(folder: &Path, needed_for: &str) -> Result<Command, Error> {
    let java = java(needed_for)?;
    let mut command = Command::new("mvn");
    command.current_dir(folder).args(["--batch-mode", "--quiet", "--no-transfer-progress"]);
    let java = java.canonicalize().unwrap_or(java);
    if let Some(home) = java.parent().and_then(Path::parent) {
        command.env("JAVA_HOME", home);
    }
    let fault = |found: String| Error::Maven { needed_for: needed_for.to_owned(), found };
    let output = Command::new("mvn").arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        fault(match error.kind() == io::ErrorKind::NotFound {
            true => "no `mvn` is on PATH".to_owned(),
            false => format!("the `mvn` on PATH does not start ({error})"),
        })
    })?;
    let said = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    match maven_version(&said) {
        Some(version) if output.status.success() && version >= MAVEN => Ok(command),
        Some(version) if output.status.success() => {
            Err(fault(format!("the one on PATH is {}", version.map(|number| number.to_string()).join("."))))
        }
        _ => Err(fault(format!("the one on PATH says `{}`", said.trim().lines().next().unwrap_or_default()))),
    }
}

/// Of `Apache Maven 3.8.7 (...)`, which may be in bold type.
fn maven_version(said: &str) -> Option<[u32; 3]> {
    let mut numbers = said.split("Apache Maven ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next().unwrap_or(0)])
}

/// Whether a kubectl is one that the kubelet answers.
pub(crate) fn is_new_enough(kubectl: &Path) -> bool {
    let output = Command::new(kubectl).args(["version", "--client", "-o", "json"]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| kubectl_version(&output.stdout).is_some_and(|version| version >= KUBECTL))
}

/// Of `{"clientVersion": {"major": "1", "minor": "32+", ...}, ...}`.
fn kubectl_version(said: &[u8]) -> Option<(u32, u32)> {
    let said: serde_json::Value = serde_json::from_slice(said).ok()?;
    let number = |name: &str| said["clientVersion"][name].as_str()?.trim_end_matches('+').parse().ok();
    Some((number("major")?, number("minor")?))
}

/// The first executable file of that name on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(go_version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(go_version("devel go1.28-abcdef Mon"), Some((1, 28)));
        assert_eq!(go_version("gccgo 4.9"), None);
    }

    #[test]
    fn maven_versions_are_read() {
        assert_eq!(maven_version("\u{1b}[1mApache Maven 3.8.7\u{1b}[m\nMaven home: /usr"), Some([3, 8, 7]));
        assert_eq!(maven_version("Apache Maven 4.0.0-rc-3 (x)"), Some([4, 0, 0]));
        assert_eq!(maven_version("Apache Maven 2.2 (x)"), Some([2, 2, 0]));
        assert_eq!(maven_version("mvn: JAVA_HOME is not defined"), None);
    }

    #[test]
    fn kubectl_versions_are_read() {
        let said = br#"{"clientVersion": {"major": "1", "minor": "32+", "gitVersion": "v1.32.4-dispatcher"}}"#;
        assert_eq!(kubectl_version(said), Some((1, 32)));
        assert_eq!(kubectl_version(br#"{"clientVersion": {"major": "2", "minor": "0"}}"#), Some((2, 0)));
        assert_eq!(kubectl_version(b"error: unknown flag: --output"), None);
        assert_eq!(kubectl_version(b"{}"), None);
    }

    #[test]
    fn only_java_17_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("java");
        std::fs::write(&other, "#!/bin/sh\necho 'openjdk version \"21.0.1\" 2023-10-17' >&2\n").unwrap();
        std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(java_version(&other), Some(21));
        let missing = folder.path().join("no-java");
        let refused = java_17_of([missing, other.clone()], "Cassandra 4.1").unwrap_err().to_string();
        let found =
            format!("JDK 17 is needed to run Cassandra 4.1, and the only Java here is 21 ({}):", other.display());
        assert!(refused.starts_with(&found), "{refused}");
        let refused = java_17_of([folder.path().join("none")], "it").unwrap_err().to_string();
        assert!(
            refused.contains("neither JAVA_HOME nor PATH nor the usual folder /usr/lib/jvm has a Java"),
            "{refused}"
        );
        let real = java("this test").unwrap();
        assert_eq!(java_17_of([other, real.clone()], "this test").unwrap(), real);
    }
}
