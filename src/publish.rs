//! The world becomes objects: statuses and MedusaBackups by server-side apply, what schedules ask for by creation and
//! deletion, announcements as Kubernetes Events.
//!
//! [`Publisher`] computes what should stand on the API server and hands it to one worker, which compares it with the
//! [`Mirror`] and writes only what differs: one write of an object at a time, the newest one wins. Every write carries the
//! UID and the resourceVersion that it rests on; a conflict waits for the next sight. Nothing is read back to decide.
//!
//! Only a leader publishes. The shell calls, in the order of its loop:
//!
//! | when | call |
//! |---|---|
//! | `Command::PublishAll` | [`Publisher::publish_all`] |
//! | `Command::Publish` | [`Publisher::publish`] |
//! | `Command::Objects` | [`Publisher::objects`] |
//! | `Command::Withhold` | [`Publisher::withhold`] |
//! | a message of this process was folded | [`Publisher::announce`] |
//! | any message was folded | [`Publisher::folded`] |
//! | a sight, before the engine gets it | [`Publisher::sighted`] |
//! | leadership ended | [`Publisher::suspend`] |
//! | a fact from `facts` | `Engine::published` |

mod desired;
mod note;
mod reach;
mod schedule;
mod task;
mod worker;
mod write;

use crate::observe::{Mirror, Sight};
use desired::Desired;
use kube::Client;
use std::future::Future;
use std::sync::Arc;
use stheno_decide::Observation;
use stheno_events::{Aggregate, DcKey, Envelope, Event, Uid};
use stheno_projections::status::announcements;
use stheno_projections::{Touched, World};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Field manager of every field that we write, and reporter of our Kubernetes Events.
pub const MANAGER: &str = "stheno";

/// What the worker is told.
#[derive(Debug)]
enum Order {
    Write(Box<Desired>),
    /// All that is to be created and deleted for the schedules of a datacenter: nothing else of it.
    Objects(DcKey, Vec<Desired>),
    /// Nothing is to be created or deleted.
    Withhold,
    Announce(Vec<note::Note>),
    Suspend,
}

/// The front door of publishing: pure and at once; the writing is the worker's.
#[derive(Debug, Clone)]
pub struct Publisher {
    orders: mpsc::UnboundedSender<Order>,
    by: Arc<str>,
}

/// Starts the worker. It runs until `stop` is cancelled; writes in flight are finished.
///
/// `by` is the name of this process as Kubernetes Events show it. Facts for `Engine::published` come out of `facts`.
pub fn start(
    client: Client,
    mirror: Mirror,
    by: Arc<str>,
    facts: mpsc::UnboundedSender<(DcKey, Event)>,
    stop: CancellationToken,
) -> (Publisher, impl Future<Output = ()> + Send + 'static) {
    let (orders, received) = mpsc::unbounded_channel();
    let worker = worker::Worker::new(client, mirror, facts);
    let task = tokio::spawn(worker.run(received, stop));
    let ended = async move {
        if let Err(error) = task.await {
            tracing::error!("publishing ended: {error}");
        }
    };
    (Publisher { orders, by }, ended)
}

impl Publisher {
    /// Publishes what a message touched.
    pub fn publish(&self, world: &World, dc: &DcKey, touched: &[Touched]) {
        for touched in touched {
            match touched {
                Touched::Job(uid) => self.write(desired::job(world, dc, uid)),
                Touched::Backup(name) => self.write(desired::backup(world, dc, name)),
                Touched::Schedule(uid) => {
                    self.write(schedule::status(world, dc, uid));
                }
                Touched::Task(uid) => {
                    self.write(task::status(world, dc, uid));
                }
                // It is deleted when it may be: see `objects`.
                Touched::Removal(_) => {}
                // People see it in an announcement: its status is not written, for nothing of it can be trusted.
                Touched::Malformed(_) => {}
            }
        }
    }

    /// Publishes everything that differs from what lies on the API server.
    pub fn publish_all(&self, world: &World) {
        for (key, dc) in &world.datacenters {
            for job in dc.operations.keys() {
                self.write(desired::job(world, key, job));
            }
            for name in dc.backups.keys() {
                self.write(desired::backup(world, key, name));
            }
            for schedule in dc.schedules.keys() {
                self.write(schedule::status(world, key, schedule));
            }
            for task in dc.tasks.keys() {
                self.write(task::status(world, key, task));
            }
        }
    }

    /// What is to be created and deleted for the schedules, jobs and tasks of a datacenter: whatever else was asked for is not.
    pub fn objects(&self, world: &World, dc: &DcKey) {
        let mut objects = schedule::objects(world, dc);
        objects.extend(task::objects(world, dc));
        self.order(Order::Objects(dc.clone(), objects));
    }

    /// Nothing is created or deleted until [`Self::objects`] says so again; what is under way ends.
    pub fn withhold(&self) {
        self.order(Order::Withhold);
    }

    /// A message of this aggregate was folded: what holds back all open jobs and schedules may have changed.
    pub fn folded(&self, world: &World, aggregate: &Aggregate) {
        match aggregate {
            Aggregate::Operator => {
                for key in world.datacenters.keys() {
                    self.open_jobs(world, key);
                }
            }
            Aggregate::Datacenter(key) if world.datacenter(key).is_some_and(|dc| dc.frozen.is_some()) => {
                self.open_jobs(world, key);
            }
            Aggregate::Datacenter(_) | Aggregate::Location(_) => {}
        }
    }

    /// An object was seen: whatever differs from what should stand there is written again.
    pub fn sighted(&self, world: &World, sight: &Sight) {
        let Sight::Object { namespace, observation, .. } = sight else { return };
        match observation {
            Observation::BackupJob(job, _) => {
                let named = DcKey::new(namespace.clone(), job.dc.clone());
                if let Some(key) = home_of(world, &named, &job.meta.uid) {
                    self.write(desired::job(world, key, &job.meta.uid));
                }
            }
            Observation::Backup(backup) => {
                let key = DcKey::new(namespace.clone(), backup.dc.clone());
                self.write(desired::backup(world, &key, &backup.meta.name));
            }
            Observation::Schedule(seen, _) => {
                let key = DcKey::new(namespace.clone(), seen.dc.clone());
                self.write(schedule::status(world, &key, &seen.meta.uid));
            }
            Observation::Task(seen, _) => {
                let named = DcKey::new(namespace.clone(), seen.dc.clone());
                if let Some(key) = home_of(world, &named, &seen.meta.uid) {
                    self.write(task::status(world, key, &seen.meta.uid));
                }
            }
            Observation::Datacenter(_) | Observation::Pod(_) | Observation::Malformed(_) | Observation::Gone(_) => {}
        }
    }

    /// Announces what a message says. Only for messages that this process appended while leading: a replay is silent.
    pub fn announce(&self, world: &World, envelope: &Envelope) {
        let key = DcKey::new(envelope.ns.clone(), envelope.dc.clone());
        let Some(dc) = world.datacenter(&key) else { return };
        let notes: Vec<_> = announcements(envelope, dc).iter().map(|said| note::Note::new(said, &self.by)).collect();
        if !notes.is_empty() {
            self.order(Order::Announce(notes));
        }
    }

    /// Forgets what was not written yet: this process leads no more.
    pub fn suspend(&self) {
        self.order(Order::Suspend);
    }

    fn open_jobs(&self, world: &World, key: &DcKey) {
        for (_, job) in world.datacenter(key).into_iter().flat_map(|dc| &dc.open) {
            self.write(desired::job(world, key, job));
        }
        for schedule in world.datacenter(key).into_iter().flat_map(|dc| dc.schedules.keys()) {
            self.write(schedule::status(world, key, schedule));
        }
        for (_, task) in world.datacenter(key).into_iter().flat_map(|dc| &dc.open_tasks) {
            self.write(task::status(world, key, task));
        }
    }

    fn write(&self, desired: Option<Desired>) {
        if let Some(desired) = desired {
            self.order(Order::Write(Box::new(desired)));
        }
    }

    fn order(&self, order: Order) {
        // The worker ends only when the process does.
        let _ = self.orders.send(order);
    }
}

/// The datacenter in whose log a job or a task is, the one that it names now first: an edited reference does not move it.
fn home_of<'a>(world: &'a World, named: &DcKey, job: &Uid) -> Option<&'a DcKey> {
    let holds = |(key, dc): (&'a DcKey, &'a Arc<stheno_projections::Datacenter>)| {
        (dc.operations.contains_key(job) || dc.tasks.contains_key(job)).then_some(key)
    };
    world
        .datacenters
        .get_key_value(named)
        .and_then(holds)
        .or_else(|| world.datacenters.iter().filter(|(key, _)| key.namespace == named.namespace).find_map(holds))
}
