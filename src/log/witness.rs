//! The witness: what the log was, kept outside NATS, so that a log that went backwards or was made anew is noticed.

use super::stream::Facts;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;
use stheno_events::{Digest, Epoch, Time, Uid};

/// Name of the ConfigMap, in the operator's namespace.
pub const CONFIG_MAP: &str = "stheno-log";

/// What the log was when it was last vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The stream's name.
    pub stream: String,
    /// Drawn at its creation.
    pub stream_id: String,
    /// When it was created, by the server's clock.
    pub created: Time,
    /// UID of namespace kube-system.
    pub cluster: Uid,
    /// Its last sequence.
    pub last_sequence: u64,
    /// The root over all aggregates' heads at that sequence.
    pub root: Digest,
    /// The term that wrote it.
    pub epoch: Epoch,
}

/// What comparing the log with the witness says. Anything but `Ok` means: no effects until a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The same log, and not shorter.
    Ok,
    /// The same stream, but it ends before what was vouched for: an older copy was put back.
    Backwards {
        /// What was vouched for.
        witnessed: u64,
        /// Where it ends.
        last: u64,
    },
    /// As long, but with another content at what was vouched for.
    Rewritten {
        /// Where.
        sequence: u64,
    },
    /// Another stream under the same or another name, with messages.
    Recreated,
    /// The log of another cluster.
    OtherCluster,
    /// Another stream, without any message: the log is lost.
    Empty,
}

impl Integrity {
    /// One sentence for the condition `LogIntegrity`.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Ok => "The log is the one that was witnessed.".into(),
            Self::Backwards { witnessed, last } => {
                format!("The log ends at message {last}, but {witnessed} was witnessed: an older copy was put back.")
            }
            Self::Rewritten { sequence } => {
                format!("The log up to message {sequence} is not the one that was witnessed: it was rewritten.")
            }
            Self::Recreated => {
                "The stream was deleted and created again: this is not the log that was witnessed.".into()
            }
            Self::OtherCluster => "The witness is of another Kubernetes cluster's log.".into(),
            Self::Empty => "The log is empty, but the witness knows of messages: the log was lost.".into(),
        }
    }
}

impl Witness {
    /// What is vouched for, from what the server says and the reader has folded up to `sequence`.
    #[must_use]
    pub fn of(identity: &super::Identity, sequence: u64, root: Digest, epoch: Epoch) -> Self {
        Self {
            stream: identity.stream.clone(),
            stream_id: identity.stream_id.clone(),
            created: identity.created,
            cluster: identity.cluster.clone(),
            last_sequence: sequence,
            root,
            epoch,
        }
    }

    /// Compares with what the server says of the stream, before anything is read.
    #[must_use]
    pub fn judge(&self, facts: &Facts) -> Integrity {
        self.judge_stream(&facts.identity, facts.last_sequence)
    }

    /// Compares with which stream it is, and the sequence of its last message (0: none).
    #[must_use]
    pub fn judge_stream(&self, identity: &super::Identity, last_sequence: u64) -> Integrity {
        if identity.cluster != self.cluster {
            Integrity::OtherCluster
        } else if (&identity.stream, &identity.stream_id, identity.created)
            != (&self.stream, &self.stream_id, self.created)
        {
            if last_sequence == 0 { Integrity::Empty } else { Integrity::Recreated }
        } else if last_sequence < self.last_sequence {
            Integrity::Backwards { witnessed: self.last_sequence, last: last_sequence }
        } else {
            Integrity::Ok
        }
    }

    /// Compares with the root over the heads that a reader has at the witnessed sequence.
    #[must_use]
    pub fn judge_root(&self, root: &Digest) -> Integrity {
        if *root == self.root { Integrity::Ok } else { Integrity::Rewritten { sequence: self.last_sequence } }
    }

    fn data(&self) -> BTreeMap<String, String> {
        let fields = [
            ("stream", self.stream.clone()),
            ("streamId", self.stream_id.clone()),
            ("created", self.created.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            ("clusterUid", self.cluster.as_str().to_owned()),
            ("lastSequence", self.last_sequence.to_string()),
            ("root", self.root.to_string()),
            ("epoch", self.epoch.to_string()),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Reads the data of the ConfigMap.
    ///
    /// # Errors
    /// When a field is missing or cannot be read.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Error> {
        fn field<T: std::str::FromStr>(data: &BTreeMap<String, String>, key: &'static str) -> Result<T, Error> {
            data.get(key).and_then(|text| text.parse().ok()).ok_or(Error::Malformed { field: key })
        }
        Ok(Self {
            stream: field(data, "stream")?,
            stream_id: field(data, "streamId")?,
            created: field(data, "created")?,
            cluster: Uid::from(field::<String>(data, "clusterUid")?),
            last_sequence: field(data, "lastSequence")?,
            root: field(data, "root")?,
            epoch: Epoch(field(data, "epoch")?),
        })
    }
}

/// Why the witness cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server says no, or nothing.
    #[error("ConfigMap {CONFIG_MAP} cannot be read or written")]
    Api(#[source] Box<kube::Error>),
    /// Somebody has edited it.
    #[error("ConfigMap {CONFIG_MAP} was changed by hand: its field {field:?} is missing or cannot be read")]
    Malformed {
        /// Which field.
        field: &'static str,
    },
    /// Somebody else has written it since it was read.
    #[error("ConfigMap {CONFIG_MAP} was written by another operator meanwhile: read it again")]
    Conflict,
}

/// A version of the witness: writing fails when it is not the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    resource_version: String,
    /// What people wrote on it.
    annotations: BTreeMap<String, String>,
}

/// Reads the witness with a quorum read; `None` when there is none yet.
///
/// # Errors
/// When the API server does not answer, or the ConfigMap is not ours to understand.
pub async fn read(api: &Api<ConfigMap>) -> Result<Option<(Witness, Version)>, Error> {
    let Some(map) = api.get_opt(CONFIG_MAP).await.map_err(|error| Error::Api(Box::new(error)))? else {
        return Ok(None);
    };
    let witness = Witness::parse(map.data.as_ref().unwrap_or(&BTreeMap::new()))?;
    Ok(Some((witness, version(&map))))
}

/// Writes the witness: anew when `known` is none, else over exactly that version.
///
/// # Errors
/// [`Error::Conflict`] when somebody else has written, else as [`read`].
pub async fn write(api: &Api<ConfigMap>, witness: &Witness, known: Option<&Version>) -> Result<Version, Error> {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(CONFIG_MAP.into()),
            resource_version: known.map(|version| version.resource_version.clone()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".into(), "stheno".into())])),
            // Words of people are theirs.
            annotations: known.map(|version| version.annotations.clone()),
            ..ObjectMeta::default()
        },
        data: Some(witness.data()),
        ..ConfigMap::default()
    };
    let parameters = PostParams::default();
    let written = match known {
        None => api.create(&parameters, &map).await,
        Some(_) => api.replace(CONFIG_MAP, &parameters, &map).await,
    };
    match written {
        Ok(map) => Ok(version(&map)),
        // Created, replaced or deleted by somebody else since.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(Error::Conflict),
        Err(error) => Err(Error::Api(Box::new(error))),
    }
}

fn version(map: &ConfigMap) -> Version {
    let ObjectMeta { resource_version, annotations, .. } = map.metadata.clone();
    Version { resource_version: resource_version.unwrap_or_default(), annotations: annotations.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::*;
    use stheno_events::LogId;

    fn witness() -> Witness {
        Witness {
            stream: "STHENO".into(),
            stream_id: "one".into(),
            created: Time::from_timestamp(1_800_000_000, 123_456_789).unwrap(),
            cluster: "cafe".into(),
            last_sequence: 10,
            root: Digest::of(b""),
            epoch: Epoch(3),
        }
    }

    fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
        let w = witness();
        let log = LogId::of_cluster(w.cluster.as_str());
        let identity =
            Identity { stream: w.stream, stream_id: w.stream_id, created: w.created, cluster: w.cluster, log };
        let mut facts = Facts {
            identity,
            first_sequence: 1,
            last_sequence: 10,
            messages: 10,
            bytes: 1,
            clock_offset: chrono::TimeDelta::zero(),
        };
        change(&mut facts);
        facts
    }

    #[test]
    fn the_config_map_holds_all_of_it() {
        assert_eq!(Witness::parse(&witness().data()).unwrap(), witness());
    }

    #[test]
    fn what_was_edited_by_hand_is_named() {
        for key in witness().data().keys() {
            let mut data = witness().data();
            data.remove(key);
            assert!(Witness::parse(&data).unwrap_err().to_string().contains(key.as_str()), "{key}");
        }
        let mut data = witness().data();
        data.insert("lastSequence".into(), "many".into());
        assert!(matches!(Witness::parse(&data), Err(Error::Malformed { field: "lastSequence" })));
    }

    #[test]
    fn verdicts() {
        let judge = |change: fn(&mut Facts)| witness().judge(&facts(change));
        assert_eq!(judge(|_| ()), Integrity::Ok);
        assert_eq!(judge(|f| f.last_sequence = 99), Integrity::Ok);
        assert_eq!(judge(|f| f.last_sequence = 9), Integrity::Backwards { witnessed: 10, last: 9 });
        assert_eq!(judge(|f| f.last_sequence = 0), Integrity::Backwards { witnessed: 10, last: 0 });
        assert_eq!(judge(|f| f.identity.stream_id = "two".into()), Integrity::Recreated);
        assert_eq!(judge(|f| f.identity.created += chrono::TimeDelta::nanoseconds(1)), Integrity::Recreated);
        assert_eq!(judge(|f| f.identity.cluster = "beef".into()), Integrity::OtherCluster);
        let lost = |f: &mut Facts| (f.identity.stream_id, f.last_sequence) = ("two".into(), 0);
        assert_eq!(judge(lost), Integrity::Empty);
        assert_eq!(witness().judge_root(&Digest::of(b"")), Integrity::Ok);
        assert_eq!(witness().judge_root(&Digest::of(b"x")), Integrity::Rewritten { sequence: 10 });
    }
}
