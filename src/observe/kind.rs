//! One kind in all its namespaces: steps of its list-watches become sights; a list counts when all of them are complete.

use super::list_watch::{ListWatch, Step};
use super::parse::Parsed;
use super::{Mirror, Options, Sight};
use kube::Client;
use std::collections::BTreeSet;
use std::sync::Arc;
use stheno_events::Uid;
use stheno_events::observed::ObjectKind;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Steps that may wait: a page of a list and some.
const BUFFER: usize = 256;

/// One kind.
pub(super) struct Kind {
    kind: ObjectKind,
    watches: Vec<ListWatch>,
    scopes: Vec<Scope>,
    mirror: Mirror,
    sights: mpsc::Sender<Sight>,
    /// It was said that the kind cannot be observed.
    unobservable: bool,
}

/// One namespace of it, or all.
#[derive(Debug, Default)]
struct Scope {
    namespace: Option<Arc<str>>,
    /// What is there since the list began, until the list has counted.
    present: Option<BTreeSet<Uid>>,
    /// The list is complete, and its watch runs.
    complete: bool,
}

/// Nobody receives any more.
struct Closed;

impl Kind {
    pub(super) fn new(
        kind: ObjectKind,
        client: Client,
        options: &Options,
        mirror: Mirror,
        sights: mpsc::Sender<Sight>,
    ) -> Self {
        let namespaces: Vec<Option<Arc<str>>> = match &options.namespaces {
            None => vec![None],
            Some(names) => names.iter().cloned().map(Some).collect(),
        };
        let watch =
            |namespace: &Option<Arc<str>>| ListWatch::new(kind, client.clone(), namespace.as_deref(), options.highest);
        let watches = namespaces.iter().map(watch).collect();
        let scopes = namespaces.into_iter().map(|namespace| Scope { namespace, ..Scope::default() }).collect();
        Self { kind, watches, scopes, mirror, sights, unobservable: false }
    }

    /// Runs until nobody receives.
    pub(super) async fn run(mut self) {
        let (steps, mut received) = mpsc::channel(BUFFER);
        // Dropped with this future: then the list-watches end too.
        let mut tasks = JoinSet::new();
        for (index, watch) in std::mem::take(&mut self.watches).into_iter().enumerate() {
            let steps = steps.clone();
            tasks.spawn(watch.run(index, steps));
        }
        drop(steps);
        while let Some((index, step)) = received.recv().await {
            if self.step(index, step).await.is_err() {
                return;
            }
        }
    }

    async fn step(&mut self, index: usize, step: Step) -> Result<(), Closed> {
        let Some(scope) = self.scopes.get_mut(index) else { return Ok(()) };
        match step {
            Step::Began => {
                scope.present = Some(BTreeSet::new());
                scope.complete = false;
            }
            Step::Seen { parsed, listed } => {
                if let Some(present) = &mut scope.present {
                    present.insert(parsed.uid.clone());
                }
                match &parsed.copy {
                    Some(copy) if listed => self.mirror.replace(&parsed.uid, copy.clone()),
                    Some(copy) => self.mirror.put(&parsed.uid, copy.clone()),
                    None => {}
                }
                return self.seen(*parsed).await;
            }
            Step::Gone(parsed) => {
                if let Some(present) = &mut scope.present {
                    present.remove(&parsed.uid);
                }
                self.mirror.remove(&parsed.uid);
                return self.seen(*parsed).await;
            }
            Step::Complete => {
                scope.complete = true;
                return self.listed().await;
            }
            Step::Gap(gap) => return self.send(Sight::Gap(gap)).await,
            Step::Unobservable(reason) => {
                scope.present = None;
                scope.complete = false;
                if !self.unobservable {
                    self.unobservable = true;
                    return self.send(Sight::Unobservable { kind: self.kind, reason: reason.into() }).await;
                }
            }
        }
        Ok(())
    }

    async fn seen(&self, parsed: Parsed) -> Result<(), Closed> {
        let Parsed { namespace, home, observation, .. } = parsed;
        self.send(Sight::Object { namespace, home, observation }).await
    }

    /// Tells of the lists that have become complete, once none is missing.
    async fn listed(&mut self) -> Result<(), Closed> {
        if !self.scopes.iter().all(|scope| scope.complete) {
            return Ok(());
        }
        let mut present = BTreeSet::new();
        let mut namespaces = Some(BTreeSet::new());
        for scope in &mut self.scopes {
            let Some(found) = scope.present.take() else { continue };
            present.extend(found);
            match (&scope.namespace, &mut namespaces) {
                (Some(namespace), Some(names)) => {
                    names.insert(namespace.clone());
                }
                (None, names) => *names = None,
                (Some(_), None) => {}
            }
        }
        self.mirror.retain(self.kind, namespaces.as_ref(), &present);
        self.unobservable = false;
        self.send(Sight::Listed { kind: self.kind, namespaces, present }).await
    }

    async fn send(&self, sight: Sight) -> Result<(), Closed> {
        self.sights.send(sight).await.map_err(|_| Closed)
    }
}
