//! The world as it was: the operator's own fold over the log, up to a point.

use super::progress::Progress;
use super::select::Point;
use super::source::{Error as SourceError, Scope, Source};
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

/// The world behind the last message at or before `point`, and when that is: the moment asked for, or the time of the
/// message.
///
/// # Errors
/// When the log cannot be read, or the point lies outside it.
pub async fn world_at(source: &Source, point: Point, now: Time) -> Result<(World, Time), Error> {
    let mut reader = source.read(1, Scope::default()).await?;
    let mut progress = Progress::begin("Replaying", source).await;
    let mut world = World::default();
    let until = match point {
        Point::Sequence(_) => None,
        Point::Moment(moment) => Some(moment.before(now)),
    };
    let (mut last, mut begins) = (0, None);
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
