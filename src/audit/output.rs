//! Where answers go: text, JSON or YAML, on a screen or into a pipe that may close at any time.

use serde::Serialize;
use std::io::{self, Write};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// Where an answer goes.
pub struct Screen<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Whether it is a terminal that shows colours.
    pub colour: bool,
}

impl Screen<'_> {
    /// Says something beside the answer.
    pub fn note(&self, text: impl std::fmt::Display) {
        let _ = writeln!(io::stderr(), "note: {text}");
    }
}

/// Whether standard output is a terminal whose user wants colours.
#[must_use]
pub fn colour() -> bool {
    use std::io::IsTerminal as _;
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A reader that closes the pipe has seen enough: that is no failure.
///
/// # Errors
/// Every other error.
pub fn quietly(result: anyhow::Result<()>) -> anyhow::Result<()> {
    result.or_else(|error| {
        let closed = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(closed) { Ok(()) } else { Err(error) }
    })
}

/// Writes one value.
///
/// # Errors
/// When it cannot be written.
pub fn value(out: &mut dyn Write, format: Format, value: &impl Serialize) -> anyhow::Result<()> {
    match format {
        Format::Yaml => out.write_all(serde_yaml_ng::to_string(value)?.as_bytes())?,
        Format::Text | Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(value)?)?,
    }
    out.flush()?;
    Ok(())
}

/// A list that is written item by item, so that a long one needs no memory.
pub struct List<'a> {
    out: &'a mut dyn Write,
    format: Format,
    items: u64,
}

impl<'a> List<'a> {
    /// Begins a list.
    pub fn new(out: &'a mut dyn Write, format: Format) -> Self {
        Self { out, format, items: 0 }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn item(&mut self, item: &impl Serialize) -> anyhow::Result<()> {
        match self.format {
            Format::Yaml => self.out.write_all(serde_yaml_ng::to_string(&[item])?.as_bytes())?,
            Format::Text | Format::Json => {
                let separator = if self.items == 0 { "[\n  " } else { ",\n  " };
                write!(self.out, "{separator}{}", serde_json::to_string(item)?)?;
            }
        }
        self.items += 1;
        Ok(())
    }

    /// Ends the list.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> anyhow::Result<()> {
        match (self.format, self.items) {
            (Format::Yaml, 0) | (Format::Text | Format::Json, 0) => writeln!(self.out, "[]")?,
            (Format::Yaml, _) => {}
            (Format::Text | Format::Json, _) => writeln!(self.out, "\n]")?,
        }
        self.out.flush()?;
        Ok(())
    }
}
