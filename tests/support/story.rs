//! Logs written by hand: chained as the operator chains them, with a clock that the test moves.

use bytes::Bytes;
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::sync::Arc;
use stheno::audit::{self, Source};
use stheno_events::backup::{
    Call, Completed, EffectClaimed, NodeFailed, NodeFinished, NodeProgress, NodeStarted, NodeUnanswered, ObjectCreated,
    Outcome, OutcomeDecided, Progress, Queued, SidecarKind, Started, Summarised, WaitReason,
};
use stheno_events::datacenter::Led;
use stheno_events::observed::{BackupJob, BackupType, Datacenter, JobRules, Meta, Pod, Sidecar};
use stheno_events::operator::{Genesis, Leading};
use stheno_events::{
    Aggregate, DcKey, Digest, Envelope, Epoch, Event, EventId, Fact, LAYOUT, LogId, PodName, Process, Time, Uid,
};

pub const CLUSTER: &str = "cafe0000-0000-4000-8000-000000000000";

/// A log that is being written.
#[derive(Clone)]
pub struct Story {
    pub log: LogId,
    pub now: Time,
    pub epoch: Epoch,
    pub messages: Vec<(String, Time, Bytes)>,
    heads: BTreeMap<Aggregate, Digest>,
}

pub fn start() -> Time {
    "2026-03-01T02:00:00Z".parse().unwrap()
}

pub fn dc(name: &str) -> Aggregate {
    Aggregate::Datacenter(DcKey::new("prod", name))
}

pub fn uid(number: u32) -> Uid {
    format!("{number:08}-0000-4000-8000-000000000000").into()
}

pub fn pod(number: u32) -> PodName {
    format!("c1-dc1-r{number}-sts-0").into()
}

impl Story {
    pub fn new() -> Self {
        let log = LogId::of_cluster(CLUSTER);
        Self { log, now: start(), epoch: Epoch(1), messages: Vec::new(), heads: BTreeMap::new() }
    }

    pub fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now += TimeDelta::seconds(seconds);
        self
    }

    /// The envelope of the next message.
    pub fn envelope(&self, aggregate: &Aggregate, events: Vec<Fact>) -> Envelope {
        let sequence = self.messages.len() as u64 + 1;
        let (ns, dc): (Arc<str>, Arc<str>) = match aggregate {
            Aggregate::Datacenter(key) => (key.namespace.clone(), key.name.clone()),
            Aggregate::Location(digest) => ("".into(), digest.as_str().into()),
            Aggregate::Operator => ("".into(), "".into()),
        };
        let corr = events.iter().find_map(|fact| match fact {
            Fact::Known(Event::Backup(event)) => Some(event.job().clone()),
            _ => None,
        });
        Envelope {
            v: LAYOUT,
            id: EventId::from(format!("01957a00-0000-7000-8000-{sequence:012}")),
            at: self.now,
            wall: self.now,
            seen: sequence - 1,
            epoch: self.epoch,
            ns,
            dc,
            dc_uid: None,
            prev: self.heads.get(aggregate).copied(),
            cause: None,
            corr,
            by: "stheno-0 0.1.0".into(),
            events,
        }
    }

    /// Appends bytes of whatever kind.
    pub fn append(&mut self, aggregate: &Aggregate, process: Process, payload: Vec<u8>) -> &mut Self {
        self.heads.insert(aggregate.clone(), Digest::of(&payload));
        self.messages.push((aggregate.subject(&self.log, process), self.now, payload.into()));
        self
    }

    /// Appends a message.
    pub fn say(&mut self, aggregate: &Aggregate, process: Process, events: Vec<Event>) -> &mut Self {
        let facts = events.into_iter().map(Fact::Known).collect();
        let payload = self.envelope(aggregate, facts).encode().unwrap();
        self.append(aggregate, process, payload)
    }

    pub fn source(&self) -> Source {
        Source::Memory { log: self.log.clone(), messages: self.messages.clone() }
    }

    /// The genesis, a leader, a datacenter of two nodes with its pods.
    pub fn opening(&mut self) -> &mut Self {
        let genesis = Genesis { cluster: CLUSTER.into(), at: self.now };
        let leading = Leading { epoch: self.epoch, identity: "stheno-0".into() };
        self.say(&Aggregate::Operator, Process::Operator, vec![genesis.into(), leading.into()]).wait(1);
        let datacenter = Datacenter {
            meta: meta("dc1", 1),
            cluster: "c1".into(),
            datacenter_name: None,
            size: 2,
            racks: vec!["r1".into(), "r2".into()],
            stopped: false,
            observed_generation: 1,
            progress: Some("Ready".into()),
            conditions: BTreeMap::from([("Ready".into(), "True".into())]),
        };
        let led = Led { epoch: self.epoch, quiet_until: None };
        self.say(&dc("dc1"), Process::Observed, vec![led.into(), datacenter.into()]).wait(59)
    }

    /// A person asks for a backup; one sidecar is not ready yet.
    pub fn asked(&mut self, name: &str, job: u32) -> &mut Self {
        let request = BackupJob {
            meta: meta(name, job),
            dc: "dc1".into(),
            backup_type: BackupType::Differential,
            owned: false,
            schedule: None,
            rules: JobRules::default(),
            annotations: BTreeMap::new(),
        };
        let message = "the sidecar of pod c1-dc1-r2-sts-0 is not ready: see the logs of its container medusa".into();
        let queued = Queued { job: uid(job), reason: WaitReason::SidecarNotReady, message };
        let events = vec![request.into(), pod_seen(1, true).into(), pod_seen(2, false).into(), queued.into()];
        self.say(&dc("dc1"), Process::Backup, events).wait(20)
    }

    /// Both nodes are called.
    pub fn started(&mut self, job: u32) -> &mut Self {
        let call = |number| EffectClaimed {
            job: uid(job),
            call: Call::Start(pod(number)),
            attempt: 1,
            serial: 1,
            epoch: self.epoch,
        };
        let started = Started { job: uid(job), nodes: vec![pod(1), pod(2)] };
        let events = vec![pod_seen(2, true).into(), started.into(), call(1).into(), call(2).into()];
        self.say(&dc("dc1"), Process::Backup, events).wait(1);
        let accepted =
            |number| NodeStarted { job: uid(job), pod: pod(number), attempt: 1, sidecar: SidecarKind::Stheno };
        self.say(&dc("dc1"), Process::Backup, vec![accepted(1).into(), accepted(2).into()]).wait(30);
        let node =
            |number, bytes| NodeProgress { pod: pod(number), bytes, bytes_total: 1 << 30, files: 10, files_total: 40 };
        let progress = Progress { job: uid(job), nodes: vec![node(1, 1 << 29), node(2, 1 << 28)] };
        self.say(&dc("dc1"), Process::Backup, vec![progress.into()]).wait(60)
    }

    fn finished(&mut self, job: u32, number: u32) -> &mut Self {
        let (bytes, files, reused) = (Some(1 << 30), Some(40), Some(30));
        let finished = NodeFinished { job: uid(job), pod: pod(number), attempt: 1, bytes, files, reused };
        self.say(&dc("dc1"), Process::Backup, vec![finished.into()]).wait(10)
    }

    /// Everything ends well.
    pub fn completed(&mut self, job: u32) -> &mut Self {
        self.finished(job, 1);
        let (bytes, files, reused) = (Some(1 << 30), Some(40), Some(30));
        let message: Arc<str> = "2 of 2 nodes complete".into();
        let events = vec![
            NodeFinished { job: uid(job), pod: pod(2), attempt: 1, bytes, files, reused }.into(),
            OutcomeDecided { job: uid(job), outcome: Outcome::Complete, message: message.clone() }.into(),
            EffectClaimed { job: uid(job), call: Call::Summary(pod(1)), attempt: 1, serial: 1, epoch: self.epoch }
                .into(),
        ];
        self.say(&dc("dc1"), Process::Backup, events).wait(2);
        let summary = Summarised {
            job: uid(job),
            started: Some(self.now - TimeDelta::seconds(90)),
            finished: Some(self.now),
            total_nodes: 2,
            finished_nodes: 2,
            nodes: Vec::new(),
            files: 80,
            bytes: 2 << 30,
            complete: true,
        };
        let completed = Completed { job: uid(job), message };
        self.say(&dc("dc1"), Process::Backup, vec![summary.into(), completed.into()]).wait(1);
        let created = ObjectCreated { job: uid(job), uid: uid(job + 1_000), foreign: false };
        self.say(&dc("dc1"), Process::Backup, vec![created.into()]).wait(600)
    }

    /// The second node does not answer, then fails for good.
    pub fn failed(&mut self, job: u32) -> &mut Self {
        let unanswered = NodeUnanswered {
            job: uid(job),
            call: Call::Start(pod(2)),
            attempt: 1,
            serial: 1,
            epoch: self.epoch,
            in_doubt: true,
            not_found: false,
            heard: None,
            error: "the connection was closed".into(),
        };
        self.say(&dc("dc1"), Process::Backup, vec![unanswered.into()]).wait(1);
        self.finished(job, 1);
        let reason: Arc<str> = "the bucket answers 403: AccessDenied".into();
        let message: Arc<str> = "1 of 2 nodes failed; c1-dc1-r2-sts-0: the bucket answers 403: AccessDenied".into();
        let events = vec![
            NodeFailed { job: uid(job), pod: pod(2), attempt: 1, reason, retryable: false }.into(),
            OutcomeDecided { job: uid(job), outcome: Outcome::Partial, message: message.clone() }.into(),
            stheno_events::backup::Failed { job: uid(job), outcome: Outcome::Partial, message }.into(),
        ];
        self.say(&dc("dc1"), Process::Backup, events).wait(600)
    }
}

/// One backup that ended well and one that did not: 17 messages.
pub fn two_backups() -> Story {
    let mut story = Story::new();
    story.opening().asked("nightly-1", 11).started(11).completed(11).asked("nightly-2", 12).started(12).failed(12);
    story
}

fn meta(name: &str, number: u32) -> Meta {
    Meta {
        uid: uid(number),
        name: name.into(),
        resource_version: "4711".into(),
        generation: 1,
        created: start(),
        deleting: None,
    }
}

pub fn pod_seen(number: u32, ready: bool) -> Pod {
    Pod {
        meta: Meta { generation: 0, ..meta(pod(number).as_str(), 100 + number) },
        cluster: "c1".into(),
        ip: Some(format!("10.0.0.{number}").into()),
        sidecar: Some(Sidecar { port: 50_051, ready }),
    }
}

/// Runs `stheno audit …` on a source and returns what it writes, or its error as one sentence.
pub async fn audit(source: &Source, arguments: &[&str]) -> Result<String, String> {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        command: audit::Command,
    }
    let line = Line::try_parse_from(["audit"].iter().chain(arguments)).map_err(|error| error.to_string())?;
    let now = "2026-03-01T04:00:00Z".parse::<Time>().unwrap();
    let clock: stheno::log::Clock = Arc::new(move || now);
    let mut out = Vec::new();
    let done = line.command.answer(source, &clock, &mut out, false).await;
    let text = String::from_utf8(out).unwrap();
    done.map(|()| text).map_err(|error| format!("{error:#}"))
}

/// The event stream consumer, run as a command is.
pub mod events {
    use clap::Parser as _;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use stheno::audit::{Source, SourceArgs};
    use stheno::tail;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        command: tail::Command,
    }

    fn command(arguments: &[&str]) -> tail::Command {
        Line::parse_from(["events"].iter().chain(arguments)).command
    }

    fn clock() -> stheno::log::Clock {
        Arc::new(|| "2026-03-01T04:00:00Z".parse().unwrap())
    }

    /// Runs it to its end.
    pub async fn read(source: &Source, arguments: &[&str]) -> Result<String, String> {
        let mut out = Vec::new();
        let done = command(arguments).write(source, &clock(), &mut out, false).await;
        done.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
    }

    /// What a command that runs on has written so far.
    #[derive(Clone, Default)]
    pub struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        /// Its lines without headings, once there are this many.
        pub async fn lines(&self, wanted: usize) -> Vec<String> {
            for _ in 0..500 {
                let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
                let lines: Vec<String> =
                    text.lines().filter(|line| !line.trim_start().starts_with("SEQ")).map(str::to_owned).collect();
                if lines.len() >= wanted {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("no {wanted} lines came");
        }
    }

    /// Runs it in the background with --follow.
    pub async fn following(url: &str, arguments: &[&str]) -> Output {
        let args = SourceArgs {
            file: None,
            nats_url: Some(url.into()),
            nats_creds: None,
            stream: "STHENO".into(),
            data_dir: None,
        };
        let source = Source::open(&args, clock()).await.unwrap();
        let command = command(&[&["--follow"], arguments].concat());
        let out = Output::default();
        let mut written = out.clone();
        tokio::spawn(async move { command.write(&source, &clock(), &mut written, false).await });
        out
    }
}
