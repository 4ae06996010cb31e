//! The door behind an API server that went back: a person accepts it by an annotation on the witness of the log, which
//! names the message that told of it. Looked for only while there is something to accept.

use crate::log::witness;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The annotation: the number of a message of the log.
pub(super) const ANNOTATION: &str = "stheno.io/accept-api";
/// Between looks.
const LOOK: Duration = Duration::from_secs(2);

/// Looks for the word of a person.
#[derive(Debug)]
pub(super) struct Acceptance {
    asked: watch::Sender<Option<u64>>,
    given: mpsc::Receiver<u64>,
}

impl Acceptance {
    pub(super) fn new(client: Client, namespace: &str, stop: CancellationToken) -> Self {
        let asked = watch::Sender::new(None);
        let (give, given) = mpsc::channel(1);
        let looker = look(Api::namespaced(client, namespace), asked.subscribe(), give);
        tokio::spawn(async move { stop.run_until_cancelled(looker).await });
        Self { asked, given }
    }

    /// Looks from now on for a word about this message or a later one; for none, when there is nothing to accept.
    pub(super) fn ask(&self, message: Option<u64>) {
        self.asked.send_if_modified(|asked| std::mem::replace(asked, message) != message);
    }

    /// Up to which message a person accepts; none when the looking has ended. Said again while it is asked for.
    pub(super) async fn next(&mut self) -> Option<u64> {
        self.given.recv().await
    }
}

async fn look(api: Api<ConfigMap>, mut asked: watch::Receiver<Option<u64>>, give: mpsc::Sender<u64>) {
    while let Ok(message) = asked.wait_for(Option::is_some).await.map(|asked| asked.unwrap_or(u64::MAX)) {
        match api.get_opt(witness::CONFIG_MAP).await {
            Ok(map) => {
                let word = map.as_ref().and_then(|map| map.annotations().get(ANNOTATION)?.trim().parse::<u64>().ok());
                if let Some(word) = word.filter(|word| *word >= message)
                    && give.send(word).await.is_err()
                {
                    return;
                }
            }
            // The API server may be on its way back.
            Err(error) => tracing::debug!(%error, "the witness of the log cannot be read now: looking again"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What to do about an API server that went back.
pub(super) fn sentence(text: &str, namespace: &str, message: u64) -> String {
    format!(
        "{text}: its store was put back to an older state. Nothing is started or concluded until a person accepts it as it \
         is; what it lacks counts as deleted then, and what has ended is not run again. To accept it: kubectl annotate \
         configmap {} -n {namespace} --overwrite {ANNOTATION}={message}",
        witness::CONFIG_MAP
    )
}
