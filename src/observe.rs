//! Watches of the API server become sights: what was seen, what a complete list holds, what cannot be seen. No decisions.
//!
//! One task a kind lists, then watches, and lists again when the server forgot where it was. Sights of one object come in
//! order. Only allow-listed fields are read (`parse`); whole objects are not kept. What lies on the API server, as far as
//! publishing needs it, goes to the [`Mirror`].
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example(client: kube::Client, mut engine: stheno_decide::engine::Engine) {
//! use stheno::observe::{Mirror, Options, start};
//! let stop = tokio_util::sync::CancellationToken::new();
//! let (sights, mut seen) = tokio::sync::mpsc::channel(1024);
//! let mirror = Mirror::default();
//! let watches = start(client, Options::default(), mirror.clone(), sights, stop);
//! while let Some(sight) = seen.recv().await {
//!     // While leading: publisher.sighted(engine.world(), &sight);
//!     sight.apply(&mut engine);
//! }
//! watches.await;
//! # }
//! ```

mod kind;
mod list_watch;
mod mirror;
mod parse;

pub(crate) use list_watch::chain;
pub(crate) use mirror::shared;
pub use mirror::{Copy, Mirror, StatusDigest};
pub use parse::{APPROVE, CANCEL, HOLD};

use kube::Client;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use stheno_decide::Observation;
use stheno_decide::engine::{Engine, WATCHED};
use stheno_events::observed::{Gap, ObjectKind};
use stheno_events::{DcKey, Uid};
use stheno_projections::World;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One thing seen.
#[allow(clippy::large_enum_variant, reason = "nearly all sights are of objects")]
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// The newest sight of an object.
    Object {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its datacenter, where the observation does not name it itself.
        home: Option<DcKey>,
        /// What was seen.
        observation: Observation,
    },
    /// The sights so far are a complete list: what is known of the kind in these namespaces and not in it is gone.
    Listed {
        /// The kind.
        kind: ObjectKind,
        /// The namespaces that were listed; all when none.
        namespaces: Option<BTreeSet<Arc<str>>>,
        /// What is there, unreadable objects included.
        present: BTreeSet<Uid>,
    },
    /// The kind cannot be listed or watched: what to do about it, in one sentence. It is tried again until it works;
    /// then a [`Sight::Listed`] follows.
    Unobservable {
        /// The kind.
        kind: ObjectKind,
        /// One sentence.
        reason: Arc<str>,
    },
    /// Changes may have been missed, or the API server's store went back.
    Gap(Gap),
}

impl Sight {
    /// Hands the sight to the engine.
    pub fn apply(self, engine: &mut Engine) {
        match self {
            Self::Object { namespace, home, observation } => engine.observe(&namespace, home, observation),
            Self::Listed { kind, namespaces, present } => engine.listed(kind, namespaces.as_ref(), &present),
            Self::Unobservable { kind, reason } => engine.unobservable(kind, reason),
            Self::Gap(gap) => engine.gap(gap),
        }
    }
}

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The namespaces; all when none.
    pub namespaces: Option<BTreeSet<Arc<str>>>,
    /// The highest resourceVersion that the log holds ([`highest`]): a list below it means that the store went back.
    pub highest: Option<u64>,
}

/// The highest resourceVersion that a world has recorded.
#[must_use]
pub fn highest(world: &World) -> Option<u64> {
    let datacenters = world.datacenters.values();
    let versions = datacenters.flat_map(|dc| {
        let jobs = dc.operations.values().map(|operation| &operation.request.meta);
        let pods = dc.pods.values().map(|pod| &pod.meta);
        let object = dc.object.iter().map(|object| &object.meta);
        let schedules = dc.schedules.values().map(|schedule| &schedule.request.meta);
        let tasks = dc.tasks.values().map(|task| &task.request.meta);
        jobs.chain(pods)
            .chain(object)
            .chain(schedules)
            .chain(tasks)
            .filter_map(|meta| meta.resource_version.parse::<u64>().ok())
    });
    versions.max()
}

/// Starts the watches; they run until `stop` is cancelled or nobody receives. The future ends when all of them have.
///
/// Each kind first sends its objects and then one [`Sight::Listed`], when every namespace was listed and is watched.
pub fn start(
    client: Client,
    options: Options,
    mirror: Mirror,
    sights: mpsc::Sender<Sight>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mut tasks = tokio::task::JoinSet::new();
    for kind in WATCHED {
        let watch = kind::Kind::new(kind, client.clone(), &options, mirror.clone(), sights.clone());
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(watch.run()).await });
    }
    async move { while tasks.join_next().await.is_some() {} }
}
