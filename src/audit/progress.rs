//! How far a long reading is: on a terminal, and only when it takes more than a second.

use super::source::Source;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use tokio::time::Instant;

/// What takes less is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr that shows itself late.
pub(super) struct Progress {
    what: &'static str,
    total: Option<u64>,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins to count; `what` says what is done with the messages.
    pub(super) async fn begin(what: &'static str, source: &Source) -> Self {
        let total = match source {
            Source::Nats(log) => log.facts().await.ok().map(|facts| facts.last_sequence),
            Source::File { .. } => None,
            Source::Memory { messages, .. } => Some(messages.len() as u64),
        };
        Self { what, total, begun: Instant::now(), bar: None }
    }

    /// The message with this sequence is dealt with.
    pub(super) fn reached(&mut self, sequence: u64) {
        // Looking at the clock for each of a million messages would cost more than it tells.
        if !sequence.is_multiple_of(1_024) || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            // Draws on a terminal only.
            let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr()).with_message(self.what);
            let template = match self.total {
                Some(_) => "{msg} {wide_bar} {human_pos} of {human_len} messages, {eta} left",
                None => "{msg} {spinner} {human_pos} messages, {per_sec}",
            };
            ProgressStyle::with_template(template).map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        bar.set_position(sequence);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
