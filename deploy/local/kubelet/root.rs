//! The private root of a container: an overlay over this machine's root, with the pod's volumes where its spec says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::place::{Mounts, Place, quoted, quoted_path};

/// The shell script that makes the root in its own mount and host name namespace, and becomes the container's program.
///
/// Only the root file system is overlaid; what is mounted below it (a separate /usr, say) is bound as it is.
pub(crate) fn script(
    place: &Place,
    container: &str,
    mounts: &Mounts,
    visible: &[PathBuf],
    folder: &str,
    line: &[String],
) -> String {
    let base = place.folder.join(format!("root-{container}"));
    let mut script = format!(
        "set -e\n\
         echo {name} > /proc/sys/kernel/hostname\n\
         base={base}\n\
         mkdir -p $base\n\
         mount -t tmpfs tmpfs $base\n\
         mkdir $base/upper $base/work $base/root\n\
         root=$base/root\n\
         mount -t overlay overlay -o lowerdir=/,upperdir=$base/upper,workdir=$base/work $root\n\
         bind() {{\n\
         \x20 [ -e \"$1\" ] || mkdir -p \"$1\"\n\
         \x20 if [ -d \"$1\" ]; then mkdir -p \"$root$2\"; else mkdir -p \"$(dirname \"$root$2\")\"; : >> \"$root$2\"; fi\n\
         \x20 mount --rbind \"$1\" \"$root$2\"\n\
         \x20 if [ \"$3\" = ro ]; then mount -o remount,ro,bind \"$root$2\"; fi\n\
         }}\n",
        name = quoted(&place.name),
        base = quoted_path(&base),
    );
    for below in mounted_below_root() {
        let below = quoted(&below);
        let _ = writeln!(script, "bind {below} {below} rw");
    }
    let mut sorted: Vec<_> = mounts.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for mount in sorted {
        let how = if mount.read_only { "ro" } else { "rw" };
        let _ = writeln!(script, "bind {} {} {how}", quoted_path(&mount.source), quoted(&mount.path));
    }
    for path in visible {
        let path = quoted_path(path);
        let _ = writeln!(script, "bind {path} {path} rw");
    }
    let _ = writeln!(script, "bind {} /etc/hosts rw", quoted_path(&place.hosts()));
    let line = line.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let _ = writeln!(script, "exec chroot $root /bin/sh -c 'cd \"$0\"; exec \"$@\"' {} {line}", quoted(folder));
    script
}

/// The mount points right below the root that a container needs; what is for this machine's processes alone is left out.
fn mounted_below_root() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    below_root(&table)
}

fn below_root(table: &str) -> Vec<String> {
    let mut points: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.sort_unstable();
    let private = ["/tmp", "/run", "/var/run", "/var/tmp"];
    let mut kept: Vec<String> = Vec::new();
    for point in points {
        let hidden = private.iter().any(|path| Path::new(point).starts_with(path));
        let covered = kept.iter().any(|path| Path::new(point).starts_with(path));
        // Blanks are written as octal numbers there: such places are not worth the trouble.
        if point != "/" && !hidden && !covered && !point.contains('\\') {
            kept.push(point.to_owned());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_uppermost_mounts_are_bound() {
        let table = "/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\nx /proc/sys x rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n\
                     tmpfs /run/lock tmpfs rw 0 0\ndevtmpfs /dev devtmpfs rw 0 0\ny /dev/pts y rw 0 0\nz /home z rw 0 0\n";
        assert_eq!(below_root(table), ["/dev", "/home", "/proc"]);
    }
}
