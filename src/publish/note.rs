//! Announcements as Kubernetes Events, under names that make a repeat a no-op.

use super::MANAGER;
use super::write::{Trouble, answer};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use std::sync::Arc;
use stheno_events::observed::ObjectKind;
use stheno_projections::status::Announcement;
use tokio::time::Instant;

/// Bytes of a note that the API server takes.
const NOTE: usize = 1024;
/// Bytes of the object's name in the Event's: with a UUID and a number it stays below 253.
const NAME: usize = 200;

/// One Kubernetes Event that waits to be written.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) namespace: Arc<str>,
    pub(super) event: Event,
    /// Writes of it that failed.
    pub(super) failures: u32,
    /// No write before.
    pub(super) not_before: Option<Instant>,
}

impl Note {
    /// `by` is the process that reports it.
    pub(super) fn new(said: &Announcement, by: &str) -> Self {
        let reference = ObjectReference {
            api_version: Some(api_version(said.kind)),
            kind: Some(said.kind.as_str().to_owned()),
            name: Some(said.name.to_string()),
            namespace: Some(said.namespace.to_string()),
            uid: Some(said.uid.to_string()),
            ..ObjectReference::default()
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(said)),
                namespace: Some(said.namespace.to_string()),
                ..ObjectMeta::default()
            },
            event_time: Timestamp::from_microsecond(said.at.timestamp_micros()).ok().map(MicroTime),
            reporting_controller: Some(format!("{}/{MANAGER}", stheno_crds::GROUP)),
            reporting_instance: Some(cut(by, 128).to_owned()),
            action: Some(action(said.kind).to_owned()),
            reason: Some(said.reason.to_owned()),
            regarding: Some(reference),
            note: Some(cut(&said.note, NOTE).to_owned()),
            type_: Some(said.severity.as_str().to_owned()),
            ..Event::default()
        };
        Self { namespace: said.namespace.clone(), event, failures: 0, not_before: None }
    }

    /// Writes it; one that is there already is this one.
    pub(super) async fn write(&self, client: Client) -> Result<(), Trouble> {
        let api: Api<Event> = Api::namespaced(client, &self.namespace);
        match answer("Event", api.create(&PostParams::default(), &self.event)).await {
            Err(Trouble::Conflict) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// What was being done, as the API demands to be told.
const fn action(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::MedusaBackupSchedule => "Schedule",
        ObjectKind::MedusaTask => "Task",
        ObjectKind::MedusaBackupJob | ObjectKind::MedusaBackup | ObjectKind::CassandraDatacenter | ObjectKind::Pod => {
            "Backup"
        }
    }
}

fn api_version(kind: ObjectKind) -> String {
    match kind {
        ObjectKind::MedusaBackupJob
        | ObjectKind::MedusaBackup
        | ObjectKind::MedusaBackupSchedule
        | ObjectKind::MedusaTask => {
            format!("{}/{}", stheno_crds::GROUP, stheno_crds::VERSION)
        }
        ObjectKind::CassandraDatacenter => "cassandra.datastax.com/v1beta1".to_owned(),
        ObjectKind::Pod => "v1".to_owned(),
    }
}

/// The same message says the same thing under the same name.
fn event_name(said: &Announcement) -> String {
    let object = cut(&said.name, NAME).trim_end_matches(['.', '-']);
    format!("{object}.{}.{}", said.message, said.index)
}

/// At most `bytes` of a text, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
