//! `deploy/nats/accounts.conf` on a real nats-server: a consumer reads its namespace and nothing else, an auditor reads
//! everything, and neither changes anything.

use crate::nats::written_to;
use crate::story::{Story, dc, two_backups};
use async_nats::jetstream::{
    self,
    consumer::{self, AckPolicy, PullConsumer},
};
use futures::StreamExt as _;
use std::process::{Command, Output};
use std::time::Duration;
use stheno::log::{Credentials, Endpoint};
use stheno_events::datacenter::Led;
use stheno_events::{Aggregate, DcKey, Process};
use stheno_local::nats::{Options, Server};
use stheno_local::testing::nats_with;

/// A server with the accounts as they are shipped.
async fn server() -> Server {
    let accounts = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nats/accounts.conf");
    let accounts = std::fs::read_to_string(accounts).unwrap();
    let extra = ["OPERATOR", "AUDITOR", "PROD"].iter().fold(accounts, |text, user| {
        text.replace(&format!("$STHENO_{user}_PASSWORD"), &format!("\"{}-word\"", user.to_lowercase()))
    });
    nats_with(&Options { extra, ..Options::default() }).await.unwrap()
}

fn url(server: &Server, user: &str) -> String {
    format!("nats://{user}:{user}-word@{}", server.address())
}

/// Two namespaces, one of them "prod".
fn story() -> Story {
    let mut story = two_backups();
    let led = Led { epoch: story.epoch, quiet_until: None };
    story.say(&dc("dc2"), Process::Observed, vec![led.clone().into()]);
    let elsewhere = Aggregate::Datacenter(DcKey::new("secret", "dc1"));
    story.say(&elsewhere, Process::Observed, vec![led.into()]);
    story
}

fn stheno(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stheno")).args(arguments).env_clear().output().unwrap()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// JetStream as this user, with a short patience: what is forbidden is not answered.
async fn jetstream(server: &Server, user: &str) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), format!("{user}-word"))
        .custom_inbox_prefix(format!("_INBOX.{user}"));
    let client = options.connect(server.url()).await.unwrap();
    let mut jetstream = jetstream::new(client);
    jetstream.set_timeout(Duration::from_millis(400));
    jetstream
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_may_do_its_part_and_no_more() {
    let (server, story) = (server().await, story());
    let endpoint = Endpoint::External { url: url(&server, "operator"), credentials: Credentials::None };
    let log = written_to(endpoint, &story).await;
    let messages = story.messages.len() as u64;

    let taken = forbidden_to_auditors(&server, log.id().as_str()).await;
    let prod = url(&server, "prod");
    let read = ["events", "--nats-url", &prod, "--durable", "prod", "--namespace", "prod", "-o", "json"];
    let events = lines(&stheno(&read));
    assert!(events.len() > 20, "{}", events.len());
    assert!(events.iter().all(|event| event["namespace"] == "prod"), "{events:?}");
    assert_eq!(events[0]["sequence"].as_u64().unwrap(), taken[0], "nothing was acknowledged for it");
    assert!(lines(&stheno(&read)).is_empty(), "it goes on where it stopped");
    let auditor = url(&server, "auditor");
    let verified = stheno(&["audit", "verify", "--nats-url", &auditor]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    let all = lines(&stheno(&["events", "--nats-url", &auditor, "-o", "json"]));
    assert!(all.iter().any(|event| event["namespace"] == "secret"));

    for user in ["prod", "auditor"] {
        forbidden_to_change(&jetstream(&server, user).await, log.id().as_str()).await;
    }
    forbidden_to_prod(&server, log.id().as_str()).await;
    assert_eq!(log.facts().await.unwrap().messages, messages, "nobody changed anything");
    log.close().await;
}

/// Publish, purge, delete, change: nothing of it is answered.
async fn forbidden_to_change(user: &jetstream::Context, log: &str) {
    // It is connected, and what it may ask is answered.
    user.get_stream("STHENO").await.unwrap();
    let subject = format!("stheno.v1.{log}.prod.dc1.backup");
    let published = user.publish(subject, "forged".into()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), published).await.map_or(true, |ack| ack.is_err()));
    for (request, body) in [
        ("STREAM.PURGE.STHENO", serde_json::json!({})),
        ("STREAM.DELETE.STHENO", serde_json::json!({})),
        ("STREAM.MSG.DELETE.STHENO", serde_json::json!({ "seq": 1 })),
        ("STREAM.UPDATE.STHENO", serde_json::json!({ "name": "STHENO", "subjects": ["x"] })),
    ] {
        let answer: Result<serde_json::Value, _> = user.request(request, &body).await;
        assert!(answer.is_err(), "{request}: {answer:?}");
    }
}

/// Ways to somebody else's named reader: it has been sent some messages and has not dealt with them; their sequences.
async fn forbidden_to_auditors(server: &Server, log: &str) -> Vec<u64> {
    let (prod, auditor) = (jetstream(server, "prod").await, jetstream(server, "auditor").await);
    let config = consumer::pull::Config {
        durable_name: Some("prod".into()),
        filter_subject: format!("stheno.v1.{log}.prod.>"),
        ack_policy: AckPolicy::All,
        ..Default::default()
    };
    let own = prod.create_consumer_on_stream(config.clone(), "STHENO").await.unwrap();
    let sent: Vec<_> = own.fetch().max_messages(3).messages().await.unwrap().collect().await;
    let sent: Vec<jetstream::Message> = sent.into_iter().map(Result::unwrap).collect();
    assert_eq!(sent.len(), 3);

    // It sees the reader, and gets nothing of it.
    let reader: PullConsumer = auditor.get_consumer_from_stream("prod", "STHENO").await.unwrap();
    assert_eq!(reader.cached_info().delivered.consumer_sequence, 3);
    let mut next = reader.fetch().max_messages(1).expires(Duration::from_millis(400)).messages().await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(1), next.next()).await;
    assert!(!matches!(next, Ok(Some(Ok(_)))), "{next:?}");
    // What the subject of an acknowledgement is can be guessed.
    for message in &sent {
        auditor.client().publish(message.reply.clone().unwrap(), "+ACK".into()).await.unwrap();
    }
    auditor.client().flush().await.unwrap();
    // Nor does it change what the reader reads, by any of the requests that make one.
    let other = format!("stheno.v1.{log}.secret.>");
    let changed = consumer::pull::Config { filter_subject: other.clone(), ..config.clone() };
    assert!(auditor.create_consumer_on_stream(changed, "STHENO").await.is_err());
    let changed = consumer::pull::Config { inactive_threshold: Duration::from_secs(1), ..config };
    assert!(auditor.create_consumer_on_stream(changed, "STHENO").await.is_err());
    for name in ["name", "durable_name"] {
        let claimed = serde_json::json!({
            "stream_name": "STHENO",
            "config": { name: "prod", "filter_subject": other, "ack_policy": "all" },
        });
        for subject in ["CONSUMER.CREATE.STHENO".to_owned(), format!("CONSUMER.CREATE.STHENO.prod.{other}")] {
            let _: Result<serde_json::Value, _> = auditor.request(subject, &claimed).await;
        }
    }
    let info = jetstream(server, "operator").await;
    let info: PullConsumer = info.get_consumer_from_stream("prod", "STHENO").await.unwrap();
    let info = info.cached_info();
    assert_eq!((info.ack_floor.consumer_sequence, info.delivered.consumer_sequence), (0, 3));
    assert_eq!(&info.config, &own.cached_info().config);
    sent.iter().map(|message| message.info().unwrap().stream_sequence).collect()
}

/// Ways to another namespace.
async fn forbidden_to_prod(server: &Server, log: &str) {
    let user = jetstream(server, "prod").await;
    let other = format!("stheno.v1.{log}.secret.>");
    let own = format!("stheno.v1.{log}.prod.>");
    let get: Result<serde_json::Value, _> =
        user.request("STREAM.MSG.GET.STHENO", &serde_json::json!({ "next_by_subj": other, "seq": 1 })).await;
    assert!(get.is_err(), "{get:?}");
    // A reader of that namespace, of everything, of another name, and one whose request says something else than its subject.
    for config in [
        consumer::pull::Config {
            durable_name: Some("prod".into()),
            filter_subject: other.clone(),
            ..Default::default()
        },
        consumer::pull::Config { durable_name: Some("prod".into()), ..Default::default() },
        consumer::pull::Config { durable_name: Some("mine".into()), filter_subject: own.clone(), ..Default::default() },
        consumer::pull::Config {
            durable_name: Some("prod".into()),
            filter_subjects: vec![own.clone(), other.clone()],
            ..Default::default()
        },
    ] {
        let made = user.create_consumer_on_stream(config.clone(), "STHENO").await;
        assert!(made.is_err(), "{config:?}");
    }
    let claimed = serde_json::json!({
        "stream_name": "STHENO",
        "config": { "durable_name": "prod", "filter_subject": other, "ack_policy": "all" },
    });
    let answer: Result<serde_json::Value, _> =
        user.request(format!("CONSUMER.CREATE.STHENO.prod.{own}"), &claimed).await;
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| !answer["error"].is_null()), "{answer:?}");
    // And what others are sent: as the subject itself, or in their inboxes.
    let client = user.client();
    let [operator, auditor] = [jetstream(server, "operator").await, jetstream(server, "auditor").await];
    for subject in ["stheno.v1.>", "_INBOX.auditor.>", "_INBOX.>", ">"] {
        let mut heard = client.subscribe(subject).await.unwrap();
        // The server has judged it before anything is sent that it would hear.
        client.flush().await.unwrap();
        auditor.get_stream("STHENO").await.unwrap();
        operator.client().publish("stheno.v1.elsewhere.prod.dc1.backup", "told".into()).await.unwrap();
        operator.client().flush().await.unwrap();
        let message = tokio::time::timeout(Duration::from_millis(200), heard.next()).await;
        assert!(!matches!(message, Ok(Some(_))), "{subject}: {message:?}");
    }
}
