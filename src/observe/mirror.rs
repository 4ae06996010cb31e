//! What lies on the API server, as far as publishing must know it to write only what differs.

use crate::publish::MANAGER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use stheno_events::Uid;
use stheno_events::observed::ObjectKind;
use tokio::sync::Notify;

/// The digest of a status: equal statuses have equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusDigest([u8; 16]);

impl StatusDigest {
    /// The digest of a status as our types write it; none when it cannot be written.
    #[must_use]
    pub fn of<S: Serialize>(status: &S) -> Option<Self> {
        let bytes = serde_json::to_vec(status).ok()?;
        let digest = Sha256::digest(bytes);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Some(Self(short))
    }
}

/// One object on the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its resourceVersion.
    pub resource_version: Arc<str>,
    /// Its status; none when that cannot be read.
    pub status: Option<StatusDigest>,
    /// Whether it has an owner.
    pub owned: bool,
    /// Whether others wrote fields of its status.
    pub shared: bool,
}

/// Whether others than we own fields of the status.
pub(crate) fn shared(metadata: &ObjectMeta) -> bool {
    let of_status =
        metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.as_deref() == Some("status"));
    of_status.into_iter().any(|entry| entry.manager.as_deref() != Some(MANAGER))
}

impl Copy {
    fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }
}

/// The jobs, backups and schedules on the API server, by UID. Clones share one content.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    copies: Mutex<BTreeMap<Uid, Copy>>,
    changed: Notify,
}

impl Mirror {
    /// What lies there under this UID.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Option<Copy> {
        self.lock().get(uid).cloned()
    }

    /// Objects known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no object is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A sight, or the answer to a write; an older version than the known one is ignored.
    pub(crate) fn put(&self, uid: &Uid, copy: Copy) {
        let mut copies = self.lock();
        if copies.get(uid).is_none_or(|known| known.version() <= copy.version()) {
            copies.insert(uid.clone(), copy);
            drop(copies);
            self.inner.changed.notify_one();
        }
    }

    /// What a list found: it stands, whatever was known before (the store may have gone back).
    pub(crate) fn replace(&self, uid: &Uid, copy: Copy) {
        self.lock().insert(uid.clone(), copy);
        self.inner.changed.notify_one();
    }

    pub(crate) fn remove(&self, uid: &Uid) {
        self.lock().remove(uid);
        self.inner.changed.notify_one();
    }

    /// A complete list: what is not in it is not there.
    pub(crate) fn retain(&self, kind: ObjectKind, namespaces: Option<&BTreeSet<Arc<str>>>, present: &BTreeSet<Uid>) {
        self.lock().retain(|uid, copy| {
            copy.kind != kind
                || present.contains(uid)
                || namespaces.is_some_and(|scope| !scope.contains(&copy.namespace))
        });
        self.inner.changed.notify_one();
    }

    /// Waits for a change since the last call.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uid, Copy>> {
        // Each change is one insert or remove: a panic elsewhere cannot leave the map half changed.
        self.inner.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
