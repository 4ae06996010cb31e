//! The witness of the log outside NATS: judged at the start, written by one task, the newest only.

use crate::log::witness::{self, Integrity, Version, Witness};
use crate::log::{Log, Skew, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use std::time::Duration;
use stheno_events::{Digest, Epoch};
use stheno_projections::World;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The first wait after a write that failed, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why the witness cannot be used at the start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ConfigMap.
    #[error(transparent)]
    Witness(#[from] witness::Error),
    /// The stream.
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// What the start found.
#[derive(Debug)]
pub(super) struct Judged {
    /// Why nothing may be done, if so.
    pub(super) fault: Option<String>,
    /// What is still to be compared when the fold gets there.
    pub(super) expected: Option<Witness>,
    /// The stream's last sequence at that time.
    pub(super) last_sequence: u64,
    /// How far the clocks are apart.
    pub(super) skew: Skew,
}

/// Compares the log with what was vouched for, before anything is read of it.
pub(super) async fn judge(client: Client, namespace: &str, log: &Log) -> Result<Judged, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let read = witness::read(&api).await;
    // After the witness: what a leader writes meanwhile makes the log longer, never shorter.
    let facts = log.facts().await?;
    let (last_sequence, skew) = (facts.last_sequence, Skew::of(facts.clock_offset));
    let judged = |fault, expected| Judged { fault, expected, last_sequence, skew };
    match read {
        Ok(None) => Ok(judged(None, None)),
        Ok(Some((witness, _))) => {
            let integrity = witness.judge(&facts);
            Ok(if integrity == Integrity::Ok {
                judged(None, Some(witness))
            } else {
                judged(Some(fault(integrity)), None)
            })
        }
        Err(error @ witness::Error::Malformed { .. }) => Ok(judged(Some(error.to_string()), None)),
        Err(error @ (witness::Error::Api(_) | witness::Error::Conflict)) => Err(error.into()),
    }
}

/// What is wrong, and who may end it.
pub(super) fn fault(integrity: Integrity) -> String {
    let sentence = integrity.sentence();
    format!(
        "{sentence} Nothing is done until a person decides: put the right log back, or delete ConfigMap {} to accept this one.",
        witness::CONFIG_MAP
    )
}

/// The root over the heads of all aggregates.
pub(super) fn root(world: &World) -> Digest {
    let heads: Vec<_> = world.heads().collect();
    Digest::root(heads.iter().map(|(name, digest, _)| (&**name, digest)))
}

/// What became of a witness.
#[derive(Debug)]
pub(super) enum Written {
    /// It holds this term.
    Holds(Epoch),
    /// It knows of more than the log has.
    Fault(String),
}

/// Writes the newest witness, over and over until it is written.
#[derive(Debug)]
pub(super) struct Keeper {
    newest: watch::Sender<Option<Witness>>,
    written: mpsc::Receiver<Written>,
}

impl Keeper {
    pub(super) fn new(client: Client, namespace: &str, stop: CancellationToken) -> Self {
        let newest = watch::Sender::new(None);
        let (report, written) = mpsc::channel(16);
        let writer = Writer { api: Api::namespaced(client, namespace), known: None };
        tokio::spawn(writer.run(newest.subscribe(), report, stop));
        Self { newest, written }
    }

    /// Has this written; an older one that waits is dropped.
    pub(super) fn keep(&self, witness: Witness) {
        self.newest.send_replace(Some(witness));
    }

    /// This process leads no more: what waits is not written.
    pub(super) fn drop_waiting(&self) {
        self.newest.send_replace(None);
    }

    /// What became of the newest one that was tried; none when the writer has ended.
    pub(super) async fn next(&mut self) -> Option<Written> {
        self.written.recv().await
    }
}

struct Writer {
    api: Api<ConfigMap>,
    known: Option<Version>,
}

impl Writer {
    async fn run(
        mut self,
        mut newest: watch::Receiver<Option<Witness>>,
        report: mpsc::Sender<Written>,
        stop: CancellationToken,
    ) {
        let mut pause = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = newest.changed(), if pause.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            let Some(witness) = newest.borrow_and_update().clone() else {
                pause = None;
                continue;
            };
            let written = match self.write(&witness).await {
                Ok(Ok(())) => Written::Holds(witness.epoch),
                Ok(Err(fault)) => Written::Fault(fault),
                Err(error) => {
                    if pause.is_none() {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "the witness of the log cannot be written: trying again");
                    }
                    pause = Some(pause.map_or(RETRY.0, |pause: Duration| (pause * 2).min(RETRY.1)));
                    continue;
                }
            };
            pause = None;
            if report.send(written).await.is_err() {
                return;
            }
        }
    }

    /// Writes over what is there, unless that knows better.
    async fn write(&mut self, witness: &Witness) -> Result<Result<(), String>, witness::Error> {
        loop {
            match witness::write(&self.api, witness, self.known.as_ref()).await {
                Ok(version) => {
                    self.known = Some(version);
                    return Ok(Ok(()));
                }
                Err(witness::Error::Conflict) => match witness::read(&self.api).await {
                    Ok(None) => self.known = None,
                    Ok(Some((found, version))) => {
                        let same = found.stream_id == witness.stream_id && found.created == witness.created;
                        if !same {
                            return Ok(Err(fault(Integrity::Recreated)));
                        }
                        if found.last_sequence > witness.last_sequence && found.epoch <= witness.epoch {
                            let (witnessed, last) = (found.last_sequence, witness.last_sequence);
                            return Ok(Err(fault(Integrity::Backwards { witnessed, last })));
                        }
                        if found.epoch > witness.epoch {
                            // A later leader is there; the log will say so.
                            return Err(witness::Error::Conflict);
                        }
                        self.known = Some(version);
                    }
                    // Changed by hand while this process knew better: written anew.
                    Err(error @ witness::Error::Malformed { .. }) => return Ok(Err(error.to_string())),
                    Err(error @ (witness::Error::Api(_) | witness::Error::Conflict)) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }
}
