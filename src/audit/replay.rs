//! The world as it was: the operator's own fold over the log, up to a point, from a snapshot on where one lies before it.

use super::progress::Progress;
use super::select::Point;
use super::source::{Error as SourceError, Scope, Source};
use crate::operator::snapshots;
use std::time::Duration;
use stheno_events::Time;
use stheno_projections::World;

/// Why there is no such point.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Later than its end.
    #[error("there is no message {wanted}: the log ends with {last}")]
    BehindEnd {
        /// What was asked for.
        wanted: u64,
        /// The last message.
        last: u64,
    },
    /// Earlier than its beginning.
    #[error("the log begins at {begins}, later than {wanted}")]
    BeforeBeginning {
        /// What was asked for.
        wanted: String,
        /// The first message's time.
        begins: String,
    },
    /// There is nothing.
    #[error("the log is empty")]
    Empty,
}

/// How long a snapshot is looked for: whoever may not read them waits no longer for a replay.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Begin {
    /// Replay the log from its first message, whatever snapshots lie beside it.
    #[arg(long, env = "STHENO_NO_SNAPSHOT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_snapshot: bool,
}

impl Begin {
    /// The newest world before a point that lies beside the log, and that it leads to; else an empty one.
    async fn world(self, source: &Source, point: Point, until: Option<Time>) -> World {
        let Source::Nats(log) = source else { return World::default() };
        if self.no_snapshot {
            return World::default();
        }
        let last = match point {
            Point::Sequence(sequence) => sequence,
            Point::Moment(_) => u64::MAX,
        };
        let world = snapshots::load_before(log, last, until.unwrap_or(Time::MAX_UTC));
        tokio::time::timeout(PATIENCE, world).await.unwrap_or_default()
    }
}

/// The world behind the last message at or before `point`, and when that is: the moment asked for, or the time of the
/// message.
///
/// # Errors
/// When the log cannot be read, or the point lies outside it.
pub async fn world_at(source: &Source, point: Point, now: Time, begin: Begin) -> Result<(World, Time), Error> {
    let until = match point {
        Point::Sequence(_) => None,
        Point::Moment(moment) => Some(moment.before(now)),
    };
    let mut world = begin.world(source, point, until).await;
    let (mut last, mut begins) = (world.position, world.at);
    if last > 0 && point == Point::Sequence(last) {
        return Ok((world, begins.unwrap_or(now)));
    }
    let mut reader = source.read(last + 1, Scope::default()).await?;
    let mut progress = Progress::begin("Replaying", source).await;
    while let Some(entry) = reader.next().await? {
        if let Some(until) = until.filter(|until| entry.envelope.as_ref().is_ok_and(|envelope| envelope.at > *until)) {
            if begins.is_none() {
                let text = |time: Time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
                return Err(Error::BeforeBeginning { wanted: text(until), begins: text(entry.at()) });
            }
            return Ok((world, until));
        }
        last = entry.sequence;
        progress.reached(last);
        begins.get_or_insert(entry.at());
        entry.fold(entry.digest(), &mut world);
        if point == Point::Sequence(entry.sequence) {
            let then = world.at.unwrap_or(entry.stored);
            return Ok((world, then));
        }
    }
    match point {
        Point::Sequence(wanted) if last > 0 => Err(Error::BehindEnd { wanted, last }),
        Point::Sequence(_) | Point::Moment(_) if last == 0 => Err(Error::Empty),
        Point::Sequence(_) | Point::Moment(_) => Ok((world, until.unwrap_or(now))),
    }
}
