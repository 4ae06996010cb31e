//! The way of requests to a store: what takes long is no failure, what stands still is one.
//!
//! A part of fifty megabytes on a slow line takes minutes, and nothing is wrong as long as bytes go; so there is no limit of
//! a request in all where nobody waits for the answer, only one of the time in which next to nothing goes or comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::Certificate;

use super::pace::{Awaited, PIECE, Pace, Pieces, stalled};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// The same where credentials are asked for, at an address that may not exist outside of a cloud.
const CONNECT_METADATA: Duration = Duration::from_secs(1);

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// From its begin to the end of the answer, if somebody waits for it.
    pub(super) whole: Option<Duration>,
    /// Of what goes on.
    pub(super) pace: Pace,
}

/// Connects the clients of stores.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub(super) limits: Limits,
    /// Trusted beside those of the system.
    pub(super) authorities: Vec<Certificate>,
}

impl Transport {
    /// What a store's client is told beside it; what differs from it is for credentials.
    pub(super) fn options() -> ClientOptions {
        ClientOptions::new().with_connect_timeout(CONNECT).with_allow_http(true)
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let of = |key| options.get_config_value(&key);
        let usual = Self::options().get_config_value(&ClientConfigKey::ConnectTimeout);
        let metadata = of(ClientConfigKey::ConnectTimeout) != usual;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stheno/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .connect_timeout(if metadata { CONNECT_METADATA } else { CONNECT })
            .tls_certs_merge(self.authorities.iter().cloned())
            .tls_danger_accept_invalid_certs(of(ClientConfigKey::AllowInvalidCertificates).as_deref() == Some("true"))
            // An object's size is that of what lies there.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if let Some(whole) = self.limits.whole {
            builder = builder.timeout(whole);
        }
        let failed = |error| object_store::Error::Generic { store: "HTTP client", source: Box::new(error) };
        let client = builder.build().map_err(failed)?;
        Ok(HttpClient::new(Client { client, pace: self.limits.pace }))
    }
}

/// In the extensions of S3's answer: the object is encrypted with a key of its own, and its ETag is not made of its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opaque;

/// Whether an answer tells of such an encryption: SSE-KMS, with one layer or two, or SSE-C
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>).
fn opaque(headers: &http::HeaderMap) -> bool {
    let kms = headers.get("x-amz-server-side-encryption").is_some_and(|kind| kind.as_bytes().starts_with(b"aws:kms"));
    kms || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    pace: Pace,
}

#[async_trait::async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string());
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let (sent, total) = (Arc::new(AtomicU64::new(0)), body.content_length() as u64);
        let small = body.as_bytes().filter(|content| content.len() <= PIECE).cloned();
        *request.body_mut() = Some(match small {
            Some(content) => {
                // It goes in one piece.
                sent.store(total, Ordering::Relaxed);
                content.into()
            }
            None => reqwest::Body::wrap(Pieces::of(body, Arc::clone(&sent))),
        });
        let answer = tokio::select! {
            answer = self.client.execute(request) => answer.map_err(trouble)?,
            why = stalled(&sent, total, self.pace) => return Err(why.into()),
        };
        let (mut parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        if opaque(&parts.headers) {
            parts.extensions.insert(Opaque);
        }
        let body = HttpResponseBody::new(Awaited::of(body, self.pace));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// What a failure is, which decides whether a client tries again. The address is no part of it: it may be signed.
pub(super) fn trouble(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        below(&error)
    };
    HttpError::new(kind, error.without_url())
}

/// The same by what the connection said.
fn below(error: &reqwest::Error) -> HttpErrorKind {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
                return HttpErrorKind::Request;
            }
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
        }
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::TimedOut) {
            return HttpErrorKind::Timeout;
        }
        if matches!(
            kind,
            Some(
                std::io::ErrorKind::ConnectionAborted
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::UnexpectedEof
            )
        ) {
            return HttpErrorKind::Interrupted;
        }
        source = error.source();
    }
    HttpErrorKind::Unknown
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use object_store::PutPayload;
    use object_store::client::HttpRequestBody;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::Instant;

    use super::*;

    /// Long beside what a busy machine holds up a step.
    const SILENCE: Duration = Duration::from_secs(2);
    const SIZE: usize = 24 << 20;

    /// A server with little room of its own, so that what it does not read stays with the client.
    fn listener() -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(8).unwrap()
    }

    async fn ask(to: &TcpListener, method: http::Method, body: HttpRequestBody) -> Result<HttpResponse, HttpError> {
        asks(to, method, body, 1).await
    }

    /// With so many bytes as the least that is progress.
    async fn asks(
        to: &TcpListener,
        method: http::Method,
        body: HttpRequestBody,
        least: u64,
    ) -> Result<HttpResponse, HttpError> {
        let limits = Limits { whole: None, pace: Pace { window: SILENCE, least, answer: SILENCE } };
        let transport = Transport { limits, authorities: Vec::new() };
        let client = transport.connect(&Transport::options()).unwrap();
        let length = body.content_length();
        let request = http::Request::builder().method(method).uri(format!("http://{}/k", to.local_addr().unwrap()));
        client.execute(request.header("content-length", length).body(body).unwrap()).await
    }

    async fn head(stream: &mut TcpStream) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
    }

    /// Reads a body of [`SIZE`] in so many steps, `wait` before each, until `stop`.
    async fn slow_reader(listener: &TcpListener, steps: usize, wait: Duration, stop: usize) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let mut piece = vec![0; SIZE / steps];
        for _ in 0..steps.min(stop) {
            tokio::time::sleep(wait).await;
            stream.read_exact(&mut piece).await.unwrap();
            assert!(piece.iter().all(|byte| *byte == 7));
        }
        stream
    }

    fn content() -> HttpRequestBody {
        PutPayload::from(vec![7_u8; SIZE]).into()
    }

    /// The content takes three times as long as nothing may happen, and then the answer half as long again.
    #[tokio::test]
    async fn what_goes_slowly_goes() {
        let listener = listener();
        let server = async {
            let mut stream = slow_reader(&listener, 12, SILENCE / 4, 12).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await.unwrap();
            for piece in [b"a", b"b", b"c", b"d", b"e", b"f"] {
                tokio::time::sleep(SILENCE / 4).await;
                stream.write_all(piece).await.unwrap();
            }
        };
        let begun = Instant::now();
        let (answer, ()) = tokio::join!(
            async {
                let answer = ask(&listener, http::Method::PUT, content()).await.unwrap();
                answer.into_body().collect().await.unwrap().to_bytes()
            },
            server
        );
        assert_eq!(answer, "abcdef");
        assert!(begun.elapsed() > SILENCE * 4, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_stands_still_is_given_up() {
        // Nobody reads on.
        let listener = listener();
        let begun = Instant::now();
        let server = slow_reader(&listener, 12, Duration::ZERO, 2);
        let (answer, _kept) = tokio::join!(ask(&listener, http::Method::PUT, content()), server);
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("no byte went"), "{error}");
        assert!(begun.elapsed() < SILENCE * 6, "{:?}", begun.elapsed());

        // Nothing is answered, and an answer stops in the middle.
        for said in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab"] {
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                head(&mut stream).await;
                stream.write_all(said.as_bytes()).await.unwrap();
                stream
            };
            let asked = async {
                match ask(&listener, http::Method::GET, HttpRequestBody::empty()).await {
                    Ok(answer) => answer.into_body().collect().await.map(drop),
                    Err(error) => Err(error),
                }
            };
            let (outcome, _kept) = tokio::join!(asked, server);
            assert_eq!(outcome.unwrap_err().kind(), HttpErrorKind::Timeout, "{said:?}");
        }
    }
    /// Of each connection comes a byte now and then, or goes a piece, and that is no progress.
    #[tokio::test]
    async fn what_trickles_is_given_up() {
        let listener = listener();
        let begun = Instant::now();
        let trickle = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
            // Until the client has had enough.
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SILENCE / 8).await;
            }
        };
        let asked = async {
            let answer = asks(&listener, http::Method::GET, HttpRequestBody::empty(), 100).await.unwrap();
            let error = answer.into_body().collect().await.unwrap_err();
            assert_eq!(error.kind(), HttpErrorKind::Timeout);
            assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("only "), "{error}");
        };
        tokio::join!(trickle, asked);
        assert!(begun.elapsed() < SILENCE * 4, "{:?}", begun.elapsed());

        let begun = Instant::now();
        let server = slow_reader(&listener, 48, SILENCE / 4, 48);
        let asked = asks(&listener, http::Method::PUT, content(), SIZE as u64 / 4);
        let error = tokio::select! {
            answer = asked => answer.unwrap_err(),
            _ = server => panic!("everything was taken"),
        };
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("only "), "{error}");
        assert!(begun.elapsed() < SILENCE * 6, "{:?}", begun.elapsed());
    }

    /// Who reads may be slow: the connection is not to blame.
    #[tokio::test]
    async fn a_slow_reader_is_not_a_slow_connection() {
        let listener = listener();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef").await.unwrap();
            stream
        };
        let asked = async {
            let answer = ask(&listener, http::Method::GET, HttpRequestBody::empty()).await.unwrap();
            tokio::time::sleep(SILENCE * 2).await;
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        let (content, _kept) = tokio::join!(asked, server);
        assert_eq!(content, "abcdef");
    }

    #[test]
    fn answers_tell_which_tags_say_nothing() {
        let of = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
            opaque(&headers.collect())
        };
        assert!(!of(&[]) && !of(&[("x-amz-server-side-encryption", "AES256")]));
        for kind in ["aws:kms", "aws:kms:dsse"] {
            assert!(of(&[("x-amz-server-side-encryption", kind)]), "{kind}");
        }
        assert!(of(&[("x-amz-server-side-encryption-customer-algorithm", "AES256")]));
    }
}
