//! The operator: the only file that knows the order of the arrows. It wakes for what happens, hands it to the engine, and
//! carries out what the engine commands.

mod acceptance;
mod appends;
mod clocks;
mod health;
mod metrics;
mod obstacles;
mod reading;
mod silence;
pub(crate) mod snapshots;
mod start;
mod turn;
mod witness;

pub use start::{Error, Settings, run};

use crate::effects::{Report, Runner};
use crate::lease::Candidate;
use crate::log::checkpoint::Signer;
use crate::log::{Follow, Item, Link, Log, Skew, Witness};
use crate::observe::Sight;
use crate::publish::Publisher;
use crate::runtime;
use acceptance::Acceptance;
use appends::{Appends, Ended, Refusal};
use futures::FutureExt as _;
use health::Health;
use metrics::Metrics;
use obstacles::Obstacle;
use snapshots::Photographer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stheno_decide::engine::{Append, Command, Engine, Role};
use stheno_events::{DcKey, Event, Fact, operator};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use turn::turn;
use witness::{Keeper, Written};

/// The longest sleep: wall clocks can be set, and time that passed while the machine slept is not counted by timers.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// After a term that ended without our will, before standing again.
const STAND_AGAIN: Duration = Duration::from_secs(4);
/// The log may be away for this long, a restart of its server for one, before the Lease goes to whom it may not be away for.
const LOG_AWAY: Duration = Duration::from_secs(30);
/// How long the end may take: claims in flight, calls that are out, what is to be published.
const GRACE: Duration = Duration::from_secs(10);

/// The operator's parts, and what is under way.
struct Operator {
    engine: Engine,
    log: Log,
    by: Arc<str>,
    identity: Arc<str>,
    health: Health,
    metrics: Arc<Metrics>,
    appends: Appends,
    runner: Runner,
    candidate: Candidate,
    keeper: Keeper,
    acceptance: Acceptance,
    /// The operator's own namespace.
    namespace: String,
    photographer: Photographer,
    signer: Option<Signer>,
    publisher: Publisher,
    published: mpsc::UnboundedReceiver<(DcKey, Event)>,
    /// None once reading failed for good, or the process ends.
    follow: Option<Follow>,
    /// Watches are started when the log has been read: what they show is compared with it.
    watches: Watches,
    /// What the fold is compared with when it gets there.
    expected: Option<Witness>,
    link: watch::Receiver<Link>,
    skew: watch::Receiver<Skew>,
    /// Since when the log is away.
    away: Option<Instant>,
    obstacles: BTreeMap<Obstacle, Arc<str>>,
    /// When the engine was last asked.
    polled: Instant,
    shutdown: CancellationToken,
    /// When the end may take no longer; set once it has begun.
    ending: Option<Instant>,
    over: bool,
    /// The part that ended by a defect.
    failed: Option<&'static str>,
}

/// The watches of the API server.
enum Watches {
    /// Started by this, with the highest resourceVersion that the log holds.
    Waiting(Box<dyn FnOnce(Option<u64>) -> mpsc::Receiver<Sight> + Send>),
    Running(mpsc::Receiver<Sight>),
    Ended,
}

impl Operator {
    /// Runs until the end that `shutdown` asks for.
    async fn run(&mut self) {
        self.health_of_log();
        self.clock();
        self.engine.lease(self.candidate.holds());
        while !self.over {
            self.act();
            if self.over {
                break;
            }
            let wake = self.wake();
            tokio::select! {
                () = self.shutdown.cancelled(), if self.ending.is_none() => self.end(),
                held = self.candidate.changed() => match held {
                    Some(held) => self.engine.lease(held && self.ending.is_none()),
                    None => self.fail("the election"),
                },
                item = follow(&mut self.follow) => {
                    turn(self, item, Self::read, |this| this.follow.as_mut()?.next().now_or_never());
                }
                ended = self.appends.next() => self.appended(ended),
                // A hundred nodes that end together are few messages, and one look at what follows from them.
                report = self.runner.next() => {
                    turn(self, report, Self::reported, |this| this.runner.next().now_or_never());
                }
                sight = sights(&mut self.watches) => {
                    turn(self, sight, Self::sighted, |this| match &mut this.watches {
                        Watches::Running(sights) => sights.try_recv().ok().map(Some),
                        Watches::Waiting(_) | Watches::Ended => None,
                    });
                }
                published = self.published.recv() => match published {
                    Some((key, event)) => self.engine.published(&key, event),
                    None => self.fail("publishing"),
                },
                written = self.keeper.next() => match written {
                    Some(written) => self.witnessed(written),
                    None => self.fail("keeping the witness"),
                },
                accepted = self.acceptance.next() => match accepted {
                    Some(message) => self.engine.accept_api(message),
                    None => self.fail("looking for the word of a person"),
                },
                changed = self.link.changed() => match changed {
                    Ok(()) => self.health_of_log(),
                    Err(_) => self.fail("the connection to NATS"),
                },
                changed = self.skew.changed() => match changed {
                    Ok(()) => self.clock(),
                    Err(_) => self.fail("comparing the clocks"),
                },
                () = sleep_until(wake) => self.woken(),
            }
        }
        self.health.lead(None);
        self.publisher.suspend();
    }

    /// Asks the engine what is to be done, and does it.
    fn act(&mut self) {
        self.polled = Instant::now();
        let commands = self.engine.poll(runtime::wall(), runtime::boot_ms(), &mut runtime::new_id);
        for command in commands {
            match command {
                Command::Append(append) => self.appends.push(self.signed(append)),
                Command::Start(effect) => {
                    self.metrics.started(&effect.key.call);
                    self.runner.start(effect);
                }
                Command::Stop(key) => self.runner.stop(&key),
                Command::Publish { dc, touched } => {
                    if self.engine.leads() {
                        self.publisher.publish(self.engine.world(), &dc, &touched);
                    }
                }
                Command::PublishAll => self.publisher.publish_all(self.engine.world()),
                Command::Objects(dc) => self.publisher.objects(self.engine.world(), &dc),
                Command::Withhold => self.publisher.withhold(),
                // Of a term that is over there is nothing left to vouch for.
                Command::Witness { epoch, .. } if !self.engine.is_term(epoch) => {}
                Command::Witness { epoch, .. } => {
                    // The world may have gone on since: what is vouched for is what it is now.
                    let world = self.engine.world();
                    let root = witness::root(world);
                    self.keeper.keep(Witness::of(self.log.identity(), world.position, root, epoch));
                }
                Command::Released => self.released(),
            }
        }
        self.show();
    }

    /// Checkpoints carry a signature where there is a key.
    fn signed(&self, mut append: Append) -> Append {
        if let Some(signer) = &self.signer {
            for fact in &mut append.envelope.events {
                if let Fact::Known(Event::Operator(operator::Event::Checkpoint(checkpoint))) = fact {
                    checkpoint.signature = Some(signer.sign(checkpoint.sequence, &checkpoint.root));
                }
            }
        }
        append
    }

    /// The term is over: the Lease goes back.
    fn released(&mut self) {
        self.keeper.drop_waiting();
        self.publisher.suspend();
        if self.ending.is_some() {
            self.over = true;
        } else {
            self.candidate.release(STAND_AGAIN);
        }
    }

    fn show(&mut self) {
        let world = self.engine.world();
        let leader = match self.engine.role() {
            Role::Leading { epoch, .. } => Some((self.identity.to_string(), epoch.0)),
            Role::Following => None,
        };
        self.metrics.leading.set(i64::from(leader.is_some()));
        self.metrics.epoch.set(i64::try_from(world.operator.epoch.0).unwrap_or(i64::MAX));
        self.metrics.position.set(i64::try_from(world.position).unwrap_or(i64::MAX));
        self.metrics.running.set(i64::try_from(self.runner.running()).unwrap_or(i64::MAX));
        if leader.is_some() {
            self.photographer.consider(world);
        }
        let backwards = world.operator.api_backwards.as_ref();
        self.acceptance.ask(backwards.filter(|_| leader.is_some()).map(|backwards| backwards.message));
        let hindered = (backwards.map(|backwards| {
            ("WentBackwards", acceptance::sentence(&backwards.text, &self.namespace, backwards.message))
        }))
        .or_else(|| {
            let (kind, reason) = world.operator.unobservable.first_key_value()?;
            Some(("Unobservable", format!("{}: {reason}", kind.as_str())))
        });
        match hindered {
            Some((reason, message)) => self.health.set(health::OBSERVABLE, false, reason, &message),
            None => self.health.set(health::OBSERVABLE, true, "Listed", "Every kind can be listed."),
        }
        self.health.lead(leader);
        self.unled();
        // Last: what is under way was told to stop before another process may take over.
        let late = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= LOG_AWAY);
        let unanswered = late(self.appends.oldest());
        if unanswered {
            let message = "The NATS server is there, and does not say whether it has stored a message: its cluster may \
                           have no leader, or not reach it.";
            self.health.set(health::LOG_WRITABLE, false, "Unanswered", message);
        }
        self.candidate.may_stand(self.engine.fit() && !late(self.away) && !unanswered);
        self.health.speak(self.candidate.holds() || self.candidate.vacant());
    }

    /// When to wake though nothing happens.
    fn wake(&self) -> Instant {
        let due = self.polled + self.engine.wake_in().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        let late = |since: Option<Instant>| since.map(|since| since + LOG_AWAY).filter(|at| *at > self.polled);
        [self.ending, late(self.away), late(self.appends.oldest())].into_iter().flatten().fold(due, Instant::min)
    }

    fn woken(&mut self) {
        if self.ending.is_some_and(|end| Instant::now() >= end) {
            tracing::warn!("ending with calls under way: the next leader finds out what became of them");
            self.over = true;
        }
    }

    /// A part that never ends has ended, by a defect: nothing can be relied on, and the next process begins anew.
    fn fail(&mut self, part: &'static str) {
        self.failed = Some(part);
        self.runner.stop_all();
        self.over = true;
    }

    /// Begins the end: nothing new is seen or started; what is under way reaches a recorded point.
    fn end(&mut self) {
        self.ending = Some(Instant::now() + GRACE);
        self.watches = Watches::Ended;
        self.engine.finish();
        if !self.obstacles.is_empty() {
            // Nothing may be appended, so there is no orderly end of the term to wait for.
            self.runner.stop_all();
            self.over = true;
        }
    }

    fn appended(&mut self, ended: Ended) {
        match ended {
            Ended::Certain { aggregate, id, appended, refused } => {
                match refused {
                    Some(Refusal::Everything(why)) => {
                        self.health.set(health::LOG_WRITABLE, false, "StoresNothing", &why);
                    }
                    Some(Refusal::Message(why)) => {
                        self.health.set(health::LOG_WRITABLE, false, health::REFUSED, &why);
                    }
                    None => self.health.set(health::LOG_WRITABLE, true, "Accepted", "The log takes what is written."),
                }
                self.engine.appended(&aggregate, &id, appended);
            }
            Ended::Lost(error) => self.distrust(error),
            Ended::Cancelled => {}
        }
    }

    fn reported(&mut self, report: Report) {
        match report {
            Report::Facts { key, dc, events } => self.engine.outcome(&key, &dc, events),
            Report::Ended(key) => self.engine.finished(&key),
        }
    }

    /// Takes what the watches show.
    fn sighted(&mut self, sight: Option<Sight>) {
        let Some(seen) = sight else {
            self.watches = Watches::Ended;
            return self.fail("watching the API server");
        };
        if self.engine.leads() {
            self.publisher.sighted(self.engine.world(), &seen);
        }
        seen.apply(&mut self.engine);
    }

    fn witnessed(&mut self, written: Written) {
        match written {
            Written::Holds(epoch) => self.engine.witnessed(epoch),
            Written::Fault(fault) => self.distrust(fault),
        }
    }
}

async fn follow(reader: &mut Option<Follow>) -> Option<Result<Item, crate::log::follow::Error>> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

async fn sights(watches: &mut Watches) -> Option<Sight> {
    match watches {
        Watches::Running(sights) => sights.recv().await,
        Watches::Waiting(_) | Watches::Ended => std::future::pending().await,
    }
}
