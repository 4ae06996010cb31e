//! Purges and deletions: one at a time, written down before they begin, and never beside a backup in the pool.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Jobs, Shared, sentence};
use crate::clock::now_ms;
use crate::purge::{Deletion, Error, Facts, Plan, Purge, Totals, Which};
use crate::state::Record;

impl Jobs {
    /// What a purge would delete, or the deletion of a name.
    pub async fn plan_purge(&self, name: Option<&str>) -> Result<Plan, Error> {
        let which = name.map_or(Which::Expired, Which::Named);
        let facts = self.0.facts().await;
        Purge::new(&self.0.tools, &self.0.catalogue).plan(which, &facts).await
    }

    /// Deletes what has had its time, and of the pool what no backup has referred to for the grace period.
    pub async fn purge(&self) -> Result<Totals, Error> {
        self.keep(None).await
    }

    /// Deletes a backup of all nodes.
    pub async fn delete(&self, name: &str) -> Result<Totals, Error> {
        self.keep(Some(name.to_owned())).await
    }

    /// In a task of its own: a caller that goes away stops nothing halfway.
    async fn keep(&self, name: Option<String>) -> Result<Totals, Error> {
        let shared = Arc::clone(&self.0);
        let running = self.0.tasks.spawn(async move {
            let which = name.as_deref().map_or(Which::Expired, Which::Named);
            tokio::select! {
                outcome = shared.keep(which) => outcome,
                () = shared.cancel.cancelled() => Err(Error::Stopping),
            }
        });
        running.await.unwrap_or(Err(Error::Stopping))
    }
}

impl Shared {
    async fn facts(&self) -> Facts {
        let state = self.state.lock().await;
        let ended = |record: &&Record| record.phase.ended();
        Facts {
            running: state.running().map(|record| record.name.clone()),
            ended: state.records.iter().filter(ended).map(|record| record.name.clone()).collect(),
            interrupted: state.deleting.clone(),
            pool_in_use: false,
            now_ms: now_ms(),
        }
    }

    async fn keep(&self, which: Which<'_>) -> Result<Totals, Error> {
        let outcome = self.plan_and_keep(which).await;
        self.metrics.purged(outcome.as_ref().ok());
        outcome
    }

    async fn plan_and_keep(&self, which: Which<'_>) -> Result<Totals, Error> {
        let _one = self.keeping.lock().await;
        // Held until the end, so that no backup begins to use a file of the pool that is being deleted.
        let pool = self.pool.try_lock();
        let facts = Facts { pool_in_use: pool.is_err(), ..self.facts().await };
        let purge = Purge::new(&self.tools, &self.catalogue);
        let plan = purge.plan(which, &facts).await?;
        let deletions = plan.deletions();
        self.change(|state| {
            state.deleting.extend(deletions.iter().cloned());
            let own = deletions.iter().filter(|of| of.node == self.tools.layout.node().as_str());
            let gone: BTreeSet<&str> = own.map(|of| of.name.as_str()).collect();
            // The name is free again.
            state.records.retain(|record| !record.phase.ended() || !gone.contains(record.name.as_str()));
        })
        .await?;
        let totals = purge.execute(&plan, &self.cancel).await?;
        self.change(|state| state.deleting.retain(|of| !deletions.contains(of))).await?;
        tracing::info!(
            backups = totals.backups,
            objects = totals.objects,
            bytes = totals.bytes,
            within_grace = totals.within_grace,
            pool = plan.left_alone.unwrap_or("looked through"),
            "deleted"
        );
        Ok(totals)
    }

    /// Finishes the deletions that a stop interrupted. What fails now is tried again with the next purge.
    pub(super) async fn finish_deletions(&self) {
        let interrupted: Vec<Deletion> = self.state.lock().await.deleting.iter().cloned().collect();
        let Some(first) = interrupted.first() else {
            return;
        };
        tracing::info!(name = first.name, "an interrupted deletion goes on");
        if let Err(error) = self.keep(Which::Interrupted).await {
            tracing::warn!(error = sentence(&error), "the deletion is not finished yet");
        }
    }
}
