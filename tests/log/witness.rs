//! The witness on a real API server: written once by each, never over another's.

use super::fixture::open;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use stheno::log::witness::{CONFIG_MAP, Error, read, write};
use stheno::log::{Integrity, Witness};
use stheno_events::{Digest, Epoch};
use stheno_local::testing::{control_plane, nats};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_and_only_the_newest_version_can_be_replaced() {
    // Two providers are compiled in, so one must be named; this fails only when it was named before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let control_plane = control_plane().await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(control_plane.client().await.unwrap(), "default");
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    assert!(read(&api).await.unwrap().is_none());

    let first = Witness::of(log.identity(), 7, Digest::of(b"seven"), Epoch(1));
    let known = write(&api, &first, None).await.unwrap();
    assert_eq!(read(&api).await.unwrap(), Some((first.clone(), known.clone())));
    assert_eq!(first.judge(&log.facts().await.unwrap()), Integrity::Backwards { witnessed: 7, last: 0 });

    // A second leader that believes there is none, and a first one that is not the newest any more.
    let second = Witness { last_sequence: 9, epoch: Epoch(2), ..first.clone() };
    assert!(matches!(write(&api, &second, None).await, Err(Error::Conflict)));
    let newest = write(&api, &second, Some(&known)).await.unwrap();
    assert!(matches!(write(&api, &first, Some(&known)).await, Err(Error::Conflict)));
    assert_eq!(read(&api).await.unwrap(), Some((second.clone(), newest.clone())));

    let edited = serde_json::json!({ "data": { "root": "none" } });
    api.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&edited)).await.unwrap();
    let error = read(&api).await.unwrap_err().to_string();
    assert_eq!(error, "ConfigMap stheno-log was changed by hand: its field \"root\" is missing or cannot be read");
    api.delete(CONFIG_MAP, &Default::default()).await.unwrap();
    assert!(matches!(write(&api, &second, Some(&newest)).await, Err(Error::Conflict)), "deleted meanwhile");
}
