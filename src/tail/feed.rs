//! Where the events come from: what is there, what comes, or what a named reader has not had yet.

use crate::audit::Entry;
use crate::audit::source::{Error, Reader, Scope, Source, within};
use crate::log::Durable;
use std::time::Duration;

/// Silence after which nothing more is there now.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages of a named reader between two acknowledgements.
const UNACKNOWLEDGED: u32 = 1_000;

/// A source of messages.
pub(super) struct Feed {
    kind: Kind,
    scope: Scope,
    /// Whether it was said already that nothing is there now.
    idle: bool,
}

enum Kind {
    Plain(Reader),
    Durable { reader: Box<Durable>, follow: bool, unacknowledged: u32 },
}

/// What comes next.
pub(super) enum Next {
    /// A message.
    Entry(Box<Entry>),
    /// Nothing is there now: what was written should be seen. Said once, then a message is waited for.
    Idle,
    /// There is no more.
    End,
}

impl Feed {
    /// What is there.
    pub(super) async fn reading(source: &Source, from: u64, scope: Scope) -> anyhow::Result<Self> {
        Ok(Self { kind: Kind::Plain(source.read(from, scope.clone()).await?), scope, idle: false })
    }

    /// What is there and what comes.
    pub(super) fn following(source: &Source, from: u64, scope: Scope) -> anyhow::Result<Self> {
        Ok(Self { kind: Kind::Plain(source.follow(from, scope.clone())?), scope, idle: false })
    }

    /// What the readers of this name have not had yet.
    pub(super) async fn durable(
        source: &Source,
        name: &str,
        from: u64,
        scope: Scope,
        follow: bool,
    ) -> anyhow::Result<Self> {
        let Source::Nats(log) = source else { return Err(Error::Still.into()) };
        let reader = Box::new(log.durable(name, from, &scope.filter()).await?);
        Ok(Self { kind: Kind::Durable { reader, follow, unacknowledged: 0 }, scope, idle: false })
    }

    /// The sequence behind which a named reader begins; 0 for others.
    pub(super) fn position(&self) -> u64 {
        match &self.kind {
            Kind::Plain(_) => 0,
            Kind::Durable { reader, .. } => reader.position(),
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            let patience = (!self.idle).then_some(PAUSE);
            let entry = match &mut self.kind {
                Kind::Plain(reader) => match within(patience, reader.next()).await {
                    Some(entry) => match entry? {
                        Some(entry) => Some(entry),
                        None => return Ok(Next::End),
                    },
                    None => None,
                },
                Kind::Durable { reader, follow, unacknowledged } => {
                    if !*follow && reader.drained() {
                        return Ok(Next::End);
                    }
                    match within(patience, reader.next()).await {
                        Some(item) => {
                            *unacknowledged += 1;
                            let Some(entry) = Entry::delivered(item?) else { continue };
                            if !self.scope.contains(&entry) {
                                continue;
                            }
                            Some(entry)
                        }
                        None => None,
                    }
                }
            };
            self.idle = entry.is_none();
            return Ok(entry.map_or(Next::Idle, |entry| Next::Entry(Box::new(entry))));
        }
    }

    /// Whether so much was written that it should be acknowledged though more is there.
    pub(super) fn is_full(&self) -> bool {
        matches!(&self.kind, Kind::Durable { unacknowledged, .. } if *unacknowledged >= UNACKNOWLEDGED)
    }

    /// What was delivered so far is written: a named reader does not get it again.
    pub(super) async fn done(&mut self) -> anyhow::Result<()> {
        if let Kind::Durable { reader, unacknowledged, .. } = &mut self.kind {
            reader.done().await?;
            *unacknowledged = 0;
        }
        Ok(())
    }
}

/// Waits until nobody reads standard output any more: `| head` has seen enough. Never, where it is no pipe.
pub(super) async fn unread() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let gone = || {
        let stdout = std::io::stdout();
        // Without a question only errors are answered: a pipe without a reader is one.
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let answered = poll(&mut watched, PollTimeout::ZERO);
        answered.is_ok() && watched[0].revents().is_some_and(|flags| flags.contains(PollFlags::POLLERR))
    };
    while !gone() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
