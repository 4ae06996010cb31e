//! A log as years of nightly backups leave it: chained, in order, lawful; as large as one asks for.

use chrono::TimeDelta;
use std::path::Path;
use std::sync::Arc;
use stheno::audit::Entry;
use stheno::audit::archive::{Header, LAYOUT, Writer};
use stheno_events::backup::{
    Call, Completed, EffectClaimed, NodeFinished, NodeProgress, NodeStarted, ObjectCreated, Outcome, OutcomeDecided,
    Progress, SidecarKind, Started, Summarised,
};
use stheno_events::datacenter::Led;
use stheno_events::observed::{BackupJob, BackupType, Datacenter, Gone, Meta, ObjectKind, Pod, Sidecar};
use stheno_events::operator::{Genesis, Leading};
use stheno_events::{
    Aggregate, DcKey, Digest, Envelope, Epoch, Event, EventId, LogId, PodName, Process, Time, Uid, envelope,
};

pub const CLUSTER: &str = "cafe0000-0000-4000-8000-000000000000";
/// Datacenters, and nodes of each.
const DATACENTERS: usize = 100;
const NODES: usize = 3;
/// Backups of a datacenter that stay: older ones were purged, and their objects are gone.
const KEPT: usize = 30;
/// Each datacenter is backed up once in a round.
const ROUND: TimeDelta = TimeDelta::days(1);

/// What was written.
pub struct Written {
    pub events: u64,
    pub messages: u64,
}

struct Log {
    id: LogId,
    writer: Writer,
    now: Time,
    heads: Vec<Option<Digest>>,
    written: Written,
    uids: u64,
}

/// Writes an exported log of at least so many events.
pub fn write(path: &Path, events: u64) -> Written {
    let created: Time = "2021-01-01T00:00:00Z".parse().unwrap();
    let id = LogId::of_cluster(CLUSTER);
    let header = Header {
        layout: LAYOUT,
        log: id.clone(),
        cluster: CLUSTER.into(),
        stream: "STHENO".into(),
        stream_id: "bench".into(),
        created,
        exported: created,
        by: "bench".into(),
        redacted: false,
    };
    let writer = Writer::create(path, header).unwrap();
    let (heads, written) = (vec![None; DATACENTERS + 1], Written { events: 0, messages: 0 });
    let mut log = Log { id, writer, now: created, heads, written, uids: 0 };
    let genesis = Genesis { cluster: CLUSTER.into(), at: created };
    let leading = Leading { epoch: Epoch(1), identity: "stheno-0".into() };
    log.say(None, vec![genesis.into(), leading.into()]);
    for dc in 0..DATACENTERS {
        let seen = datacenter(log.meta(format!("dc{dc}")));
        log.say(Some(dc), vec![Led { epoch: Epoch(1), quiet_until: None }.into(), seen.into()]);
    }
    let mut kept = vec![std::collections::VecDeque::new(); DATACENTERS];
    while log.written.events < events {
        let midnight = log.now;
        for (dc, kept) in kept.iter_mut().enumerate() {
            kept.push_back(log.backup(dc));
            if kept.len() > KEPT
                && let Some((name, uid)) = kept.pop_front()
            {
                let gone = Gone { kind: ObjectKind::MedusaBackup, uid, name, inferred: false };
                log.say(Some(dc), vec![gone.into()]);
            }
        }
        log.now = midnight + ROUND;
    }
    log.writer.finish().unwrap();
    log.written
}

fn key(dc: usize) -> DcKey {
    DcKey::new(format!("team-{}", dc / 10), format!("dc{dc}"))
}

fn pod(dc: usize, node: usize) -> PodName {
    format!("shop-dc{dc}-r{node}-sts-0").into()
}

fn datacenter(meta: Meta) -> Datacenter {
    Datacenter {
        meta,
        cluster: "shop".into(),
        datacenter_name: None,
        size: i32::try_from(NODES).unwrap(),
        racks: (0..NODES).map(|node| Arc::from(format!("r{node}"))).collect(),
        stopped: false,
        observed_generation: 1,
        progress: Some("Ready".into()),
        conditions: [(Arc::from("Ready"), Arc::from("True"))].into(),
    }
}

impl Log {
    fn uid(&mut self) -> Uid {
        self.uids += 1;
        format!("{:08x}-0000-4000-8000-{:012x}", self.uids, self.uids).into()
    }

    fn meta(&mut self, name: String) -> Meta {
        let (uid, created) = (self.uid(), self.now);
        let resource_version = self.uids.to_string().into();
        Meta { uid, name: name.into(), resource_version, generation: 1, created, deleting: None }
    }

    fn say(&mut self, dc: Option<usize>, events: Vec<Event>) {
        self.now += TimeDelta::milliseconds(250);
        let sequence = self.written.messages + 1;
        let aggregate = dc.map_or(Aggregate::Operator, |dc| Aggregate::Datacenter(key(dc)));
        let process = if dc.is_some() { Process::Backup } else { Process::Operator };
        let (ns, name) = dc.map_or_else(|| ("".into(), "".into()), |dc| (key(dc).namespace, key(dc).name));
        let head = &mut self.heads[dc.unwrap_or(DATACENTERS)];
        self.written.events += events.len() as u64;
        self.written.messages = sequence;
        let envelope = Envelope {
            v: envelope::LAYOUT,
            id: EventId::from(format!("01957a00-0000-7000-8000-{sequence:012x}")),
            at: self.now,
            wall: self.now,
            seen: sequence - 1,
            epoch: Epoch(1),
            ns,
            dc: name,
            dc_uid: None,
            prev: *head,
            cause: None,
            corr: None,
            by: "stheno/0.1.0 stheno-0".into(),
            events: events.into_iter().map(Into::into).collect(),
        };
        let payload = bytes::Bytes::from(envelope.encode().unwrap());
        *head = Some(Digest::of(&payload));
        let subject = aggregate.subject(&self.id, process);
        let (place, envelope) = (Some((aggregate, Some(process))), Ok(envelope));
        self.writer.add(&Entry { sequence, subject, place, stored: self.now, payload, envelope }).unwrap();
    }

    /// One backup, from the request to the end of its job; the name and the UID of its object.
    fn backup(&mut self, dc: usize) -> (Arc<str>, Uid) {
        let meta = self.meta(format!("nightly-{}", self.now.timestamp()));
        let (job, name) = (meta.uid.clone(), meta.name.clone());
        let request = BackupJob {
            meta,
            dc: key(dc).name,
            backup_type: BackupType::Differential,
            rules: Default::default(),
            owned: true,
            schedule: None,
            annotations: Default::default(),
        };
        let pods: Vec<PodName> = (0..NODES).map(|node| pod(dc, node)).collect();
        let epoch = Epoch(1);
        let claim = |call| -> Event { EffectClaimed { job: job.clone(), call, attempt: 1, serial: 1, epoch }.into() };
        let mut events: Vec<Event> = vec![request.into()];
        for (node, pod) in pods.iter().enumerate() {
            let meta = Meta { generation: 0, ..self.meta(pod.to_string()) };
            let (ip, sidecar) = (Some(format!("10.0.{dc}.{node}").into()), Some(Sidecar { port: 50_051, ready: true }));
            events.push(Pod { meta, cluster: "shop".into(), ip, sidecar }.into());
        }
        events.push(Started { job: job.clone(), nodes: pods.clone() }.into());
        events.extend(pods.iter().map(|pod| claim(Call::Start(pod.clone()))));
        self.say(Some(dc), events);
        let sidecar = SidecarKind::Stheno;
        let accepted =
            pods.iter().map(|pod| NodeStarted { job: job.clone(), pod: pod.clone(), attempt: 1, sidecar }.into());
        let accepted = accepted.collect();
        self.say(Some(dc), accepted);
        let node = |pod: &PodName| NodeProgress {
            pod: pod.clone(),
            bytes: 1 << 29,
            bytes_total: 1 << 30,
            files: 300,
            files_total: 744,
        };
        let progress = Progress { job: job.clone(), nodes: pods.iter().map(node).collect() };
        self.say(Some(dc), vec![progress.into()]);
        let (bytes, files, reused) = (Some(1 << 30), Some(744), Some(700));
        let mut events: Vec<Event> = pods
            .iter()
            .map(|pod| NodeFinished { job: job.clone(), pod: pod.clone(), attempt: 1, bytes, files, reused }.into())
            .collect();
        let message: Arc<str> = "3 of 3 nodes complete".into();
        events.push(OutcomeDecided { job: job.clone(), outcome: Outcome::Complete, message: message.clone() }.into());
        events.push(claim(Call::Summary(pods[0].clone())));
        self.say(Some(dc), events);
        let summary = Summarised {
            job: job.clone(),
            started: Some(self.now),
            finished: Some(self.now),
            total_nodes: 3,
            finished_nodes: 3,
            nodes: Vec::new(),
            files: 2_232,
            bytes: 3 << 30,
            complete: true,
        };
        self.say(Some(dc), vec![summary.into(), Completed { job: job.clone(), message }.into()]);
        let uid = self.uid();
        let created = ObjectCreated { job: job.clone(), uid: uid.clone(), foreign: false };
        self.say(Some(dc), vec![created.into()]);
        let gone = Gone { kind: ObjectKind::MedusaBackupJob, uid: job, name: name.clone(), inferred: false };
        self.say(Some(dc), vec![gone.into()]);
        (name, uid)
    }
}
