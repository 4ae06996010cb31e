//! What is to be seen afterwards: the objects in the API server, the files in the bucket, the log.
#![allow(clippy::print_stdout, reason = "the report of a command")]

use std::path::Path;
use std::process::Stdio;
use std::{fs, io};

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How many objects of the bucket are named.
const NAMES: usize = 14;

/// Prints a command as a person would type it, runs it with `input`, and prints what it says.
pub(crate) async fn show(typed: &str, command: &mut Command, input: &str) -> anyhow::Result<()> {
    println!("\n$ {typed}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("`{typed}` does not start"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("`{typed}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Prints how many objects the bucket holds, how large they are, and the names of a few: manifests come first, then files
/// of the first node.
pub(crate) fn bucket(folder: &Path) -> anyhow::Result<()> {
    let mut objects = Vec::new();
    collect(folder, &mut objects).with_context(|| format!("the bucket {} cannot be read", folder.display()))?;
    objects.sort();
    let bytes: u64 = objects.iter().map(|(_, size)| size).sum();
    println!(
        "\nThe bucket holds {} objects, {bytes} bytes; the manifests, and some files of the table shop.orders:",
        objects.len()
    );
    let worth = |name: &str| name.contains("/data/shop/orders") || name.contains("/manifest_");
    let named = objects.iter().filter_map(|(path, size)| {
        let name = path.strip_prefix(folder).ok()?.to_string_lossy().into_owned();
        worth(&name).then_some((name, size))
    });
    for (name, size) in named.take(NAMES) {
        println!("  {size:>8}  {name}");
    }
    Ok(())
}

fn collect(folder: &Path, objects: &mut Vec<(std::path::PathBuf, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        match meta.is_dir() {
            true => collect(&entry.path(), objects)?,
            false => objects.push((entry.path(), meta.len())),
        }
    }
    Ok(())
}
