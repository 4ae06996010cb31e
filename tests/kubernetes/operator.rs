//! The arrows with real edges to Kubernetes: the engine, a log that commits at once, and sidecars that do as told.

use super::fixture::{Ground, Requests};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stheno::observe::{self, Mirror, Options, Sight};
use stheno::publish::{self, Publisher};
use stheno_decide::engine::{Appended, Command, Engine, Identity};
use stheno_decide::{Call, Effect, EffectKey};
use stheno_events::backup::{self, BackupNode, NodeFailed, NodeFinished, NodeStarted, SidecarKind, Summarised};
use stheno_events::task;
use stheno_events::{DcKey, Digest, Event, EventId, Uid};
use stheno_projections::World;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The operator's loop, one step after the other.
pub struct Operator {
    pub engine: Engine,
    pub requests: Requests,
    pub sights: Vec<Sight>,
    /// Events, in order, by their stored names.
    pub log: Vec<Event>,
    pub publisher: Publisher,
    /// Effects that wait for their answers; answered at once unless held.
    pub held: Option<Vec<Effect>>,
    /// What publishing finds out is lost.
    pub deaf: bool,
    seen: mpsc::Receiver<Sight>,
    facts: mpsc::UnboundedReceiver<(DcKey, Event)>,
    sequence: u64,
    watching: CancellationToken,
    publishing: CancellationToken,
}

impl Operator {
    pub async fn start(ground: &Ground) -> Self {
        Self::resume(ground, World::default()).await
    }

    /// A process that goes on from what the log says.
    pub async fn resume(ground: &Ground, world: World) -> Self {
        let (client, requests) = ground.operator().await;
        let (watching, publishing) = (CancellationToken::new(), CancellationToken::new());
        let (sights, seen) = mpsc::channel(1024);
        let (told, facts) = mpsc::unbounded_channel();
        let mirror = Mirror::default();
        let options = Options {
            namespaces: Some(BTreeSet::from([Arc::from(ground.namespace.as_str())])),
            highest: observe::highest(&world),
        };
        tokio::spawn(observe::start(client.clone(), options, mirror.clone(), sights, watching.clone()));
        let (publisher, ended) = publish::start(client, mirror, "stheno-0".into(), told, publishing.clone());
        tokio::spawn(ended);
        let identity = Identity { name: "stheno-0".into(), by: "stheno-0 test".into(), cluster: Uid::from("cluster") };
        let sequence = world.position;
        let mut engine = Engine::new(identity, world);
        engine.caught_up();
        engine.lease(true);
        Self {
            engine,
            requests,
            sights: Vec::new(),
            log: Vec::new(),
            publisher,
            held: None,
            deaf: false,
            seen,
            facts,
            sequence,
            watching,
            publishing,
        }
    }

    /// From now on nothing new is seen.
    pub fn blind(&self) {
        self.watching.cancel();
    }

    /// Goes on until the world is as wanted. Watches rest up to 30 s while the API server is away.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&World) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        loop {
            self.work();
            if wanted(self.engine.world()) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within 90 s: {what}; the log: {:#?}", self.log);
            self.wait(Duration::from_millis(50)).await;
        }
    }

    /// Goes on for a while.
    pub async fn settle(&mut self, pause: Duration) {
        let deadline = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < deadline {
            self.work();
            self.wait(Duration::from_millis(20)).await;
        }
    }

    async fn wait(&mut self, longest: Duration) {
        tokio::select! {
            Some(sight) = self.seen.recv() => {
                self.publisher.sighted(self.engine.world(), &sight);
                self.sights.push(sight.clone());
                sight.apply(&mut self.engine);
            }
            Some((key, fact)) = self.facts.recv() => if !self.deaf { self.engine.published(&key, fact) },
            () = tokio::time::sleep(longest) => {}
        }
    }

    fn work(&mut self) {
        loop {
            let now = chrono::Utc::now();
            let boot = u64::try_from(now.timestamp_millis()).unwrap();
            let mut new_id = || EventId::from(uuid::Uuid::now_v7().to_string());
            let commands = self.engine.poll(now, boot, &mut new_id);
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.command(command);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Append(append) => {
                self.sequence += 1;
                let digest = Digest::of(&append.envelope.encode().unwrap());
                let (aggregate, envelope) = (append.aggregate, append.envelope);
                self.engine.appended(&aggregate, &envelope.id, Appended::Committed(self.sequence));
                self.engine.delivered(self.sequence, &aggregate, digest, Ok(&envelope));
                self.publisher.announce(self.engine.world(), &envelope);
                self.publisher.folded(self.engine.world(), &aggregate);
                for fact in envelope.events {
                    if let stheno_events::Fact::Known(event) = fact {
                        self.log.push(event);
                    }
                }
            }
            Command::Publish { dc, touched } => self.publisher.publish(self.engine.world(), &dc, &touched),
            Command::PublishAll => self.publisher.publish_all(self.engine.world()),
            Command::Objects(dc) => self.publisher.objects(self.engine.world(), &dc),
            Command::Withhold => self.publisher.withhold(),
            Command::Witness { epoch, .. } => self.engine.witnessed(epoch),
            Command::Start(effect) => match &mut self.held {
                Some(held) => held.push(effect),
                None => self.answer(&effect),
            },
            Command::Stop(_) | Command::Released => {}
        }
    }

    /// The sidecar does what it was asked for.
    pub fn answer(&mut self, effect: &Effect) {
        let EffectKey { job, call, attempt, .. } = &effect.key;
        let (job, attempt) = (job.clone(), *attempt);
        let events = match call {
            Call::Backup(backup::Call::Start(pod) | backup::Call::Resume(pod)) => vec![
                NodeStarted { job: job.clone(), pod: pod.clone(), attempt, sidecar: SidecarKind::Stheno }.into(),
                NodeFinished { job, pod: pod.clone(), attempt, bytes: Some(1_000), files: Some(3), reused: None }
                    .into(),
            ],
            Call::Backup(backup::Call::Stop(pod)) => {
                let reason = "the backup was cancelled".into();
                vec![NodeFailed { job, pod: pod.clone(), attempt, reason, retryable: false }.into()]
            }
            Call::Task(task::Call::Purge(pod) | task::Call::Prepare(pod)) => {
                let purged = Some(task::Purged { backups: 1, objects: 5, bytes: 500, within_grace: 2 });
                vec![task::NodeFinished { task: job, pod: pod.clone(), attempt, purged }.into()]
            }
            Call::Task(task::Call::Plan(pod)) => {
                let (serial, epoch, digest) = (effect.key.serial, effect.key.epoch, Digest::of(b"plan"));
                let backups = Some(Vec::new());
                vec![task::Planned { task: job, pod: pod.clone(), serial, epoch, digest, backups }.into()]
            }
            // The bucket is as it is known.
            Call::Task(task::Call::List(pod)) => vec![
                task::Listed {
                    task: job,
                    pod: pod.clone(),
                    serial: effect.key.serial,
                    epoch: effect.key.epoch,
                    page: 0,
                    last: true,
                    digest: Digest::of(b"bucket"),
                    total: 1,
                    ours: 1,
                    found: Vec::new(),
                    missing: Vec::new(),
                }
                .into(),
            ],
            Call::Backup(backup::Call::Summary(pod)) => vec![
                Summarised {
                    job,
                    started: None,
                    finished: None,
                    total_nodes: 3,
                    finished_nodes: 3,
                    nodes: vec![BackupNode {
                        host: pod.as_str().into(),
                        tokens: vec![-1],
                        datacenter: "dc1".into(),
                        rack: "r1".into(),
                    }],
                    files: 9,
                    bytes: 3_000,
                    complete: true,
                }
                .into(),
            ],
        };
        self.engine.outcome(&effect.key, &effect.dc, events);
        self.engine.finished(&effect.key);
    }

    /// Ends the process at once and gives its log to the next one.
    pub fn crash(self) -> World {
        self.watching.cancel();
        self.publishing.cancel();
        self.engine.world().clone()
    }

    /// Names of the events of the log.
    pub fn names(&self) -> Vec<&'static str> {
        self.log.iter().map(|event| event.kind().name).collect()
    }
}

/// Whether the job of this name has ended.
pub fn ended(name: &str) -> impl Fn(&World) -> bool {
    move |world| operation(world, name, |operation| operation.ended())
}

pub fn operation(world: &World, name: &str, wanted: impl Fn(&stheno_projections::backup::Operation) -> bool) -> bool {
    let operations = world.datacenters.values().flat_map(|dc| dc.operations.values());
    operations.filter(|operation| &*operation.request.meta.name == name).any(|operation| wanted(operation))
}
