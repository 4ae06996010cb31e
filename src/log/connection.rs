//! The connection to NATS: made within a bounded time, and watched, so that waiting appends learn at once that it broke.

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How the client proves who it is.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Nothing but what the URL holds.
    #[default]
    None,
    /// A `.creds` file: JWT and seed.
    File(PathBuf),
    /// A token: the embedded server's.
    Token(String),
}

/// How long each step may take. Nothing here waits without an end.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Until the first connection stands and JetStream answers.
    pub start: Duration,
    /// One request to the JetStream API.
    pub request: Duration,
    /// From a message's publication to its acknowledgement.
    pub ack: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { start: Duration::from_secs(15), request: Duration::from_secs(5), ack: Duration::from_secs(5) }
    }
}

/// Whether the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// It stands.
    pub up: bool,
    /// Grows with each loss: what was sent under an earlier number may never be answered.
    pub losses: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers.
    #[error("no NATS server answers at {url} within {} s: check that it runs and that --nats-url is right", .patience.as_secs_f32())]
    Unreachable {
        /// Where, without secrets.
        url: String,
        /// How long was tried.
        patience: Duration,
        /// The last attempt's error.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server refuses the credentials.
    #[error("the NATS server at {url} refuses the credentials: check --nats-creds")]
    Unauthorized {
        /// Where, without secrets.
        url: String,
        /// The server's answer.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The address cannot be read.
    #[error("{url:?} is no NATS address: expected nats://host:port")]
    Address {
        /// What was given, without secrets.
        url: String,
    },
    /// The credentials file cannot be read.
    #[error("the NATS credentials file {} cannot be read", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// An address as it may be shown: without user, password and token.
#[must_use]
pub fn shown(url: &str) -> String {
    url.split(',')
        .map(|one| match (one.split_once("://"), one.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (_, None) => one.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn addresses(url: &str) -> Result<Vec<async_nats::ServerAddr>, Error> {
    let list: Result<Vec<_>, _> = url.split(',').map(|one| one.trim().parse::<async_nats::ServerAddr>()).collect();
    list.map_err(|_| Error::Address { url: shown(url) })
}

/// Connects within `patience.start`; afterwards the client reconnects by itself, for ever.
///
/// # Errors
/// When the address or the credentials cannot be used, or nothing answers in time.
pub async fn connect(
    url: &str,
    credentials: &Credentials,
    patience: &Patience,
) -> Result<(Client, watch::Receiver<Link>), Error> {
    let addresses = addresses(url)?;
    let deadline = Instant::now() + patience.start;
    let (state, link) = watch::channel(Link { up: true, losses: 0 });
    let mut pause = Duration::from_millis(50);
    loop {
        let options = with_credentials(credentials, &addresses).await?;
        let attempt = configure(options, patience, state.clone())
            .custom_inbox_prefix(inbox_prefix(credentials, &addresses))
            .connect(addresses.as_slice());
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match tokio::time::timeout(left.max(Duration::from_millis(100)), attempt).await {
            Ok(Ok(client)) => return Ok((client, link)),
            Ok(Err(error)) => error,
            Err(_elapsed) => async_nats::ConnectError::new(ConnectErrorKind::TimedOut),
        };
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                return Err(Error::Unauthorized { url: shown(url), source: error });
            }
            ConnectErrorKind::ServerParse => return Err(Error::Address { url: shown(url) }),
            ConnectErrorKind::Dns
            | ConnectErrorKind::TimedOut
            | ConnectErrorKind::Tls
            | ConnectErrorKind::Io
            | ConnectErrorKind::MaxReconnects => {}
        }
        if Instant::now() + pause >= deadline {
            return Err(Error::Unreachable { url: shown(url), patience: patience.start, source: error });
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

async fn with_credentials(
    credentials: &Credentials,
    addresses: &[async_nats::ServerAddr],
) -> Result<ConnectOptions, Error> {
    match credentials {
        // async-nats takes no notice of what a URL says before the @.
        Credentials::None => Ok(match addresses.iter().find_map(|one| Some((one.username()?, one.password()))) {
            Some((user, Some(password))) => ConnectOptions::with_user_and_password(decoded(user), decoded(password)),
            Some((token, None)) => ConnectOptions::with_token(decoded(token)),
            None => ConnectOptions::new(),
        }),
        Credentials::Token(token) => Ok(ConnectOptions::with_token(token.clone())),
        Credentials::File(path) => ConnectOptions::with_credentials_file(path)
            .await
            .map_err(|source| Error::Credentials { path: path.clone(), source }),
    }
}

/// Where answers go: below the user's name where the URL tells it, so that a server can let each user listen to what it
/// is sent and to nothing else (`deploy/nats/accounts.conf`).
fn inbox_prefix(credentials: &Credentials, addresses: &[async_nats::ServerAddr]) -> String {
    let user = match credentials {
        Credentials::None => addresses.iter().find_map(|one| one.password().and(one.username())).map(decoded),
        Credentials::Token(_) | Credentials::File(_) => None,
    };
    let token = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    user.filter(|name| !name.is_empty() && token(name)).map_or_else(|| "_INBOX".into(), |name| format!("_INBOX.{name}"))
}

/// Undoes the percent-encoding of a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let code = match rest {
            [b'%', high, low, ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn configure(options: ConnectOptions, patience: &Patience, state: watch::Sender<Link>) -> ConnectOptions {
    options
        .name("stheno")
        .connection_timeout(Duration::from_secs(5).min(patience.start))
        .request_timeout(Some(patience.request))
        .ping_interval(Duration::from_secs(10))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| {
            // The default doubles up to 4 s; a log that is back should be used at once.
            Duration::from_millis(u64::try_from(attempt).unwrap_or(u64::MAX).saturating_mul(50).min(1_000))
        })
        .event_callback(move |event| {
            match event {
                Event::Connected => state.send_modify(|link| link.up = true),
                Event::Disconnected | Event::Closed => state.send_modify(|link| {
                    link.up = false;
                    link.losses += 1;
                }),
                Event::SlowConsumer(id) => {
                    tracing::warn!(subscription = id, "messages were dropped: the reader is slow");
                }
                Event::ServerError(error) => tracing::warn!(%error, "the NATS server reports an error"),
                Event::ClientError(error) => tracing::debug!(%error, "the NATS client reports an error"),
                Event::LameDuckMode | Event::Draining => {}
            }
            std::future::ready(())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("nats://user:pa@ss@a:4222,tls://token@b:1"), "nats://a:4222,tls://b:1");
        assert_eq!(shown("a:4222"), "a:4222");
        assert_eq!(shown("token@a:4222"), "a:4222");
    }

    #[test]
    fn a_url_may_hold_any_password() {
        assert_eq!(decoded("p%40s%3As%C3%BC%"), "p@s:sü%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused() {
        let error = connect("nats://[", &Credentials::None, &Patience::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "\"nats://[\" is no NATS address: expected nats://host:port");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_given_up_in_time() {
        let patience = Patience { start: Duration::from_millis(300), ..Patience::default() };
        let begun = Instant::now();
        let error = connect("nats://127.0.0.1:1", &Credentials::None, &patience).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(error.to_string().starts_with("no NATS server answers at nats://127.0.0.1:1 within 0.3 s"), "{error}");
    }
}
