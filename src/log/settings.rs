//! Opening the log: the stream is made with the settings it needs, read back, and judged.

use super::append::Acks;
use super::clock::{Clock, Gauge, Skew};
use super::connection::{self, Credentials, Patience};
use super::durability::{Durability, Reason};
use super::embedded::{self, Embedded};
use super::stream::{self, CLUSTER_UID, Info, LOG_ID, STREAM_ID};
use super::{Inner, Log};
use async_nats::jetstream::{self, ErrorCode, context::CreateStreamErrorKind, stream as js};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stheno_events::{LogId, Uid, subject};
use tokio::time::{Instant, sleep};

/// Where the log is.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A NATS server of somebody's.
    External {
        /// `nats://host:port`, or several with commas.
        url: String,
        /// How to prove who we are.
        credentials: Credentials,
    },
    /// A private server, started when none runs for this folder.
    Embedded {
        /// Where its store lies.
        data_dir: PathBuf,
        /// The program: a path or a name on PATH; else `STHENO_NATS_SERVER`, else `nats-server` on PATH.
        program: Option<PathBuf>,
    },
}

/// What is needed to open the log.
#[derive(Clone)]
pub struct Settings {
    /// Where it is.
    pub endpoint: Endpoint,
    /// The stream's name.
    pub stream: String,
    /// UID of namespace kube-system: the stream is created when it is missing, and must be this cluster's. Without one
    /// an existing stream is opened, of whatever cluster it is: for reading.
    pub cluster: Option<Uid>,
    /// `--allow-relaxed-log`: what is refused by default becomes a reason of [`Durability::Relaxed`].
    pub allow_relaxed: bool,
    /// The wall clock, given by the process's edge.
    pub clock: Clock,
    /// How long steps may take.
    pub patience: Patience,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] connection::Error),
    /// No private server.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The stream cannot be read.
    #[error(transparent)]
    Stream(#[from] stream::Error),
    /// JetStream is off, or has no leader.
    #[error("JetStream is not available on the NATS server at {url}: start it with JetStream enabled for this account")]
    NoJetStream {
        /// Where.
        url: String,
    },
    /// The stream cannot be made.
    #[error("stream {stream} cannot be created: {answer}")]
    Create {
        /// Its name.
        stream: String,
        /// The server's words.
        answer: String,
    },
    /// The stream is somebody else's.
    #[error("stream {stream} belongs to something else ({what}): choose another name with --stream")]
    NotOurs {
        /// Its name.
        stream: String,
        /// What shows it.
        what: String,
    },
    /// The stream is the log of another cluster.
    #[error(
        "stream {stream} is the log of another Kubernetes cluster (kube-system {found}, this one is {ours}): choose another name with --stream"
    )]
    OtherCluster {
        /// Its name.
        stream: String,
        /// UID in the stream's metadata.
        found: Uid,
        /// Our UID.
        ours: Uid,
    },
    /// The log would not be safe.
    #[error("the log is refused because {0}; --allow-relaxed-log accepts that")]
    Unsafe(Reason),
    /// The inbox cannot be opened.
    #[error("the NATS connection broke while the log was opened")]
    Subscribe(#[from] async_nats::SubscribeError),
}

impl Log {
    /// Connects, makes the stream when it is missing, and judges what the server says of it.
    ///
    /// # Errors
    /// When there is no server, the stream is not ours, or the log would not be safe; within `patience.start` and a few
    /// requests.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let (embedded, url, credentials) = match &settings.endpoint {
            Endpoint::External { url, credentials } => (None, url.clone(), credentials.clone()),
            Endpoint::Embedded { data_dir, program } => {
                let server = Embedded::start_or_find(data_dir, program.clone(), settings.patience.start).await?;
                let (url, token) = (server.url(), server.token().to_owned());
                (Some(server), url, Credentials::Token(token))
            }
        };
        let (client, link) = connection::connect(&url, &credentials, &settings.patience).await?;
        if let Some(server) = &embedded {
            server.keep_alive(client.clone());
        }
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(settings.patience.request)
            .ack_timeout(settings.patience.ack)
            .build(client.clone());

        let opening = Opening { settings: &settings, url: connection::shown(&url), jetstream: &jetstream };
        let info = opening.stream().await?;
        let account = jetstream.query_account().await.ok();
        let reasons =
            super::durability::reasons(&client.server_info().version, &info, account.as_ref(), embedded.is_some());
        if let Some(reason) = reasons.iter().find(|reason| reason.is_refused())
            && !settings.allow_relaxed
        {
            return Err(Error::Unsafe(reason.clone()));
        }
        let durability = Durability::of(reasons);

        let acks = Acks::subscribe(&client, link.clone()).await?;
        let identity = info.identity()?;
        let gauge = Gauge::new(Arc::clone(&settings.clock));
        let before = (settings.clock)();
        let facts = stream::info(&jetstream, &settings.stream).await?.facts(before, (settings.clock)())?;
        gauge.measured(facts.clock_offset);
        let log = Self {
            inner: Arc::new(Inner {
                max_message: usize::try_from(info.config.max_message_size).ok().filter(|size| *size > 0),
                replicas: info.config.num_replicas,
                acks,
                client,
                jetstream,
                link,
                identity,
                durability,
                gauge,
                clock: settings.clock,
                patience: settings.patience,
                embedded,
            }),
        };
        Ok(log)
    }

    /// Measures the wall clock against the server's.
    ///
    /// # Errors
    /// When the stream does not answer.
    pub async fn measure_skew(&self) -> Result<Skew, stream::Error> {
        Ok(Skew::of(self.facts().await?.clock_offset))
    }
}

struct Opening<'a> {
    settings: &'a Settings,
    url: String,
    jetstream: &'a jetstream::Context,
}

impl Opening<'_> {
    /// The stream, made where it is missing, ours.
    async fn stream(&self) -> Result<Info, Error> {
        let info = self.found_or_created().await?;
        let Some(cluster) = &self.settings.cluster else {
            // For reading: whichever cluster's it is, it must be a log.
            info.identity()?;
            return Ok(info);
        };
        let info = self.claimed(info, cluster).await?;
        Ok(self.replicated(info).await)
    }

    async fn found_or_created(&self) -> Result<Info, Error> {
        let deadline = Instant::now() + self.settings.patience.start;
        let mut replicas = 3;
        loop {
            let error = match stream::info(self.jetstream, &self.settings.stream).await {
                Ok(info) => return Ok(info),
                Err(stream::Error::Missing(name)) => {
                    let Some(cluster) = &self.settings.cluster else { return Err(stream::Error::Missing(name).into()) };
                    match self.create(cluster, replicas, deadline).await? {
                        Created::Done => continue,
                        Created::With(fewer) => {
                            replicas = fewer;
                            continue;
                        }
                        Created::Later => None,
                    }
                }
                Err(error) if error.is_passing() => Some(error),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() >= deadline {
                return Err(match error {
                    Some(stream::Error::Request(_)) | None => Error::NoJetStream { url: self.url.clone() },
                    Some(error) if error.is_disabled() => Error::NoJetStream { url: self.url.clone() },
                    Some(error) => error.into(),
                });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn create(&self, cluster: &Uid, replicas: usize, deadline: Instant) -> Result<Created, Error> {
        let config = config(&self.settings.stream, cluster, replicas);
        match self.jetstream.create_stream(config).await.map_err(|error| error.kind()) {
            Ok(_) => Ok(Created::Done),
            Err(CreateStreamErrorKind::JetStream(answer)) => match answer.error_code() {
                // A single server.
                ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => Ok(Created::With(1)),
                // A cluster of fewer than three, or one that is still assembling: waited for half the time.
                ErrorCode::CLUSTER_NO_PEERS | ErrorCode::INSUFFICIENT_RESOURCES if replicas > 1 => {
                    let half = self.settings.patience.start / 2;
                    Ok(if Instant::now() + half < deadline { Created::Later } else { Created::With(1) })
                }
                // Another process made it at the same moment.
                ErrorCode::STREAM_NAME_EXIST => Ok(Created::Done),
                ErrorCode::STREAM_SUBJECT_OVERLAP => Err(Error::Create {
                    stream: self.settings.stream.clone(),
                    answer: "another stream holds this cluster's subjects; name it with --stream".into(),
                }),
                _ if answer.code() >= 500 && Instant::now() < deadline => Ok(Created::Later),
                _ => Err(Error::Create { stream: self.settings.stream.clone(), answer: answer.to_string() }),
            },
            Err(CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable) => Ok(Created::Later),
            Err(other) => Err(Error::Create { stream: self.settings.stream.clone(), answer: other.to_string() }),
        }
    }

    /// Refuses what is not this cluster's log; takes an empty stream that was made for us without metadata.
    async fn claimed(&self, info: Info, cluster: &Uid) -> Result<Info, Error> {
        let stream = || self.settings.stream.clone();
        let not_ours = |what: String| Error::NotOurs { stream: stream(), what };
        if let Some(found) = info.config.metadata.get(CLUSTER_UID)
            && found != cluster.as_str()
        {
            return Err(Error::OtherCluster {
                stream: stream(),
                found: Uid::from(found.as_str()),
                ours: cluster.clone(),
            });
        }
        let ours = subject::all(&LogId::of_cluster(cluster.as_str()));
        if info.config.subjects != [ours.as_str()] {
            return Err(not_ours(format!(
                "its subjects are {}, ours would be {ours}",
                info.config.subjects.join(", ")
            )));
        }
        if info.config.retention != js::RetentionPolicy::Limits {
            return Err(not_ours("it forgets what was read".into()));
        }
        if info.config.mirror.is_some() || info.config.sources.is_some() {
            return Err(not_ours("it copies another stream".into()));
        }
        if info.config.sealed || info.config.no_ack {
            return Err(not_ours("it takes no messages, or does not acknowledge them".into()));
        }
        if info.identity().is_ok() {
            return Ok(info);
        }
        if info.state.last_seq > 0 {
            return Err(not_ours("it has messages and does not say of which cluster".into()));
        }
        let mut config = info.config;
        config.metadata.extend(metadata(cluster));
        (config.deny_delete, config.deny_purge, config.allow_direct) = (true, true, true);
        self.jetstream
            .update_stream(&config)
            .await
            .map_err(|error| Error::Create { stream: stream(), answer: error.to_string() })?;
        Ok(stream::info(self.jetstream, &self.settings.stream).await?)
    }

    /// Raises the replicas of a stream that was made when the cluster was smaller; where that fails, it stays and is
    /// judged as it is.
    async fn replicated(&self, info: Info) -> Info {
        let clustered = info.cluster.as_ref().is_some_and(|cluster| cluster.name.is_some());
        if !clustered || info.config.num_replicas >= 3 {
            return info;
        }
        let raised = js::Config { num_replicas: 3, ..info.config.clone() };
        match self.jetstream.update_stream(&raised).await {
            Ok(_) => stream::info(self.jetstream, &self.settings.stream).await.unwrap_or(info),
            Err(error) => {
                tracing::warn!(%error, replicas = info.config.num_replicas, "the stream cannot be replicated further");
                info
            }
        }
    }
}

enum Created {
    Done,
    With(usize),
    Later,
}

fn metadata(cluster: &Uid) -> [(String, String); 3] {
    [
        (CLUSTER_UID.into(), cluster.as_str().into()),
        (LOG_ID.into(), LogId::of_cluster(cluster.as_str()).as_str().into()),
        (STREAM_ID.into(), uuid::Uuid::new_v4().to_string()),
    ]
}

/// The stream as it should be.
fn config(name: &str, cluster: &Uid, num_replicas: usize) -> js::Config {
    js::Config {
        name: name.to_owned(),
        description: Some("The event log of stheno: append-only".into()),
        subjects: vec![subject::all(&LogId::of_cluster(cluster.as_str()))],
        retention: js::RetentionPolicy::Limits,
        discard: js::DiscardPolicy::New,
        storage: js::StorageType::File,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        num_replicas,
        duplicate_window: Duration::from_secs(120),
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        metadata: metadata(cluster).into_iter().collect(),
        ..js::Config::default()
    }
}
