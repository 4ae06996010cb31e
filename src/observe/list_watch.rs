//! List, then watch, then go on from where the watch ended; list again when the server forgot that place.
//!
//! kube's `watcher` does the same, but hides the resourceVersion of a list: with it a store that was put back to an
//! older state would go unnoticed, and a watch from a version that does not exist yet is silent.

use super::parse::{self, Parsed};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Client, ResourceExt};
use std::time::Duration;
use stheno_crds::datacenter::DATACENTER_LABEL;
use stheno_events::observed::{Gap, ObjectKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Objects of one page of a list: bounds what is in memory at a time.
const PAGE: u32 = 100;
/// A request without an answer is given up after this.
const PATIENCE: Duration = Duration::from_secs(30);
/// The server ends a watch after this many seconds.
const WATCH_SECONDS: u32 = 290;
/// A watch without a sign of life is begun anew: bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(150);
/// A watch that ends sooner was refused rather than ended: the next one waits.
const SHORT: Duration = Duration::from_secs(5);

/// What a list-watch tells its kind.
pub(super) enum Step {
    /// A list begins.
    Began,
    /// An object, in a list or by the watch.
    Seen { parsed: Box<Parsed>, listed: bool },
    /// An object is there no more.
    Gone(Box<Parsed>),
    /// The list is complete, and the watch goes on from it.
    Complete,
    /// Something may have been missed.
    Gap(Gap),
    /// It cannot be listed or watched: what to do about it.
    Unobservable(String),
}

/// Why a list or watch does not go on.
enum Stop {
    /// Nobody receives any more.
    Closed,
    /// The server forgot the place, or never knew it: list again.
    Forgotten,
    /// It may not, or there is no such kind.
    Unobservable(String),
    /// The server is away or says something that is no answer.
    Away(String),
}

/// A kind in one namespace, or in all.
pub(super) struct ListWatch {
    kind: ObjectKind,
    resource: ApiResource,
    scope: String,
    api: Api<DynamicObject>,
    /// The highest version seen.
    highest: Option<u64>,
    /// The version that a watch goes on from.
    place: String,
    /// Where a watch was that could not go on: what came after it may have been missed.
    lost: Option<String>,
    backoff: DefaultBackoff,
    /// What was last said about trouble: one line a change.
    trouble: Option<String>,
}

impl ListWatch {
    pub(super) fn new(kind: ObjectKind, client: Client, namespace: Option<&str>, highest: Option<u64>) -> Self {
        let resource = resource(kind);
        let (api, scope) = match namespace {
            None => (Api::all_with(client, &resource), "all namespaces".to_owned()),
            Some(name) => (Api::namespaced_with(client, name, &resource), format!("namespace {name}")),
        };
        Self {
            kind,
            resource,
            scope,
            api,
            highest,
            place: String::new(),
            lost: None,
            backoff: DefaultBackoff::default(),
            trouble: None,
        }
    }

    /// Runs until nobody receives.
    pub(super) async fn run(mut self, index: usize, steps: mpsc::Sender<(usize, Step)>) {
        let out = Out { index, steps };
        loop {
            let stop = match self.list(&out).await {
                Ok(()) => self.watch(&out).await,
                Err(stop) => stop,
            };
            let text = match stop {
                Stop::Closed => return,
                Stop::Forgotten => {
                    // Not trouble, but not to be repeated without end either.
                    sleep(self.backoff.next().unwrap_or(SHORT)).await;
                    continue;
                }
                Stop::Unobservable(text) => {
                    if out.send(Step::Unobservable(text.clone())).await.is_err() {
                        return;
                    }
                    text
                }
                Stop::Away(text) => text,
            };
            self.rest(text).await;
        }
    }

    /// Lists everything, page by page.
    async fn list(&mut self, out: &Out) -> Result<(), Stop> {
        let mut params = self.list_params().limit(PAGE);
        let mut first = true;
        loop {
            let page = self.answer(timeout(PATIENCE, self.api.list(&params)).await)?;
            if first {
                self.compare(out, page.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                out.send(Step::Began).await?;
                first = false;
            }
            for object in &page.items {
                if let Some(parsed) = parse::parse(self.kind, object) {
                    out.send(Step::Seen { parsed: Box::new(parsed), listed: true }).await?;
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(()),
            }
        }
    }

    /// A list is at `version`: what lies between it and the place before, and whether it is behind it.
    async fn compare(&mut self, out: &Out, version: &str) -> Result<(), Stop> {
        let number = version.parse::<u64>().ok();
        self.place = version.to_owned();
        let lost = self.lost.take();
        match (self.highest, number) {
            (Some(highest), Some(number)) if number < highest => {
                self.highest = Some(number);
                out.send(self.gap(&highest.to_string(), version, true)).await?;
            }
            (Some(_) | None, _) => {
                if let Some(lost) = lost.filter(|lost| lost != version) {
                    out.send(self.gap(&lost, version, false)).await?;
                }
            }
        }
        self.highest = self.highest.max(number);
        Ok(())
    }

    fn gap(&self, from: &str, to: &str, backwards: bool) -> Step {
        Step::Gap(Gap { kind: self.kind, from: from.into(), to: to.into(), backwards })
    }

    /// Watches from the list on, through every end of a watch that leaves the place known.
    async fn watch(&mut self, out: &Out) -> Stop {
        let mut told = false;
        loop {
            let began = Instant::now();
            let stop = match self.watch_once(out, &mut told).await {
                Ok(()) if began.elapsed() >= SHORT => None,
                Ok(()) => Some("watches end as soon as they begin".to_owned()),
                Err(Stop::Away(text)) => Some(text),
                Err(stop) => return self.leave(told, stop),
            };
            if let Some(text) = stop {
                self.rest(text).await;
            }
            // Without an answer no watch goes on: one from a version that the store has lost would be silent.
            while let Err(stop) = self.probe().await {
                match stop {
                    Stop::Away(text) => self.rest(text).await,
                    Stop::Closed | Stop::Forgotten | Stop::Unobservable(_) => return self.leave(told, stop),
                }
            }
        }
    }

    fn leave(&mut self, told: bool, stop: Stop) -> Stop {
        self.lost = told.then(|| self.place.clone());
        stop
    }

    /// One watch, to its end. `told` says whether the list before it was told to be complete.
    async fn watch_once(&mut self, out: &Out, told: &mut bool) -> Result<(), Stop> {
        let params =
            WatchParams { label_selector: selector(self.kind), ..WatchParams::default() }.timeout(WATCH_SECONDS);
        let stream = self.answer(timeout(PATIENCE, self.api.watch(&params, &self.place)).await)?;
        let mut stream = std::pin::pin!(stream);
        if !*told {
            out.send(Step::Complete).await?;
            *told = true;
        }
        self.recovered();
        while let Ok(Some(event)) = timeout(SILENCE, stream.next()).await {
            match self.answer::<_, std::convert::Infallible>(Ok(event))? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.moved(object.resource_version());
                    if let Some(parsed) = parse::parse(self.kind, &object) {
                        out.send(Step::Seen { parsed: Box::new(parsed), listed: false }).await?;
                    }
                }
                WatchEvent::Deleted(object) => {
                    self.moved(object.resource_version());
                    if let Some(parsed) = parse::gone(self.kind, &object) {
                        out.send(Step::Gone(Box::new(parsed))).await?;
                    }
                }
                WatchEvent::Bookmark(mark) => self.moved(Some(mark.metadata.resource_version)),
                WatchEvent::Error(status) => return Err(self.stop(kube::Error::Api(status))),
            }
        }
        Ok(())
    }

    /// Asks where the store is before a watch goes on: a version that it has not reached yet was another store's.
    async fn probe(&mut self) -> Result<(), Stop> {
        let params = self.list_params().limit(1);
        let page = self.answer(timeout(PATIENCE, self.api.list_metadata(&params)).await)?;
        let now = page.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
        match (now, self.highest) {
            (Some(now), Some(highest)) if now < highest => Err(Stop::Forgotten),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn moved(&mut self, version: Option<String>) {
        let Some(version) = version else { return };
        self.highest = self.highest.max(version.parse().ok());
        self.place = version;
    }

    fn list_params(&self) -> ListParams {
        ListParams { label_selector: selector(self.kind), ..ListParams::default() }
    }

    fn answer<T, E>(&self, answer: Result<Result<T, kube::Error>, E>) -> Result<T, Stop> {
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.stop(error)),
            Err(_) => Err(Stop::Away(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    /// What an error means, and what to do about it.
    fn stop(&self, error: kube::Error) -> Stop {
        let (kind, scope) = (self.kind.as_str(), &self.scope);
        let resource = match &*self.resource.group {
            "" => self.resource.plural.clone(),
            group => format!("{}.{group}", self.resource.plural),
        };
        let kube::Error::Api(status) = error else { return Stop::Away(chain(&error)) };
        match status.code {
            401 => Stop::Unobservable(
                "the API server does not accept the operator's credentials: check its kubeconfig or token".into(),
            ),
            403 => Stop::Unobservable(format!(
                "the operator may not see objects of kind {kind} in {scope}: allow its service account to get, list \
                     and watch {resource}"
            )),
            404 => Stop::Unobservable(match self.kind {
                ObjectKind::MedusaBackupJob
                | ObjectKind::MedusaBackup
                | ObjectKind::MedusaBackupSchedule
                | ObjectKind::MedusaTask => {
                    format!("the kind {kind} is not installed: run stheno crds | kubectl apply --server-side -f -")
                }
                ObjectKind::CassandraDatacenter => {
                    format!("the kind {kind} is not installed: install cass-operator")
                }
                ObjectKind::Pod => format!("the API server knows no {resource}: check its address"),
            }),
            410 => Stop::Forgotten,
            _ => Stop::Away(status.message),
        }
    }

    /// Waits before the next try; a new kind of trouble is told once.
    async fn rest(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            let (kind, scope) = (self.kind.as_str(), &self.scope);
            tracing::warn!(kind, scope, "watching is interrupted and tried again: {text}");
            self.trouble = Some(text);
        }
        sleep(self.backoff.next().unwrap_or(SHORT)).await;
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(kind = self.kind.as_str(), scope = self.scope, "watching goes on");
        }
    }
}

/// Steps of one list-watch.
struct Out {
    index: usize,
    steps: mpsc::Sender<(usize, Step)>,
}

impl Out {
    async fn send(&self, step: Step) -> Result<(), Stop> {
        self.steps.send((self.index, step)).await.map_err(|_| Stop::Closed)
    }
}

/// An error with what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn selector(kind: ObjectKind) -> Option<String> {
    match kind {
        ObjectKind::Pod => Some(DATACENTER_LABEL.to_owned()),
        ObjectKind::MedusaBackupJob
        | ObjectKind::MedusaBackup
        | ObjectKind::MedusaBackupSchedule
        | ObjectKind::MedusaTask
        | ObjectKind::CassandraDatacenter => None,
    }
}

fn resource(kind: ObjectKind) -> ApiResource {
    let (group, version) = match kind {
        ObjectKind::MedusaBackupJob
        | ObjectKind::MedusaBackup
        | ObjectKind::MedusaBackupSchedule
        | ObjectKind::MedusaTask => (stheno_crds::GROUP, stheno_crds::VERSION),
        ObjectKind::CassandraDatacenter => ("cassandra.datastax.com", "v1beta1"),
        ObjectKind::Pod => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.as_str()))
}
