//! The Lease that picks a candidate among several operators. It decides nothing: the log has the last word on who leads.
//!
//! Expiry is measured by a clock of this machine that counts suspended time, from when a change of the Lease was seen;
//! the times written in it are for people.

use crate::runtime;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A holder that is not heard of for this long has lost the Lease.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long gives up by itself: well before somebody else takes over.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts.
const RETRY: Duration = Duration::from_secs(2);
/// Reads after a write that came too late, in one attempt.
const ATTEMPTS: usize = 2;

/// Whose Lease, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This process, unique in the cluster.
    pub identity: String,
}

/// Takes part in the election until it is dropped.
#[derive(Debug)]
pub struct Candidate {
    held: watch::Receiver<bool>,
    /// Whether nobody holds it, as last seen.
    vacant: watch::Receiver<bool>,
    /// Whether this process could do anything with it.
    fit: watch::Sender<bool>,
    release: mpsc::Sender<Duration>,
    _stop: tokio_util::sync::DropGuard,
}

impl Candidate {
    /// Takes part, once it [`may_stand`](Self::may_stand).
    #[must_use]
    pub fn stand(client: Client, settings: Settings) -> Self {
        let (state, held) = watch::channel(false);
        let (empty, vacant) = watch::channel(false);
        let fit = watch::Sender::new(false);
        let (release, released) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let api = Api::namespaced(client, &settings.namespace);
        let election = Election { api, settings, state, vacant: empty, seen: None, renewed_ms: 0, failures: 0 };
        tokio::spawn(election.run(fit.subscribe(), released, stop.clone()));
        Self { held, vacant, fit, release, _stop: stop.drop_guard() }
    }

    /// Is alone: holds without a Lease whenever it [`may_stand`](Self::may_stand).
    #[must_use]
    pub fn alone() -> Self {
        let (state, held) = watch::channel(false);
        let (empty, vacant) = watch::channel(true);
        let fit = watch::Sender::new(false);
        let (release, mut released) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let mut fitness = fit.subscribe();
        let alone = async move {
            // There is no Lease that anybody else could hold.
            let _empty = empty;
            loop {
                let holds = *fitness.borrow_and_update();
                state.send_if_modified(|held| std::mem::replace(held, holds) != holds);
                tokio::select! {
                    changed = fitness.changed() => if changed.is_err() { return },
                    pause = released.recv() => {
                        let Some(pause) = pause else { return };
                        state.send_replace(false);
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(alone).await });
        Self { held, vacant, fit, release, _stop: stop.drop_guard() }
    }

    /// Whether this process could do anything as the holder. One that could not neither takes the Lease nor keeps it:
    /// another one, which could, gets it.
    pub fn may_stand(&self, fit: bool) {
        self.fit.send_if_modified(|before| std::mem::replace(before, fit) != fit);
    }

    /// Whether nobody held the Lease when it was last looked at.
    #[must_use]
    pub fn vacant(&self) -> bool {
        *self.vacant.borrow()
    }

    /// Whether the Lease is held, once that, or whether it is [`vacant`](Self::vacant), has changed since the last call;
    /// none when the election has ended.
    pub async fn changed(&mut self) -> Option<bool> {
        tokio::select! {
            changed = self.held.changed() => changed.ok()?,
            changed = self.vacant.changed() => changed.ok()?,
        }
        Some(*self.held.borrow_and_update())
    }

    /// Whether the Lease is held now.
    #[must_use]
    pub fn holds(&self) -> bool {
        *self.held.borrow()
    }

    /// Gives the Lease back, and stands again after `pause`.
    pub fn release(&self, pause: Duration) {
        // One that waits already does the same; an election that is over has nothing to give back.
        let _ = self.release.try_send(pause);
    }

    /// Gives the Lease back for good; returns when it is, or after `patience`.
    pub async fn resign(mut self, patience: Duration) {
        let given_back = async {
            // An error means that the election is over.
            let _ = self.release.send(Duration::MAX).await;
            // An error means that the election is over.
            let _ = self.held.wait_for(|held| !held).await;
        };
        if tokio::time::timeout(patience, given_back).await.is_err() {
            tracing::warn!("the Lease could not be given back: it expires by itself");
        }
    }
}

/// What an attempt to take or renew the Lease came to.
enum Standing {
    Ours,
    Others,
    Unclear,
}

/// The Lease as last seen.
struct Seen {
    lease: Lease,
    /// When this version was first seen.
    since_ms: u64,
}

impl Seen {
    /// Whether somebody else holds it, by the clock of this machine.
    fn is_of_another(&self, identity: &str) -> bool {
        let Some(spec) = &self.lease.spec else { return false };
        let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0) * 1_000;
        let expired = runtime::boot_ms().saturating_sub(self.since_ms) > lasts;
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        !holder.is_empty() && holder != identity && !expired
    }
}

struct Election {
    api: Api<Lease>,
    settings: Settings,
    state: watch::Sender<bool>,
    vacant: watch::Sender<bool>,
    seen: Option<Seen>,
    /// When it was last renewed, where it is held: taken before the request was sent.
    renewed_ms: u64,
    failures: u32,
}

impl Election {
    async fn run(
        mut self,
        mut fit: watch::Receiver<bool>,
        mut released: mpsc::Receiver<Duration>,
        stop: CancellationToken,
    ) {
        loop {
            let stands = *fit.borrow_and_update();
            let round = async { if stands { self.round().await } else { self.stand_aside().await } };
            let wait = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                wait = round => wait,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                pause = released.recv() => {
                    let Some(pause) = pause else { return };
                    self.give_back().await;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                changed = fit.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One look at the Lease without taking it; one that is held goes back. Returns the wait until the next one.
    async fn stand_aside(&mut self) -> Duration {
        self.give_back().await;
        match tokio::time::timeout(DEADLINE, self.api.get_opt(&self.settings.name)).await {
            Ok(Ok(lease)) => {
                self.failures = 0;
                self.seen = lease.map(|lease| self.noted(lease));
                let vacant = self.seen.as_ref().is_none_or(|seen| !seen.is_of_another(&self.settings.identity));
                self.found_vacant(vacant);
            }
            Ok(Err(error)) => self.failed(&crate::cli::sentence(&error)),
            Err(_) => self.failed("the API server does not answer"),
        }
        RETRY
    }

    fn holds(&self) -> bool {
        *self.state.borrow()
    }

    /// One attempt to take or renew. Returns the wait until the next one.
    async fn round(&mut self) -> Duration {
        let deadline = u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX);
        let begun = runtime::boot_ms();
        let left = match self.holds() {
            true => Duration::from_millis(deadline.saturating_sub(begun.saturating_sub(self.renewed_ms))),
            false => DEADLINE,
        };
        let result = tokio::time::timeout(left, self.attempt()).await;
        let now = runtime::boot_ms();
        match result {
            Ok(Ok(Standing::Ours)) => {
                self.failures = 0;
                self.found_vacant(false);
                self.renewed_ms = begun;
                if !self.holds() {
                    tracing::info!(identity = self.settings.identity, "the Lease is held");
                    self.state.send_replace(true);
                }
            }
            Ok(Ok(Standing::Others)) => {
                self.failures = 0;
                self.found_vacant(false);
                self.lose("somebody else holds it");
            }
            Ok(Ok(Standing::Unclear)) => self.failed("others write it at the same time"),
            Ok(Err(error)) => self.failed(&crate::cli::sentence(&error)),
            Err(_) => self.failed("the API server does not answer"),
        }
        if self.holds() && now.saturating_sub(self.renewed_ms) >= deadline {
            self.lose("it could not be renewed in time");
        }
        RETRY
    }

    fn failed(&mut self, error: &str) {
        self.failures += 1;
        if self.failures == 1 {
            tracing::warn!(error, name = self.settings.name, "the Lease cannot be read or written: trying again");
        }
    }

    fn found_vacant(&self, vacant: bool) {
        self.vacant.send_if_modified(|before| std::mem::replace(before, vacant) != vacant);
    }

    fn lose(&self, why: &str) {
        if self.holds() {
            tracing::warn!(why, "the Lease is lost");
            self.state.send_replace(false);
        }
    }

    /// Whose the Lease is after this attempt.
    async fn attempt(&mut self) -> Result<Standing, Error> {
        for _ in 0..ATTEMPTS {
            if !self.holds() || self.seen.is_none() {
                match self.api.get_opt(&self.settings.name).await? {
                    Some(lease) => self.seen = Some(self.noted(lease)),
                    None => self.seen = None,
                }
            }
            let written = match &self.seen {
                None => {
                    let lease = Lease { metadata: self.metadata(), spec: Some(self.spec(None)) };
                    self.api.create(&PostParams::default(), &lease).await
                }
                Some(seen) => {
                    if seen.is_of_another(&self.settings.identity) {
                        return Ok(Standing::Others);
                    }
                    let spec = seen.lease.spec.clone().unwrap_or_default();
                    let lease = Lease { metadata: seen.lease.metadata.clone(), spec: Some(self.spec(Some(&spec))) };
                    self.api.replace(&self.settings.name, &PostParams::default(), &lease).await
                }
            };
            match written {
                Ok(lease) => {
                    self.seen = Some(self.noted(lease));
                    return Ok(Standing::Ours);
                }
                // Somebody wrote meanwhile, perhaps only a label: who holds it is read.
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => self.seen = None,
                Err(error) => return Err(error),
            }
        }
        Ok(Standing::Unclear)
    }

    /// A version, and when it was first seen.
    fn noted(&mut self, lease: Lease) -> Seen {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match self.seen.take().filter(|seen| version(&seen.lease) == version(&lease)) {
            Some(seen) => seen,
            None => Seen { lease, since_ms: runtime::boot_ms() },
        }
    }

    async fn give_back(&mut self) {
        if self.holds()
            && let Some(seen) = self.seen.take()
        {
            let mut lease = seen.lease;
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now());
            let parameters = PostParams::default();
            let replaced = self.api.replace(&self.settings.name, &parameters, &lease);
            match tokio::time::timeout(RETRY, replaced).await {
                Ok(Ok(_)) => tracing::info!("the Lease is given back"),
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given back: it expires by itself"),
                Err(_) => tracing::warn!("the Lease could not be given back in time: it expires by itself"),
            }
        }
        self.state.send_if_modified(|held| std::mem::replace(held, false));
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.settings.name.clone()),
            namespace: Some(self.settings.namespace.clone()),
            ..ObjectMeta::default()
        }
    }

    /// The Lease as ours: renewed, or taken over.
    fn spec(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let former = former.cloned().unwrap_or_default();
        let ours = former.holder_identity.as_deref() == Some(self.settings.identity.as_str());
        let transitions = former.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { former.acquire_time } else { Some(now()) },
            renew_time: Some(now()),
            lease_transitions: Some(if ours || former.holder_identity.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..LeaseSpec::default()
        }
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::from_millisecond(runtime::wall().timestamp_millis()).unwrap_or(Timestamp::UNIX_EPOCH))
}
