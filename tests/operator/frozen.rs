//! What a newer program wrote: no decision where it is not understood, one sentence where people look, nothing lost.

use super::ground::{Ground, until};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::json;
use stheno_events::{Aggregate, DcKey, Envelope, Epoch, Fact, LAYOUT, LogId, Process};
use stheno_rpc::sidecar::node_state::Phase;

/// A message of a program that knows more than this one.
fn unknown(aggregate: &Aggregate) -> Vec<u8> {
    let (ns, dc) = match aggregate {
        Aggregate::Datacenter(key) => (key.namespace.clone(), key.name.clone()),
        Aggregate::Location(_) | Aggregate::Operator => ("".into(), "".into()),
    };
    let at = stheno::runtime::wall();
    let data = rmpv::Value::Nil;
    let fact = Fact::Unknown { name: "backup.teleported".into(), version: 7, critical: true, data };
    let envelope = Envelope {
        v: LAYOUT,
        id: "of-a-newer-one".into(),
        at,
        wall: at,
        seen: 0,
        epoch: Epoch(1),
        ns,
        dc,
        dc_uid: None,
        prev: None,
        cause: None,
        corr: None,
        by: "stheno/99".into(),
        events: vec![fact],
    };
    envelope.encode().unwrap()
}

async fn log_id(ground: &Ground) -> LogId {
    let api: Api<Namespace> = Api::all(ground.admin.clone());
    LogId::of_cluster(&api.get("kube-system").await.unwrap().uid().unwrap())
}

async fn write(ground: &Ground, subject: String, payload: Vec<u8>) {
    let client = async_nats::connect(ground.nats.url()).await.unwrap();
    let answer = client.request(subject, payload.into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
}

fn job(name: &str, datacenter: &str) -> serde_json::Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1",
        "kind": "MedusaBackupJob",
        "metadata": { "name": name },
        "spec": { "cassandraDatacenter": datacenter },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_freezes_and_the_others_go_on() {
    let mut ground = Ground::new("frozen").await;
    for datacenter in ["dc1", "dc2", "dc3"] {
        ground.datacenter(datacenter, 1, true).await;
    }
    let mut operator = ground.operator();
    operator.leads().await;
    for datacenter in ["dc1", "dc2"] {
        ground.create(job(&format!("before-{datacenter}"), datacenter)).await;
    }
    until("both run", || ground.nodes[..2].iter().all(|node| node.sidecar.count("Watch") == 1)).await;

    let log = log_id(&ground).await;
    let aggregate = |datacenter: &str| Aggregate::Datacenter(DcKey::new(ground.namespace.as_str(), datacenter));
    let event = aggregate("dc1");
    write(&ground, event.subject(&log, Process::Backup), unknown(&event)).await;
    let process = aggregate("dc2").subject(&log, Process::Backup).replace(".backup", ".prophecy");
    write(&ground, process, b"whatever".to_vec()).await;
    for (datacenter, why) in [("dc1", "backup.teleported v7"), ("dc2", "names no process that this program knows")] {
        let held = ground
            .job_once(&format!("before-{datacenter}"), |job| {
                let conditions = job.status.iter().flat_map(|status| &status.conditions);
                conditions.into_iter().any(|c| c.type_ == "LogNewerThanOperator" && c.message.contains(why))
            })
            .await;
        let status = held.status.unwrap();
        assert!(
            status.conditions.iter().any(|c| c.type_ == "LogNewerThanOperator" && c.status == "True"),
            "{status:#?}"
        );
    }
    let said = ground.event_once("LogNewerThanOperatorUnknownEvents").await;
    assert!(said.contains("use a newer stheno"), "{said}");

    // Nothing is decided there, what is seen is recorded all the same, and the third one does not care.
    ground.list("elsewhere");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
    }
    for datacenter in ["dc1", "dc2"] {
        ground.create(job(&format!("after-{datacenter}"), datacenter)).await;
    }
    ground.create(job("elsewhere", "dc3")).await;
    ground.finished("elsewhere").await;
    for datacenter in ["dc1", "dc2"] {
        for name in [format!("before-{datacenter}"), format!("after-{datacenter}")] {
            let status = ground.jobs().get(&name).await.unwrap().status;
            assert!(status.is_none_or(|status| status.finish_time.is_none()), "{name} is decided");
        }
        // Appended behind the message of the newer one: it does not stand in the way.
        let jetstream = async_nats::jetstream::new(async_nats::connect(ground.nats.url()).await.unwrap());
        let stream = jetstream.get_stream("STHENO").await.unwrap();
        let observed = aggregate(datacenter).subject(&log, Process::Observed);
        let found = async {
            loop {
                let last = stream.get_last_raw_message_by_subject(&observed).await;
                let text =
                    last.map(|message| String::from_utf8_lossy(&message.payload).into_owned()).unwrap_or_default();
                if text.contains(&format!("after-{datacenter}")) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), found).await.expect("the later job is recorded");
    }
    for node in &ground.nodes[..2] {
        assert_eq!(node.sidecar.count("StartBackup"), 1, "nothing more is called");
    }
    // A restart finds the same.
    assert_eq!(operator.stop().await, Some(0));
    let mut next = ground.operator();
    next.leads().await;
    let again = ground.map_once("stheno-status", "conditions", |text| text.contains("UnknownEvents")).await;
    assert!(again.contains("use a newer stheno"), "{again}");
    assert_eq!(next.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leads_behind_a_newer_leader() {
    let mut ground = Ground::new("frozen-whole").await;
    ground.datacenter("dc1", 1, true).await;
    let mut operator = ground.operator();
    operator.leads().await;
    let log = log_id(&ground).await;
    let aggregate = Aggregate::Operator;
    write(&ground, aggregate.subject(&log, Process::Operator), unknown(&aggregate)).await;
    let said = operator.says(|status, _| status == 503).await;
    assert!(said.starts_with("LogNewerThanOperator: This process cannot lead"), "{said}");
    assert!(said.contains("backup.teleported v7") && said.contains("use a newer stheno"), "{said}");
    let shown = ground.map_once("stheno-status", "conditions", |text| text.contains("No process leads")).await;
    assert!(shown.contains("LogNewerThanOperator"), "{shown}");
    until_free(&ground).await;
    ground.job("nightly").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(ground.nodes[0].sidecar.calls(), Vec::<String>::new());
    assert_eq!(operator.stop().await, Some(0));
}

async fn until_free(ground: &Ground) {
    for _ in 0..200 {
        if ground.holder().await.as_deref() == Some("") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the Lease is kept by one that cannot lead");
}
