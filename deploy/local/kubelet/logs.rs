//! `kubectl logs`: from files into which goes what containers say, line by line, with the times at which they said it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, StatusCode};
use hyper::body::{Frame, Incoming};
use k8s_openapi::jiff::{self, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::server::{Answer, pieces, query, text};
use super::socket::{STDERR, STDOUT};
use super::{Shared, lock};
use crate::process::Pipes;

/// How often a file that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The beginning of a line waits this long for its end, so that the other stream does not come in between.
const QUIET: Duration = Duration::from_millis(100);
/// Output that comes within this time has one time.
const MOMENT: jiff::SignedDuration = jiff::SignedDuration::from_millis(10);
const PIECE: usize = 64 * 1024;
/// Pieces that a listener may be behind.
const BEHIND: usize = 1024;

/// What one container says in one life: to its log, and to those who listen.
#[derive(Debug)]
pub(crate) struct Output {
    listeners: Mutex<Option<broadcast::Sender<(u8, Bytes)>>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { listeners: Mutex::new(Some(broadcast::Sender::new(BEHIND))) }
    }

    /// What is said from now on, with the channel of the stream; nothing when the container has ended.
    pub(crate) fn listen(&self) -> Option<broadcast::Receiver<(u8, Bytes)>> {
        lock(&self.listeners).as_ref().map(broadcast::Sender::subscribe)
    }

    /// Writes both streams to the log until they end, then tells the listeners.
    pub(crate) async fn collect(&self, times: &Times, log: &Path, pipes: Pipes) {
        let opened = File::options().create(true).append(true).open(log);
        let file = opened.inspect_err(|error| tracing::debug!("{} cannot be written: {error}", log.display())).ok();
        let write = |channel: u8, content: &[u8]| {
            // A full disk is no reason to let the container wait.
            if let Some(mut file) = file.as_ref() {
                let _ = file.write_all(content);
                times.note(log, file.metadata().map_or(0, |meta| meta.len()));
            }
            if let Some(listeners) = lock(&self.listeners).as_ref() {
                let _ = listeners.send((channel, Bytes::copy_from_slice(content)));
            }
        };
        let stdout = pipes.stdout.and_then(|pipe| tokio::process::ChildStdout::from_std(pipe).ok());
        let stderr = pipes.stderr.and_then(|pipe| tokio::process::ChildStderr::from_std(pipe).ok());
        // What comes at the same moment was most likely said in this order.
        tokio::join!(
            biased;
            lines(stdout, |said| write(STDOUT, said)),
            lines(stderr, |said| write(STDERR, said)),
        );
    }

    /// Nothing more is said.
    pub(crate) fn over(&self) {
        lock(&self.listeners).take();
    }
}

/// Hands on whole lines; what has no end yet when nothing more comes, or is long, goes as it is.
async fn lines(reader: Option<impl AsyncRead + Unpin>, write: impl Fn(&[u8])) {
    let Some(mut reader) = reader else { return };
    let (mut piece, mut rest) = (vec![0; PIECE], Vec::new());
    loop {
        let read = if rest.is_empty() {
            reader.read(&mut piece).await
        } else if let Ok(read) = timeout(QUIET, reader.read(&mut piece)).await {
            read
        } else {
            write(&rest);
            rest.clear();
            continue;
        };
        let said = read.ok().and_then(|read| piece.get(..read)).unwrap_or_default();
        if said.is_empty() {
            break;
        }
        rest.extend_from_slice(said);
        let whole = match rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if rest.len() > PIECE => rest.len(),
            None => continue,
        };
        write(rest.get(..whole).unwrap_or_default());
        rest.drain(..whole);
    }
    if !rest.is_empty() {
        write(&rest);
    }
}

/// When log files grew, and how far.
#[derive(Debug, Default)]
pub(crate) struct Times(Mutex<BTreeMap<PathBuf, Vec<(u64, Timestamp)>>>);

impl Times {
    /// Notes that a file is so long now.
    fn note(&self, log: &Path, length: u64) {
        let (mut all, now) = (lock(&self.0), Timestamp::now());
        let known = all.entry(log.to_owned()).or_default();
        match known.last_mut() {
            Some((end, time)) if now.duration_since(*time) < MOMENT => *end = length,
            Some(_) | None => known.push((length, now)),
        }
    }

    /// Of the files in a folder that goes.
    pub(crate) fn forget(&self, folder: &Path) {
        lock(&self.0).retain(|log, _| !log.starts_with(folder));
    }

    /// When the byte at `offset` was there.
    fn at(&self, log: &Path, offset: u64) -> Timestamp {
        let all = lock(&self.0);
        let known = all.get(log).map(Vec::as_slice).unwrap_or_default();
        let after = known.partition_point(|(end, _)| *end <= offset);
        known.get(after).map_or_else(Timestamp::now, |(_, time)| *time)
    }

    /// Where what came at that time or later begins.
    fn since(&self, log: &Path, time: Timestamp) -> u64 {
        let all = lock(&self.0);
        let known = all.get(log).map(Vec::as_slice).unwrap_or_default();
        let before = known.partition_point(|(_, seen)| *seen < time);
        before.checked_sub(1).and_then(|last| known.get(last)).map_or(0, |(end, _)| *end)
    }
}

#[derive(Debug, Default)]
struct Wanted {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<u64>,
}

impl Wanted {
    fn of(query: &[(String, String)]) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (name, value) in query {
            let wrong = || format!("{name}={value} is not understood");
            match name.as_str() {
                "follow" => wanted.follow = value == "true",
                "previous" => wanted.previous = value == "true",
                "timestamps" => wanted.timestamps = value == "true",
                "tailLines" => wanted.tail = Some(value.parse().map_err(|_| wrong())?),
                "limitBytes" => wanted.limit = Some(value.parse().map_err(|_| wrong())?),
                "sinceTime" => wanted.since = Some(value.parse().map_err(|_| wrong())?),
                "sinceSeconds" => {
                    let seconds: u64 = value.parse().map_err(|_| wrong())?;
                    wanted.since = Timestamp::now().checked_sub(Duration::from_secs(seconds)).ok();
                }
                // The API server of this version passes it on only with a feature that is off (PodLogsQuerySplitStreams).
                "stream" if value != "All" => {
                    return Err("the log is one for stdout and stderr: `kubectl attach` tells them apart".to_owned());
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

/// What the log of a container says, from the current life or the one before.
pub(super) fn answer(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Answer {
    let wanted = match Wanted::of(&query(request)) {
        Ok(wanted) => wanted,
        Err(why) => return text(StatusCode::BAD_REQUEST, &why),
    };
    let folder = shared.folder.join("logs").join(format!("{namespace}_{pod}"));
    let Some(newest) = lives(&folder, container).max() else {
        return text(StatusCode::NOT_FOUND, &format!("container {container} of {namespace}/{pod} has not run yet"));
    };
    let Some(life) = newest.checked_sub(u32::from(wanted.previous)) else {
        let why = format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
        return text(StatusCode::BAD_REQUEST, &why);
    };
    let log = folder.join(format!("{container}.{life}.log"));
    match Reader::open(shared.clone(), log, wanted) {
        Ok(reader) => {
            let read = stream::unfold(reader, |mut reader| async move {
                let piece = reader.next().await?;
                Some((Ok(Frame::data(piece)), reader))
            });
            pieces(StatusCode::OK, Box::pin(read))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the log cannot be read: {error}")),
    }
}

fn lives(folder: &Path, container: &str) -> impl Iterator<Item = u32> {
    let start = format!("{container}.");
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(move |entry| entry.file_name().to_str()?.strip_prefix(&start)?.strip_suffix(".log")?.parse().ok())
}

struct Reader {
    shared: Arc<Shared>,
    log: PathBuf,
    file: File,
    wanted: Wanted,
    /// Of the next byte that is read.
    offset: u64,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    sent: u64,
}

impl Reader {
    fn open(shared: Arc<Shared>, log: PathBuf, wanted: Wanted) -> std::io::Result<Self> {
        let mut file = File::open(&log)?;
        let mut offset = wanted.since.map_or(0, |time| shared.log_times.since(&log, time));
        if let Some(lines) = wanted.tail {
            let mut content = Vec::new();
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut content)?;
            offset += u64::try_from(last_lines(&content, lines)).unwrap_or_default();
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { shared, log, file, wanted, offset, rest: Vec::new(), sent: 0 })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let runs = lock(&self.shared.running).values().any(|running| running.log == self.log);
            let mut piece = vec![0; PIECE];
            let read = self.file.read(&mut piece).ok()?;
            piece.truncate(read);
            let piece = match (read, self.wanted.follow && runs) {
                (0, true) => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                (0, false) if self.rest.is_empty() => return None,
                (0, false) => self.timed(true),
                (_, _) if self.wanted.timestamps => {
                    self.rest.extend(piece);
                    self.timed(false)
                }
                (_, _) => piece,
            };
            if piece.is_empty() {
                continue;
            }
            return self.limited(piece);
        }
    }

    /// The lines of `rest`, each after its time; a last one without an end only when nothing follows.
    fn timed(&mut self, over: bool) -> Vec<u8> {
        let mut timed = Vec::new();
        loop {
            let end = match self.rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if over && !self.rest.is_empty() => self.rest.len(),
                None => return timed,
            };
            timed.extend(format!("{} ", self.shared.log_times.at(&self.log, self.offset)).bytes());
            timed.extend(self.rest.drain(..end));
            self.offset += u64::try_from(end).unwrap_or_default();
        }
    }

    fn limited(&mut self, mut piece: Vec<u8>) -> Option<Bytes> {
        if let Some(limit) = self.wanted.limit {
            piece.truncate(usize::try_from(limit - self.sent).unwrap_or(usize::MAX));
        }
        self.sent += u64::try_from(piece.len()).unwrap_or_default();
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

/// Where the last lines begin.
fn last_lines(content: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return content.len();
    }
    let body = content.strip_suffix(b"\n").unwrap_or(content);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found() {
        let text = b"one\ntwo\nthree\n";
        let of = |text: &'static [u8], lines| std::str::from_utf8(&text[last_lines(text, lines)..]).unwrap();
        assert_eq!(
            (of(text, 0), of(text, 1), of(text, 2), of(text, 9)),
            ("", "three\n", "two\nthree\n", "one\ntwo\nthree\n")
        );
        assert_eq!((of(b"one\ntwo", 1), of(b"", 3)), ("two", ""));
    }

    #[test]
    fn lines_have_the_time_at_which_they_were_seen() {
        let times = Times::default();
        let log = PathBuf::from("a");
        let time = |second: i64| Timestamp::from_second(second).unwrap();
        lock(&times.0).insert(log.clone(), vec![(10, time(1)), (20, time(2))]);
        assert_eq!((times.at(&log, 0), times.at(&log, 9), times.at(&log, 10)), (time(1), time(1), time(2)));
        assert_eq!((times.since(&log, time(1)), times.since(&log, time(2)), times.since(&log, time(3))), (0, 10, 20));
    }
}
