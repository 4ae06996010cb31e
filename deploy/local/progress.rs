//! Says on stderr what takes long and how long that usually is: a spinner on a terminal, one line per step elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// One step that is going on. Dropped before [`Step::done`], it vanishes: the error that follows speaks for it.
#[derive(Debug)]
pub struct Step {
    title: String,
    since: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Begins a step; `note` says what to expect of it.
    pub fn begin(title: impl Into<String>, note: &str) -> Self {
        let title = title.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{title} ({note})"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if spinner.is_none() {
            say(&format!("{title} ({note}) ..."));
        }
        Self { title, since: Instant::now(), spinner }
    }

    /// What it is at now; shown on a terminal only.
    pub fn detail(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
        }
    }

    /// It is done: one line remains.
    pub fn done(self) {
        let line = format!("{}: done in {}", self.title, seconds(self.since.elapsed()));
        match &self.spinner {
            Some(spinner) => {
                spinner.finish_and_clear();
                say(&line);
            }
            None => say(&line),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// A line for people. Not `eprintln!`: the test harness would swallow it, and a first build looks like a hang.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A duration as people read it.
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}
