//! A proxy before a store that fails as stores do: throttles, answers 5xx, is slow, breaks off, resets, or says nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing: the store answers.
    None,
    /// The store is not asked; the proxy answers with a status and S3's code for it.
    Answer(u16, &'static str),
    /// The store's answer comes at so many bytes per second.
    Slow(usize),
    /// The store's answer ends after so many bytes of its body.
    Truncate(usize),
    /// The connection is reset; the store may have done what was asked.
    Reset {
        /// Whether the store was asked before.
        after: bool,
    },
    /// The store does what is asked, and takes two seconds before the connection is reset.
    Late,
    /// Nobody ever answers.
    Silence,
}

/// How the store behind the proxy encrypts, as far as clients see: no S3 server that runs here does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Encryption {
    /// The bucket, with a key of KMS, whatever is asked for.
    Kms,
    /// With the customer's key, without which no object can be read or written.
    Customer,
}

/// One request that came by.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) at: Instant,
}

type Rule = Box<dyn FnMut(&Seen) -> Fault + Send>;

/// A proxy on a port of its own, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    encryption: Arc<Mutex<Option<Encryption>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Before the store at `upstream`; nothing fails until a rule says so.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let encryption = Arc::<Mutex<Option<Encryption>>>::default();
        let task = tokio::spawn({
            let (rule, seen, encryption) = (Arc::clone(&rule), Arc::clone(&seen), Arc::clone(&encryption));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    // A client that goes away is none of the proxy's troubles.
                    let how = *encryption.lock().unwrap();
                    tokio::spawn(serve(client, upstream, Arc::clone(&rule), Arc::clone(&seen), how));
                }
            }
        });
        Self { address, rule, seen, encryption, task }
    }

    /// From now on.
    pub(crate) fn rule(&self, rule: impl FnMut(&Seen) -> Fault + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
        self.seen.lock().unwrap().clear();
    }

    /// What comes from now on is encrypted.
    pub(crate) fn encrypts(&self, how: Encryption) {
        *self.encryption.lock().unwrap() = Some(how);
    }

    /// What came by since the last rule.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request for each connection: the client is told to close.
async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    rule: Arc<Mutex<Rule>>,
    all: Arc<Mutex<Vec<Seen>>>,
    encryption: Option<Encryption>,
) -> std::io::Result<()> {
    let Some((head, mut body)) = head(&mut client).await? else { return Ok(()) };
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_whitespace().map(str::to_owned);
    let seen = Seen { method: words.next().unwrap(), path: words.next().unwrap(), at: Instant::now() };
    let fault = (rule.lock().unwrap())(&seen);
    let keyless =
        encryption == Some(Encryption::Customer) && of_content(&seen) && header(&text, CUSTOMER_KEY).is_none();
    let fault = if keyless { Fault::Answer(400, "InvalidRequest") } else { fault };
    all.lock().unwrap().push(seen.clone());
    let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    match fault {
        Fault::Reset { after: false } => return reset(client),
        Fault::Silence => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
        Fault::None
        | Fault::Answer(..)
        | Fault::Slow(_)
        | Fault::Truncate(_)
        | Fault::Late
        | Fault::Reset { after: true } => {}
    }
    let mut rest = vec![0; length - body.len()];
    client.read_exact(&mut rest).await?;
    body.extend(rest);
    if let Fault::Answer(status, code) = fault {
        let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
        // An answer to HEAD has no body, whatever it says of its length.
        let xml = if seen.method == "HEAD" { String::new() } else { xml };
        let answer =
            format!("HTTP/1.1 {status} Fault\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{xml}", xml.len());
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut store = TcpStream::connect(upstream).await?;
    let kept = text.split("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:"));
    let kept = kept.collect::<Vec<_>>().join("\r\n");
    let head = format!("{}\r\nConnection: close\r\n\r\n", kept.trim_end());
    store.write_all(head.as_bytes()).await?;
    store.write_all(&body).await?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer).await?;
    if let Some(how) = encryption {
        answer = veiled(&answer, &seen, how);
    }
    match fault {
        Fault::Reset { .. } => return reset(client),
        Fault::Late => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return reset(client);
        }
        Fault::Slow(rate) => {
            for piece in answer.chunks(rate.div_ceil(20)) {
                client.write_all(piece).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Fault::Truncate(bytes) => {
            let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
            client.write_all(&answer[..answer.len().min(body + bytes)]).await?;
        }
        Fault::None | Fault::Answer(..) | Fault::Silence => client.write_all(&answer).await?,
    }
    client.shutdown().await
}

const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-key";

fn query(seen: &Seen) -> &str {
    seen.path.split_once('?').map_or("", |(_, query)| query)
}

/// Whether an object's content goes or comes with a request.
fn of_content(seen: &Seen) -> bool {
    match seen.method.as_str() {
        "GET" | "HEAD" => seen.path.trim_matches('/').contains('/') && query(seen).is_empty(),
        "PUT" => seen.path.trim_matches('/').contains('/'),
        "POST" => query(seen).starts_with("uploads"),
        _ => false,
    }
}

/// An answer as AWS gives it of what is encrypted: the tag is none of the content, and headers tell how it is encrypted. The
/// end of an upload in parts tells nothing of a customer's key; tags of single parts stay, for the store must know them.
fn veiled(answer: &[u8], seen: &Seen, how: Encryption) -> Vec<u8> {
    let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return answer.to_vec() };
    let (head, body) = (String::from_utf8_lossy(&answer[..at]), &answer[at..]);
    let completes = seen.method == "POST" && query(seen).starts_with("uploadId=");
    let lists = query(seen).contains("list-type=2");
    let mut head = if query(seen).contains("partNumber=") { head.into_owned() } else { turned(&head) };
    if (of_content(seen) || completes) && head.starts_with("HTTP/1.1 2") {
        head += match how {
            Encryption::Kms => "\r\nx-amz-server-side-encryption: aws:kms",
            Encryption::Customer if completes => "",
            Encryption::Customer => "\r\nx-amz-server-side-encryption-customer-algorithm: AES256",
        };
    }
    let body = if completes || lists { turned(&String::from_utf8_lossy(body)).into_bytes() } else { body.to_vec() };
    [head.into_bytes(), body].concat()
}

/// Each tag with other digits: as good as any other for who cannot know it, and always the same.
fn turned(text: &str) -> String {
    let (lower, mut turned, mut at) = (text.to_ascii_lowercase(), String::new(), 0);
    while let Some(found) = lower[at..].find("etag") {
        let behind = at + found + 4;
        let tag = |begin: &usize| {
            lower.get(*begin..begin + 32).is_some_and(|tag| tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        let Some(begin) = (behind..behind + 16).find(tag) else {
            turned.push_str(&text[at..behind]);
            at = behind;
            continue;
        };
        turned.push_str(&text[at..begin]);
        let digits = text[begin..begin + 32].chars();
        turned.extend(digits.filter_map(|c| char::from_digit((c.to_digit(16)? + 5) % 16, 16)));
        at = begin + 32;
    }
    turned + &text[at..]
}

/// The head of a request with its empty line, and what came of the body with it.
async fn head(client: &mut TcpStream) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut read = Vec::new();
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = read.split_off(at + 4);
            return Ok(Some((read, body)));
        }
        let mut piece = [0; 4096];
        match client.read(&mut piece).await? {
            0 => return Ok(None),
            length => read.extend_from_slice(&piece[..length]),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.split("\r\n").find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim())
}

/// Closes with RST instead of FIN.
fn reset(client: TcpStream) -> std::io::Result<()> {
    client.set_zero_linger()
}
