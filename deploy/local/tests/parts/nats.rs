//! The NATS servers of the ground: a store that outlives a kill, and a cluster that outlives its leader.

use std::net::TcpStream;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use stheno_local::testing;

async fn stream(url: &str, replicas: usize) -> jetstream::Context {
    let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await.unwrap();
    let context = jetstream::new(client);
    let config = stream::Config {
        name: "LOG".to_owned(),
        subjects: vec!["log.>".to_owned()],
        num_replicas: replicas,
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    context
}

async fn publish(context: &jetstream::Context) -> u64 {
    // While a new leader is elected (4 to 9 s) nobody answers: ask again, as any client must.
    for _ in 0..300 {
        if let Ok(ack) = context.publish("log.a", "fact".into()).await
            && let Ok(Ok(ack)) = tokio::time::timeout(Duration::from_millis(500), ack).await
        {
            return ack.sequence;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no acknowledgement in 300 attempts");
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let mut nats = testing::nats().await.unwrap();
    let context = stream(&nats.url(), 1).await;
    assert_eq!(publish(&context).await, 1);
    let (address, store) = (nats.address(), nats.store_dir().to_owned());

    nats.kill();
    assert!(TcpStream::connect(address).is_err());
    nats.start().await.unwrap();
    nats.ready().await.unwrap();
    assert_eq!(publish(&context).await, 2);

    nats.pause().unwrap();
    let ack = context.publish("log.a", "fact".into()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), ack).await.is_err());
    nats.resume().unwrap();
    // The message had been on its way, so it is in.
    assert_eq!(publish(&context).await, 4);

    drop(nats);
    assert!(TcpStream::connect(address).is_err());
    assert!(!store.exists(), "the run folder went with the handle");
}

#[tokio::test]
async fn a_replicated_stream_outlives_its_leader() {
    let mut cluster = testing::nats_cluster().await.unwrap();
    let context = stream(&cluster.url(), 3).await;
    assert_eq!(publish(&context).await, 1);
    let leader = cluster.leader_of("LOG").await.unwrap();

    cluster.servers()[leader].kill();
    assert_eq!(publish(&context).await, 2);
    let next = cluster.leader_of("LOG").await.unwrap();
    assert_ne!(leader, next);

    cluster.servers()[leader].start().await.unwrap();
    cluster.servers()[leader].ready().await.unwrap();
    assert_eq!(context.get_stream("LOG").await.unwrap().cached_info().state.messages, 2);
}
