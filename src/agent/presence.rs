//! Whether a name is in the bucket already, and whose it is.

use serde::{Deserialize, Serialize};

use crate::layout::{BackupName, Layout};
use crate::store::{self, Found, Store};

/// Our own object beside Medusa's: who began the backup. Medusa deletes it with the rest of the backup.
pub(crate) const CLAIM: &str = "stheno.json";

/// What the bucket says of a name on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// Begun and not finished.
    Begun {
        /// The operation that our claim names, if there is a claim.
        owner: Option<String>,
        /// When schema.cql was written, in ms, if it was.
        started_ms: Option<i64>,
    },
    /// Finished.
    Complete {
        /// The operation that our claim names, if there is a claim.
        owner: Option<String>,
        /// When schema.cql was written, in ms.
        started_ms: i64,
        /// When manifest.json was written, in ms.
        finished_ms: i64,
    },
}

impl Presence {
    /// The operation that our claim names, if there is a claim.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Begun { owner, .. } | Self::Complete { owner, .. } => owner.as_deref(),
        }
    }
}

/// The content of the claim.
#[derive(Serialize, Deserialize)]
pub(crate) struct ClaimObject {
    pub(crate) operation: String,
}

/// Looks a name up in the bucket.
pub async fn presence(store: &Store, layout: &Layout, name: &BackupName) -> Result<Presence, store::Error> {
    let owner = async {
        let claim = store.get(&layout.meta(name, CLAIM)).await?;
        // A claim that is no JSON is nobody's.
        Ok(claim.and_then(|json| serde_json::from_slice::<ClaimObject>(&json).ok()).map(|claim| claim.operation))
    };
    let (schema, done) = (layout.meta(name, "schema.cql"), layout.meta(name, "manifest.json"));
    let (owner, schema, done) = tokio::try_join!(owner, store.head(&schema), store.head(&done))?;
    let ms = |found: &Found| found.modified.timestamp_millis();
    Ok(match (schema, done, owner) {
        (schema, Some(done), owner) => {
            Presence::Complete { owner, started_ms: schema.as_ref().map_or(ms(&done), ms), finished_ms: ms(&done) }
        }
        (None, None, None) => Presence::Absent,
        (schema, None, owner) => Presence::Begun { owner, started_ms: schema.as_ref().map(ms) },
    })
}
