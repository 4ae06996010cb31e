//! Snapshots by JMX over HTTP: what Jolokia's agent in Cassandra's process makes of a POST.

use serde_json::{Value, json};

use super::{Error, excerpt};

/// Cassandra's bean.
const BEAN: &str = "org.apache.cassandra.db:type=StorageService";

/// Takes a snapshot of every table.
pub(super) async fn take(client: &reqwest::Client, url: &str, tag: &str) -> Result<(), Error> {
    let operation = "takeSnapshot(java.lang.String,java.util.Map,[Ljava.lang.String;)";
    call(client, url, "take", tag, operation, json!([tag, {}, []])).await
}

/// Clears a snapshot in all keyspaces.
pub(super) async fn clear(client: &reqwest::Client, url: &str, tag: &str) -> Result<(), Error> {
    let operation = "clearSnapshot(java.lang.String,[Ljava.lang.String;)";
    call(client, url, "clear", tag, operation, json!([tag, []])).await
}

async fn call(
    client: &reqwest::Client,
    url: &str,
    action: &'static str,
    tag: &str,
    operation: &str,
    arguments: Value,
) -> Result<(), Error> {
    let unreachable = |source: reqwest::Error| Error::Unreachable { url: url.to_owned(), source: source.without_url() };
    let request = json!({ "type": "exec", "mbean": BEAN, "operation": operation, "arguments": arguments });
    let answer = client.post(url).json(&request).send().await.map_err(unreachable)?;
    let (http, text) = (answer.status(), answer.text().await.map_err(unreachable)?);
    // Its own status counts: an exception of Cassandra's comes with HTTP 200.
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    if http.is_success() && answer.get("status").and_then(Value::as_i64) == Some(200) {
        return Ok(());
    }
    let said = answer.get("error").and_then(Value::as_str).unwrap_or(&text);
    Err(Error::Jolokia { action, tag: tag.to_owned(), answer: excerpt(&format!("{}: {said}", http.as_u16())) })
}
